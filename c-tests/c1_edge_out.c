/*
 * C1 for writing: OUT is reported once at ADD, and again when a full file has room; writing while there is room is no
 * edge.
 */
#include "help.h"

static void room_suite(const char *kind, int reader, int writer)
{
    int epfd = make_epoll();
    struct waiter waiter;

    watch(epfd, writer, EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT, "%s: there is room at ADD", kind);
    expect_quiet(epfd, "%s: reported once", kind);
    put(writer);
    expect_quiet(epfd, "%s: a write that leaves room is no edge", kind);

    fill(writer);
    expect_quiet(epfd, "%s: full, no event", kind);
    drain(reader);
    expect_event(epfd, EPOLLOUT, "%s: room again, an edge", kind);

    fill(writer);
    waiter_start(&waiter, epfd, SOON_MS);
    drain(reader);
    ok(waiter_got(&waiter, writer, EPOLLOUT), "%s: room again wakes a thread that sleeps in the wait", kind);
    must(close(epfd));
}

int main(void)
{
    int pair[2];

    pipe_pair(pair);
    room_suite("pipe", pair[0], pair[1]);
    close_pair(pair);
    unix_pair(SOCK_STREAM, pair);
    room_suite("UNIX stream", pair[0], pair[1]);
    return done_testing();
}
