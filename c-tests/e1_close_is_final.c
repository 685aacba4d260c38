/*
 * E1: "close() of the last descriptor of an open file removes its items everywhere, at once: the peer sees the hang-up,
 * the port can be bound again - by the time close() returns", whatever the instances that watch it are doing just then.
 */
#include "help.h"

enum { INSTANCES = 2 };

enum state {
    QUIET,       /* nothing happened for a while, nobody waits */
    HOT,         /* an event for it was just reported, nobody waits */
    ASLEEP,      /* threads sleep in the wait */
    QUIET_ASLEEP /* and have done so for a while */
};

static const char *const state_names[] = {"quiet", "hot", "a thread asleep in the wait", "a thread long asleep"};

struct scene {
    enum state state;
    int epfds[INSTANCES], fd;
    struct waiter waiters[INSTANCES];
};

/* Two instances watch `fd`; `feed`, if any, makes it ready. */
static void set_up(struct scene *scene, enum state state, int fd, int feed)
{
    *scene = (struct scene){.state = state, .fd = fd};
    for (int i = 0; i < INSTANCES; i++)
        watch(scene->epfds[i] = make_epoll(), fd, EPOLLIN);
    if (state == QUIET || state == QUIET_ASLEEP)
        for (int i = 0; i < INSTANCES; i++)
            require(wait_mask(scene->epfds[i], IDLE_MS / 2) == 0);
    if (state == HOT && feed >= 0) {
        put(feed);
        for (int i = 0; i < INSTANCES; i++)
            require(wait_mask(scene->epfds[i], SOON_MS) != 0);
        drain(fd);
    }
    if (state == ASLEEP || state == QUIET_ASLEEP)
        for (int i = 0; i < INSTANCES; i++)
            waiter_start(&scene->waiters[i], scene->epfds[i], -1);
    if (state == QUIET_ASLEEP)
        sleep_ms(IDLE_MS);
}

/* The sleepers are still there, see nothing of the close, and work. */
static void tear_down(struct scene *scene, const char *kind)
{
    int bell = make_eventfd(0), wrong = 0;

    for (int i = 0; i < INSTANCES; i++) {
        if (scene->state == ASLEEP || scene->state == QUIET_ASLEEP) {
            wrong += waiter_returns(&scene->waiters[i], QUIET_MS);
            watch(scene->epfds[i], bell, EPOLLIN);
            put(bell);
            wrong += !waiter_got(&scene->waiters[i], bell, EPOLLIN);
            drain(bell);
        } else {
            wrong += wait_mask(scene->epfds[i], QUIET_MS) != 0;
        }
        must(close(scene->epfds[i]));
    }
    is_int(wrong, 0, "%s, %s: nothing is reported, and the instances work on", kind, state_names[scene->state]);
    must(close(bell));
}

static void all_kinds(enum state state)
{
    const char *name = state_names[state];
    struct scene scene;
    char byte;
    int pair[2], port, again;

    pipe_pair(pair);
    set_up(&scene, state, pair[0], pair[1]);
    must(close(pair[0]));
    is_errno(write(pair[1], "x", 1), EPIPE, "pipe, %s: the writer gets EPIPE", name);
    tear_down(&scene, "pipe");
    must(close(pair[1]));

    unix_pair(SOCK_STREAM, pair);
    set_up(&scene, state, pair[0], pair[1]);
    must(close(pair[0]));
    is_int(read(pair[1], &byte, 1), 0, "UNIX stream, %s: the peer reads the end", name);
    tear_down(&scene, "UNIX stream");
    must(close(pair[1]));

    tcp_pair(pair);
    set_up(&scene, state, pair[0], pair[1]);
    must(close(pair[0]));
    struct pollfd peer = {.fd = pair[1], .events = POLLIN}; /* loopback takes its time on a busy machine, but not 2 s */
    is_int(poll(&peer, 1, 2000), 1, "TCP, %s: the peer sees something", name);
    is_int(read(pair[1], &byte, 1), 0, "TCP, %s: the end", name);
    tear_down(&scene, "TCP");
    must(close(pair[1]));

    int listener = tcp_listener();
    port = port_of(listener);
    set_up(&scene, state, listener, -1);
    must(close(listener));
    again = bound_socket(SOCK_STREAM, port);
    ok(again >= 0, "TCP listener, %s: its port can be bound again", name);
    tear_down(&scene, "TCP listener");
    close(again);

    int udp = must(bound_socket(SOCK_DGRAM | SOCK_NONBLOCK, 0)), sender = must(bound_socket(SOCK_DGRAM, 0));
    struct sockaddr_in address = loopback(port = port_of(udp));
    must(connect(sender, (struct sockaddr *)&address, sizeof address));
    set_up(&scene, state, udp, sender);
    must(close(udp));
    again = bound_socket(SOCK_DGRAM, port);
    ok(again >= 0, "UDP, %s: its port can be bound again", name);
    tear_down(&scene, "UDP");
    close(again);
    must(close(sender));
}

int main(void)
{
    time_limit(60);
    signal(SIGPIPE, SIG_IGN);
    all_kinds(QUIET);
    all_kinds(HOT);
    all_kinds(ASLEEP);
    all_kinds(QUIET_ASLEEP);
    return done_testing();
}
