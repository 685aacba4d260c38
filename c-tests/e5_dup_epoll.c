/* E5: "dup of the epoll descriptor is the same instance; it lives until the last of them is closed." */
#include "help.h"

static void same_instance(const char *how, int epfd, int copy)
{
    int pair[2];
    struct waiter waiter;

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN);
    is_errno(control(copy, EPOLL_CTL_ADD, pair[0], EPOLLIN), EEXIST, "%s: what one added the other has", how);
    put(pair[1]);
    expect_event(copy, EPOLLIN, "%s: and reports", how);
    rearm(copy, pair[0], EPOLLIN | EPOLLET);
    expect_event(epfd, EPOLLIN, "%s: an edge is reported by one", how);
    expect_quiet(copy, "%s: and then not by the other", how);
    is_errno(control(epfd, EPOLL_CTL_ADD, copy, EPOLLIN), EINVAL, "%s: it cannot watch itself", how);
    is_errno(control(copy, EPOLL_CTL_ADD, epfd, EPOLLIN), EINVAL, "%s: by neither name", how);

    waiter_start(&waiter, copy, -1);
    must(close(epfd));
    ok(!waiter_returns(&waiter, QUIET_MS), "%s: closing one does not disturb a thread in the other", how);
    put(pair[1]);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "%s: which goes on to get events", how);
    is_errno(wait_one(epfd, &waiter.event, 0), EBADF, "%s: the closed number is closed", how);
    must(close(pair[0]));
    expect_quiet(copy, "%s: and files can be closed", how);
    must(close(copy));
    is_errno(wait_one(copy, &waiter.event, 0), EBADF, "%s: until the last is closed", how);
    must(close(pair[1]));
}

int main(void)
{
    int epfd = make_epoll();

    same_instance("dup", epfd, must(dup(epfd)));
    epfd = make_epoll();
    same_instance("dup2", epfd, must(dup2(epfd, 250)));
    epfd = make_epoll();
    same_instance("dup3", epfd, must(dup3(epfd, 250, O_CLOEXEC)));
    epfd = make_epoll();
    same_instance("F_DUPFD", epfd, must(fcntl(epfd, F_DUPFD, 260)));
    epfd = make_epoll();
    int over = make_epoll(), bell = make_eventfd(0);
    watch(over, bell, EPOLLOUT);
    must(dup2(epfd, over));
    expect_quiet(over, "dup2 over another instance: that one's items are not there");
    same_instance("dup2 over another instance", epfd, over);
    return done_testing();
}
