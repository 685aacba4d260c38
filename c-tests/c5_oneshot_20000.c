/*
 * C5: ONESHOT hands one event to exactly one thread: what a pool of workers builds on. 20,000 messages over eight
 * sockets, and never are two threads at one socket.
 */
#include "help.h"

enum { SOCKETS = 8, WORKERS = 4, MESSAGES = 20000, BURST = 10 };

static int epfd, sockets[SOCKETS][2];
static _Atomic int handled, overlaps, busy[SOCKETS], empty;

static void *worker(void *unused)
{
    (void)unused;
    while (handled < MESSAGES) {
        struct epoll_event event = {.events = 0};
        uint64_t message;

        /* The last message wakes one worker only; the others look at the count now and then. */
        if (must(wait_one(epfd, &event, 100)) == 0)
            continue;
        uint32_t i = event.data.u32;
        overlaps += busy[i]++ != 0;
        if (read(sockets[i][0], &message, sizeof message) == sizeof message)
            handled++;
        else
            empty++;
        busy[i]--;
        event.events = EPOLLIN | EPOLLONESHOT;
        must(epoll_ctl(epfd, EPOLL_CTL_MOD, sockets[i][0], &event));
    }
    return NULL;
}

int main(void)
{
    pthread_t workers[WORKERS];

    time_limit(60);
    epfd = make_epoll();
    for (uint32_t i = 0; i < SOCKETS; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = i};

        unix_pair(SOCK_STREAM, sockets[i]);
        must(epoll_ctl(epfd, EPOLL_CTL_ADD, sockets[i][0], &event));
    }
    for (int i = 0; i < WORKERS; i++)
        must_zero(pthread_create(&workers[i], NULL, worker, NULL));
    for (int sent = 0; sent < MESSAGES; sent++) {
        while (sent - handled > SOCKETS * BURST) /* do not overfill the sockets */
            sched_yield();
        put(sockets[sent % SOCKETS][1]);
    }
    for (int i = 0; i < WORKERS; i++)
        must_zero(pthread_join(workers[i], NULL));
    is_int(handled, MESSAGES, "each message was handled, once");
    is_int(overlaps, 0, "never by two threads at one socket");
    is_int(empty, 0, "and no event came without a message");
    return done_testing();
}
