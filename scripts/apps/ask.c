/* A load for throughput: connections that send a request, wait for its answer, compare it, and send the next.
 *
 *   ask PORT CONNECTIONS SECONDS REQUEST [ANSWER]
 *
 * Without ANSWER the server is one that echoes. Prints how many were answered in a second. Status 1: another answer, a
 * connection that was closed, or none for ten seconds. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM 256

struct client {
    int fd;
    size_t got;
};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void ask(struct client *client, const char *request, size_t length)
{
    client->got = 0;
    /* Far less than a socket's buffer, which is empty. */
    if (send(client->fd, request, length, MSG_NOSIGNAL) != (ssize_t)length)
        fail("send");
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fputs("ask PORT CONNECTIONS SECONDS REQUEST [ANSWER]\n", stderr);
        return 2;
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size_t count = (size_t)atol(argv[2]);
    const char *request = argv[4], *answer = argc > 5 ? argv[5] : request;
    size_t asked = strlen(request), due = strlen(answer);
    struct client *clients = calloc(count, sizeof *clients);
    char *buffer = malloc(due + 1);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!clients || !buffer || epoll < 0)
        fail("epoll_create1");
    for (size_t i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        clients[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (clients[i].fd < 0 || connect(clients[i].fd, (struct sockaddr *)&to, sizeof to) < 0)
            fail("connect");
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event) < 0)
            fail("epoll_ctl");
    }

    double start = now(), end = start + atof(argv[3]), time = start;
    unsigned long answered = 0;
    for (size_t i = 0; i < count; i++)
        ask(&clients[i], request, asked);
    while (time < end) {
        struct epoll_event events[ROOM];
        int found = epoll_wait(epoll, events, ROOM, 10000);
        if (found <= 0)
            fail("no answer");
        for (int i = 0; i < found; i++) {
            struct client *client = events[i].data.ptr;
            ssize_t got = recv(client->fd, buffer, due - client->got + 1, 0);
            if (got <= 0)
                fail("recv");
            if ((size_t)got > due - client->got || memcmp(buffer, answer + client->got, (size_t)got) != 0) {
                fputs("another answer\n", stderr);
                return 1;
            }
            client->got += (size_t)got;
            if (client->got == due) {
                answered++;
                ask(client, request, asked);
            }
        }
        time = now();
    }
    printf("%.1f\n", (double)answered / (time - start));
    return 0;
}
