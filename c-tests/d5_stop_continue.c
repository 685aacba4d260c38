/*
 * D5: a process that is stopped (by SIGSTOP, or by a tracer) while it waits, and continued. signal(7) counts epoll_wait
 * among the calls that may fail with EINTR after that, though no handler is set, and does not say when. The kernel always
 * fails; a wait that goes on is as good. Nothing is lost either way.
 */
#include "help.h"

#include <sys/mman.h>
#include <sys/ptrace.h>

/* What the child's waits returned; shared with the parent. */
struct report {
    _Atomic bool about_to_wait;
    int result, error, second_result;
};

static struct report *report;
static int data_pipe[2];

static int wait_twice(void *timeout)
{
    struct epoll_event event;
    int epfd = make_epoll();

    watch(epfd, data_pipe[0], EPOLLIN | EPOLLET);
    report->about_to_wait = true;
    report->result = wait_one(epfd, &event, *(int *)timeout);
    report->error = errno;
    report->second_result = wait_one(epfd, &event, report->result == 1 ? QUIET_MS : SOON_MS);
    return 0;
}

static void until_child_sleeps(pid_t child)
{
    char path[64], line[256];

    while (!report->about_to_wait)
        sleep_ms(1);
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    for (int looks = 0; looks < 5;) {
        sleep_ms(2);
        int fd = must(open(path, O_RDONLY | O_CLOEXEC));
        ssize_t got = must(read(fd, line, sizeof line - 1));
        must(close(fd));
        line[got] = 0;
        looks = strrchr(line, ')')[2] == 'S' ? looks + 1 : 0;
    }
}

static void stop_by_signal(pid_t child)
{
    must(kill(child, SIGSTOP));
}

static void continue_by_signal(pid_t child)
{
    must(kill(child, SIGCONT));
}

static void stop_by_tracer(pid_t child)
{
    must(ptrace(PTRACE_SEIZE, child, NULL, NULL));
    must(ptrace(PTRACE_INTERRUPT, child, NULL, NULL));
}

static void continue_by_tracer(pid_t child)
{
    must(ptrace(PTRACE_DETACH, child, NULL, NULL));
}

static void disturb(const char *how, int timeout_ms, void (*stop)(pid_t), void (*resume)(pid_t))
{
    int status;

    memset(report, 0, sizeof *report);
    pid_t child = child_start(wait_twice, &timeout_ms);
    until_child_sleeps(child);
    stop(child);
    must(waitpid(child, &status, WUNTRACED));
    ok(WIFSTOPPED(status), "%s: the child is stopped in its wait", how);
    put(data_pipe[1]);
    resume(child);
    is_int(child_result(child), 0, "%s: continued, it ends", how);
    bool interrupted = report->result == -1 && report->error == EINTR;
    ok(interrupted || report->result == 1, "%s: its wait went on, or failed with EINTR", how);
    is_int(report->second_result, interrupted, "%s: the data is in one of the two waits", how);
    drain(data_pipe[0]);
}

static bool may_trace(void)
{
    int endless = -1;

    memset(report, 0, sizeof *report);
    pid_t child = child_start(wait_twice, &endless);
    long result = ptrace(PTRACE_SEIZE, child, NULL, NULL);
    must(kill(child, SIGKILL));
    child_result(child);
    return result == 0;
}

int main(void)
{
    report = must(mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pipe_pair(data_pipe);
    disturb("SIGSTOP, no time limit", -1, stop_by_signal, continue_by_signal);
    disturb("SIGSTOP, a long time limit", 600000, stop_by_signal, continue_by_signal);
    if (may_trace())
        disturb("tracer", -1, stop_by_tracer, continue_by_tracer);
    else
        skip("tracing is not allowed here");
    return done_testing();
}
