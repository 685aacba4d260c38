/* An echo server and its client on libevent.
 *
 *   libevent-echo server PORT plain|changelist|edge
 *   libevent-echo client PORT CONNECTIONS BYTES
 *
 * The server echoes by bufferevents, with libevent's list of changes or without; or by events of its own, edge-triggered.
 * It ends at SIGTERM, says what it has counted, and with status 0 if every connection was closed by then. The client sends
 * BYTES on each connection, in pieces, with pauses by timers, while it compares what comes back; every seventh goes in
 * the middle. The others close their own direction and wait for the end. */

#include "echo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection that owes its client more than this is not read from. */
#define OWED_AT_MOST 262144

static struct event_base *base;
static struct echo_counts counts;

static struct sockaddr_in address(const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}

/* --- the server, with bufferevents --- */

static void drop(struct bufferevent *conn)
{
    bufferevent_free(conn);
    counts.closed++;
}

static void echo_some(struct bufferevent *conn, void *ended)
{
    struct evbuffer *in = bufferevent_get_input(conn), *out = bufferevent_get_output(conn);
    (void)ended;
    counts.bytes += evbuffer_get_length(in);
    evbuffer_add_buffer(out, in);
    if (evbuffer_get_length(out) > OWED_AT_MOST)
        bufferevent_disable(conn, EV_READ);
}

static void all_written(struct bufferevent *conn, void *ended)
{
    (void)ended;
    bufferevent_enable(conn, EV_READ);
}

static void all_written_at_the_end(struct bufferevent *conn, void *ended)
{
    (void)ended;
    drop(conn);
}

static void something_happened(struct bufferevent *conn, short what, void *data)
{
    (void)data;
    if ((what & BEV_EVENT_EOF) && evbuffer_get_length(bufferevent_get_output(conn)) > 0)
        bufferevent_setcb(conn, NULL, all_written_at_the_end, something_happened, NULL);
    else
        drop(conn);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int length, void *data)
{
    struct bufferevent *conn = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    /* Each connection has a timer, which is set anew at every read. */
    struct timeval idle = {60, 0};
    (void)listener, (void)from, (void)length, (void)data;
    counts.accepted++;
    bufferevent_setcb(conn, echo_some, all_written, something_happened, NULL);
    bufferevent_set_timeouts(conn, &idle, NULL);
    bufferevent_enable(conn, EV_READ | EV_WRITE);
}

/* --- the server, edge-triggered --- */

struct edge_conn {
    struct event *event;
    size_t from, to;
    int ended;
    char buffer[65536];
};

static void edge(evutil_socket_t fd, short what, void *data)
{
    struct edge_conn *conn = data;
    (void)what;
    for (;;) {
        ssize_t done;
        if (conn->from < conn->to) {
            done = send(fd, conn->buffer + conn->from, conn->to - conn->from, MSG_NOSIGNAL);
            if (done > 0) {
                conn->from += (size_t)done;
                continue;
            }
        } else if (conn->ended) {
            break;
        } else {
            done = read(fd, conn->buffer, sizeof conn->buffer);
            conn->from = 0;
            conn->to = done > 0 ? (size_t)done : 0;
            counts.bytes += conn->to;
            conn->ended = done == 0;
            if (done >= 0)
                continue;
        }
        /* No room, or no input: the next edge continues here. */
        if (errno == EAGAIN)
            return;
        break;
    }
    event_free(conn->event);
    close(fd);
    free(conn);
    counts.closed++;
}

static void accepted_edge(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int length, void *data)
{
    struct edge_conn *conn = calloc(1, sizeof *conn);
    (void)listener, (void)from, (void)length, (void)data;
    counts.accepted++;
    conn->event = event_new(base, fd, EV_READ | EV_WRITE | EV_ET | EV_PERSIST, edge, conn);
    event_add(conn->event, NULL);
}

/* --- the server --- */

static void tick(evutil_socket_t fd, short what, void *data)
{
    (void)fd, (void)what, (void)data;
    counts.ticks++;
}

static void end(evutil_socket_t fd, short what, void *data)
{
    (void)fd, (void)what, (void)data;
    event_base_loopbreak(base);
}

