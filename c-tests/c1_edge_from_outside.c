/*
 * C1: an edge is a wake-up by the file, whoever is behind it: another process, or this one by a system call that goes
 * past libc. Nothing is ever read by the process that waits, and each write is one more event.
 */
#include "help.h"

#include <sys/un.h>

enum { WRITES = 50, LITTLE_MS = 30 };

/* What is done outside. */
enum action { WRITE, DRAIN, SHUT, CLOSE, CONNECT };

static int to_child[2]; /* commands go there, and an answer comes back */

struct command {
    enum action action;
    int fd;
    struct sockaddr_un address;
    socklen_t length;
};

static int obey(void *unused)
{
    struct command command;
    char answer = 0;

    (void)unused;
    must(close(to_child[0]));
    while (read(to_child[1], &command, sizeof command) == sizeof command) {
        switch (command.action) {
        case WRITE: put(command.fd); break;
        case DRAIN: drain(command.fd); break;
        case SHUT: must(shutdown(command.fd, SHUT_WR)); break;
        case CLOSE: must(close(command.fd)); break;
        case CONNECT:;
            int fd = must(socket(command.address.sun_family, SOCK_STREAM, 0));
            must(connect(fd, (struct sockaddr *)&command.address, command.length));
        }
        must(write(to_child[1], &answer, 1));
    }
    return 0;
}

static void by_child(struct command command)
{
    char answer;

    must(write(to_child[0], &command, sizeof command));
    require(read(to_child[0], &answer, 1) == 1);
}

