/*
 * F1: "poll/ppoll/select/pselect on it: readable exactly when a wait would return something - checked at the call, not
 * remembered."
 */
#include "help.h"

#include <sys/select.h>

/* What glibc's headers make of poll and ppoll in fortified programs. */
extern int __poll_chk(struct pollfd *, nfds_t, int, size_t);
extern int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

/* Each looks at `fd` for at most the time, and returns whether it is readable. */
typedef bool look(int fd, int timeout_ms);

static struct timespec time_of(int milliseconds)
{
    return (struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000L};
}

/* Count and answer must say the same. */
static bool agree(int result, bool readable)
{
    require(result == readable);
    return readable;
}

static bool by_poll(int fd, int timeout_ms)
{
    struct pollfd poll_it = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI};
    int result = must(poll(&poll_it, 1, timeout_ms));

    return agree(result, poll_it.revents == POLLIN);
}

static bool by_ppoll(int fd, int timeout_ms)
{
    struct pollfd poll_it = {.fd = fd, .events = POLLIN | POLLRDNORM};
    struct timespec timeout = time_of(timeout_ms);
    int result = must(ppoll(&poll_it, 1, &timeout, NULL));

    return agree(result, poll_it.revents == (POLLIN | POLLRDNORM));
}

static bool by_poll_chk(int fd, int timeout_ms)
{
    struct pollfd poll_it = {.fd = fd, .events = POLLIN};
    int result = must(__poll_chk(&poll_it, 1, timeout_ms, sizeof poll_it));

    return agree(result, poll_it.revents == POLLIN);
}

static bool by_ppoll_chk(int fd, int timeout_ms)
{
    struct pollfd poll_it = {.fd = fd, .events = POLLIN};
    struct timespec timeout = time_of(timeout_ms);
    int result = must(__ppoll_chk(&poll_it, 1, &timeout, NULL, sizeof poll_it));

    return agree(result, poll_it.revents == POLLIN);
}

static bool by_select(int fd, int timeout_ms)
{
    struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000L};
    fd_set read_set, write_set, except_set;

    FD_ZERO(&read_set);
    FD_SET(fd, &read_set);
    write_set = except_set = read_set;
    int result = must(select(fd + 1, &read_set, &write_set, &except_set, &timeout));
    return agree(result, FD_ISSET(fd, &read_set) && !FD_ISSET(fd, &write_set) && !FD_ISSET(fd, &except_set));
}

static bool by_pselect(int fd, int timeout_ms)
{
    struct timespec timeout = time_of(timeout_ms);
    fd_set read_set;

    FD_ZERO(&read_set);
    FD_SET(fd, &read_set);
    int result = must(pselect(fd + 1, &read_set, NULL, NULL, &timeout, NULL));
    return agree(result, FD_ISSET(fd, &read_set));
}

static look *looks[] = {by_poll, by_ppoll, by_poll_chk, by_ppoll_chk, by_select, by_pselect};
static const char *const names[] = {"poll", "ppoll", "__poll_chk", "__ppoll_chk", "select", "pselect"};

struct sleeper {
    look *look;
    int fd;
    _Atomic pid_t tid;
    bool readable;
};

static void *sleep_in_look(void *argument)
{
    struct sleeper *sleeper = argument;

    sleeper->tid = thread_id();
    sleeper->readable = sleeper->look(sleeper->fd, SOON_MS);
    return NULL;
}

static void one_way(look *look, const char *name)
{
    int epfd = make_epoll(), pair[2];
    struct sleeper sleeper = {.look = look, .fd = epfd};
    pthread_t thread;

    ok(!look(epfd, 0), "%s: nothing in the interest list", name);
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    int64_t start = now_ms();
    ok(!look(epfd, QUIET_MS), "%s: nothing ready", name);
    ok(now_ms() - start >= QUIET_MS, "%s: and it slept for that time", name);

    put(pair[1]);
    ok(look(epfd, 0), "%s: ready before the call", name);
    ok(look(epfd, SOON_MS), "%s: level-triggered, readable again", name);
    expect_event(epfd, EPOLLIN, "%s: a wait agrees", name);
    ok(look(epfd, 0), "%s: and takes nothing away", name);
    drain(pair[0]);
    ok(!look(epfd, 0), "%s: drained without a wait: no longer readable", name);
    ok(!look(epfd, QUIET_MS), "%s: nor a little later", name);

    must_zero(pthread_create(&thread, NULL, sleep_in_look, &sleeper));
    while (!sleeper.tid)
        sleep_ms(1);
    until_asleep(sleeper.tid);
    put(pair[1]);
    must_zero(pthread_join(thread, NULL));
    ok(sleeper.readable, "%s: becomes ready while it sleeps", name);
    drain(pair[0]);

    rearm(epfd, pair[0], EPOLLIN | EPOLLET);
    put(pair[1]);
    ok(look(epfd, 0) && look(epfd, 0), "%s: an edge keeps it readable", name);
    expect_event(epfd, EPOLLIN, "%s: until a wait reports it", name);
    ok(!look(epfd, QUIET_MS), "%s: and then no more, though undrained", name);
    put(pair[1]);
    ok(look(epfd, SOON_MS), "%s: the next edge", name);
    drain(pair[0]);
    ok(!look(epfd, 0), "%s: drained, there is nothing to wait for", name);

    put(pair[1]);
    unwatch(epfd, pair[0]);
    ok(!look(epfd, QUIET_MS), "%s: nor after DEL", name);
    watch(epfd, pair[0], EPOLLIN | EPOLLONESHOT);
    ok(look(epfd, 0), "%s: one-shot, armed", name);
    expect_event(epfd, EPOLLIN, "%s: one-shot, reported", name);
    ok(!look(epfd, QUIET_MS), "%s: one-shot, fired", name);
    rearm(epfd, pair[0], EPOLLIN);
    ok(look(epfd, 0), "%s: MOD", name);
    close_pair(pair);
    ok(!look(epfd, QUIET_MS), "%s: closed", name);

    sleeper.tid = 0;
    must_zero(pthread_create(&thread, NULL, sleep_in_look, &sleeper));
    while (!sleeper.tid)
        sleep_ms(1);
    until_asleep(sleeper.tid);
    pipe_pair(pair);
    watch(epfd, pair[1], EPOLLOUT);
    must_zero(pthread_join(thread, NULL));
    ok(sleeper.readable, "%s: ADD of what is ready wakes it", name);
    close_pair(pair);
    must(close(epfd));
}

int main(void)
{
    time_limit(60);
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++)
        one_way(looks[i], names[i]);

    /* Among others. */
    int epfd = make_epoll(), pair[2], other = make_eventfd(0);
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    struct pollfd many[] = {{.fd = other, .events = POLLIN}, {.fd = epfd, .events = POLLIN}, {.fd = -1}, {.fd = epfd}};
    is_int(poll(many, 4, 0), 0, "among others: none ready");
    put(pair[1]);
    is_int(poll(many, 4, SOON_MS), 1, "one ready");
    is_int(many[1].revents, POLLIN, "this one");
    is_int(many[3].revents, 0, "not for whom nothing was asked");
    put(other);
    is_int(poll(many, 4, SOON_MS), 2, "two ready");
    drain(pair[0]);
    is_int(poll(many, 4, SOON_MS), 1, "one drained");
    is_int(many[0].revents, POLLIN, "the other is left");
    is_int(many[1].revents, 0, "it is not");
    return done_testing();
}
