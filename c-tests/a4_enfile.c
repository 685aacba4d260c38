/*
 * A4: ENFILE: the machine has no descriptor left. A filter says so for whatever makes an instance, in one thread and
 * those that it starts: new instances fail, those that exist work, also one that nobody has waited in before.
 */
#include "deny.h"

enum { TRIES = 1000, SLEEPERS = 3 };

static int used, fresh, pair[2];
static bool denied;

static void *without_files(void *unused)
{
    static const int makers[] = {
#ifdef SYS_epoll_create
        SYS_epoll_create,
#endif
#ifdef SYS_eventfd
        SYS_eventfd,
#endif
        SYS_epoll_create1,
        SYS_eventfd2,
    };
    struct waiter waiters[SLEEPERS];
    int before, wrong = 0, other[2];
    char byte;

    denied = deny(makers, sizeof makers / sizeof makers[0], ENFILE);
    if (!denied)
        return NULL;
    is_errno(epoll_create1(0), ENFILE, "epoll_create1");
    is_errno(epoll_create(1), ENFILE, "epoll_create");
    before = open_descriptors();
    for (int i = 0; i < TRIES; i++)
        wrong += epoll_create1(EPOLL_CLOEXEC) != -1 || errno != ENFILE;
    is_int(wrong, 0, "%d more tries", TRIES);
    is_int(open_descriptors(), before, "leave nothing open");

    watch(used, pair[0], EPOLLIN | EPOLLET);
    put(pair[1]);
    expect_event(used, EPOLLIN, "an old instance: ADD and an event");
    expect_quiet(used, "once");
    rearm(used, pair[0], EPOLLIN | EPOLLONESHOT);
    expect_event(used, EPOLLIN, "MOD");
    unwatch(used, pair[0]);
    drain(pair[0]);

    /* Threads that sleep in an instance that has never been waited in. */
    watch(fresh, pair[0], EPOLLIN | EPOLLET);
    for (int i = 0; i < SLEEPERS; i++)
        waiter_start(&waiters[i], fresh, -1);
    for (int i = 0; i < SLEEPERS; i++) {
        int done = 0;

        put(pair[1]);
        /* Two that come before anybody looked are one edge. */
        for (int64_t end = now_ms() + SOON_MS; done <= i && now_ms() < end; sleep_ms(1)) {
            done = 0;
            for (int j = 0; j < SLEEPERS; j++)
                done += waiters[j].done;
        }
    }
    for (int i = 0; i < SLEEPERS; i++)
        wrong += !waiter_got(&waiters[i], pair[0], EPOLLIN);
    is_int(wrong, 0, "%d threads asleep in a new one: each gets an edge", SLEEPERS);
    drain(pair[0]);

    unix_pair(SOCK_STREAM, other);
    waiter_start(&waiters[0], fresh, -1);
    waiter_start(&waiters[1], fresh, -1);
    put(other[1]);
    watch(fresh, other[0], EPOLLIN | EPOLLONESHOT);
    for (int64_t end = now_ms() + SOON_MS; !waiters[0].done && !waiters[1].done && now_ms() < end;)
        sleep_ms(1);
    struct waiter *first = waiters[0].done ? &waiters[0] : &waiters[1], *second = &waiters[waiters[0].done];
    ok(waiter_got(first, other[0], EPOLLIN), "ADD of what is ready wakes one of two sleepers");
    must(close(other[0]));
    is_errno(read(other[1], &byte, 1), ECONNRESET, "close of what the other one sleeps on: its peer sees the end");
    must(close(other[1]));
    ok(!waiter_returns(second, QUIET_MS), "the other sleeps on");
    put(pair[1]);
    ok(waiter_got(second, pair[0], EPOLLIN), "until its event");
    drain(pair[0]);
    return unused;
}

int main(void)
{
    pthread_t thread;
    int bell;

    used = make_epoll();
    fresh = make_epoll();
    pipe_pair(pair);
    require(wait_mask(used, 1) == 0);
    must_zero(pthread_create(&thread, NULL, without_files, NULL));
    must_zero(pthread_join(thread, NULL));
    if (!denied)
        skip_all("there is no seccomp here");

    bell = make_eventfd(0);
    put(bell);
    for (int i = 0; i < 3; i++) {
        int epfd = i == 0 ? used : i == 1 ? fresh : make_epoll();

        watch(epfd, bell, EPOLLIN);
        is_int(wait_fd(epfd, SOON_MS), bell, "with descriptors again: instance %d works", i + 1);
    }
    return done_testing();
}