static void by_inline_call(struct command command)
{
    static char buffer[65536];
    uint64_t one = 1;
    long result;

    switch (command.action) {
    case WRITE: require(inline_call(SYS_write, command.fd, (long)&one, sizeof one) == sizeof one); break;
    case DRAIN:
        do
            result = inline_call(SYS_read, command.fd, (long)buffer, sizeof buffer);
        while (result > 0);
        break;
    case SHUT: require(inline_call(SYS_shutdown, command.fd, SHUT_WR, 0) == 0); break;
    case CLOSE: require(inline_call(SYS_close, command.fd, 0, 0) == 0); break;
    case CONNECT:
        result = inline_call(SYS_socket, command.address.sun_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        require(result >= 0);
        require(inline_call(SYS_connect, result, (long)&command.address, command.length) == 0);
    }
}

static void (*act)(struct command);
static const char *actor;

static void outside(enum action action, int fd)
{
    act((struct command){.action = action, .fd = fd});
}

/* `ring` makes one more event of the reader. */
static void each_is_an_edge(const char *kind, int reader, struct command ring)
{
    int epfd = make_epoll(), lost = 0, twice = 0;
    struct waiter waiter;

    watch(epfd, reader, EPOLLIN | EPOLLET);
    expect_quiet(epfd, "%s by %s: nothing yet", kind, actor);
    for (int i = 0; i < WRITES; i++) {
        act(ring);
        lost += wait_mask(epfd, SOON_MS / 5) != EPOLLIN;
        twice += i % 10 == 0 && wait_mask(epfd, LITTLE_MS) != 0;
        if (lost)
            break;
    }
    is_int(lost, 0, "%s by %s: %d times, and each is an edge, though nothing is taken", kind, actor, WRITES);
    is_int(twice, 0, "%s by %s: reported once", kind, actor);
    waiter_start(&waiter, epfd, SOON_MS);
    act(ring);
    ok(waiter_got(&waiter, reader, EPOLLIN), "%s by %s: and wakes a thread that sleeps", kind, actor);
    expect_quiet(epfd, "%s by %s: once", kind, actor);
    rearm(epfd, reader, EPOLLIN | EPOLLET);
    expect_event(epfd, EPOLLIN, "%s by %s: MOD reports it again", kind, actor);
    expect_quiet(epfd, "%s by %s: once", kind, actor);
    must(close(epfd));
}

static void a_stream(const char *kind, int reader, int writer)
{
    each_is_an_edge(kind, reader, (struct command){.action = WRITE, .fd = writer});
    drain(reader);

    int epfd = make_epoll();
    watch(epfd, reader, EPOLLIN | EPOLLET);
    for (int i = 0; i < 3; i++) {
        outside(WRITE, writer);
        expect_event(epfd, EPOLLIN, "%s by %s: filled from outside", kind, actor);
        outside(DRAIN, reader);
        expect_quiet(epfd, "%s by %s: and drained from outside", kind, actor);
    }
    must(close(epfd));

    epfd = make_epoll();
    watch(epfd, writer, EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT, "%s by %s: room", kind, actor);
    fill(writer);
    expect_quiet(epfd, "%s by %s: full", kind, actor);
    outside(DRAIN, reader);
    expect_event(epfd, EPOLLOUT, "%s by %s: room again", kind, actor);
    drain(reader);
    must(close(epfd));
}

/* `half`: what a half-close reports, if there is such a thing; `end`: what the close of the last copy does. */
static void its_end(const char *kind, int reader, int writer, uint32_t half, uint32_t end)
{
    int epfd = make_epoll();

    watch(epfd, reader, EPOLLIN | EPOLLRDHUP | EPOLLET);
    outside(WRITE, writer);
    expect_event(epfd, EPOLLIN, "%s by %s: data, which stays", kind, actor);
    if (half) {
        outside(SHUT, writer);
        expect_event(epfd, half, "%s by %s: half-closed, an edge", kind, actor);
        expect_quiet(epfd, "%s by %s: once", kind, actor);
    }
    if (end) {
        if (act == by_child)
            must(close(writer)); /* ours; the child's is the last */
        outside(CLOSE, writer);
        expect_event(epfd, end, "%s by %s: closed, an edge", kind, actor);
        expect_quiet(epfd, "%s by %s: once", kind, actor);
    }
    must(close(epfd));
}

static void all_kinds(bool forked)
{
    int pipes[2], streams[2], connection[2], udp[2], bell, listener, unix_listener;
    struct command to_tcp = {.action = CONNECT, .length = sizeof(struct sockaddr_in)};
    struct command to_unix = {.action = CONNECT, .length = sizeof(sa_family_t)};
    struct sockaddr_in address;
    pid_t child = 0;

    /* Before the fork, so that the child has them. Not close-on-exec, as whoever writes to it unseen needs it. */
    pipe_pair(pipes);
    unix_pair(SOCK_STREAM, streams);
    tcp_pair(connection);
    bell = must(eventfd(0, EFD_NONBLOCK));
    udp[0] = must(bound_socket(SOCK_DGRAM | SOCK_NONBLOCK, 0));
    udp[1] = must(bound_socket(SOCK_DGRAM | SOCK_NONBLOCK, 0));
    address = loopback(port_of(udp[0]));
    must(connect(udp[1], (struct sockaddr *)&address, sizeof address));
    listener = tcp_listener();
    must(listen(listener, 4096));
    address = loopback(port_of(listener));
    memcpy(&to_tcp.address, &address, sizeof address);
    unix_listener = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    to_unix.address.sun_family = AF_UNIX; /* a name that the kernel makes up */
    must(bind(unix_listener, (struct sockaddr *)&to_unix.address, to_unix.length));
    to_unix.length = sizeof to_unix.address;
    must(getsockname(unix_listener, (struct sockaddr *)&to_unix.address, &to_unix.length));
    must(listen(unix_listener, 4096));
    set_nonblocking(listener);
    set_nonblocking(unix_listener);
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, to_child));
    if (forked) {
        child = child_start(obey, NULL);
        must(close(to_child[1]));
    }

    each_is_an_edge("eventfd", bell, (struct command){.action = WRITE, .fd = bell});
    each_is_an_edge("UDP", udp[0], (struct command){.action = WRITE, .fd = udp[1]});
    each_is_an_edge("TCP listener", listener, to_tcp);
    each_is_an_edge("UNIX listener", unix_listener, to_unix);
    a_stream("pipe", pipes[0], pipes[1]);
    its_end("pipe", pipes[0], pipes[1], 0, EPOLLIN | EPOLLHUP);
    a_stream("UNIX stream", streams[0], streams[1]);
    its_end("UNIX stream", streams[0], streams[1], EPOLLIN | EPOLLRDHUP, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
    each_is_an_edge("TCP", connection[0], (struct command){.action = WRITE, .fd = connection[1]});
    drain(connection[0]);
    its_end("TCP", connection[0], connection[1], EPOLLIN | EPOLLRDHUP, 0);
    if (forked) {
        must(close(to_child[0]));
        is_int(child_result(child), 0, "the other process did its part");
    }
}

int main(void)
{
    time_limit(60);
    act = by_child;
    actor = "another process";
    all_kinds(true);
    act = by_inline_call;
    actor = "inline calls";
    if (inline_call(SYS_getpid, 0, 0, 0) == getpid())
        all_kinds(false);
    else
        skip("no inline calls on this machine");
    return done_testing();
}
