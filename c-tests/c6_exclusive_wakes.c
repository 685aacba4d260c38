/* C6: "EPOLLEXCLUSIVE across instances: at least one is woken, never none." */
#include "help.h"

enum { INSTANCES = 3, ROUNDS = 100 };

static void at_least_one(const char *trigger, uint32_t flag)
{
    int epfds[INSTANCES], bell = make_eventfd(0), lost = 0;

    for (int i = 0; i < INSTANCES; i++)
        watch(epfds[i] = make_epoll(), bell, EPOLLIN | EPOLLEXCLUSIVE | flag);

    for (int round = 0; round < ROUNDS; round++) {
        struct waiter waiters[INSTANCES];
        int woken = 0;

        for (int i = 0; i < INSTANCES; i++)
            waiter_launch(&waiters[i], epfds[i], -1);
        if (round % 10 == 0)
            for (int i = 0; i < INSTANCES; i++)
                until_asleep(waiters[i].tid);
        put(bell);
        for (int64_t end = now_ms() + SOON_MS; !woken && now_ms() < end;) {
            for (int i = 0; i < INSTANCES; i++)
                woken += waiters[i].done;
            sched_yield();
        }
        lost += woken == 0;

        /* Those that were left asleep get an event of their own. */
        int release = make_eventfd(0);
        put(release);
        for (int i = 0; i < INSTANCES; i++) {
            watch(epfds[i], release, EPOLLIN);
            must_zero(pthread_join(waiters[i].thread, NULL));
            unwatch(epfds[i], release);
        }
        must(close(release));
        drain(bell);
        for (int i = 0; i < INSTANCES; i++)
            while (wait_mask(epfds[i], 0))
                continue;
    }
    is_int(lost, 0, "%s: %d times one event, and always somebody woke", trigger, ROUNDS);
    must(close(bell));
}

int main(void)
{
    time_limit(60);
    at_least_one("level-triggered", 0);
    at_least_one("edge-triggered", EPOLLET);
    return done_testing();
}
