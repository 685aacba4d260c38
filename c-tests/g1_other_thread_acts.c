/* G1: "ADD/MOD/DEL/close by one thread act on a wait of another at once." */
#include "help.h"

static int epfd, quiet_pipe[2];

/* A thread that sleeps in the wait; the instance has a quiet item, as most have. */
static void sleep_in_wait(struct waiter *waiter)
{
    waiter_start(waiter, epfd, -1);
}

static void release(struct waiter *waiter, const char *what)
{
    ok(!waiter_returns(waiter, QUIET_MS), "%s: does not wake it", what);
    put(quiet_pipe[1]);
    ok(waiter_got(waiter, quiet_pipe[0], EPOLLIN), "%s: the item that is left does", what);
    drain(quiet_pipe[0]);
}

int main(void)
{
    struct waiter waiter;
    int pair[2];

    epfd = make_epoll();
    sleep_in_wait(&waiter);
    pipe_pair(quiet_pipe);
    watch(epfd, quiet_pipe[0], EPOLLIN);
    release(&waiter, "ADD to an empty instance");

    unix_pair(SOCK_STREAM, pair);
    sleep_in_wait(&waiter);
    watch(epfd, pair[0], EPOLLIN);
    ok(!waiter_returns(&waiter, QUIET_MS), "ADD of what is not ready: does not wake it");
    put(pair[1]);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "ADD of what becomes ready later: does then");
    unwatch(epfd, pair[0]);
    sleep_in_wait(&waiter);
    watch(epfd, pair[0], EPOLLIN | EPOLLET);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "ADD of what is ready: wakes it");

    sleep_in_wait(&waiter);
    rearm(epfd, pair[0], EPOLLIN | EPOLLOUT | EPOLLET);
    ok(waiter_got(&waiter, pair[0], EPOLLIN | EPOLLOUT), "MOD to more that is ready: wakes it");
    sleep_in_wait(&waiter);
    rearm(epfd, pair[0], EPOLLPRI);
    put(pair[1]);
    release(&waiter, "MOD to what is not ready, and data");
    drain(pair[0]);
    rearm(epfd, pair[0], EPOLLIN);
    sleep_in_wait(&waiter);
    rearm(epfd, pair[0], EPOLLRDHUP);
    put(pair[1]);
    release(&waiter, "MOD away from IN, and then data");
    sleep_in_wait(&waiter);
    must(shutdown(pair[1], SHUT_WR));
    ok(waiter_got(&waiter, pair[0], EPOLLRDHUP), "what MOD asked for: wakes it");
    close_pair(pair);

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN);
    sleep_in_wait(&waiter);
    unwatch(epfd, pair[0]);
    put(pair[1]);
    release(&waiter, "DEL, and then data");
    drain(pair[0]);
    watch(epfd, pair[0], EPOLLIN);
    sleep_in_wait(&waiter);
    unwatch(epfd, pair[0]);
    watch(epfd, pair[0], EPOLLIN);
    put(pair[1]);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "DEL and ADD, and then data: wakes it");
    drain(pair[0]);
    sleep_in_wait(&waiter);
    close_pair(pair);
    release(&waiter, "close of both ends");

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN);
    sleep_in_wait(&waiter);
    must(close(pair[1]));
    ok(waiter_got(&waiter, pair[0], EPOLLIN | EPOLLHUP), "close of the peer: wakes it");
    must(close(pair[0]));

    /* MOD of the data is in the event of a wait that slept through it. */
    struct epoll_event event = {.events = EPOLLIN, .data.fd = 4711};
    sleep_in_wait(&waiter);
    must(epoll_ctl(epfd, EPOLL_CTL_MOD, quiet_pipe[0], &event));
    put(quiet_pipe[1]);
    ok(waiter_got(&waiter, 4711, EPOLLIN), "MOD of the user data: the event has the new");
    return done_testing();
}
