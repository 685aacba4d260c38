/*
 * B7: "ADD and MOD look at the descriptor at once: if it is ready, the item goes on the ready list, and a thread that
 * sleeps in epoll_wait is woken. MOD re-arms a fired one-shot item and re-reports a still-ready ET item."
 */
#include "help.h"

int main(void)
{
    struct waiter waiter;
    struct epoll_event event;
    int pair[2], epfd = make_epoll();

    pipe_pair(pair);
    put(pair[1]);
    watch(epfd, pair[0], EPOLLIN | EPOLLET);
    is_mask(wait_mask(epfd, 0), EPOLLIN, "ADD of a readable one: reported without a write");
    is_mask(wait_mask(epfd, 0), 0, "once");
    rearm(epfd, pair[0], EPOLLIN | EPOLLET);
    is_mask(wait_mask(epfd, 0), EPOLLIN, "MOD to the same: reported again");
    is_mask(wait_mask(epfd, 0), 0, "once");
    rearm(epfd, pair[0], EPOLLIN | EPOLLET);
    rearm(epfd, pair[0], EPOLLIN | EPOLLET);
    is_mask(wait_mask(epfd, 0), EPOLLIN, "MOD twice: reported");
    is_mask(wait_mask(epfd, 0), 0, "once");
    rearm(epfd, pair[0], EPOLLET);
    is_mask(wait_mask(epfd, 0), 0, "MOD to an empty mask: nothing");
    rearm(epfd, pair[0], EPOLLIN);
    is_mask(wait_mask(epfd, 0), EPOLLIN, "MOD to level-triggered IN: reported");
    is_mask(wait_mask(epfd, 0), EPOLLIN, "at every wait");
    rearm(epfd, pair[0], EPOLLOUT);
    is_mask(wait_mask(epfd, 0), 0, "MOD to what is not ready: a reader never has room");
    unwatch(epfd, pair[0]);

    waiter_start(&waiter, epfd, SOON_MS);
    watch(epfd, pair[0], EPOLLIN);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "ADD of a readable one wakes a thread that sleeps in the wait");
    unwatch(epfd, pair[0]);

    watch(epfd, pair[1], 0);
    waiter_start(&waiter, epfd, SOON_MS);
    rearm(epfd, pair[1], EPOLLOUT);
    ok(waiter_got(&waiter, pair[1], EPOLLOUT), "so does MOD to what is ready");
    unwatch(epfd, pair[1]);

    watch(epfd, pair[0], EPOLLIN | EPOLLONESHOT);
    is_mask(wait_mask(epfd, 0), EPOLLIN, "one-shot: reported");
    is_mask(wait_mask(epfd, 0), 0, "once");
    waiter_start(&waiter, epfd, SOON_MS);
    rearm(epfd, pair[0], EPOLLIN | EPOLLONESHOT);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "MOD re-arms it, and wakes a sleeping thread");

    event = (struct epoll_event){.events = EPOLLIN, .data.u64 = 1};
    must(epoll_ctl(epfd, EPOLL_CTL_MOD, pair[0], &event));
    event.data.u64 = 2;
    must(epoll_ctl(epfd, EPOLL_CTL_MOD, pair[0], &event));
    is_int(wait_one(epfd, &event, 0), 1, "MOD of one already on the ready list:");
    is_int((long long)event.data.u64, 2, "comes with the new data");
    return done_testing();
}
