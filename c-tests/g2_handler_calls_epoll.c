/*
 * G2: a signal handler that calls epoll_ctl, epoll_wait and fork itself, having interrupted the same calls on the same
 * instance. epoll's functions are system calls, so the kernel allows it; programs that do it exist.
 */
#include "help.h"

enum { ROUNDS = 20000, OFTEN = 5000, FORK_EVERY = 400 };

static int epfd, bell, wrong;
static struct storm storm;
/* The C library's own fork waits for the lock of its malloc, which a handler that interrupted printf may hold. */
static _Atomic bool may_fork;

static void call_epoll(int signal_number)
{
    int saved = errno;
    struct epoll_event event;

    (void)signal_number;
    wrong += control(epfd, EPOLL_CTL_MOD, bell, EPOLLIN) != 0;
    wrong += wait_one(epfd, &event, 0) < 0;
    if (storm.handled++ % FORK_EVERY == 0 && may_fork) {
        pid_t child = fork();

        if (child == 0)
            _exit(wait_one(epfd, &event, 0) < 0);
        int status;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            continue;
        wrong += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    errno = saved;
}

int main(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL}, old;
    int failed = 0;

    time_limit(60);
    epfd = make_epoll();
    bell = make_eventfd(0);
    watch(epfd, bell, EPOLLIN);
    storm_start(&storm, call_epoll);
    must(sigaction(SIGUSR1, NULL, &old));
    ok(old.sa_handler == call_epoll, "sigaction gives back the handler");
    is_int(old.sa_flags & (SA_RESTART | SA_SIGINFO), SA_RESTART, "and the flags");

    may_fork = true;
    for (int round = 0; storm_goes_on(&storm, OFTEN) || (round < ROUNDS && now_ms() < storm.end); round++) {
        struct epoll_event event;

        failed += control(epfd, EPOLL_CTL_MOD, bell, round % 2 ? EPOLLIN : EPOLLOUT) != 0;
        int count = wait_one(epfd, &event, round % 16 ? 0 : 1);
        failed += count < 0 && errno != EINTR;
    }
    may_fork = false;
    storm_stop(&storm);
    ok(storm.handled >= STORM_ENOUGH, "the program was interrupted often enough");
    is_int(wrong, 0, "and the handler's calls worked");
    is_int(failed, 0, "as did those that it interrupted");

    must(sigaction(SIGUSR1, &action, &old));
    ok(old.sa_handler == call_epoll, "and its handler is given back when another one comes");
    ok(signal(SIGUSR1, call_epoll) == SIG_DFL, "signal gives back SIG_DFL");
    ok(signal(SIGUSR1, SIG_IGN) == call_epoll, "and a handler");
    return done_testing();
}
