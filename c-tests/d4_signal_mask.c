/* D4: "epoll_pwait/epoll_pwait2 swap the signal mask atomically with the sleep, and restore it on every path." */
#include "help.h"

enum { ROUNDS = 5000 };

static _Atomic int handled, asked;
static sigset_t usr1, none, mask_in_handler;

static void count(int signal_number)
{
    (void)signal_number;
    pthread_sigmask(SIG_SETMASK, NULL, &mask_in_handler);
    handled++;
}

/* SIGUSR1 blocked, SIGUSR2 not: how main runs all along. */
static bool mask_is_ours(void)
{
    sigset_t now;

    must_zero(pthread_sigmask(SIG_SETMASK, NULL, &now));
    return sigismember(&now, SIGUSR1) == 1 && sigismember(&now, SIGUSR2) == 0;
}

static int wait2(int epfd, struct epoll_event *event, int timeout_ms, const sigset_t *mask)
{
    struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};

    return epoll_pwait2(epfd, event, 1, timeout_ms < 0 ? NULL : &timeout, mask);
}

static int wait1(int epfd, struct epoll_event *event, int timeout_ms, const sigset_t *mask)
{
    return epoll_pwait(epfd, event, 1, timeout_ms, mask);
}

/* Sends SIGUSR1 to the main thread once for each number that `asked` reaches. */
static void *sender(void *main_thread)
{
    for (int sent = 0; sent < ROUNDS; sent++) {
        while (asked <= sent)
            sched_yield();
        must_zero(pthread_kill(*(pthread_t *)main_thread, SIGUSR1));
    }
    return NULL;
}

static void restored_on_every_path(const char *name, int (*wait)(int, struct epoll_event *, int, const sigset_t *))
{
    int epfd = make_epoll(), bell = make_eventfd(0), closed = must(dup(bell));
    struct epoll_event event;
    sigset_t all_but_alarm, usr2;

    must(close(closed));
    sigfillset(&all_but_alarm);
    sigdelset(&all_but_alarm, SIGALRM); /* the time limit of this test */
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    watch(epfd, bell, EPOLLIN | EPOLLET);

    put(bell);
    is_int(wait(epfd, &event, SOON_MS, &none), 1, "%s: an event", name);
    ok(mask_is_ours(), "%s: mask restored after an event", name);
    is_int(wait(epfd, &event, 0, &usr2), 0, "%s: timeout 0", name);
    ok(mask_is_ours(), "%s: mask restored after timeout 0", name);
    is_int(wait(epfd, &event, 20, &all_but_alarm), 0, "%s: a timeout", name);
    ok(mask_is_ours(), "%s: mask restored after a timeout", name);
    is_errno(wait(closed, &event, 20, &usr2), EBADF, "%s: EBADF", name);
    ok(mask_is_ours(), "%s: mask restored after EBADF", name);
    is_errno(wait(bell, &event, 20, &usr2), EINVAL, "%s: EINVAL", name);
    ok(mask_is_ours(), "%s: mask restored after EINVAL", name);
    put(bell);
    is_errno(wait(epfd, address_of(0), 20, &usr2), EFAULT, "%s: EFAULT", name);
    ok(mask_is_ours(), "%s: mask restored after EFAULT", name);
    must(wait(epfd, &event, 0, NULL));

    handled = 0;
    must(raise(SIGUSR1));
    is_int(wait(epfd, &event, 20, NULL), 0, "%s: a NULL mask leaves the signal blocked", name);
    is_int(wait(epfd, &event, 20, &all_but_alarm), 0, "%s: so does a mask with it", name);
    is_int(handled, 0, "%s: the handler did not run", name);
    is_errno(wait(epfd, &event, -1, &usr2), EINTR, "%s: a mask without it ends the wait", name);
    is_int(handled, 1, "%s: the handler ran", name);
    ok(sigismember(&mask_in_handler, SIGUSR2) == 1, "%s: under the mask of the wait", name);
    ok(mask_is_ours(), "%s: mask restored after EINTR", name);
}

static void atomically(const char *name, int (*wait)(int, struct epoll_event *, int, const sigset_t *))
{
    int epfd = make_epoll(), bell = make_eventfd(0), wrong = 0;
    struct epoll_event event;
    pthread_t thread, self = pthread_self();

    watch(epfd, bell, EPOLLIN);
    handled = asked = 0;
    must_zero(pthread_create(&thread, NULL, sender, &self));
    /*
     * Were the mask set and the sleep begun one after the other, a signal between them would be lost: we sleep for
     * ever.
     */
    for (int i = 1; i <= ROUNDS; i++) {
        asked = i;
        wrong += wait(epfd, &event, -1, &none) != -1 || errno != EINTR || handled != i;
    }
    is_int(wrong, 0, "%s: %d signals before, into and during a wait, each ended just one", name, ROUNDS);
    must_zero(pthread_join(thread, NULL));
}

int main(void)
{
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};

    time_limit(60);
    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    must_zero(pthread_sigmask(SIG_BLOCK, &usr1, NULL));
    must(sigaction(SIGUSR1, &action, NULL));

    restored_on_every_path("epoll_pwait", wait1);
    restored_on_every_path("epoll_pwait2", wait2);
    atomically("epoll_pwait", wait1);
    atomically("epoll_pwait2", wait2);
    return done_testing();
}
