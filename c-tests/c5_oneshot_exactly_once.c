/*
 * C5: ONESHOT hands one event to exactly one thread: what a pool of workers builds on. Four threads take messages from
 * pipes, sockets and eventfds, level- and edge-triggered: each message is handled once, never are two threads at one
 * file, and no event comes without a message.
 *
 * MESSAGES=n in the environment: how many for each trigger (default: 200,000; tried with 1,000,000).
 */
#include "help.h"

enum { PIPES = 4, SOCKETS = 4, BELLS = 4, FILES = PIPES + SOCKETS + BELLS, WORKERS = 4, BATCH = 64 };

struct file {
    int reader, writer;
    bool counts; /* an eventfd: it adds up, and has no message numbers */
    _Atomic int busy;
};

static int epfd, end_bell, messages = 200000;
static struct file files[FILES];
static _Atomic unsigned char *seen; /* how often each message was handled */
static _Atomic int handled, counted, overlaps, empty;

static void handle(struct file *file)
{
    uint64_t buffer[BATCH];
    ssize_t got = read(file->reader, buffer, sizeof buffer);

    if (got <= 0) {
        empty++;
    } else if (file->counts) {
        counted += (int)buffer[0];
        handled += (int)buffer[0];
    } else {
        for (ssize_t i = 0; i < got / (ssize_t)sizeof buffer[0]; i++)
            seen[buffer[i]]++;
        handled += (int)(got / (ssize_t)sizeof buffer[0]);
    }
}

static void *work(void *argument)
{
    uint32_t trigger = *(uint32_t *)argument;

    for (;;) {
        struct epoll_event event = {.events = 0};

        must(wait_one(epfd, &event, -1));
        uint32_t i = event.data.u32;
        if (i == FILES)
            return NULL;
        overlaps += files[i].busy++ != 0;
        handle(&files[i]);
        files[i].busy--;
        event.events = EPOLLIN | trigger;
        must(epoll_ctl(epfd, EPOLL_CTL_MOD, files[i].reader, &event));
    }
}

/* Gives up when nothing happens any more: a message was lost. */
static void until_handled(int wanted)
{
    int last = -1;

    for (int64_t end = now_ms() + SOON_MS; handled < wanted && now_ms() < end; sched_yield())
        if (handled != last) {
            last = handled;
            end = now_ms() + SOON_MS;
        }
}

static void exactly_once(const char *name, uint32_t trigger)
{
    pthread_t workers[WORKERS];
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = FILES};
    int for_bells = 0, twice = 0, never = 0;

    handled = counted = overlaps = empty = 0;
    seen = calloc((size_t)messages, 1);
    require(seen);
    epfd = make_epoll();
    end_bell = make_eventfd(0);
    must(epoll_ctl(epfd, EPOLL_CTL_ADD, end_bell, &event));
    for (uint32_t i = 0; i < FILES; i++) {
        event = (struct epoll_event){.events = EPOLLIN | trigger, .data.u32 = i};
        must(epoll_ctl(epfd, EPOLL_CTL_ADD, files[i].reader, &event));
    }
    for (int i = 0; i < WORKERS; i++)
        must_zero(pthread_create(&workers[i], NULL, work, &trigger));

    for (int sent = 0; sent < messages; sent++) {
        struct file *file = &files[sent % FILES];
        uint64_t message = file->counts ? 1 : (uint64_t)sent;

        while (write(file->writer, &message, sizeof message) != sizeof message) {
            require(errno == EAGAIN); /* full */
            sched_yield();
        }
        for_bells += file->counts;
        if (sent % 10000 == 0) /* let the workers run dry, and sleep */
            until_handled(sent + 1);
    }
    until_handled(messages);
    is_int(handled, messages, "%s: %d messages were handled", name, messages);
    put(end_bell);
    for (int i = 0; i < WORKERS; i++)
        must_zero(pthread_join(workers[i], NULL));
    for (int i = 0; i < messages; i++)
        if (!files[i % FILES].counts) {
            twice += seen[i] > 1;
            never += seen[i] == 0;
        }
    is_int(twice, 0, "%s: none twice", name);
    is_int(never, 0, "%s: none never", name);
    is_int(counted, for_bells, "%s: the eventfds add up", name);
    is_int(overlaps, 0, "%s: never two threads at one file", name);
    is_int(empty, 0, "%s: no event without a message", name);
    must(close(end_bell));
    must(close(epfd));
    free((void *)seen);
}

int main(void)
{
    const char *given = getenv("MESSAGES");

    if (given)
        messages = atoi(given);
    require(messages > 0);
    time_limit(60 + (unsigned)messages / 10000);
    for (int i = 0; i < FILES; i++) {
        int pair[2];

        if (i < PIPES)
            pipe_pair(pair);
        else if (i < PIPES + SOCKETS)
            unix_pair(SOCK_STREAM, pair);
        else
            pair[0] = pair[1] = make_eventfd(0);
        files[i] = (struct file){.reader = pair[0], .writer = pair[1], .counts = i >= PIPES + SOCKETS};
    }
    exactly_once("one-shot, level-triggered", EPOLLONESHOT);
    exactly_once("one-shot, edge-triggered", EPOLLONESHOT | EPOLLET);
    return done_testing();
}
