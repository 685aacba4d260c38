/* E7: "A signalfd's readiness belongs to the thread that asks (its own pending signals and the process's)." */
#include "help.h"

#include <sys/signalfd.h>

static int signals, epfd;

static void *look_from_another_thread(void *mask)
{
    *(uint32_t *)mask = wait_mask(epfd, QUIET_MS);
    return NULL;
}

static int child_looks(void *unused)
{
    (void)unused;
    child_check(wait_mask(make_epoll(), 0) == 0);
    return (int)wait_mask(epfd, QUIET_MS);
}

static uint32_t seen_elsewhere(void)
{
    pthread_t thread;
    uint32_t mask;

    must_zero(pthread_create(&thread, NULL, look_from_another_thread, &mask));
    must_zero(pthread_join(thread, NULL));
    return mask;
}

int main(void)
{
    struct signalfd_siginfo information;
    struct waiter waiter;
    sigset_t usr1;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    must_zero(pthread_sigmask(SIG_BLOCK, &usr1, NULL));
    signals = must(signalfd(-1, &usr1, SFD_NONBLOCK | SFD_CLOEXEC));
    epfd = make_epoll();
    watch(epfd, signals, EPOLLIN);
    expect_quiet(epfd, "no signal pending");

    must(kill(getpid(), SIGUSR1));
    expect_event(epfd, EPOLLIN, "pending for the process: reported");
    is_mask(seen_elsewhere(), EPOLLIN, "in every thread");
    is_int(run_child(child_looks, NULL), 0, "but not in a child, which has none pending");
    must(read(signals, &information, sizeof information));
    is_int((int)information.ssi_signo, SIGUSR1, "it is that signal");
    expect_quiet(epfd, "and then no more");

    must_zero(pthread_kill(pthread_self(), SIGUSR1));
    expect_event(epfd, EPOLLIN, "pending for one thread: reported to that one");
    expect_event(epfd, EPOLLIN, "level-triggered, again");
    is_mask(seen_elsewhere(), 0, "but not to another");
    must(read(signals, &information, sizeof information));

    waiter_start(&waiter, epfd, SOON_MS);
    must(kill(getpid(), SIGUSR1));
    ok(waiter_got(&waiter, signals, EPOLLIN), "a signal for the process wakes a thread that sleeps in the wait");
    must(read(signals, &information, sizeof information));
    waiter_start(&waiter, epfd, SOON_MS);
    must_zero(pthread_kill(waiter.thread, SIGUSR1));
    ok(waiter_got(&waiter, signals, EPOLLIN), "so does one for that thread");
    return done_testing();
}
