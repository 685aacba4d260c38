/* H: "and syscall() for callers that go through it": the same instances, by number instead of by name. */
#include "help.h"

int main(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1};
    struct timespec little = {0, 1000000};
    int pair[2], epfd = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC), named = make_epoll();

    pipe_pair(pair);
    ok(epfd >= 0, "SYS_epoll_create1");
    is_int(fcntl(epfd, F_GETFD), FD_CLOEXEC, "with its flag");
    is_errno(syscall(SYS_epoll_create1, 1), EINVAL, "SYS_epoll_create1: an unknown flag");
    is_int(syscall(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, pair[0], &event), 0, "SYS_epoll_ctl");
    is_errno(syscall(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, pair[0], &event), EEXIST, "SYS_epoll_ctl: twice");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &event), EEXIST, "epoll_ctl sees the same item");
    is_errno(syscall(SYS_epoll_ctl, -1, EPOLL_CTL_ADD, pair[0], NULL), EFAULT, "SYS_epoll_ctl: the order of checks");

    is_int(syscall(SYS_epoll_pwait, epfd, &event, 1, 0, NULL, 0), 0, "SYS_epoll_pwait: nothing ready");
    put(pair[1]);
    event.data.u64 = 0;
    is_int(syscall(SYS_epoll_pwait, epfd, &event, 1, SOON_MS, NULL, 0), 1, "SYS_epoll_pwait: an event");
    is_int((long long)event.data.u64, 1, "with its data");
    is_int(syscall(SYS_epoll_pwait2, epfd, &event, 1, &little, NULL, 0), 1, "SYS_epoll_pwait2: an event");
    is_int(wait_one(epfd, &event, SOON_MS), 1, "epoll_wait: an event");
    is_errno(syscall(SYS_epoll_pwait, epfd, &event, 0, 0, NULL, 0), EINVAL, "SYS_epoll_pwait: maxevents 0");
    is_errno(syscall(SYS_epoll_pwait, epfd, NULL, 1, 0, NULL, 0), EFAULT, "SYS_epoll_pwait: NULL");

    event.data.u64 = 2;
    is_int(syscall(SYS_epoll_ctl, named, EPOLL_CTL_ADD, pair[0], &event), 0, "an instance made by name");
    is_int(syscall(SYS_epoll_pwait, named, &event, 1, SOON_MS, NULL, 0), 1, "is used by number");
#ifdef SYS_epoll_wait /* newer architectures are without these two */
    is_int(syscall(SYS_epoll_wait, named, &event, 1, SOON_MS), 1, "SYS_epoll_wait: an event");
    is_errno(syscall(SYS_epoll_wait, -1, &event, 0, 0), EBADF, "SYS_epoll_wait: the order of checks");
    int old = (int)syscall(SYS_epoll_create, 1);
    ok(old >= 0, "SYS_epoll_create");
    is_int(fcntl(old, F_GETFD), 0, "which knows no flag");
    is_errno(syscall(SYS_epoll_create, 0), EINVAL, "SYS_epoll_create: size 0");
#endif

    is_int(syscall(SYS_epoll_ctl, named, EPOLL_CTL_DEL, pair[0], NULL), 0, "SYS_epoll_ctl: DEL");
    is_int(syscall(SYS_close, pair[0]), 0, "SYS_close");
    expect_quiet(epfd, "removes the item");
    signal(SIGPIPE, SIG_IGN);
    is_errno(write(pair[1], "x", 1), EPIPE, "and the writer sees it");
    is_int(syscall(SYS_getpid), getpid(), "other numbers pass through");
    is_errno(syscall(SYS_dup3, epfd, epfd, 0), EINVAL, "with their errors");
    is_errno(syscall(-1), ENOSYS, "known or not");
    return done_testing();
}
