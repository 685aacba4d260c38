/*
 * C5: "One event wakes one of several threads that wait on one instance; ET and ONESHOT hand one event to exactly one."
 */
#include "help.h"

enum { THREADS = 4 };

static int returned(struct waiter *waiters)
{
    int count = 0;

    for (int i = 0; i < THREADS; i++)
        count += waiters[i].done;
    return count;
}

static void one_each(const char *trigger, uint32_t flag)
{
    struct waiter waiters[THREADS];
    int epfd = make_epoll(), bell = make_eventfd(0), wrong = 0;

    watch(epfd, bell, EPOLLIN | flag);
    for (int i = 0; i < THREADS; i++)
        waiter_start(&waiters[i], epfd, -1);
    for (int i = 1; i <= THREADS; i++) {
        if (flag & EPOLLONESHOT && i > 1)
            rearm(epfd, bell, EPOLLIN | flag);
        else
            put(bell);
        for (int64_t end = now_ms() + SOON_MS; returned(waiters) < i && now_ms() < end;)
            sleep_ms(1);
        sleep_ms(QUIET_MS);
        is_int(returned(waiters), i, "%s: after event %d as many threads have returned", trigger, i);
    }
    for (int i = 0; i < THREADS; i++)
        wrong += !waiter_got(&waiters[i], bell, EPOLLIN);
    is_int(wrong, 0, "%s: each with the event", trigger);
    expect_quiet(epfd, "%s: and nothing is left", trigger);
    must(close(bell));
    must(close(epfd));
}

static void several_events(void)
{
    struct waiter waiters[THREADS];
    int epfd = make_epoll(), bells[THREADS], seen[THREADS] = {0}, wrong = 0;

    for (int i = 0; i < THREADS; i++)
        watch(epfd, bells[i] = make_eventfd(0), EPOLLIN | EPOLLET);
    for (int i = 0; i < THREADS; i++)
        waiter_start(&waiters[i], epfd, -1);
    for (int i = 0; i < THREADS; i++)
        put(bells[i]);
    for (int i = 0; i < THREADS; i++) {
        wrong += !waiter_returns(&waiters[i], SOON_MS);
        for (int j = 0; j < THREADS; j++)
            seen[j] += waiters[i].event.data.fd == bells[j];
    }
    is_int(wrong, 0, "%d events at once wake %d threads that take one each", THREADS, THREADS);
    for (int i = 0; i < THREADS; i++)
        is_int(seen[i], 1, "event %d went to one thread", i + 1);
}

int main(void)
{
    one_each("edge-triggered", EPOLLET);
    one_each("one-shot", EPOLLONESHOT);
    one_each("one-shot, edge-triggered", EPOLLONESHOT | EPOLLET);
    several_events();
    return done_testing();
}
