/*
 * G2: handlers that run just once (SA_RESETHAND) and interrupt epoll calls: write, read,
 * close and dup2 work in them.
 */
#include "help.h"

enum { OFTEN = 3000 };

static int epfd, wake_pipe[2], watched;
static _Atomic int handled, wrong, sent;
static _Atomic bool over;
static pthread_t target;

static void use_what_is_safe(int signal_number)
{
    int saved = errno;
    char byte = (char)signal_number;

    wrong += write(wake_pipe[1], &byte, 1) != 1;
    wrong += read(wake_pipe[0], &byte, 1) != 1;
    wrong += dup2(STDIN_FILENO, watched) != watched;
    wrong += close(watched) != 0;
    handled++;
    errno = saved;
}

/* What the handler was reset to would end the program: set anew before each signal. */
static void *keep_sending(void *unused)
{
    struct sigaction action = {.sa_handler = use_what_is_safe, .sa_flags = (int)SA_RESETHAND | SA_RESTART}, after;

    int64_t end = now_ms() + STORM_MS;

    for (sent = 0; sent < OFTEN && storm_has_time(end, sent); sent++) {
        must(sigaction(SIGUSR1, &action, NULL));
        must_zero(pthread_kill(target, SIGUSR1));
        while (handled == sent)
            sched_yield();
        must(sigaction(SIGUSR1, NULL, &after));
        wrong += after.sa_handler != SIG_DFL;
    }
    over = true;
    return unused;
}

int main(void)
{
    pthread_t sender;
    int bell = make_eventfd(0), failed = 0;
    struct waiter waiter;

    time_limit(60);
    target = pthread_self();
    epfd = make_epoll();
    pipe_pair(wake_pipe);
    watched = must(fcntl(STDIN_FILENO, F_DUPFD, 100));
    must(close(watched));
    must_zero(pthread_create(&sender, NULL, keep_sending, NULL));
    for (int round = 0; !over; round++) {
        struct epoll_event event;
        int pair[2];

        pipe_pair(pair);
        /* These two race with the handler, which may close the number in between: any outcome is right. */
        dup2(pair[0], watched);
        control(epfd, EPOLL_CTL_ADD, watched, EPOLLIN);
        failed += control(epfd, EPOLL_CTL_ADD, bell, EPOLLIN | (round % 2 ? EPOLLET : 0)) != 0;
        put(bell);
        int count = wait_one(epfd, &event, 1);
        failed += count < 0 && errno != EINTR;
        count = wait_one(epfd, &event, 1);
        failed += count < 0 && errno != EINTR;
        drain(bell);
        failed += epoll_ctl(epfd, EPOLL_CTL_DEL, bell, NULL) != 0;
        close_pair(pair);
        close(watched);
    }
    must_zero(pthread_join(sender, NULL));
    ok(sent >= STORM_ENOUGH, "the program was interrupted often enough");
    is_int(handled, sent, "each signal ran its handler");
    is_int(wrong, 0, "which could do what a handler may, and was gone then");
    is_int(failed, 0, "what they interrupted worked");
    watch(epfd, bell, EPOLLIN);
    waiter_start(&waiter, epfd, -1);
    put(bell);
    ok(waiter_got(&waiter, bell, EPOLLIN), "and the instance works on");
    return done_testing();
}
