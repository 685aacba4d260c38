/* E6: "Closing the epoll descriptor frees everything, while other threads sleep in it too." */
#include "help.h"

enum { ROUNDS = 3000 };

int main(void)
{
    struct waiter waiters[2];
    struct epoll_event event;
    int pair[2], epfd = make_epoll(), number, wrong = 0;
    char byte;

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLET);
    number = epfd;
    must(close(epfd));
    is_errno(wait_one(number, &event, 0), EBADF, "closed: epoll_wait");
    is_errno(control(number, EPOLL_CTL_ADD, pair[0], EPOLLIN), EBADF, "closed: epoll_ctl");
    epfd = make_epoll();
    is_int(epfd, number, "the number is given out again");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], NULL), ENOENT, "for an instance without the old one's items");
    is_int(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), 0, "ADD works");
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "and reports");
    drain(pair[0]);

    /* With threads asleep in it: they hold the instance, sleep on, and still get what its items have. */
    for (int i = 0; i < 2; i++)
        waiter_start(&waiters[i], epfd, -1);
    must(close(epfd));
    ok(!waiter_returns(&waiters[0], QUIET_MS) && !waiter_returns(&waiters[1], QUIET_MS),
       "closed with two threads asleep in it: they sleep on");
    is_errno(wait_one(epfd, &event, 0), EBADF, "for others it is closed");
    put(pair[1]);
    for (int i = 0; i < 2; i++) /* level-triggered: both are woken in turn */
        ok(waiter_got(&waiters[i], pair[0], EPOLLIN), "an event wakes sleeper %d", i + 1);
    must(close(pair[0]));
    is_int(read(pair[1], &byte, 1), -1, "the file is not held by what was closed: its peer");
    is_int(errno, ECONNRESET, "sees the end");
    must(close(pair[1]));

    /* And a sleeper with a time limit ends in time. */
    epfd = make_epoll();
    waiter_start(&waiters[0], epfd, 300);
    must(close(epfd));
    ok(waiter_returns(&waiters[0], SOON_MS), "closed with a thread asleep for a limited time: it returns");
    is_int(waiters[0].result, 0, "when that is over");

    /* Nothing is left over, however often. */
    int bell = make_eventfd(0);
    for (int i = 0; i < ROUNDS; i++) {
        epfd = make_epoll();
        wrong += epfd != number && epfd > bell + 1;
        watch(epfd, bell, EPOLLIN | (i % 2 ? EPOLLET : 0));
        if (i % 3 == 0)
            put(bell);
        wrong += wait_mask(epfd, 0) != (i % 3 == 0 ? EPOLLIN : 0);
        drain(bell);
        must(close(epfd));
    }
    is_int(wrong, 0, "%d instances one after the other, closed with an item each", ROUNDS);
    must(close(bell));
    return done_testing();
}
