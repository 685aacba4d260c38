// An echo server of the strict kind: edge-triggered, non-blocking, one thread.
//
//     echo-server [PORT]
//
// It listens on 127.0.0.1 (PORT 0 or none: any free one), says where, and echoes until SIGTERM or SIGINT; then it says
// what it served. Each descriptor is registered once, for everything, and never changed: the server lives on edges
// alone, so a single lost one leaves a client waiting for ever.
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024, BATCH = 64, EDGES = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };

// A connection. Bytes between `sent` and `filled` of `pending` wait for the peer to read; while there are any, nothing
// more is received, so a peer that never reads cannot make the server grow.
struct connection {
    int fd;
    bool ended; // the peer sent its end-of-file
    size_t sent, filled;
    char pending[CHUNK];
};

static struct {
    unsigned long connections, bytes, waits, events;
} served;

// Registered instead of a connection: the addresses are all that counts.
static char listener_mark, signal_mark;

static void watch(int epoll, int fd, void *data)
{
    struct epoll_event event = {.events = EDGES, .data.ptr = data};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

// Accepts until there is nobody left: the next edge comes only with the next client.
static void accept_all(int epoll, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno == EAGAIN)
                return;
            check(fd, "accept4");
        }
        struct connection *connection = malloc(sizeof *connection);
        if (connection == NULL)
            check(-1, "malloc");
        connection->fd = fd;
        connection->ended = false;
        connection->sent = connection->filled = 0;
        served.connections++;
        watch(epoll, fd, connection);
    }
}

// Echoes until the socket has nothing more to give or takes nothing more; false when the connection is over.
static bool echo(struct connection *c)
{
    for (;;) {
        while (c->sent < c->filled) {
            ssize_t n = send(c->fd, c->pending + c->sent, c->filled - c->sent, MSG_NOSIGNAL);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return errno == EAGAIN; // EPOLLOUT brings us back
            c->sent += (size_t)n;
            served.bytes += (unsigned long)n;
        }
        if (c->ended)
            return false;
        ssize_t n = recv(c->fd, c->pending, CHUNK, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN; // EPOLLIN brings us back
        c->ended = n == 0;
        c->sent = 0;
        c->filled = (size_t)n;
    }
}

static int listen_on(int port)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(listener, "socket");
    check(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), "setsockopt");
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t length = sizeof address;
    check(bind(listener, (struct sockaddr *)&address, length), "bind");
    check(listen(listener, SOMAXCONN), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

// SIGTERM and SIGINT as a descriptor.
static int stop_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    check(sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    check(fd, "signalfd");
    return fd;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); // what we have may do
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        fprintf(stderr, "usage: echo-server [PORT]\n");
        return 2;
    }
    raise_descriptor_limit();
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    check(epoll, "epoll_create1");
    watch(epoll, stop_signals(), &signal_mark);
    int listener = listen_on(argc == 2 ? (int)number(argv[1], 0, 65535, "PORT") : 0);
    watch(epoll, listener, &listener_mark);

    for (bool stop = false; !stop;) {
        struct epoll_event events[BATCH];
        int ready = epoll_wait(epoll, events, BATCH, -1);
        served.waits++;
        if (ready < 0 && errno == EINTR)
            continue;
        check(ready, "epoll_wait");
        served.events += (unsigned long)ready;
        for (int i = 0; i < ready; i++) {
            void *data = events[i].data.ptr;
            if (data == &signal_mark) {
                stop = true;
            } else if (data == &listener_mark) {
                accept_all(epoll, listener);
            } else if (!echo(data)) {
                struct connection *connection = data;
                close(connection->fd); // takes it off the interest list too
                free(connection);
            }
        }
    }
    printf("served %lu connections, %lu bytes, %lu epoll_wait calls, %lu events\n", served.connections, served.bytes,
           served.waits, served.events);
    return 0;
}
