/*
 * G2: signal handlers of every shape run as they would without the library, also when the signal comes in the middle of
 * an epoll call: what came with the signal, its stack, its mask, and each as often as it was sent. (Not the order of
 * real-time signals that are queued together: one that was held off is queued again, behind the others.)
 */
#include "help.h"

enum { OFTEN = 3000, BIG_STACK = 65536 };

static int epfd, bell;
static _Atomic int handled, wrong, sent;
static int64_t end;
static _Atomic bool over;
static char big_stack[BIG_STACK];
static pthread_t target;

static bool is_blocked(int signal_number)
{
    sigset_t now;

    pthread_sigmask(SIG_SETMASK, NULL, &now);
    return sigismember(&now, signal_number) == 1;
}

static bool on_big_stack(const void *address)
{
    return (const char *)address >= big_stack && (const char *)address < big_stack + BIG_STACK;
}

static _Atomic int times[OFTEN];

/* Queued with the number of each: none is lost, none comes twice. */
static void queued(int signal_number, siginfo_t *info, void *context)
{
    char here;

    wrong += info->si_signo != signal_number || info->si_code != SI_QUEUE || info->si_pid != getpid() ||
             info->si_uid != getuid() || info->si_value.sival_int < 0 ||
             info->si_value.sival_int >= OFTEN || times[info->si_value.sival_int]++ != 0 || !context;
    wrong += !on_big_stack(&here) || !is_blocked(signal_number) || !is_blocked(SIGUSR2) || is_blocked(SIGUSR1);
    handled++;
}

static void simple(int signal_number)
{
    char here;

    wrong += on_big_stack(&here) || signal_number != SIGUSR1 || !is_blocked(SIGUSR1) || is_blocked(SIGUSR2);
    handled++;
}

static void unmasked(int signal_number)
{
    wrong += is_blocked(signal_number);
    handled++;
}

static void *send_queued(void *unused)
{
    for (sent = 0; sent < OFTEN && storm_has_time(end, sent); sent++) {
        while (pthread_sigqueue(target, SIGRTMIN + 3, (union sigval){.sival_int = sent}) != 0)
            sched_yield(); /* the queue is full */
        while (sent - handled > 20)
            sched_yield();
    }
    while (handled < sent)
        sched_yield();
    over = true;
    return unused;
}

static void *send_simple(void *unused)
{
    for (sent = 0; sent < OFTEN && storm_has_time(end, sent); sent++) {
        must_zero(pthread_kill(target, SIGUSR1));
        while (handled == sent)
            sched_yield();
    }
    over = true;
    return unused;
}

/* The calls that are interrupted; after each the mask is the program's. */
static void storm_over(const char *name, void *(*sender)(void *))
{
    pthread_t thread;
    struct epoll_event event;
    int failed = 0, masked = 0;

    handled = wrong = 0;
    over = false;
    end = now_ms() + STORM_MS;
    must_zero(pthread_create(&thread, NULL, sender, NULL));
    for (int round = 0; !over; round++) {
        failed += control(epfd, EPOLL_CTL_MOD, bell, round % 2 ? EPOLLIN : EPOLLOUT) != 0;
        int count = wait_one(epfd, &event, round % 16 ? 0 : 1);
        failed += count < 0 && errno != EINTR;
        int other = epoll_create1(EPOLL_CLOEXEC);
        failed += other < 0 || control(other, EPOLL_CTL_ADD, epfd, EPOLLIN) != 0 || close(other) != 0;
        if (round % 64 == 0)
            masked += is_blocked(SIGUSR1) || is_blocked(SIGUSR2) || is_blocked(SIGRTMIN + 3);
    }
    must_zero(pthread_join(thread, NULL));
    ok(sent >= STORM_ENOUGH, "%s: the program was interrupted often enough", name);
    is_int(handled, sent, "%s: the handler ran once for each signal", name);
    is_int(wrong, 0, "%s: as it should", name);
    is_int(failed, 0, "%s: what it interrupted worked", name);
    is_int(masked, 0, "%s: and the signal mask is as before", name);
}

static _Atomic int nested_depth, deepest;

static void outer_handler(int signal_number)
{
    struct epoll_event event;

    nested_depth++;
    if (nested_depth > deepest)
        deepest = nested_depth;
    if (signal_number == SIGUSR1) {
        must(raise(SIGUSR2)); /* not in its mask: it runs at once, within this one */
        wrong += deepest < 2;
    }
    wrong += wait_one(epfd, &event, 0) < 0;
    nested_depth--;
    handled++;
}

int main(void)
{
    struct sigaction action;
    stack_t stack = {.ss_sp = big_stack, .ss_size = sizeof big_stack};

    time_limit(120);
    target = pthread_self();
    epfd = make_epoll();
    bell = make_eventfd(0);
    watch(epfd, bell, EPOLLIN);
    must(sigaltstack(&stack, NULL));

    action = (struct sigaction){.sa_sigaction = queued, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaddset(&action.sa_mask, SIGUSR2);
    must(sigaction(SIGRTMIN + 3, &action, NULL));
    storm_over("SA_SIGINFO, SA_ONSTACK, queued", send_queued);

    action = (struct sigaction){.sa_handler = simple, .sa_flags = SA_RESTART};
    must(sigaction(SIGUSR1, &action, NULL));
    storm_over("simple", send_simple);
    action = (struct sigaction){.sa_handler = unmasked, .sa_flags = SA_NODEFER};
    must(sigaction(SIGUSR1, &action, NULL));
    storm_over("SA_NODEFER", send_simple);

    handled = wrong = 0;
    action = (struct sigaction){.sa_handler = outer_handler, .sa_flags = SA_RESTART};
    must(sigaction(SIGUSR1, &action, NULL));
    must(sigaction(SIGUSR2, &action, NULL));
    for (int i = 0; i < 100; i++)
        must(raise(SIGUSR1));
    is_int(handled, 200, "a handler within a handler, both in epoll_wait");
    is_int(wrong, 0, "and both waits work");
    return done_testing();
}
