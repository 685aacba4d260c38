/*
 * D6: "Events that arrive in the middle of a delivery are in the next one": two threads write to sixteen files as fast
 * as they can, so that something always comes while the last events are handed out. Edge-triggered, a reader that
 * drains what is reported gets every message, in order. Level-triggered, one that takes a single message for each event
 * does too.
 */
#include "help.h"

enum { FILES = 16, WRITERS = 2, MESSAGES = 60000, BATCH = 3 };

struct route {
    int reader, writer;
    uint64_t received, wrong;
};

static struct route routes[FILES];
static uint64_t messages; /* for each file */
static bool counts;       /* eventfds: they add up what was written */

static void *write_all(void *argument)
{
    const uintptr_t first = (uintptr_t)argument;

    for (uint64_t sent = 0; sent < messages; sent++)
        for (size_t i = first; i < FILES; i += WRITERS) {
            uint64_t message = counts ? 1 : sent;

            while (write(routes[i].writer, &message, sizeof message) != sizeof message) {
                require(errno == EAGAIN);
                sched_yield();
            }
        }
    return NULL;
}

/* One read of up to `most` messages. False: there is none. */
static bool receive(struct route *route, size_t most)
{
    uint64_t buffer[256];
    ssize_t got = read(route->reader, buffer, most * sizeof buffer[0]);

    if (got < 0) {
        require(errno == EAGAIN);
        return false;
    }
    if (counts) {
        route->received += buffer[0];
        return true;
    }
    route->wrong += got == 0 || got % (ssize_t)sizeof buffer[0] != 0;
    for (ssize_t i = 0; i < got / (ssize_t)sizeof buffer[0]; i++)
        route->wrong += buffer[i] != route->received++;
    return true;
}

static void all_arrive(const char *kind, uint32_t flag, int count)
{
    const char *trigger = flag ? "edge-triggered" : "level-triggered, one at a time";
    int epfd = make_epoll(), lost = 0;
    uint64_t received = 0, wrong = 0, wanted = 0;
    struct epoll_event events[BATCH];
    pthread_t writers[WRITERS];

    messages = (uint64_t)count / FILES;
    for (int i = 0; i < FILES; i++) {
        struct epoll_event event = {.events = EPOLLIN | flag, .data.u32 = (uint32_t)i};

        routes[i].received = routes[i].wrong = 0;
        wanted += messages;
        must(epoll_ctl(epfd, EPOLL_CTL_ADD, routes[i].reader, &event));
    }
    for (uintptr_t i = 0; i < WRITERS; i++)
        must_zero(pthread_create(&writers[i], NULL, write_all, (void *)i));
    while (received < wanted && !lost) {
        int ready = must(epoll_wait(epfd, events, BATCH, SOON_MS));

        lost = ready == 0;
        for (int i = 0; i < ready; i++) {
            struct route *route = &routes[events[i].data.u32];

            received -= route->received;
            if (flag)
                while (receive(route, 256))
                    continue;
            else
                route->wrong += !receive(route, 1);
            received += route->received;
        }
    }
    for (int i = 0; i < FILES; i++)
        wrong += routes[i].wrong;
    if (!is_int((long long)received, (long long)wanted, "%s, %s: all messages arrive", kind, trigger))
        exit(1); /* the writers may be stuck */
    is_int((long long)wrong, 0, "%s, %s: in order, and no event without one", kind, trigger);
    for (int i = 0; i < WRITERS; i++)
        must_zero(pthread_join(writers[i], NULL));
    must(close(epfd));
}

static void both_ways(const char *kind)
{
    all_arrive(kind, EPOLLET, MESSAGES);
    all_arrive(kind, 0, MESSAGES / 2);
}

static void use(int i, const int pair[2])
{
    routes[i].reader = pair[0];
    routes[i].writer = pair[1];
}

int main(void)
{
    int pair[2];

    time_limit(60);
    for (int i = 0; i < FILES; i++) {
        pipe_pair(pair);
        use(i, pair);
    }
    both_ways("pipes");
    for (int i = 0; i < FILES; i++) {
        unix_pair(SOCK_STREAM, pair);
        use(i, pair);
    }
    both_ways("UNIX streams");
    for (int i = 0; i < FILES; i++) {
        tcp_pair(pair);
        use(i, pair);
    }
    both_ways("TCP");
    counts = true;
    for (int i = 0; i < FILES; i++)
        use(i, (int[]){pair[0] = make_eventfd(0), pair[0]});
    all_arrive("eventfds", EPOLLET, MESSAGES);
    return done_testing();
}
