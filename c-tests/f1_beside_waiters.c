/*
 * F1: threads that look at an instance by poll, ppoll, select and pselect, beside others that sleep in its epoll_wait:
 * what becomes ready wakes every one of those who look, however many there are.
 */
#include "help.h"

#include <sys/select.h>

enum { LOOKERS = 4, ROUNDS = 20 };

typedef int look(int epfd);

static int by_poll(int epfd)
{
    struct pollfd poll_it = {.fd = epfd, .events = POLLIN};
    return poll(&poll_it, 1, SOON_MS) == 1 && poll_it.revents == POLLIN;
}

static int by_ppoll(int epfd)
{
    struct pollfd poll_it[] = {{.fd = -1}, {.fd = epfd, .events = POLLIN}};
    return ppoll(poll_it, 2, NULL, NULL) == 1 && poll_it[1].revents == POLLIN;
}

static int by_select(int epfd)
{
    fd_set set;

    FD_ZERO(&set);
    FD_SET(epfd, &set);
    return select(epfd + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(epfd, &set);
}

static int by_pselect(int epfd)
{
    struct timespec timeout = {SOON_MS / 1000, 0};
    fd_set set;

    FD_ZERO(&set);
    FD_SET(epfd, &set);
    return pselect(epfd + 1, &set, NULL, NULL, &timeout, NULL) == 1 && FD_ISSET(epfd, &set);
}

static look *const looks[LOOKERS] = {by_poll, by_ppoll, by_select, by_pselect};

struct looker {
    look *look;
    int epfd;
    pthread_t thread;
    _Atomic pid_t tid;
    _Atomic bool done;
    int readable;
};

static void *looker_main(void *argument)
{
    struct looker *looker = argument;

    looker->tid = thread_id();
    looker->readable = looker->look(looker->epfd);
    looker->done = true;
    return NULL;
}

static void all_look(struct looker *lookers, int epfd)
{
    for (int i = 0; i < LOOKERS; i++) {
        lookers[i] = (struct looker){.look = looks[i], .epfd = epfd};
        must_zero(pthread_create(&lookers[i].thread, NULL, looker_main, &lookers[i]));
    }
    for (int i = 0; i < LOOKERS; i++) {
        while (!lookers[i].tid)
            sleep_ms(1);
        until_asleep(lookers[i].tid);
    }
}

static int how_many_saw(struct looker *lookers)
{
    int saw = 0;

    for (int i = 0; i < LOOKERS; i++) {
        must_zero(pthread_join(lookers[i].thread, NULL));
        saw += lookers[i].readable;
    }
    return saw;
}

static bool all_asleep(const struct looker *lookers)
{
    for (int i = 0; i < LOOKERS; i++)
        if (lookers[i].done)
            return false;
    return true;
}

int main(void)
{
    struct looker lookers[LOOKERS];
    struct waiter waiters[2];
    int epfd = make_epoll(), outer = make_epoll(), pair[2], other[2], short_of = 0;

    time_limit(60);
    signal(SIGPIPE, SIG_IGN);
    pipe_pair(pair);
    unix_pair(SOCK_STREAM, other);
    watch(epfd, pair[0], EPOLLIN);
    watch(epfd, other[0], EPOLLIN);
    watch(outer, epfd, EPOLLIN);

    for (int round = 0; round < ROUNDS; round++) {
        /* Those who wait come first, or last. */
        if (round % 2)
            waiter_start(&waiters[0], epfd, SOON_MS);
        all_look(lookers, round % 3 ? epfd : outer);
        if (round % 2 == 0)
            waiter_start(&waiters[0], epfd, SOON_MS);
        put(pair[1]);
        short_of += !waiter_got(&waiters[0], pair[0], EPOLLIN);
        short_of += how_many_saw(lookers) != LOOKERS;
        drain(pair[0]);
    }
    is_int(short_of, 0, "%d times a write woke one in epoll_wait and %d who look", ROUNDS, LOOKERS);

    /* By what other threads do to the instance. */
    waiter_start(&waiters[0], epfd, SOON_MS);
    all_look(lookers, epfd);
    waiter_start(&waiters[1], epfd, -1);
    rearm(epfd, other[0], EPOLLIN | EPOLLOUT);
    ok(waiter_got(&waiters[0], other[0], EPOLLOUT), "MOD to what is ready wakes who waits");
    ok(waiter_got(&waiters[1], other[0], EPOLLOUT), "and the next one");
    is_int(how_many_saw(lookers), LOOKERS, "and all who look");
    rearm(epfd, other[0], EPOLLIN);

    waiter_start(&waiters[0], epfd, -1);
    all_look(lookers, epfd);
    must(close(pair[0]));
    is_errno(write(pair[1], "x", 1), EPIPE, "close of what all sleep on: its peer sees the end at once");
    must(close(pair[1]));
    sleep_ms(QUIET_MS);
    ok(!waiters[0].done && all_asleep(lookers), "and nobody wakes");
    unwatch(epfd, other[0]);
    sleep_ms(QUIET_MS);
    put(other[1]);
    sleep_ms(QUIET_MS);
    ok(!waiters[0].done && all_asleep(lookers), "nor by DEL, and data then");
    watch(epfd, other[0], EPOLLIN);
    ok(waiter_got(&waiters[0], other[0], EPOLLIN), "ADD of what is ready wakes who waits");
    is_int(how_many_saw(lookers), LOOKERS, "and all who look");
    return done_testing();
}
