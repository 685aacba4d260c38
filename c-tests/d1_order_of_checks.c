/*
 * D1: "the signal mask and the timeout of pwait2 - bad epfd EBADF - maxevents EINVAL - an events array that reaches
 * outside the address space EFAULT - epfd not an epoll EINVAL." Of pwait2's two the timeout comes first.
 */
#include "help.h"

#include <limits.h>

enum { MOST_EVENTS = INT_MAX / (int)sizeof(struct epoll_event) };

int main(void)
{
    const struct timespec negative = {-1, 0}, too_many = {0, 1000000000}, zero = {0, 0};
    struct epoll_event event;
    struct epoll_event *outside = address_of(UINTPTR_MAX - 4095);
    sigset_t *bad_mask = address_of(UINTPTR_MAX - 4095);
    struct timespec *bad_timeout = address_of(UINTPTR_MAX - 4095);
    int pair[2], epfd = make_epoll(), closed = must(dup(epfd));

    pipe_pair(pair);
    must(close(closed));

    is_errno(epoll_pwait2(closed, &event, 0, bad_timeout, bad_mask), EFAULT, "pwait2: bad timeout pointer before all");
    is_errno(epoll_pwait2(closed, &event, 0, &negative, bad_mask), EINVAL, "pwait2: timeout -1 s before a bad mask");
    is_errno(epoll_pwait2(closed, &event, 0, &too_many, bad_mask), EINVAL, "pwait2: 10^9 ns before a bad mask");
    is_errno(epoll_pwait2(closed, &event, 0, &zero, bad_mask), EFAULT, "pwait2: bad mask before bad epfd");
    is_errno(epoll_pwait2(closed, &event, 0, &negative, NULL), EINVAL, "pwait2: negative timeout before bad epfd");
    is_errno(epoll_pwait2(closed, &event, 0, &zero, NULL), EBADF, "pwait2: bad epfd before maxevents");
    is_errno(epoll_pwait(closed, &event, 0, 0, bad_mask), EFAULT, "pwait: bad mask before bad epfd");

    is_errno(epoll_wait(closed, &event, 0, 0), EBADF, "bad epfd before maxevents 0");
    is_errno(epoll_wait(closed, &event, number(-1), 0), EBADF, "bad epfd before maxevents -1");
    is_errno(epoll_wait(closed, outside, 1, 0), EBADF, "bad epfd before the array");
    is_errno(epoll_wait(-1, &event, 1, 0), EBADF, "epfd -1");
    is_errno(epoll_wait(INT_MAX, &event, 1, 0), EBADF, "epfd INT_MAX");
    is_errno(epoll_pwait(closed, &event, 0, 0, NULL), EBADF, "pwait: bad epfd before maxevents");

    is_errno(epoll_wait(epfd, &event, 0, 0), EINVAL, "maxevents 0");
    is_errno(epoll_wait(epfd, &event, number(-1), 0), EINVAL, "maxevents -1");
    is_errno(epoll_wait(epfd, &event, number(INT_MIN), 0), EINVAL, "maxevents INT_MIN");
    is_errno(epoll_wait(epfd, &event, number(MOST_EVENTS + 1), 0), EINVAL, "maxevents above INT_MAX / event size");
    is_int(epoll_wait(epfd, address_of(4096), MOST_EVENTS, 0), 0, "just that many are allowed");
    is_errno(epoll_wait(epfd, outside, 0, 0), EINVAL, "maxevents before the array");
    is_errno(epoll_wait(pair[0], outside, 0, 0), EINVAL, "maxevents before an epfd that is no epoll");

    is_errno(epoll_wait(epfd, outside, 1, 0), EFAULT, "array outside the address space, with nothing ready");
    is_errno(epoll_wait(epfd, outside, 1, -1), EFAULT, "with no limit of time either");
    is_errno(epoll_wait(pair[0], outside, 1, 0), EFAULT, "the array before an epfd that is no epoll");
    is_errno(epoll_wait(pair[0], &event, 1, 0), EINVAL, "epfd is a pipe");
    is_errno(epoll_pwait2(pair[0], &event, 1, &zero, NULL), EINVAL, "pwait2: epfd is a pipe");
    is_errno(epoll_wait(must(open("/proc/self/exe", O_RDONLY)), &event, 1, 0), EINVAL, "epfd is a regular file");
    is_errno(epoll_wait(make_eventfd(0), &event, 1, 0), EINVAL, "epfd is an eventfd");

    is_int(epoll_wait(epfd, address_of(0), 1, 0), 0, "a NULL array, nothing to write");
    return done_testing();
}
