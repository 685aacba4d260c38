/*
 * E7, of forks that run no handlers of pthread_atfork: _Fork, and fork, clone and clone3 by number. The child has the items of
 * its parent; what it closes, and whatever comes by that number then, is its own affair.
 */
#include "help.h"

#include <linux/sched.h>

extern pid_t _Fork(void);

static int epfd, pair[2];

static pid_t by_fork(void)
{
    return (pid_t)syscall(SYS_fork);
}

static pid_t by_clone(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static pid_t by_clone3(void)
{
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

static int child(void)
{
    int old = pair[0], next[2];

    child_check(wait_mask(epfd, 0) == 0);
    child_check(close(pair[0]) == 0);
    child_check(pipe(next) == 0);
    child_check(next[0] == old);
    child_check(write(next[1], "x", 1) == 1);
    child_check(wait_mask(epfd, 0) == 0);
    child_check(control(epfd, EPOLL_CTL_ADD, next[0], EPOLLIN) == 0);
    child_check(wait_fd(epfd, SOON_MS) == next[0]);
    child_check(close(epfd) == 0);
    return 0;
}

static void forked(const char *name, pid_t (*forks)(void))
{
    pid_t process;

    process = forks();
    if (process < 0 && errno == ENOSYS) {
        skip("%s: not here, as under valgrind", name);
        return;
    }
    must(process);
    if (process == 0)
        _exit(child());
    is_int(child_result(process), 0, "%s: the child's instance", name);
    expect_quiet(epfd, "%s: the parent's is quiet", name);
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "%s: and does all that it did", name);
    is_errno(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), EEXIST, "%s: with its item", name);
    drain(pair[0]);
}

int main(void)
{
    struct waiter waiter;
    int crowd[50][2];

    epfd = make_epoll();
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    forked("_Fork", _Fork);
    forked("SYS_fork", by_fork);
    forked("SYS_clone", by_clone);
    forked("SYS_clone3", by_clone3);
    /* The same where some are parked, and a thread sleeps. */
    add_crowd(epfd, crowd, 50);
    let_idle(epfd);
    waiter_start(&waiter, epfd, -1);
    put(pair[1]);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "a thread waits beside a crowd");
    drain(pair[0]);
    forked("_Fork, with a crowd", _Fork);
    forked("SYS_clone, with a crowd", by_clone);
    return done_testing();
}
