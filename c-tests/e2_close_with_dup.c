/*
 * E2: "close() while a dup exists does not remove the item: events go on, with the old data; DEL by the closed number
 * gives EBADF." The manual: an item goes only when all descriptors of the open file description are closed.
 */
#include "help.h"

static void goes_on(const char *how, int (*duplicate)(int))
{
    int pair[2], epfd = make_epoll(), number;
    struct waiter waiter;
    char byte;

    unix_pair(SOCK_STREAM, pair);
    number = pair[0];
    watch(epfd, number, EPOLLIN);
    int copy = must(duplicate(number));
    must(close(number));
    expect_quiet(epfd, "%s: the close itself is no event", how);
    put(pair[1]);
    is_int(wait_fd(epfd, SOON_MS), number, "%s: data is reported, with the data of the closed number", how);
    drain(copy);
    waiter_start(&waiter, epfd, SOON_MS);
    put(pair[1]);
    ok(waiter_got(&waiter, number, EPOLLIN), "%s: and wakes a sleeping thread", how);

    is_errno(epoll_ctl(epfd, EPOLL_CTL_DEL, number, NULL), EBADF, "%s: DEL by the closed number", how);
    is_errno(control(epfd, EPOLL_CTL_MOD, number, EPOLLIN), EBADF, "%s: MOD by the closed number", how);
    is_errno(epoll_ctl(epfd, EPOLL_CTL_DEL, copy, NULL), ENOENT, "%s: DEL by the copy's number", how);

    /* The number is free for another file, and that one is another item. */
    int bell = make_eventfd(0);
    is_int(bell, number, "%s: the number is given out again", how);
    is_errno(epoll_ctl(epfd, EPOLL_CTL_DEL, bell, NULL), ENOENT, "%s: it is not the old item", how);
    is_int(control(epfd, EPOLL_CTL_ADD, bell, EPOLLOUT), 0, "%s: and can be added beside it", how);
    struct epoll_event events[3];
    is_int(epoll_wait(epfd, events, 3, SOON_MS), 2, "%s: both are reported", how);
    is_mask(events[0].events | events[1].events, EPOLLIN | EPOLLOUT, "%s: each for itself", how);
    must(epoll_ctl(epfd, EPOLL_CTL_DEL, bell, NULL));
    is_int(epoll_wait(epfd, events, 3, SOON_MS), 1, "%s: DEL removes the new one", how);

    must(close(copy));
    expect_quiet(epfd, "%s: the last close ends it", how);
    is_int(read(pair[1], &byte, 1), -1, "%s: the peer", how);
    is_int(errno, ECONNRESET, "%s: learns that data was not read", how);
    must(close(bell));
    must(close(pair[1]));
    must(close(epfd));
}

static int by_dup2(int fd)
{
    return dup2(fd, 200);
}

static int by_dup3(int fd)
{
    return dup3(fd, 201, O_CLOEXEC);
}

static int by_fcntl(int fd)
{
    return fcntl(fd, F_DUPFD, 100);
}

static int by_fcntl_cloexec(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

int main(void)
{
    goes_on("dup", dup);
    goes_on("dup2", by_dup2);
    goes_on("dup3", by_dup3);
    goes_on("F_DUPFD", by_fcntl);
    goes_on("F_DUPFD_CLOEXEC", by_fcntl_cloexec);
    return done_testing();
}
