/*
 * C1 on TCP connections: OUT is an edge when a full connection has room again, HUP when both directions have ended, ERR
 * with a reset; and for a pipe's writer, ERR when the last reader goes.
 */
#include "help.h"

/* What was sent is on its way for a moment: reads until nothing has come for a while. */
static void drain_all(int reader)
{
    struct pollfd poll_it = {.fd = reader, .events = POLLIN};

    do
        drain(reader);
    while (poll(&poll_it, 1, QUIET_MS) > 0);
}

/* Acknowledgements may be this late, and make room. */
enum { DELAYED_ACK_MS = 100 };

/* The same for room: what is on its way to the reader leaves the writer's own queue, and that is an edge, too. */
static void fill_all(int writer)
{
    struct pollfd poll_it = {.fd = writer, .events = POLLOUT};

    do
        fill(writer);
    while (poll(&poll_it, 1, DELAYED_ACK_MS) > 0);
}

/* Left to itself the kernel lets the queues grow under way, which makes room without any read. */
static void fix_queues(const int pair[2])
{
    int size = 64 * 1024;

    for (int i = 0; i < 2; i++) {
        must(setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
        must(setsockopt(pair[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    }
}

static void room(void)
{
    int epfd = make_epoll(), pair[2];
    struct waiter waiter;

    tcp_pair(pair);
    fix_queues(pair);
    watch(epfd, pair[1], EPOLLIN | EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT, "room at ADD");
    expect_quiet(epfd, "reported once");
    for (int i = 1; i <= 3; i++) {
        fill_all(pair[1]);
        expect_quiet(epfd, "full, round %d", i);
        waiter_start(&waiter, epfd, SOON_MS);
        drain_all(pair[0]);
        ok(waiter_got(&waiter, pair[1], EPOLLOUT), "room again wakes a thread that sleeps, round %d", i);
    }
    must(close(epfd));
    close_pair(pair);
}

static void both_ends(void)
{
    int epfd = make_epoll(), pair[2];

    tcp_pair(pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLRDHUP | EPOLLET);
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "data, which stays");
    must(shutdown(pair[1], SHUT_WR));
    expect_event(epfd, EPOLLIN | EPOLLRDHUP, "the peer's half-close, an edge");
    expect_quiet(epfd, "reported once");
    must(shutdown(pair[0], SHUT_WR));
    expect_event(epfd, EPOLLIN | EPOLLRDHUP | EPOLLHUP, "our half-close, an edge: HUP");
    rearm(epfd, pair[0], EPOLLIN | EPOLLRDHUP | EPOLLET);
    expect_event(epfd, EPOLLIN | EPOLLRDHUP | EPOLLHUP, "MOD reports it all again");
    rearm(epfd, pair[0], EPOLLET);
    expect_event(epfd, EPOLLHUP, "MOD to an empty mask: HUP alone");
    expect_quiet(epfd, "once");
    must(close(epfd));
    close_pair(pair);
}

static void reset(void)
{
    int epfd = make_epoll(), pair[2];
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    tcp_pair(pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLRDHUP | EPOLLET);
    expect_quiet(epfd, "nothing yet");
    must(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
    must(close(pair[1]));
    expect_event(epfd, EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP, "a reset, an edge");
    expect_quiet(epfd, "reported once");
    must(close(epfd));
    must(close(pair[0]));
}

static void no_reader(void)
{
    int epfd = make_epoll(), pair[2], other;

    pipe_pair(pair);
    watch(epfd, pair[1], EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT, "a pipe with room");
    other = must(dup(pair[0]));
    must(close(pair[0]));
    expect_quiet(epfd, "one of two readers closed: nothing");
    must(close(other));
    expect_event(epfd, EPOLLOUT | EPOLLERR, "the last reader closed, an edge: ERR");
    expect_quiet(epfd, "reported once");
    rearm(epfd, pair[1], EPOLLET);
    expect_event(epfd, EPOLLERR, "MOD reports it again");
    must(close(epfd));
    must(close(pair[1]));
}

int main(void)
{
    room();
    both_ends();
    reset();
    no_reader();
    return done_testing();
}
