/*
 * B1: when two errors apply at once: "bad event pointer (EFAULT, for every op except DEL, unknown ops included) - bad
 * epfd or fd (EBADF) - target cannot be polled (EPERM) - epfd is not an epoll, or fd is that same epoll (EINVAL) -
 * exclusive rules (EINVAL) - then the operation."
 */
#include "help.h"

enum { UNKNOWN = 99 };

int main(void)
{
    struct epoll_event in = {.events = EPOLLIN}, exclusive = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    struct epoll_event bad_exclusive = {.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT};
    int pair[2], epfd = make_epoll(), file = must(open("/proc/self/exe", O_RDONLY)), closed = must(dup(file));

    pipe_pair(pair);
    must(close(closed));
    watch(epfd, pair[0], EPOLLIN);

    /* EFAULT first of all, except for DEL, which does not look at the event. */
    is_errno(epoll_ctl(closed, EPOLL_CTL_ADD, pair[1], address_of(0)), EFAULT, "ADD: NULL event before bad epfd");
    is_errno(epoll_ctl(closed, EPOLL_CTL_MOD, pair[1], address_of(0)), EFAULT, "MOD: NULL event before bad epfd");
    is_errno(epoll_ctl(closed, UNKNOWN, pair[1], address_of(0)), EFAULT, "unknown op: NULL event before bad epfd");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, closed, address_of(0)), EFAULT, "ADD: NULL event before bad fd");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, file, address_of(0)), EFAULT, "ADD: NULL event before EPERM");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], address_of(0)), EFAULT, "ADD: NULL event before EEXIST");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, pair[1], address_of(0)), EFAULT, "MOD: NULL event before ENOENT");
    is_errno(epoll_ctl(epfd, 0, pair[0], address_of(0)), EFAULT, "op 0: NULL event before EINVAL");
    is_errno(epoll_ctl(epfd, UNKNOWN, file, address_of(0)), EFAULT, "unknown op: NULL event before EPERM");
    is_errno(epoll_ctl(closed, EPOLL_CTL_DEL, pair[0], address_of(0)), EBADF, "DEL: bad epfd, NULL event or not");

    /* Then EBADF, on either side. */
    is_errno(epoll_ctl(closed, EPOLL_CTL_ADD, file, &in), EBADF, "bad epfd before EPERM");
    is_errno(epoll_ctl(-1, EPOLL_CTL_ADD, file, &in), EBADF, "epfd -1 before EPERM");
    is_errno(epoll_ctl(pair[0], EPOLL_CTL_ADD, closed, &in), EBADF, "bad fd before an epfd that is no epoll");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, -1, &in), EBADF, "fd -1");
    is_errno(epoll_ctl(epfd, UNKNOWN, closed, &in), EBADF, "bad fd before an unknown op");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, closed, &bad_exclusive), EBADF, "bad fd before the exclusive rules");

    /* Then EPERM: the target cannot be polled. */
    is_errno(epoll_ctl(pair[0], EPOLL_CTL_ADD, file, &in), EPERM, "regular file before an epfd that is no epoll");
    is_errno(epoll_ctl(file, EPOLL_CTL_ADD, file, &in), EPERM, "a regular file on both sides");
    is_errno(epoll_ctl(epfd, UNKNOWN, file, &in), EPERM, "regular file before an unknown op");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, file, &in), EPERM, "regular file before ENOENT, MOD");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_DEL, file, NULL), EPERM, "regular file before ENOENT, DEL");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, file, &exclusive), EPERM, "regular file before the exclusive rules");

    /* Then EINVAL for the epfd. */
    is_errno(epoll_ctl(pair[0], EPOLL_CTL_ADD, pair[1], &in), EINVAL, "epfd is no epoll");
    is_errno(epoll_ctl(pair[0], EPOLL_CTL_DEL, pair[1], NULL), EINVAL, "epfd is no epoll, before ENOENT");
    is_errno(epoll_ctl(file, EPOLL_CTL_ADD, pair[1], &in), EINVAL, "epfd is a regular file");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, epfd, &in), EINVAL, "fd is that same epoll");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_DEL, epfd, NULL), EINVAL, "fd is that same epoll, before ENOENT");

    /* Then the exclusive rules. */
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, pair[1], &exclusive), EINVAL, "MOD to exclusive before ENOENT");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &bad_exclusive), EINVAL, "bad exclusive mask before EEXIST");

    /* And only then the operation. */
    is_errno(epoll_ctl(epfd, UNKNOWN, pair[0], &in), EINVAL, "unknown op");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &in), EEXIST, "ADD of what is there");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, pair[1], &in), ENOENT, "MOD of what is not");
    return done_testing();
}
