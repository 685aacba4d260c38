/*
 * E1, E4: a close ends the file by the time it returns, whatever it is called, also where the file is one of a crowd
 * that has been idle for long, and whether a thread sleeps in the wait or not.
 */
#include "help.h"

enum { CROWD = 300 };

static void by_close(int fd)
{
    must(close(fd));
}

static void by_dup2(int fd)
{
    must(dup2(STDIN_FILENO, fd));
    must(close(fd));
}

static void by_dup3(int fd)
{
    must(dup3(STDIN_FILENO, fd, O_CLOEXEC));
    must(close(fd));
}

static void by_close_range(int fd)
{
    must(close_range((unsigned)fd, (unsigned)fd, 0));
}

static void by_fclose(int fd)
{
    FILE *stream = fdopen(fd, "r");

    require(stream && fclose(stream) == 0);
}

static void by_syscall(int fd)
{
    must(syscall(SYS_close, fd));
}

static const struct {
    const char *name;
    void (*close)(int);
} ways[] = {
    {"close", by_close},
    {"dup2", by_dup2},
    {"dup3", by_dup3},
    {"close_range", by_close_range},
    {"fclose", by_fclose},
    {"syscall(SYS_close)", by_syscall},
};

enum { WAYS = sizeof ways / sizeof ways[0], KINDS = 5 };

static const char *const kinds[KINDS] = {"pipe", "UNIX stream", "TCP", "TCP listener", "UDP"};

/* What is watched, and its other end; for the last two its port. */
struct end {
    int fd, peer;
};

static struct end make_end(int kind)
{
    struct end end = {-1, -1};
    int pair[2];

    switch (kind) {
    case 0: pipe_pair(pair); break;
    case 1: unix_pair(SOCK_STREAM, pair); break;
    case 2: tcp_pair(pair); break;
    case 3:
        end.fd = tcp_listener();
        end.peer = port_of(end.fd);
        return end;
    default:
        end.fd = must(bound_socket(SOCK_DGRAM | SOCK_NONBLOCK, 0));
        end.peer = port_of(end.fd);
        return end;
    }
    return (struct end){pair[0], pair[1]};
}

static bool has_ended(int kind, int peer)
{
    char byte;
    int again;
    bool ended;

    switch (kind) {
    case 0: ended = write(peer, "x", 1) < 0 && errno == EPIPE; break;
    case 2: {
        struct pollfd poll_it = {.fd = peer, .events = POLLIN}; /* loopback takes its time, but not two seconds */
        ended = poll(&poll_it, 1, 2000) == 1 && read(peer, &byte, 1) == 0;
        break;
    }
    case 1: ended = read(peer, &byte, 1) == 0; break;
    default:
        again = bound_socket(kind == 3 ? SOCK_STREAM : SOCK_DGRAM, peer);
        if (again >= 0)
            must(close(again));
        return again >= 0;
    }
    must(close(peer));
    return ended;
}

static void crowd_of_idle(bool asleep)
{
    static int pipes[CROWD][2];
    struct end ends[WAYS][KINDS];
    struct waiter waiter;
    int epfd = make_epoll(), bell = make_eventfd(0);
    const char *who = asleep ? "a thread asleep" : "nobody waits";

    add_crowd(epfd, pipes, CROWD);
    for (int i = 0; i < WAYS; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            ends[i][kind] = make_end(kind);
            watch(epfd, ends[i][kind].fd, EPOLLIN | EPOLLRDHUP | (i % 2 ? EPOLLET : 0));
        }
    let_idle(epfd);
    if (asleep)
        waiter_start(&waiter, epfd, -1);
    for (int i = 0; i < WAYS; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            ways[i].close(ends[i][kind].fd);
            ok(has_ended(kind, ends[i][kind].peer), "%s, %s: %s is final", kinds[kind], who, ways[i].name);
        }
    if (asleep) {
        ok(!waiter_returns(&waiter, QUIET_MS), "and nothing was reported to the sleeper");
        watch(epfd, bell, EPOLLIN);
        put(bell);
        ok(waiter_got(&waiter, bell, EPOLLIN), "which works on");
        unwatch(epfd, bell);
    } else {
        expect_quiet(epfd, "and nothing is reported");
    }

    /* The crowd is there. Then all of it goes, but for the other end of one. */
    put(pipes[0][1]);
    is_int(wait_fd(epfd, SOON_MS), pipes[0][0], "one of the crowd stirs");
    drain(pipes[0][0]);
    must(dup2(pipes[1][1], bell));
    closefrom(bell + 1);
    ok(has_ended(0, bell), "%s: closefrom is final, too", who);
    expect_quiet(epfd, "and nothing is left");
    must(close(epfd));
}

int main(void)
{
    time_limit(60);
    signal(SIGPIPE, SIG_IGN);
    crowd_of_idle(false);
    crowd_of_idle(true);
    return done_testing();
}
