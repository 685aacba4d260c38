/*
 * G1: "Any call from any thread at any time": threads that add, modify, delete, close and wait, all at one instance. An
 * event may be for an item that was there at some time, and nothing else; afterwards the instance is as good as new.
 */
#include "help.h"

enum { CHURNERS = 3, WAITERS = 2, ROUNDS = 3000 };

static int epfd;
static _Atomic int unexpected_errors, unknown_events;
static _Atomic bool finished;

/*
 * Makes, uses and closes items of its own. Its numbers may be reused by others at once: errors that follow are
 * expected.
 */
static void *churn(void *argument)
{
    uint64_t mark = (uint64_t)(uintptr_t)argument;

    for (int round = 0; round < ROUNDS; round++) {
        struct epoll_event event = {.events = EPOLLIN | (round % 2 ? EPOLLET : 0), .data.u64 = mark};
        int pair[2];

        pipe_pair(pair);
        unexpected_errors += epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &event) != 0;
        put(pair[1]);
        if (round % 3 == 0)
            unexpected_errors += epoll_ctl(epfd, EPOLL_CTL_MOD, pair[0], &event) != 0;
        if (round % 5 == 0)
            unexpected_errors += epoll_ctl(epfd, EPOLL_CTL_DEL, pair[0], NULL) != 0;
        if (round % 7 == 0)
            must(wait_one(epfd, &event, 0));
        close_pair(pair);
    }
    return NULL;
}

static void *wait_for_all(void *unused)
{
    struct epoll_event events[4];

    while (!finished) {
        int count = must(epoll_wait(epfd, events, 4, 1));

        for (int i = 0; i < count; i++)
            unknown_events += events[i].data.u64 < 1 || events[i].data.u64 > CHURNERS;
    }
    return unused;
}

int main(void)
{
    pthread_t churners[CHURNERS], waiters[WAITERS];
    int pair[2];

    time_limit(60);
    epfd = make_epoll();
    for (uintptr_t i = 0; i < CHURNERS; i++)
        must_zero(pthread_create(&churners[i], NULL, churn, (void *)(i + 1)));
    for (int i = 0; i < WAITERS; i++)
        must_zero(pthread_create(&waiters[i], NULL, wait_for_all, NULL));
    for (int i = 0; i < CHURNERS; i++)
        must_zero(pthread_join(churners[i], NULL));
    finished = true;
    for (int i = 0; i < WAITERS; i++)
        must_zero(pthread_join(waiters[i], NULL));
    is_int(unexpected_errors, 0, "every ADD, MOD and DEL of an item of one's own worked");
    is_int(unknown_events, 0, "every event carried the data of some item");

    expect_quiet(epfd, "all items are gone");
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    put(pair[1]);
    is_int(wait_fd(epfd, SOON_MS), pair[0], "and a new one works");
    return done_testing();
}
