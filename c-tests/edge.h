/* C1 for files on which data arrives: what an edge is must not depend on the kind of file. */
#ifndef EDGE_H
#define EDGE_H

#include "help.h"

/* Preconditions: `reader` is empty, `writer` feeds it, take() on `reader` takes just one message. Leaves it empty. */
static inline void edge_suite(const char *kind, int reader, int writer)
{
    int epfd = make_epoll();
    struct waiter waiter;

    watch(epfd, reader, EPOLLIN | EPOLLET);
    expect_quiet(epfd, "%s: empty, no event", kind);
    put(writer);
    expect_event(epfd, EPOLLIN, "%s: the first write is an edge", kind);
    expect_quiet(epfd, "%s: which is reported once", kind);

    for (int i = 2; i <= 4; i++) {
        put(writer);
        expect_event(epfd, EPOLLIN, "%s: undrained, write %d is one more edge", kind, i);
        expect_quiet(epfd, "%s: which is reported once", kind);
    }

    put(writer);
    put(writer);
    expect_event(epfd, EPOLLIN, "%s: two writes between two waits", kind);
    expect_quiet(epfd, "%s: are one event", kind);

    take(reader);
    expect_quiet(epfd, "%s: reading part of the data is no edge", kind);
    put(writer);
    expect_event(epfd, EPOLLIN, "%s: a write after a partial read is an edge", kind);

    drain(reader);
    expect_quiet(epfd, "%s: drained, no event", kind);
    put(writer);
    expect_event(epfd, EPOLLIN, "%s: drained and refilled, an edge", kind);

    drain(reader);
    put(writer);
    expect_event(epfd, EPOLLIN, "%s: drained and refilled between two waits, an edge", kind);

    put(writer);
    drain(reader);
    expect_quiet(epfd, "%s: filled and drained between two waits, no event", kind);
    put(writer);
    expect_event(epfd, EPOLLIN, "%s: nor does that swallow the next edge", kind);

    waiter_start(&waiter, epfd, SOON_MS);
    put(writer);
    ok(waiter_got(&waiter, reader, EPOLLIN), "%s: undrained, a write wakes a thread that sleeps in the wait", kind);
    expect_quiet(epfd, "%s: and nobody else gets that edge", kind);

    rearm(epfd, reader, EPOLLIN | EPOLLET);
    expect_event(epfd, EPOLLIN, "%s: MOD reports a level that is still high", kind);
    unwatch(epfd, reader);
    watch(epfd, reader, EPOLLIN | EPOLLET);
    expect_event(epfd, EPOLLIN, "%s: ADD reports a level that is already high", kind);
    expect_quiet(epfd, "%s: once", kind);

    drain(reader);
    must(close(epfd));
}

/* For messages: an empty one counts as any other. `own` is what its sender is told of it. */
static inline void empty_messages(const char *kind, int reader, int writer, uint32_t own)
{
    int epfd = make_epoll(), senders = make_epoll();
    char byte;

    watch(epfd, reader, EPOLLIN | EPOLLET);
    watch(senders, writer, EPOLLOUT | EPOLLET);
    expect_event(senders, EPOLLOUT, "%s: room", kind);
    for (int i = 1; i <= 3; i++) {
        must((int)send(writer, "", 0, 0));
        expect_event(epfd, EPOLLIN, "%s: empty message %d is an edge", kind, i);
        expect_quiet(epfd, "%s: which is reported once", kind);
        is_mask(wait_mask(senders, own ? SOON_MS : QUIET_MS), own, "%s: what its sender is told", kind);
    }
    for (int i = 1; i <= 3; i++)
        is_int(recv(reader, &byte, 1, 0), 0, "%s: it is read", kind);
    expect_quiet(epfd, "%s: drained, no event", kind);
    must(close(epfd));
    must(close(senders));
}

#endif
