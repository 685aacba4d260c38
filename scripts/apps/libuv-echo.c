/* An echo server and its client on libuv, and a parent of children on pipes.
 *
 *   libuv-echo server PORT
 *   libuv-echo client PORT CONNECTIONS BYTES
 *   libuv-echo children COUNT BYTES
 *
 * The server has every eighth piece looked over by the thread pool, which tells the loop through an eventfd, before it is
 * echoed; reading pauses meanwhile. It ends at SIGTERM, says what it has counted, and with status 0 if every connection
 * was closed by then. The client sends BYTES on each connection, in pieces, with pauses by timers, while it compares what
 * comes back; every seventh goes in the middle. The others close their own direction and wait for the end. `children`
 * runs COUNT times cat, at the same time, and compares what comes through each. */

#include "echo.h"

#include <arpa/inet.h>
#include <signal.h>
#include <uv.h>

static uv_loop_t *loop;
static struct echo_counts counts;

static void must(int status, const char *what)
{
    if (status >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, uv_strerror(status));
    exit(1);
}

static void room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    *buffer = uv_buf_init(malloc(suggested), (unsigned)suggested);
}

/* --- the server --- */

struct conn {
    uv_tcp_t tcp;
    unsigned long pieces;
    unsigned owed; /* what is given to libuv and not yet written */
    int paused;
    int working, doomed; /* not closed, and so not freed, while a thread works for it */
};

struct piece {
    uv_write_t write;
    uv_work_t work;
    uv_shutdown_t shutdown;
    struct conn *conn;
    char *bytes;
    unsigned count, seen;
};

static void got(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer);

static void conn_closed(uv_handle_t *handle)
{
    free(handle);
    counts.closed++;
}

static void drop(struct conn *conn)
{
    if (conn->working)
        conn->doomed = 1;
    else if (!uv_is_closing((uv_handle_t *)&conn->tcp))
        uv_close((uv_handle_t *)&conn->tcp, conn_closed);
}

static void read_on(struct conn *conn)
{
    if (conn->paused && !conn->working && conn->owed <= 262144 && !uv_is_closing((uv_handle_t *)&conn->tcp)) {
        conn->paused = 0;
        must(uv_read_start((uv_stream_t *)&conn->tcp, room, got), "read_start");
    }
}

static void pause_reading(struct conn *conn)
{
    conn->paused = 1;
    uv_read_stop((uv_stream_t *)&conn->tcp);
}

static void piece_written(uv_write_t *write, int status)
{
    struct piece *piece = write->data;
    piece->conn->owed -= piece->count;
    if (status < 0)
        drop(piece->conn);
    else
        read_on(piece->conn);
    free(piece->bytes);
    free(piece);
}

static void echo(struct piece *piece)
{
    if (uv_is_closing((uv_handle_t *)&piece->conn->tcp)) {
        free(piece->bytes);
        free(piece);
        return;
    }
    uv_buf_t buffer = uv_buf_init(piece->bytes, piece->count);
    piece->conn->owed += piece->count;
    piece->write.data = piece;
    must(uv_write(&piece->write, (uv_stream_t *)&piece->conn->tcp, &buffer, 1, piece_written), "write");
}

/* In a thread of the pool. */
static void look_over(uv_work_t *work)
{
    struct piece *piece = work->data;
    for (unsigned i = 0; i < piece->count; i++)
        piece->seen += piece->bytes[i] != 0 || 1;
}

static void looked_over(uv_work_t *work, int status)
{
    struct piece *piece = work->data;
    struct conn *conn = piece->conn;
    must(status, "work");
    conn->working = 0;
    if (conn->doomed)
        drop(conn);
    if (piece->seen != piece->count) {
        fprintf(stderr, "a thread has seen %u of %u bytes\n", piece->seen, piece->count);
        exit(1);
    }
    echo(piece);
    read_on(conn);
}

static void all_written(uv_shutdown_t *shutdown, int status)
{
    struct piece *piece = shutdown->data;
    (void)status;
    drop(piece->conn);
    free(piece);
}

static void got(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct conn *conn = (struct conn *)stream;
    if (count <= 0)
        free(buffer->base);
    if (count == 0)
        return;
    struct piece *piece = calloc(1, sizeof *piece);
    piece->conn = conn;
    if (count == UV_EOF) {
        uv_read_stop(stream);
        piece->shutdown.data = piece;
        if (uv_shutdown(&piece->shutdown, stream, all_written) < 0)
            drop(conn);
        return;
    }
    if (count < 0) {
        free(piece);
        drop(conn);
        return;
    }
    counts.bytes += (unsigned long)count;
    piece->bytes = buffer->base;
    piece->count = (unsigned)count;
    if (conn->pieces++ % 8 == 7) {
        conn->working = 1;
        pause_reading(conn);
        piece->work.data = piece;
        must(uv_queue_work(loop, &piece->work, look_over, looked_over), "queue_work");
        return;
    }
    echo(piece);
    if (conn->owed > 262144)
        pause_reading(conn);
}

