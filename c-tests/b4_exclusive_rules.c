/*
 * B4: EPOLLEXCLUSIVE: "ADD only; with MOD, EINVAL; MOD of an item that was added exclusive, EINVAL; on an epoll
 * descriptor, EINVAL; with any bit besides IN, OUT, ERR, HUP, WAKEUP, ET: EINVAL."
 */
#include "help.h"

int main(void)
{
    const uint32_t allowed = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    int pair[2], epfd = make_epoll();

    pipe_pair(pair);
    for (int bit = 0; bit < 32; bit++) {
        uint32_t mask = EPOLLEXCLUSIVE | 1u << bit;

        if (mask & ~allowed) {
            is_errno(control(epfd, EPOLL_CTL_ADD, pair[0], mask), EINVAL, "with %#x: refused", 1u << bit);
            continue;
        }
        is_int(control(epfd, EPOLL_CTL_ADD, pair[0], mask), 0, "with %#x: accepted", 1u << bit);
        unwatch(epfd, pair[0]);
    }
    is_int(control(epfd, EPOLL_CTL_ADD, pair[0], allowed), 0, "with all that is allowed: accepted");
    is_errno(control(epfd, EPOLL_CTL_ADD, pair[0], allowed), EEXIST, "once");
    is_errno(control(epfd, EPOLL_CTL_MOD, pair[0], EPOLLIN), EINVAL, "MOD of an exclusive item");
    is_errno(control(epfd, EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLEXCLUSIVE), EINVAL, "MOD of it to exclusive");
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "an exclusive item reports as any other");
    is_int(epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], NULL), 0, "DEL of it");

    watch(epfd, pair[0], EPOLLIN);
    is_errno(control(epfd, EPOLL_CTL_MOD, pair[0], EPOLLIN | EPOLLEXCLUSIVE), EINVAL, "MOD of a plain item to it");
    expect_event(epfd, EPOLLIN, "which changes nothing");

    int inner = make_epoll();
    is_errno(control(epfd, EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLEXCLUSIVE), EINVAL, "on an epoll descriptor");
    is_int(control(epfd, EPOLL_CTL_ADD, inner, EPOLLIN), 0, "which is accepted without");
    return done_testing();
}