static int server(const char *port, const char *way)
{
    struct sockaddr_in at = address(port);
    struct timeval interval = {0, TICK_MS * 1000};
    struct event_config *config = event_config_new();
    double start = echo_now();

    if (strcmp(way, "changelist") == 0)
        event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    event_config_require_features(config, EV_FEATURE_ET | EV_FEATURE_O1);
    base = event_base_new_with_config(config);
    if (!base) {
        fprintf(stderr, "no way of polling that knows edges\n");
        return 1;
    }
    struct evconnlistener *listener =
        evconnlistener_new_bind(base, strcmp(way, "edge") == 0 ? accepted_edge : accepted, NULL,
                                LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, 1024, (struct sockaddr *)&at, sizeof at);
    if (!listener) {
        perror("listen");
        return 1;
    }
    event_add(event_new(base, -1, EV_PERSIST, tick, NULL), &interval);
    event_add(evsignal_new(base, SIGTERM, end, NULL), NULL);
    printf("polls by %s\n", event_base_get_method(base));
    fflush(stdout);
    event_base_dispatch(base);
    return echo_report(way, &counts, echo_now() - start);
}

/* --- the client --- */

struct client {
    struct bufferevent *bev;
    struct event *pause;
    unsigned number;
    size_t sent, got, cut_at;
};

static unsigned left, whole, cut;
static size_t bytes_each, total;

static void client_done(struct client *client)
{
    event_free(client->pause);
    bufferevent_free(client->bev);
    if (--left == 0)
        event_base_loopbreak(base);
}

static void send_some(evutil_socket_t fd, short what, void *data)
{
    static unsigned char piece[30000];
    struct client *client = data;
    size_t count = 1 + (client->number * 7919 + client->sent * 31) % sizeof piece;
    (void)fd, (void)what;
    if (count > bytes_each - client->sent)
        count = bytes_each - client->sent;
    echo_fill(piece, client->number, client->sent, count);
    client->sent += count;
    bufferevent_write(client->bev, piece, count);
}

static void client_wrote(struct bufferevent *bev, void *data)
{
    struct client *client = data;
    if (client->sent == 0 || client->sent == bytes_each) {
        if (client->sent == bytes_each)
            shutdown(bufferevent_getfd(bev), SHUT_WR);
        return;
    }
    /* Every third piece comes a little later. */
    struct timeval later = {0, (suseconds_t)(client->number % 20) * 1000};
    if ((client->sent + client->number) % 3 == 0)
        event_add(client->pause, &later);
    else
        send_some(-1, 0, client);
}

static void client_read(struct bufferevent *bev, void *data)
{
    struct client *client = data;
    struct evbuffer *in = bufferevent_get_input(bev);
    size_t count = evbuffer_get_length(in);
    echo_compare(evbuffer_pullup(in, -1), client->number, client->got, count);
    evbuffer_drain(in, count);
    client->got += count;
    total += count;
    if (client->cut_at && client->got >= client->cut_at) {
        cut++;
        client_done(client);
    }
}

static void client_event(struct bufferevent *bev, short what, void *data)
{
    struct client *client = data;
    (void)bev;
    if (what & BEV_EVENT_CONNECTED) {
        send_some(-1, 0, client);
        return;
    }
    if (!(what & BEV_EVENT_EOF) || client->got != bytes_each) {
        fprintf(stderr, "connection %u ended (%x, errno %d) after %zu of %zu bytes\n", client->number, what, errno,
                client->got, bytes_each);
        exit(1);
    }
    whole++;
    client_done(client);
}

static int run_client(const char *port, unsigned connections, size_t bytes)
{
    struct sockaddr_in at = address(port);
    bytes_each = bytes;
    left = connections;
    base = event_base_new();
    for (unsigned i = 0; i < connections; i++) {
        struct client *client = calloc(1, sizeof *client);
        client->number = i;
        client->cut_at = i % 7 == 6 ? 1 + bytes / 2 : 0;
        client->bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
        client->pause = evtimer_new(base, send_some, client);
        bufferevent_setcb(client->bev, client_read, client_wrote, client_event, client);
        bufferevent_enable(client->bev, EV_READ | EV_WRITE);
        if (bufferevent_socket_connect(client->bev, (struct sockaddr *)&at, sizeof at) != 0) {
            perror("connect");
            return 1;
        }
    }
    event_base_dispatch(base);
    printf("whole=%u cut=%u bytes=%zu\n", whole, cut, total);
    return 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc == 4 && strcmp(argv[1], "server") == 0)
        return server(argv[2], argv[3]);
    if (argc == 5 && strcmp(argv[1], "client") == 0)
        return run_client(argv[2], (unsigned)atoi(argv[3]), (size_t)atol(argv[4]));
    fprintf(stderr, "libevent-echo server PORT plain|changelist|edge, or client PORT CONNECTIONS BYTES\n");
    return 2;
}
