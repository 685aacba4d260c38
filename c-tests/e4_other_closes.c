/* E4: "dup2/dup3 over a watched number, close_range, closefrom, fclose are closes too." So are pclose and mq_close. */
#include "help.h"

#include <mqueue.h>

static void by_close(int fd)
{
    must(close(fd));
}

static void by_dup2(int fd)
{
    must(dup2(STDIN_FILENO, fd));
}

static void by_dup3(int fd)
{
    must(dup3(STDIN_FILENO, fd, O_CLOEXEC));
}

static void by_close_range(int fd)
{
    must(close_range((unsigned)fd, (unsigned)fd, 0));
}

static void by_closefrom(int fd)
{
    closefrom(fd); /* the test gives it the highest number in use */
}

static void by_fclose(int fd)
{
    FILE *stream = fdopen(fd, "r");

    require(stream && fclose(stream) == 0);
}

static void by_freopen(int fd)
{
    FILE *stream = fdopen(fd, "r");

    require(stream && freopen("/dev/null", "r", stream));
}

static void by_mq_close(int fd)
{
    must(mq_close(fd));
}

static void by_raw_close(int fd)
{
    must(syscall(SYS_close, fd));
}

/* The item goes; while a thread sleeps in the wait, and while none does. */
static void is_a_close(const char *how, void (*close_it)(int))
{
    struct waiter waiter;
    char byte;

    for (int asleep = 0; asleep < 2; asleep++) {
        const char *who = asleep ? "a thread asleep" : "nobody waits";
        int epfd = make_epoll(), bell = make_eventfd(0), pair[2], number;

        watch(epfd, bell, EPOLLIN);
        unix_pair(SOCK_STREAM, pair);
        number = must(fcntl(pair[0], F_DUPFD, 300));
        must(close(pair[0]));
        watch(epfd, number, EPOLLIN);
        must(wait_one(epfd, &waiter.event, 0));
        if (asleep)
            waiter_start(&waiter, epfd, -1);

        close_it(number);
        is_int(read(pair[1], &byte, 1), 0, "%s, %s: the peer reads the end", how, who);
        must(dup2(bell, number));
        is_errno(control(epfd, EPOLL_CTL_MOD, number, EPOLLIN), ENOENT, "%s, %s: the item is gone", how, who);
        is_int(control(epfd, EPOLL_CTL_ADD, number, 0), 0, "%s, %s: the number can be added", how, who);
        if (asleep) {
            ok(!waiter_returns(&waiter, QUIET_MS), "%s, %s: the sleeper was not disturbed", how, who);
            put(bell);
            ok(waiter_got(&waiter, bell, EPOLLIN), "%s, %s: until its event", how, who);
        } else {
            expect_quiet(epfd, "%s, %s: nothing is reported", how, who);
        }
        must(close(number));
        must(close(bell));
        must(close(pair[1]));
        must(close(epfd));
    }
}

/* Its child ends when nobody has the other end of its pipe any more, and pclose with it. */
static void pclose_is_one(void)
{
    for (int asleep = 0; asleep < 2; asleep++) {
        const char *who = asleep ? "a thread asleep" : "nobody waits";
        int epfd = make_epoll(), bell = make_eventfd(0), number;
        FILE *stream = popen("cat", "w");
        struct waiter waiter;

        require(stream);
        number = fileno(stream);
        watch(epfd, bell, EPOLLIN);
        watch(epfd, number, 0);
        must(wait_one(epfd, &waiter.event, 0));
        if (asleep)
            waiter_start(&waiter, epfd, -1);
        is_int(pclose(stream), 0, "pclose, %s: the child has read the end", who);
        must(dup2(bell, number));
        is_errno(control(epfd, EPOLL_CTL_MOD, number, EPOLLIN), ENOENT, "pclose, %s: the item is gone", who);
        put(bell);
        if (asleep)
            ok(waiter_got(&waiter, bell, EPOLLIN), "pclose, %s: who slept goes on", who);
        must(close(number));
        must(close(bell));
        must(close(epfd));
    }
}

/* daemon(3) replaces the standard descriptors of the child that goes on. */
static void daemon_is_one(void)
{
    int result[2], pair[2], status = -1;
    pid_t child;

    pipe_pair(result);
    must(fcntl(result[0], F_SETFL, 0));
    child = must(fork());
    if (child == 0) {
        int epfd = make_epoll();

        unix_pair(SOCK_STREAM, pair);
        must(dup2(pair[0], STDIN_FILENO));
        must(close(pair[0]));
        watch(epfd, STDIN_FILENO, EPOLLIN | EPOLLOUT);
        status = wait_fd(epfd, SOON_MS) == STDIN_FILENO ? 0 : 1;
        if (daemon(1, 0) < 0)
            status = 2;
        if (status == 0 && wait_mask(epfd, QUIET_MS) != 0)
            status = 3;
        /* The child that forked has it, too, until it has ended. */
        if (status == 0 && poll(&(struct pollfd){.fd = pair[1]}, 1, SOON_MS) != 1)
            status = 4;
        must(write(result[1], &status, sizeof status) == sizeof status ? 0 : -1);
        _exit(0);
    }
    must(close(result[1]));
    must((int)read(result[0], &status, sizeof status));
    is_int(child_result(child), 0, "daemon: the child ends at once");
    is_int(status, 0, "daemon: what stood at 0 is gone");
    must(close(result[0]));
}

/* And what only looks like one. */
static void are_no_closes(void)
{
    int epfd = make_epoll(), pair[2];

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN);
    is_int(dup2(pair[0], pair[0]), pair[0], "dup2 onto itself");
    is_errno(dup3(pair[0], pair[0], 0), EINVAL, "dup3 onto itself");
    is_errno(dup2(-1, pair[0]), EBADF, "dup2 from a bad number");
    must(close_range((unsigned)pair[0], (unsigned)pair[0], CLOSE_RANGE_CLOEXEC));
    is_errno(close_range((unsigned)pair[0], (unsigned)pair[0] - 1, 0), EINVAL, "close_range upside down");
    is_errno(close_range((unsigned)pair[0], (unsigned)pair[0], 1u << 30), EINVAL, "close_range with unknown flags");
    put(pair[1]);
    is_int(wait_fd(epfd, SOON_MS), pair[0], "after none of these the item is gone");
}

int main(void)
{
    time_limit(60);
    is_a_close("close", by_close);
    is_a_close("dup2", by_dup2);
    is_a_close("dup3", by_dup3);
    is_a_close("close_range", by_close_range);
    is_a_close("closefrom", by_closefrom);
    is_a_close("fclose", by_fclose);
    is_a_close("freopen", by_freopen);
    is_a_close("mq_close", by_mq_close);
    is_a_close("syscall(SYS_close)", by_raw_close);
    pclose_is_one();
    daemon_is_one();
    are_no_closes();
    return done_testing();
}
