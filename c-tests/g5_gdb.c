/*
 * G5: under gdb: a program that is stopped at a breakpoint, and interrupted by the debugger in its wait, ends as it
 * would without it.
 */
#include "help.h"

enum { ALL_WELL = 42 };

/* Where the breakpoint is. */
__attribute__((noinline)) void stop_here(void)
{
    __asm__ volatile("");
}

static int debugged(void)
{
    int epfd = make_epoll(), pair[2], lost = 0;
    struct waiter waiter;

    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLET);
    waiter_start(&waiter, epfd, -1);
    stop_here(); /* the whole process stops, the thread in its wait, too */
    put(pair[1]);
    /* A wait that the debugger interrupts may fail with EINTR, as signal(7) says. */
    if (waiter_returns(&waiter, SOON_MS) && waiter.result == -1 && waiter.error == EINTR)
        lost += wait_mask(epfd, SOON_MS) != EPOLLIN;
    else
        lost += waiter.result != 1 || waiter.event.data.fd != pair[0];
    for (int i = 0; i < 100; i++) {
        drain(pair[0]);
        put(pair[1]);
        lost += wait_mask(epfd, SOON_MS) != EPOLLIN;
    }
    return lost ? 1 : ALL_WELL;
}

int main(int argc, char **argv)
{
    char output[8192] = "";
    size_t length = 0;
    int reply[2];
    ssize_t got;

    if (argc > 1)
        return debugged();
    time_limit(60);
    if (system("command -v gdb >/dev/null 2>&1") != 0)
        skip_all("gdb is not installed (apt-get install gdb)");
    must(pipe(reply));
    pid_t child = must(fork());
    if (child == 0) {
        char path[4096] = "";

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        must(readlink("/proc/self/exe", path, sizeof path - 1));
        must(dup2(reply[1], STDOUT_FILENO));
        must(dup2(reply[1], STDERR_FILENO));
        must(close_range(3, ~0u, 0));
        execlp("gdb", "gdb", "-nx", "-q", "-batch", "-ex", "set debuginfod enabled off", "-ex",
               "set startup-with-shell off", "-ex", "break stop_here", "-ex", "run", "-ex", "info threads", "-ex", "bt",
               "-ex", "thread apply all bt 3", "-ex", "continue", "--args", path, argv[0], (char *)NULL);
        _exit(127);
    }
    must(close(reply[1]));
    while ((got = read(reply[0], output + length, sizeof output - 1 - length)) > 0)
        length += (size_t)got;
    child_result(child);
    if (strstr(output, "not permitted") || strstr(output, "Couldn't get CS register"))
        skip_all("gdb may not trace here");
    bool stopped = strstr(output, "stop_here ()"), ended = strstr(output, "exited with code 052");
    ok(stopped, "gdb stopped it at the breakpoint, with a thread asleep in the wait");
    if (!ok(ended, "continued, it ended well"))
        for (char *line = strtok(output, "\n"); line; line = strtok(NULL, "\n"))
            printf("# %s\n", line);
    return done_testing();
}
