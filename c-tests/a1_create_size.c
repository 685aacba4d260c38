/* A1: epoll_create(size): "size <= 0 gives EINVAL; any other size behaves as epoll_create1(0)." */
#include "help.h"

#include <limits.h>

int main(void)
{
    static const int sizes[] = {1, 7, 1 << 20, INT_MAX};
    int pair[2];

    is_errno(epoll_create(0), EINVAL, "size 0");
    is_errno(epoll_create(-1), EINVAL, "size -1");
    is_errno(epoll_create(INT_MIN), EINVAL, "size INT_MIN");

    pipe_pair(pair);
    put(pair[1]);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int epfd = epoll_create(sizes[i]);

        ok(epfd >= 0, "size %d is accepted", sizes[i]);
        is_int(fcntl(epfd, F_GETFD), 0, "no FD_CLOEXEC");
        watch(epfd, pair[0], EPOLLIN);
        watch(epfd, pair[1], EPOLLOUT);
        struct epoll_event events[4];
        is_int(epoll_wait(epfd, events, 4, SOON_MS), 2, "and the size limits nothing");
        must(close(epfd));
    }
    return done_testing();
}