static void accepted(uv_stream_t *listener, int status)
{
    struct conn *conn = calloc(1, sizeof *conn);
    must(status, "accept");
    must(uv_tcp_init(loop, &conn->tcp), "tcp_init");
    counts.accepted++;
    must(uv_accept(listener, (uv_stream_t *)&conn->tcp), "accept");
    must(uv_read_start((uv_stream_t *)&conn->tcp, room, got), "read_start");
}

static void tick(uv_timer_t *timer)
{
    (void)timer;
    counts.ticks++;
}

static void end(uv_signal_t *handle, int number)
{
    (void)handle, (void)number;
    uv_stop(loop);
}

static struct sockaddr_in address(const char *port)
{
    struct sockaddr_in at;
    must(uv_ip4_addr("127.0.0.1", atoi(port), &at), "address");
    return at;
}

static int server(const char *port)
{
    struct sockaddr_in at = address(port);
    uv_tcp_t listener;
    uv_timer_t timer;
    uv_signal_t term;
    double start = echo_now();

    must(uv_tcp_init(loop, &listener), "tcp_init");
    must(uv_tcp_bind(&listener, (struct sockaddr *)&at, 0), "bind");
    must(uv_listen((uv_stream_t *)&listener, 1024, accepted), "listen");
    uv_timer_init(loop, &timer);
    uv_timer_start(&timer, tick, TICK_MS, TICK_MS);
    uv_signal_init(loop, &term);
    uv_signal_start(&term, end, SIGTERM);
    uv_run(loop, UV_RUN_DEFAULT);
    return echo_report("server", &counts, echo_now() - start);
}

/* --- the client --- */

struct client {
    uv_tcp_t tcp;
    uv_timer_t pause;
    uv_connect_t connect;
    uv_write_t write;
    uv_shutdown_t shutdown;
    unsigned number;
    size_t sent, got, cut_at;
    unsigned char piece[30000];
};

static unsigned whole, cut;
static size_t bytes_each, total;

static void wrote(uv_write_t *write, int status);

static void client_done(struct client *client)
{
    uv_close((uv_handle_t *)&client->pause, NULL);
    uv_close((uv_handle_t *)&client->tcp, NULL);
}

static void send_some(struct client *client)
{
    size_t count = 1 + (client->number * 7919 + client->sent * 31) % sizeof client->piece;
    uv_buf_t buffer;
    if (count > bytes_each - client->sent)
        count = bytes_each - client->sent;
    echo_fill(client->piece, client->number, client->sent, count);
    client->sent += count;
    buffer = uv_buf_init((char *)client->piece, (unsigned)count);
    client->write.data = client;
    must(uv_write(&client->write, (uv_stream_t *)&client->tcp, &buffer, 1, wrote), "write");
}

static void paused(uv_timer_t *timer) { send_some(timer->data); }

static void shut(uv_shutdown_t *shutdown, int status)
{
    (void)shutdown;
    if (status != UV_ECANCELED)
        must(status, "shutdown");
}

static void wrote(uv_write_t *write, int status)
{
    struct client *client = write->data;
    if (uv_is_closing((uv_handle_t *)&client->tcp))
        return;
    must(status, "write");
    if (client->sent == bytes_each)
        must(uv_shutdown(&client->shutdown, (uv_stream_t *)&client->tcp, shut), "shutdown");
    else if ((client->sent + client->number) % 3 == 0)
        uv_timer_start(&client->pause, paused, client->number % 20, 0);
    else
        send_some(client);
}

static void client_got(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct client *client = stream->data;
    if (count == UV_EOF && client->got == bytes_each) {
        whole++;
        client_done(client);
    } else if (count < 0) {
        fprintf(stderr, "connection %u ended (%s) after %zu of %zu bytes\n", client->number, uv_strerror((int)count),
                client->got, bytes_each);
        exit(1);
    } else {
        echo_compare((unsigned char *)buffer->base, client->number, client->got, (size_t)count);
        client->got += (size_t)count;
        total += (size_t)count;
        if (client->cut_at && client->got >= client->cut_at) {
            cut++;
            client_done(client);
        }
    }
    free(buffer->base);
}

static void connected(uv_connect_t *connect, int status)
{
    struct client *client = connect->data;
    must(status, "connect");
    must(uv_read_start((uv_stream_t *)&client->tcp, room, client_got), "read_start");
    send_some(client);
}

