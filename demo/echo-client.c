// Opens many connections to an echo server, sends messages of all sizes, and compares every byte that comes back.
//
//     echo-client PORT [CONNECTIONS [ROUNDS]]
//
// One thread and one epoll: level-triggered with a changing interest (EPOLL_CTL_MOD), so that client and server use
// epoll in opposite ways. Half of the connections say goodbye by shutdown and wait for the server's end-of-file. A
// silence of SILENCE_MS while echoes are due is a failure. Exit status 0: every byte came back right.
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, SILENCE_MS = 10000, LARGEST = 256 * 1024 };

// Message sizes; each connection starts at another one and goes round.
static const size_t SIZES[] = {1, 2, 100, 1024, 4096, 4097, 65536, 65537, LARGEST, 7};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

// A connection: the message of `size` bytes under way, how much of it went out and came back, and what is to follow.
struct connection {
    int fd;
    int id;
    int round;
    bool said_goodbye;
    uint32_t interest;
    size_t size, sent, received;
};

static struct {
    unsigned long messages, bytes;
} echoed;

// The bytes of every message, cut out at an offset that differs by connection and round.
static unsigned char pattern[LARGEST + 4096];

static void fill_pattern(void)
{
    uint32_t state = 2463534242u;
    for (size_t i = 0; i < sizeof pattern; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        pattern[i] = (unsigned char)state;
    }
}

static const unsigned char *message(const struct connection *c)
{
    return pattern + (c->id * 31 + c->round * 7) % 4096;
}

static void begin_message(struct connection *c)
{
    c->size = SIZES[(c->id + c->round) % SIZE_COUNT];
    c->sent = c->received = 0;
}

_Noreturn static void fail(const struct connection *c, const char *what)
{
    fprintf(stderr, "connection %d, round %d: %s after %zu of %zu bytes (errno %d)\n", c->id, c->round, what,
            c->received, c->size, errno);
    exit(1);
}

static void set_interest(int epoll, struct connection *c, uint32_t interest)
{
    if (c->interest == interest)
        return;
    struct epoll_event event = {.events = interest, .data.ptr = c};
    check(epoll_ctl(epoll, c->interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event), "epoll_ctl");
    c->interest = interest;
}

static void open_connection(int epoll, struct connection *c, int port)
{
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(c->fd, "socket");
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        check(-1, "connect");
    begin_message(c);
    set_interest(epoll, c, EPOLLOUT);
}

// Sends what the socket takes.
static void send_some(struct connection *c)
{
    while (c->sent < c->size) {
        ssize_t n = send(c->fd, message(c) + c->sent, c->size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            fail(c, "send failed");
        c->sent += (size_t)n;
    }
}

// Receives what is there and compares it; true at the server's end-of-file.
static bool receive_some(struct connection *c)
{
    static unsigned char buffer[64 * 1024];
    for (;;) {
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0)
            fail(c, "recv failed");
        if (n == 0)
            return true;
        if ((size_t)n > c->sent - c->received)
            fail(c, "more came back than was sent");
        for (ssize_t i = 0; i < n; i++)
            if (buffer[i] != message(c)[c->received + (size_t)i])
                fail(c, "a wrong byte came back");
        c->received += (size_t)n;
        echoed.bytes += (unsigned long)n;
    }
}

// Takes a connection as far as it goes now; true when it is finished.
static bool advance(int epoll, struct connection *c, int rounds)
{
    send_some(c);
    bool end = receive_some(c);
    if (end && c->said_goodbye)
        return true;
    if (end)
        fail(c, "the server hung up");
    if (c->received == c->size && !c->said_goodbye) {
        echoed.messages++;
        if (++c->round < rounds) {
            begin_message(c);
            send_some(c);
        } else if (c->id % 2 == 0) {
            check(shutdown(c->fd, SHUT_WR), "shutdown");
            c->said_goodbye = true;
        } else {
            return true;
        }
    }
    set_interest(epoll, c, c->sent < c->size ? EPOLLIN | EPOLLOUT : EPOLLIN);
    return false;
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: echo-client PORT [CONNECTIONS [ROUNDS]]\n");
        return 2;
    }
    int port = (int)number(argv[1], 1, 65535, "PORT");
    int count = argc > 2 ? (int)number(argv[2], 1, 20000, "CONNECTIONS") : 200;
    int rounds = argc > 3 ? (int)number(argv[3], 1, 1000000, "ROUNDS") : 20;
    struct rlimit limit;
    check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); // what we have may do
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    fill_pattern();
    struct connection *connections = calloc((size_t)count, sizeof *connections);
    if (connections == NULL)
        check(-1, "calloc");
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    check(epoll, "epoll_create1");
    for (int i = 0; i < count; i++) {
        connections[i].id = i;
        open_connection(epoll, &connections[i], port);
    }
    for (int open = count; open > 0;) {
        struct epoll_event events[BATCH];
        int ready = epoll_wait(epoll, events, BATCH, SILENCE_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        check(ready, "epoll_wait");
        if (ready == 0) {
            for (int i = 0; i < count; i++)
                if (connections[i].fd >= 0)
                    fail(&connections[i], "silence");
        }
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (advance(epoll, c, rounds)) {
                close(c->fd);
                c->fd = -1;
                open--;
            }
        }
    }
    printf("verified %d connections, %lu messages, %lu bytes in %.2f s\n", count, echoed.messages, echoed.bytes,
           seconds_since(&start));
    return 0;
}
