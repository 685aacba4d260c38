/*
 * D1, D4: "wrong sigsetsize EINVAL, bad pointer EFAULT; with a NULL mask the size is ignored": seen through syscall().
 */
#include "help.h"

enum { KERNEL_SET_SIZE = 8 };

static long pwait(int epfd, const sigset_t *mask, size_t size)
{
    struct epoll_event event;

    return syscall(SYS_epoll_pwait, epfd, &event, 1, 0, mask, size);
}

static long pwait2(int epfd, const sigset_t *mask, size_t size)
{
    struct epoll_event event;
    struct timespec zero = {0, 0};

    return syscall(SYS_epoll_pwait2, epfd, &event, 1, &zero, mask, size);
}

static void check(const char *name, long (*wait)(int, const sigset_t *, size_t))
{
    int epfd = make_epoll(), closed = must(dup(epfd));
    sigset_t mask;

    must(close(closed));
    sigemptyset(&mask);
    is_int(wait(epfd, &mask, KERNEL_SET_SIZE), 0, "%s: the right size", name);
    is_errno(wait(epfd, &mask, KERNEL_SET_SIZE - 1), EINVAL, "%s: one less", name);
    is_errno(wait(epfd, &mask, KERNEL_SET_SIZE + 1), EINVAL, "%s: one more", name);
    is_errno(wait(epfd, &mask, 0), EINVAL, "%s: 0", name);
    is_errno(wait(epfd, &mask, sizeof mask), EINVAL, "%s: the size of the library's sigset_t", name);
    is_int(wait(epfd, NULL, 0), 0, "%s: NULL mask, size 0", name);
    is_int(wait(epfd, NULL, 12345), 0, "%s: NULL mask, any size", name);
    is_errno(wait(epfd, address_of(1), KERNEL_SET_SIZE), EFAULT, "%s: bad pointer", name);
    is_errno(wait(epfd, address_of(1), 1), EINVAL, "%s: the size before the pointer", name);
    is_errno(wait(closed, &mask, 1), EINVAL, "%s: the size before a bad epfd", name);
    is_errno(wait(closed, NULL, 1), EBADF, "%s: bad epfd", name);
}

int main(void)
{
    check("epoll_pwait", pwait);
    check("epoll_pwait2", pwait2);
    return done_testing();
}
