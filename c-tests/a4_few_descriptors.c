/*
 * A4: with any number of free descriptors, down to none: as many instances as there is room for, then EMFILE, and
 * threads can wait in each of them.
 */
#include "deny.h"

#include <sys/resource.h>

enum { MOST = 6, SLEEPERS = 2 };

static int pair[2], bells[SLEEPERS];

/* Threads sleep in the instance, and each gets an event; one is added while they sleep. */
static bool is_usable(int epfd)
{
    struct waiter waiters[SLEEPERS];
    bool good = true;

    watch(epfd, pair[0], EPOLLIN);
    for (int i = 0; i < SLEEPERS; i++)
        waiter_launch(&waiters[i], epfd, SOON_MS); /* not waiter_start: that needs a free number itself */
    sleep_ms(QUIET_MS);
    for (int i = 0; i < SLEEPERS; i++) {
        watch(epfd, bells[i], EPOLLIN | EPOLLONESHOT);
        put(bells[i]);
    }
    for (int i = 0; i < SLEEPERS; i++)
        good = waiter_returns(&waiters[i], SOON_MS) && waiters[i].result == 1 && good;
    good = good && waiters[0].event.data.fd != waiters[1].event.data.fd;
    for (int i = 0; i < SLEEPERS; i++) {
        drain(bells[i]);
        unwatch(epfd, bells[i]);
    }
    unwatch(epfd, pair[0]);
    return good;
}

struct scarcity {
    int spare;
    bool for_good; /* the hard limit is lowered as well */
};

static int make_do(void *argument)
{
    const struct scarcity *scarcity = argument;
    int epfds[MOST], next = must(dup(STDIN_FILENO)), made = 0, again = 0;
    struct rlimit limit;

    time_limit(20);
    for (int fd = next; fd < next + MOST + 1; fd++) /* whatever else the parent has left open there */
        close(fd);
    must(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = (rlim_t)(next + scarcity->spare);
    if (scarcity->for_good)
        limit.rlim_max = limit.rlim_cur;
    must(setrlimit(RLIMIT_NOFILE, &limit));

    for (int round = 0; round < 50; round++) {
        made = again;
        for (again = 0; again < MOST && (epfds[again] = epoll_create1(0)) >= 0; again++)
            ;
        if (again < MOST)
            child_check(errno == EMFILE);
        if (round == 0)
            for (int i = 0; i < again; i++)
                child_check(is_usable(epfds[i]));
        /* The first round may need a number for itself: who waits has to be woken. */
        child_check(round < 2 || again == made);
        for (int i = 0; i < again; i++)
            child_check(close(epfds[i]) == 0);
    }
    return again;
}

/* An instance that exists, of which the wait has to do without a descriptor. */
static int wait_without(void *argument)
{
    const struct scarcity *scarcity = argument;
    int epfd = make_epoll(), next = must(dup(STDIN_FILENO));
    struct rlimit limit;

    time_limit(20);
    for (int fd = next; fd < next + MOST + 1; fd++) /* whatever else the parent has left open there */
        close(fd);
    must(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = (rlim_t)next;
    if (scarcity->for_good)
        limit.rlim_max = limit.rlim_cur;
    must(setrlimit(RLIMIT_NOFILE, &limit));
    child_check(dup(STDIN_FILENO) == -1 && errno == EMFILE);
    child_check(is_usable(epfd));
    child_check(wait_mask(epfd, 1) == 0);
    return 0;
}

int main(void)
{
    pipe_pair(pair);
    for (int i = 0; i < SLEEPERS; i++)
        bells[i] = make_eventfd(0);
    for (int spare = 0; spare <= MOST; spare++) {
        struct scarcity scarcity = {spare, false};

        is_int(run_child(make_do, &scarcity), spare, "room for %d: so many are made, and work", spare);
        scarcity.for_good = true;
        int made = run_child(make_do, &scarcity);
        /* The library has no room above the program's then, and takes a number for each thread that waits. */
        ok(made <= spare && made >= spare - SLEEPERS - 1, "room for %d, and no more to be had: at most that", spare);
    }
    for (int for_good = 0; for_good < 2; for_good++) {
        struct scarcity scarcity = {0, for_good};

        is_int(run_child(wait_without, &scarcity), 0, "no room at all%s: two threads wait",
               for_good ? ", and none to be had" : "");
    }
    return done_testing();
}
