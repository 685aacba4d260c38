/*
 * C8: "Never lose an edge." A reader that drains on every edge-triggered event, and sleeps until the next, gets all of
 * 20,000 messages from a writer that waits for nobody but, now and then, for the reader to have gone to sleep.
 */
#include "help.h"

enum { MESSAGES = 20000 };

static _Atomic int received;

struct route {
    int reader, writer;
};

static void *writer_main(void *argument)
{
    const struct route *route = argument;

    for (int sent = 0; sent < MESSAGES; sent++) {
        while (sent - received > (sent % 1000 ? 16 : 0)) /* every 1,000 messages let the reader run dry */
            sched_yield();
        put(route->writer);
    }
    return NULL;
}

static void all_arrive(const char *kind, int reader, int writer)
{
    struct route route = {reader, writer};
    int epfd = make_epoll(), lost = 0;
    pthread_t thread;

    received = 0;
    watch(epfd, reader, EPOLLIN | EPOLLET);
    must_zero(pthread_create(&thread, NULL, writer_main, &route));
    while (received < MESSAGES && !lost) {
        uint64_t message;

        lost = wait_mask(epfd, SOON_MS) != EPOLLIN;
        while (read(reader, &message, sizeof message) == sizeof message)
            received++;
    }
    if (!is_int(lost, 0, "%s: %d messages, the edge was never lost", kind, MESSAGES))
        exit(1); /* the writer may be stuck */
    must_zero(pthread_join(thread, NULL));
    must(close(epfd));
}

int main(void)
{
    int pair[2], semaphore = make_eventfd(EFD_SEMAPHORE);

    time_limit(90);
    pipe_pair(pair);
    all_arrive("pipe", pair[0], pair[1]);
    unix_pair(SOCK_STREAM, pair);
    all_arrive("UNIX stream", pair[0], pair[1]);
    unix_pair(SOCK_SEQPACKET, pair);
    all_arrive("UNIX seqpacket", pair[0], pair[1]);
    tcp_pair(pair);
    all_arrive("TCP", pair[0], pair[1]);
    all_arrive("eventfd", semaphore, semaphore);
    return done_testing();
}
