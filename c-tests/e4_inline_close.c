/*
 * E4, E1: a close by an inline system call, which no library sees. Where nobody waits the file ends at once; where a
 * thread sleeps on it, when that thread has stirred (docs/limits.md). Its item is gone, and the number is free for
 * another file.
 */
#include "help.h"

static void close_unseen(int fd)
{
    require(inline_call(SYS_close, fd, 0, 0) == 0);
}

int main(void)
{
    int pair[2], other[2], epfd = make_epoll(), bell = make_eventfd(0);
    struct waiter waiter;
    char byte;

    if (inline_call(SYS_getpid, 0, 0, 0) != getpid())
        skip_all("no inline calls on this machine");
    watch(epfd, bell, EPOLLIN);
    for (int i = 0; i < 2; i++) {
        const char *trigger = i ? "edge-triggered" : "level-triggered";
        uint32_t flag = i ? EPOLLET : 0;

        unix_pair(SOCK_STREAM, pair);
        watch(epfd, pair[0], EPOLLIN | flag);
        is_mask(wait_mask(epfd, 1), 0, "%s, watched", trigger);
        close_unseen(pair[0]);
        is_int(read(pair[1], &byte, 1), 0, "%s, nobody waits: the peer reads the end at once", trigger);
        expect_quiet(epfd, "%s, nothing is reported", trigger);
        must(close(pair[1]));

        /* The number is another file by then, that is ready. */
        unix_pair(SOCK_STREAM, pair);
        watch(epfd, pair[0], EPOLLIN | flag);
        close_unseen(pair[0]);
        pipe_pair(other);
        is_int(other[0], pair[0], "%s, the number is used again", trigger);
        put(other[1]);
        expect_quiet(epfd, "%s, nothing of that file is reported", trigger);
        is_int(control(epfd, EPOLL_CTL_ADD, other[0], EPOLLIN | flag), 0, "%s, ADD works", trigger);
        is_int(wait_fd(epfd, SOON_MS), other[0], "%s, and it is reported", trigger);
        close_pair(other);
        must(close(pair[1]));

        unix_pair(SOCK_STREAM, pair);
        watch(epfd, pair[0], EPOLLIN | flag);
        waiter_start(&waiter, epfd, -1);
        close_unseen(pair[0]);
        put(bell);
        ok(waiter_got(&waiter, bell, EPOLLIN), "%s, a thread asleep: wakes for another item", trigger);
        is_int(read(pair[1], &byte, 1), 0, "%s, then the peer reads the end", trigger);
        drain(bell);
        waiter_start(&waiter, epfd, QUIET_MS);
        ok(waiter_returns(&waiter, SOON_MS) && waiter.result == 0, "%s, nothing is reported", trigger);
        must(close(pair[1]));
    }
    return done_testing();
}
