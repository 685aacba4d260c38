/*
 * D3: "A signal handler that runs ends the wait with EINTR, whatever SA_RESTART says. With ready events at entry they
 * are returned first." A signal without a handler ends nothing.
 */
#include "help.h"

static _Atomic int handled;

static void count(int signal_number)
{
    (void)signal_number;
    handled++;
}

static void install(int signal_number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    must(sigaction(signal_number, &action, NULL));
}

static void ends_the_wait(int flags, int timeout_ms, const char *how)
{
    int epfd = make_epoll(), bell = make_eventfd(0);
    struct waiter waiter;

    watch(epfd, bell, EPOLLIN);
    install(SIGUSR1, count, flags);
    handled = 0;
    waiter_start(&waiter, epfd, timeout_ms);
    must_zero(pthread_kill(waiter.thread, SIGUSR1));
    ok(waiter_returns(&waiter, SOON_MS), "%s: the handler ends the wait", how);
    is_int(waiter.result, -1, "%s: with -1", how);
    is_int(waiter.error, EINTR, "%s: EINTR", how);
    is_int(handled, 1, "%s: the handler ran once", how);

    put(bell);
    expect_event(epfd, EPOLLIN, "%s: the next wait works", how);
}

int main(void)
{
    int epfd = make_epoll(), bell = make_eventfd(0);
    struct waiter waiter;
    struct epoll_event event;
    sigset_t usr1, none;

    ends_the_wait(0, -1, "no flags, no time limit");
    ends_the_wait(SA_RESTART, -1, "SA_RESTART, no time limit");
    ends_the_wait(SA_RESTART, 1000000, "SA_RESTART, a long time limit");

    watch(epfd, bell, EPOLLIN);
    install(SIGUSR1, SIG_IGN, 0);
    waiter_start(&waiter, epfd, -1);
    must_zero(pthread_kill(waiter.thread, SIGUSR1));
    must_zero(pthread_kill(waiter.thread, SIGCHLD)); /* ignored by default */
    must_zero(pthread_kill(waiter.thread, SIGWINCH));
    ok(!waiter_returns(&waiter, QUIET_MS), "an ignored signal ends nothing");
    put(bell);
    ok(waiter_got(&waiter, bell, EPOLLIN), "the event does");
    drain(bell);

    /* Pending at entry, and let through by the mask of the wait. */
    install(SIGUSR1, count, SA_RESTART);
    handled = 0;
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    must_zero(pthread_sigmask(SIG_BLOCK, &usr1, NULL));
    must(raise(SIGUSR1));
    put(bell);
    is_int(epoll_pwait(epfd, &event, 1, -1, &none), 1, "a ready event and a pending signal: the event is returned");
    is_int(handled, 0, "the signal stays pending");
    drain(bell);
    is_int(epoll_pwait(epfd, &event, 1, 0, &none), 0, "nothing ready, timeout 0: over before the signal counts");
    is_int(handled, 0, "the signal stays pending");
    is_errno(epoll_pwait(epfd, &event, 1, 1, &none), EINTR, "nothing ready, timeout 1: EINTR");
    is_int(handled, 1, "the handler ran");
    is_int(epoll_pwait(epfd, &event, 1, QUIET_MS, &none), 0, "once");
    is_int(handled, 1, "only");

    /* The event came while we slept, the signal after it: both are seen. */
    must_zero(pthread_sigmask(SIG_UNBLOCK, &usr1, NULL));
    put(bell);
    must(raise(SIGUSR1));
    is_int(wait_one(epfd, &event, SOON_MS), 1, "a handler that ran before the wait does not end it");
    is_int(handled, 2, "it ran");
    return done_testing();
}
