/* B5: "EPOLLWAKEUP is accepted, and dropped silently without CAP_BLOCK_SUSPEND": to the program it changes nothing. */
#include "help.h"

static int flag_changes_nothing(void *unprivileged)
{
    int pair[2], epfd = make_epoll();

    if (unprivileged && geteuid() == 0)
        must(setuid(65534));
    pipe_pair(pair);
    child_check(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN | EPOLLWAKEUP) == 0);
    child_check(wait_mask(epfd, QUIET_MS) == 0);
    put(pair[1]);
    child_check(wait_mask(epfd, SOON_MS) == EPOLLIN);
    child_check(wait_mask(epfd, SOON_MS) == EPOLLIN);
    child_check(control(epfd, EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLWAKEUP | EPOLLET) == 0);
    child_check(wait_mask(epfd, SOON_MS) == EPOLLIN);
    child_check(wait_mask(epfd, QUIET_MS) == 0);
    child_check(control(epfd, EPOLL_CTL_MOD, pair[0], EPOLLIN) == 0);
    child_check(epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], NULL) == 0);
    return 0;
}

int main(void)
{
    is_int(run_child(flag_changes_nothing, NULL), 0, "with the privileges that we have");
    is_int(run_child(flag_changes_nothing, ""), 0, "without privileges");
    return done_testing();
}
