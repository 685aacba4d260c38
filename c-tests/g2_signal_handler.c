/*
 * G2: "Interposed functions that POSIX calls async-signal-safe ... stay so: callable from a signal handler that
 * interrupted the library anywhere, and between fork and exec in a threaded program, without deadlock."
 */
#include "help.h"

enum { ROUNDS = 3000, FORKS = 30 };

static int epfd, handler_pipe[2], watched, wrong_in_handler;
static struct storm storm;

/* Everything that is allowed here, among it a close of what the interrupted code may be busy with. */
static void use_what_is_safe(int signal_number)
{
    int saved = errno;
    char byte = (char)signal_number;
    struct pollfd poll_it = {.fd = handler_pipe[0], .events = POLLIN};

    wrong_in_handler += write(handler_pipe[1], &byte, 1) != 1;
    wrong_in_handler += poll(&poll_it, 1, 0) != 1;
    wrong_in_handler += read(handler_pipe[0], &byte, 1) != 1;
    wrong_in_handler += dup2(STDIN_FILENO, watched) != watched;
    wrong_in_handler += close(watched) != 0;
    storm.handled++;
    errno = saved;
}

static int fork_and_close(void *unused)
{
    (void)unused;
    child_check(close(epfd) == 0);
    child_check(dup2(handler_pipe[0], handler_pipe[1]) == handler_pipe[1]);
    child_check(close_range((unsigned)STDERR_FILENO + 1, ~0u, 0) == 0);
    return 0;
}

int main(void)
{
    struct waiter sleeper;
    int bell = make_eventfd(0), failed = 0;

    time_limit(60);
    epfd = make_epoll();
    pipe_pair(handler_pipe);
    watched = must(fcntl(STDIN_FILENO, F_DUPFD, 100));
    must(close(watched));
    storm_start(&storm, use_what_is_safe);

    for (int round = 0; round < ROUNDS; round++) {
        struct epoll_event event;
        int pair[2], other = make_epoll();

        pipe_pair(pair);
        /* These two race with the handler, which may close the number in between: any outcome is right. */
        dup2(pair[0], watched);
        control(epfd, EPOLL_CTL_ADD, watched, EPOLLIN);

        failed += control(epfd, EPOLL_CTL_ADD, bell, EPOLLIN) != 0;
        failed += control(other, EPOLL_CTL_ADD, epfd, EPOLLIN) != 0;
        failed += control(epfd, EPOLL_CTL_MOD, bell, EPOLLIN | EPOLLET) != 0;
        put(bell);
        failed += wait_one(epfd, &event, 0) < 0;
        failed += wait_one(other, &event, 1) < 0 && errno != EINTR;
        drain(bell);
        failed += epoll_ctl(epfd, EPOLL_CTL_DEL, bell, NULL) != 0;
        close_pair(pair);
        failed += close(other) != 0;
    }
    storm_stop(&storm);
    close(watched); /* open, if the last ADD came after the last handler: it would report the pipe's hang-up below */
    ok(storm.handled > 100, "the program was interrupted often enough");
    is_int(wrong_in_handler, 0, "and the handler could do what a handler may");
    is_int(failed, 0, "what it interrupted worked");

    failed = 0;
    watch(epfd, bell, EPOLLIN);
    waiter_start(&sleeper, epfd, -1);
    for (int i = 0; i < FORKS; i++)
        failed += run_child(fork_and_close, NULL) != 0;
    is_int(failed, 0, "%d children of a threaded program could close what they had", FORKS);
    put(bell);
    ok(waiter_got(&sleeper, bell, EPOLLIN), "and the parent's thread sleeps on, until its event");
    return done_testing();
}
