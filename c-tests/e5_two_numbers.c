/* E5: "The same file under two numbers is two items." */
#include "help.h"

int main(void)
{
    struct epoll_event events[3];
    int pair[2], epfd = make_epoll();

    pipe_pair(pair);
    int copy = must(dup(pair[0]));
    watch(epfd, pair[0], EPOLLIN);
    is_int(control(epfd, EPOLL_CTL_ADD, copy, EPOLLIN | EPOLLET), 0, "ADD of the copy");
    is_errno(control(epfd, EPOLL_CTL_ADD, copy, EPOLLIN), EEXIST, "once");

    put(pair[1]);
    is_int(epoll_wait(epfd, events, 3, SOON_MS), 2, "data makes two events");
    is_int(events[0].data.fd + events[1].data.fd, pair[0] + copy, "one for each number");
    is_int(epoll_wait(epfd, events, 3, QUIET_MS), 1, "each with its own mask:");
    is_int(events[0].data.fd, pair[0], "the level-triggered one is reported again");
    is_int(must(epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], NULL)), 0, "DEL of the one");
    expect_quiet(epfd, "leaves the other, which has nothing new");
    put(pair[1]);
    is_int(wait_fd(epfd, SOON_MS), copy, "until there is");

    watch(epfd, pair[0], EPOLLIN);
    must(close(copy));
    is_int(wait_fd(epfd, SOON_MS), pair[0], "the number of one closed: the other is as before");
    put(pair[1]);
    is_int(epoll_wait(epfd, events, 3, SOON_MS), 2, "and the first is, too, as the file is still open");
    is_int(events[0].data.fd + events[1].data.fd, pair[0] + copy, "each with its data");
    must(close(pair[0]));
    expect_quiet(epfd, "all closed: nothing");
    return done_testing();
}
