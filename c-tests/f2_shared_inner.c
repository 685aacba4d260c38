/*
 * F2: an instance in two others, in which threads sleep: both wake. It is drained, emptied and closed while they sleep.
 */
#include "help.h"

enum { OUTERS = 2, ROUNDS = 2000 };

static int inner, outers[OUTERS], pair[2], bells[OUTERS];
static struct waiter waiters[OUTERS];

static void all_sleep(void)
{
    for (int i = 0; i < OUTERS; i++)
        waiter_start(&waiters[i], outers[i], -1);
}

static void all_wake(const char *what)
{
    for (int i = 0; i < OUTERS; i++)
        ok(waiter_got(&waiters[i], inner, EPOLLIN), "%s: wakes outer %d", what, i + 1);
}

/* They sleep on, and each wakes for an item of its own. */
static void undisturbed(const char *what)
{
    ok(!waiter_returns(&waiters[0], QUIET_MS) && !waiter_returns(&waiters[1], QUIET_MS), "%s: both sleep on", what);
    for (int i = 0; i < OUTERS; i++) {
        put(bells[i]);
        ok(waiter_got(&waiters[i], bells[i], EPOLLIN), "%s: and outer %d wakes for another item", what, i + 1);
        drain(bells[i]);
    }
}

static void one_way(const char *name, uint32_t outer_flag, uint32_t inner_flag)
{
    printf("# %s\n", name);
    inner = make_epoll();
    pipe_pair(pair);
    for (int i = 0; i < OUTERS; i++) {
        outers[i] = make_epoll();
        watch(outers[i], inner, EPOLLIN | outer_flag);
        watch(outers[i], bells[i] = make_eventfd(0), EPOLLIN);
    }
    all_sleep();
    watch(inner, pair[0], EPOLLIN | inner_flag);
    undisturbed("ADD to the inner of what is not ready");
    all_sleep();
    put(pair[1]);
    all_wake("a write");
    expect_event(inner, EPOLLIN, "and the inner reports");
    drain(pair[0]);
    all_sleep();
    undisturbed("drained");

    all_sleep();
    rearm(inner, pair[0], inner_flag);
    put(pair[1]);
    undisturbed("the inner asks for nothing, and data comes");
    /* The kernel may have the item on the inner's ready list still, and wakes nobody for one that is there. */
    expect_quiet(inner, "the inner is quiet");
    all_sleep();
    rearm(inner, pair[0], EPOLLIN | inner_flag);
    all_wake("MOD in the inner");
    unwatch(inner, pair[0]);
    all_sleep();
    undisturbed("DEL in the inner");
    all_sleep();
    watch(inner, pair[0], EPOLLIN | inner_flag);
    all_wake("ADD to the inner of what is ready");
    drain(pair[0]);

    all_sleep();
    must(close(inner));
    put(pair[1]);
    undisturbed("the inner closed, and data comes");
    for (int i = 0; i < OUTERS; i++) {
        must(close(outers[i]));
        must(close(bells[i]));
    }
    close_pair(pair);
}

/* --- drained under the eyes of a sleeper --- */

static _Atomic int taken;
static _Atomic bool over;

static void *drain_inner(void *unused)
{
    while (!over)
        if (wait_mask(inner, 100)) {
            uint64_t message;

            while (read(pair[0], &message, sizeof message) == sizeof message)
                taken++;
        }
    return unused;
}

static void *sleep_in_outer(void *epfd)
{
    intptr_t wrong = 0;

    while (!over) {
        struct epoll_event event;
        int count = wait_one(*(int *)epfd, &event, -1);

        if (count == 1 && event.data.fd == inner && event.events == EPOLLIN)
            continue;
        wrong += !(over && count == 1);
    }
    return (void *)wrong;
}

/* The inner's own waiter takes each event; the outers' may see it or not, but they see nothing else, and stay alive. */
static void taken_away(const char *name, uint32_t outer_flag)
{
    pthread_t drainer, sleepers[OUTERS];
    void *wrong;
    int wrongs = 0, lost = 0;

    taken = 0;
    over = false;
    inner = make_epoll();
    pipe_pair(pair);
    watch(inner, pair[0], EPOLLIN | EPOLLET);
    for (int i = 0; i < OUTERS; i++) {
        outers[i] = make_epoll();
        watch(outers[i], inner, EPOLLIN | outer_flag);
        watch(outers[i], bells[i] = make_eventfd(0), EPOLLIN);
        must_zero(pthread_create(&sleepers[i], NULL, sleep_in_outer, &outers[i]));
    }
    must_zero(pthread_create(&drainer, NULL, drain_inner, NULL));
    for (int i = 1; i <= ROUNDS && !lost; i++) {
        put(pair[1]);
        for (int64_t end = now_ms() + SOON_MS; taken < i && now_ms() < end;)
            sched_yield();
        lost = taken != i;
    }
    is_int(lost, 0, "%s: %d messages, each was taken by the inner's waiter", name, ROUNDS);
    over = true;
    for (int i = 0; i < OUTERS; i++) {
        put(bells[i]);
        must_zero(pthread_join(sleepers[i], &wrong));
        wrongs += (int)(intptr_t)wrong;
    }
    is_int(wrongs, 0, "%s: the outers reported the inner, and nothing else", name);
    must_zero(pthread_join(drainer, NULL));
}

/* Instances that come and go in one in which a thread sleeps. */
static void come_and_go(void)
{
    struct waiter waiter;
    int outer = make_epoll(), bell = make_eventfd(0), woken = 0;

    watch(outer, bell, EPOLLIN);
    pipe_pair(pair);
    waiter_start(&waiter, outer, -1);
    for (int i = 0; i < ROUNDS; i++) {
        inner = make_epoll();
        watch(inner, pair[0], EPOLLIN);
        watch(outer, inner, EPOLLIN | (i % 2 ? EPOLLET : 0));
        must(close(inner));
        woken += waiter.done;
    }
    put(pair[1]);
    ok(!woken && !waiter_returns(&waiter, QUIET_MS), "%d inner instances came and went, none ready", ROUNDS);
    put(bell);
    ok(waiter_got(&waiter, bell, EPOLLIN), "the sleeper wakes for its event");
}

int main(void)
{
    time_limit(60);
    one_way("level-triggered", 0, 0);
    one_way("edge-triggered outers", EPOLLET, 0);
    one_way("edge-triggered inner", 0, EPOLLET);
    one_way("edge-triggered", EPOLLET, EPOLLET);
    taken_away("level-triggered outers", 0);
    taken_away("edge-triggered outers", EPOLLET);
    come_and_go();
    return done_testing();
}
