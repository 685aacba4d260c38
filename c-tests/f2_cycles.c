/*
 * F2: "chains up to the kernel's depth; a cycle gives ELOOP, too deep ELOOP or EINVAL as the kernel does", and neither
 * leaves anything behind.
 */
#include "help.h"

enum { MOST = 8 };

int main(void)
{
    int epfds[MOST], bell = make_eventfd(0), a = make_epoll(), b = make_epoll(), c = make_epoll();

    is_errno(control(a, EPOLL_CTL_ADD, a, EPOLLIN), EINVAL, "an instance in itself");
    is_int(control(a, EPOLL_CTL_ADD, b, EPOLLIN), 0, "b in a");
    is_errno(control(b, EPOLL_CTL_ADD, a, EPOLLIN), ELOOP, "and a in b: a cycle");
    is_errno(epoll_ctl(b, EPOLL_CTL_DEL, a, NULL), ENOENT, "which is not registered");
    is_int(control(b, EPOLL_CTL_ADD, c, EPOLLIN), 0, "c in b");
    is_errno(control(c, EPOLL_CTL_ADD, a, EPOLLIN), ELOOP, "a in c: a cycle of three");
    is_errno(control(c, EPOLL_CTL_ADD, b, EPOLLIN), ELOOP, "b in c: a cycle of two");
    is_errno(control(b, EPOLL_CTL_ADD, must(dup(a)), EPOLLIN), ELOOP, "a cycle by another number");
    is_int(control(a, EPOLL_CTL_ADD, c, EPOLLIN), 0, "c in a: two ways, but no cycle");
    is_errno(control(a, EPOLL_CTL_ADD, b, EPOLLIN), EEXIST, "b in a again: there already");
    unwatch(a, b);
    unwatch(a, c);
    is_int(control(c, EPOLL_CTL_ADD, a, EPOLLIN), 0, "with a's items gone, a in c is none");
    watch(a, bell, EPOLLIN);
    put(bell);
    is_int(wait_fd(b, SOON_MS), c, "and works: b reports c");
    is_int(wait_fd(c, SOON_MS), a, "c reports a");

    /* A tower, built from the bottom: each holds the one before it. */
    int height = 1;
    for (int i = 0; i < MOST; i++)
        epfds[i] = make_epoll();
    watch(epfds[0], bell, EPOLLIN);
    while (height < MOST && control(epfds[height], EPOLL_CTL_ADD, epfds[height - 1], EPOLLIN) == 0)
        height++;
    is_int(height, 5, "bottom up, five instances may stand on one another");
    is_errno(control(epfds[height], EPOLL_CTL_ADD, epfds[height - 1], EPOLLIN), ELOOP, "the sixth is too many");
    expect_event(epfds[height - 1], EPOLLIN, "the top reports");
    is_int(control(epfds[height], EPOLL_CTL_ADD, epfds[height - 2], EPOLLIN), 0, "beside the top there is room");

    /* And from the top: each is put below the one before it. */
    for (int i = 0; i < MOST; i++)
        epfds[i] = make_epoll();
    height = 1;
    while (height < MOST && control(epfds[height - 1], EPOLL_CTL_ADD, epfds[height], EPOLLIN) == 0)
        height++;
    is_int(height, 5, "top down, five as well");
    is_errno(control(epfds[height - 1], EPOLL_CTL_ADD, epfds[height], EPOLLIN), ELOOP, "the sixth is too many");
    watch(epfds[height - 1], bell, EPOLLIN);
    expect_event(epfds[0], EPOLLIN, "the top reports");
    return done_testing();
}