static int run_client(const char *port, unsigned connections, size_t bytes)
{
    struct sockaddr_in at = address(port);
    bytes_each = bytes;
    for (unsigned i = 0; i < connections; i++) {
        struct client *client = calloc(1, sizeof *client);
        client->number = i;
        client->cut_at = i % 7 == 6 ? 1 + bytes / 2 : 0;
        must(uv_tcp_init(loop, &client->tcp), "tcp_init");
        uv_timer_init(loop, &client->pause);
        client->tcp.data = client->pause.data = client->connect.data = client;
        must(uv_tcp_connect(&client->connect, &client->tcp, (struct sockaddr *)&at, connected), "connect");
    }
    /* It ends when the last handle is closed. */
    uv_run(loop, UV_RUN_DEFAULT);
    printf("whole=%u cut=%u bytes=%zu\n", whole, cut, total);
    return 0;
}

/* --- children --- */

struct child {
    uv_process_t process;
    uv_pipe_t in, out;
    uv_write_t write;
    uv_shutdown_t shutdown;
    unsigned number;
    size_t got;
    int ended; /* its output, and itself */
    unsigned char *bytes;
};

static void child_ended(struct child *child)
{
    if (++child->ended == 2 && child->got == bytes_each)
        whole++;
}

static void child_exited(uv_process_t *process, int64_t status, int signal)
{
    struct child *child = process->data;
    if (status != 0 || signal != 0) {
        fprintf(stderr, "child %u: status %d, signal %d\n", child->number, (int)status, signal);
        exit(1);
    }
    uv_close((uv_handle_t *)process, NULL);
    child_ended(child);
}

static void child_got(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct child *child = stream->data;
    if (count == UV_EOF) {
        uv_close((uv_handle_t *)stream, NULL);
        child_ended(child);
    } else {
        must((int)count, "read from a child");
        echo_compare((unsigned char *)buffer->base, child->number, child->got, (size_t)count);
        child->got += (size_t)count;
        total += (size_t)count;
    }
    free(buffer->base);
}

static void child_shut(uv_shutdown_t *shutdown, int status)
{
    struct child *child = shutdown->data;
    must(status, "shutdown of a pipe");
    uv_close((uv_handle_t *)&child->in, NULL);
}

static void child_wrote(uv_write_t *write, int status)
{
    struct child *child = write->data;
    must(status, "write to a child");
    child->shutdown.data = child;
    must(uv_shutdown(&child->shutdown, (uv_stream_t *)&child->in, child_shut), "shutdown of a pipe");
}

static int children(unsigned count, size_t bytes)
{
    static char *arguments[] = {"cat", NULL};
    bytes_each = bytes;
    for (unsigned i = 0; i < count; i++) {
        struct child *child = calloc(1, sizeof *child);
        uv_stdio_container_t stdio[3] = {
            {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&child->in},
            {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->out},
            {.flags = UV_INHERIT_FD, .data.fd = 2},
        };
        uv_process_options_t options = {.file = "cat", .args = arguments, .stdio_count = 3, .stdio = stdio};
        uv_buf_t buffer;
        child->number = i;
        options.exit_cb = child_exited;
        child->process.data = child->out.data = child->write.data = child;
        uv_pipe_init(loop, &child->in, 0);
        uv_pipe_init(loop, &child->out, 0);
        must(uv_spawn(loop, &child->process, &options), "spawn");
        must(uv_read_start((uv_stream_t *)&child->out, room, child_got), "read_start");
        child->bytes = malloc(bytes);
        echo_fill(child->bytes, i, 0, bytes);
        buffer = uv_buf_init((char *)child->bytes, (unsigned)bytes);
        must(uv_write(&child->write, (uv_stream_t *)&child->in, &buffer, 1, child_wrote), "write to a child");
    }
    uv_run(loop, UV_RUN_DEFAULT);
    printf("whole=%u bytes=%zu\n", whole, total);
    return whole != count;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    loop = uv_default_loop();
    if (argc == 3 && strcmp(argv[1], "server") == 0)
        return server(argv[2]);
    if (argc == 5 && strcmp(argv[1], "client") == 0)
        return run_client(argv[2], (unsigned)atoi(argv[3]), (size_t)atol(argv[4]));
    if (argc == 4 && strcmp(argv[1], "children") == 0)
        return children((unsigned)atoi(argv[2]), (size_t)atol(argv[3]));
    fprintf(stderr, "libuv-echo server PORT, client PORT CONNECTIONS BYTES, or children COUNT BYTES\n");
    return 2;
}
