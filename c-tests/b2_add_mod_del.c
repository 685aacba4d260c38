/*
 * B2: ADD of what is there: EEXIST. MOD and DEL of what is not: ENOENT. O_PATH is EBADF on either side. DEL takes NULL.
 */
#include "help.h"

int main(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1};
    char path[64];
    int pair[2], epfd = make_epoll(), other_epfd = make_epoll();

    pipe_pair(pair);
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, pair[0], &event), ENOENT, "MOD of an absent item");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], NULL), ENOENT, "DEL of an absent item");
    is_int(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &event), 0, "ADD");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &event), EEXIST, "ADD again");
    event.events = EPOLLOUT | EPOLLET;
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &event), EEXIST, "ADD again with another mask");

    put(pair[1]);
    is_int(wait_one(epfd, &event, SOON_MS), 1, "the refused ADD changed nothing:");
    is_mask(event.events, EPOLLIN, "not the mask");
    is_int((long long)event.data.u64, 1, "nor the data");

    is_int(control(other_epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), 0, "another instance takes the same descriptor");
    is_int(epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], NULL), 0, "DEL with NULL");
    expect_quiet(epfd, "a deleted item is not reported, ready or not");
    expect_event(other_epfd, EPOLLIN, "the other instance has its own");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], NULL), ENOENT, "DEL again");
    is_errno(control(epfd, EPOLL_CTL_MOD, pair[0], EPOLLIN), ENOENT, "MOD after DEL");
    is_int(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), 0, "ADD after DEL");
    is_int(epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], address_of(1)), 0, "DEL does not look at its event at all");

    int path_only = must(open("/", O_PATH));
    snprintf(path, sizeof path, "/proc/self/fd/%d", epfd);
    int epoll_path = must(open(path, O_PATH));
    is_errno(control(epfd, EPOLL_CTL_ADD, path_only, EPOLLIN), EBADF, "an O_PATH target");
    is_errno(control(epoll_path, EPOLL_CTL_ADD, pair[0], EPOLLIN), EBADF, "an O_PATH epfd");
    is_errno(wait_one(epoll_path, &event, 0), EBADF, "an O_PATH epfd in epoll_wait");
    return done_testing();
}
