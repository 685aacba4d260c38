/*
 * D2: "timeout -1 (any negative) waits for ever, 0 never sleeps, otherwise not earlier than asked, on the monotonic
 * clock; epoll_pwait2 in nanoseconds."
 */
#include "help.h"

#include <limits.h>

static int64_t time_of_wait_ns(int epfd, int timeout_ms)
{
    struct epoll_event event;
    int64_t start = now_ns();

    must(wait_one(epfd, &event, timeout_ms));
    return now_ns() - start;
}

static int64_t time_of_wait2_ns(int epfd, int64_t timeout_ns)
{
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    struct epoll_event event;
    int64_t start = now_ns();

    must(epoll_pwait2(epfd, &event, 1, &timeout, NULL));
    return now_ns() - start;
}

static void *wait2_for_ever(void *argument)
{
    const int *epfd = argument;
    struct epoll_event event;

    return epoll_pwait2(*epfd, &event, 1, NULL, NULL) == 1 ? argument : NULL;
}

int main(void)
{
    static const int negative[] = {-1, -2, INT_MIN};
    struct waiter waiter;
    struct epoll_event event;
    int epfd = make_epoll(), bell = make_eventfd(0);

    watch(epfd, bell, EPOLLIN);
    for (int milliseconds = 1; milliseconds <= 300; milliseconds = milliseconds * 3 + 4)
        ok(time_of_wait_ns(epfd, milliseconds) >= milliseconds * INT64_C(1000000), "%d ms, not earlier", milliseconds);
    ok(time_of_wait_ns(epfd, 50) < 5 * INT64_C(1000000000), "50 ms, and not for ever");
    ok(time_of_wait2_ns(epfd, 20500000) >= 20500000, "pwait2: 20.5 ms, not earlier");
    ok(time_of_wait2_ns(epfd, 1200000001) >= 1200000001, "pwait2: more than a second, not earlier");

    int64_t start = now_ms();
    for (int i = 0; i < 2000; i++)
        must(wait_one(epfd, &event, 0));
    ok(now_ms() - start < 2000, "2,000 waits of 0 do not sleep");
    ok(time_of_wait2_ns(epfd, 0) < 5 * INT64_C(1000000000), "pwait2: nor does a timeout of zero");

    /* Rounded to milliseconds it could never take less than one. */
    int64_t shortest = INT64_MAX;
    bool early = false;
    for (int i = 0; i < 2000 && shortest >= 1000000; i++) {
        int64_t taken = time_of_wait2_ns(epfd, 200000);

        early |= taken < 200000;
        shortest = taken < shortest ? taken : shortest;
    }
    ok(shortest < 1000000, "pwait2: 0.2 ms can take less than 1 ms");
    ok(!early, "and never less than 0.2");

    for (size_t i = 0; i < sizeof negative / sizeof negative[0]; i++) {
        waiter_start(&waiter, epfd, negative[i]);
        ok(!waiter_returns(&waiter, 200), "timeout %d: still waiting", negative[i]);
        put(bell);
        ok(waiter_got(&waiter, bell, EPOLLIN), "timeout %d: until the event", negative[i]);
        drain(bell);
    }

    pthread_t thread;
    void *got;
    must_zero(pthread_create(&thread, NULL, wait2_for_ever, &epfd));
    sleep_ms(QUIET_MS);
    put(bell);
    must_zero(pthread_join(thread, &got));
    ok(got == &epfd, "pwait2: NULL waits until the event");

    start = now_ms();
    is_int(wait_one(epfd, &event, INT_MAX), 1, "with something ready no timeout is waited for");
    is_int(wait_one(epfd, &event, -1), 1, "nor the endless one");
    is_int(wait_one(epfd, &event, 0), 1, "and 0 reports it");
    struct timespec long_time = {INT_MAX, 999999999};
    is_int(epoll_pwait2(epfd, &event, 1, &long_time, NULL), 1, "pwait2: a time beyond all clocks is allowed");
    ok(now_ms() - start < 5000, "at once");
    return done_testing();
}
