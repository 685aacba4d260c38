/*
 * A4: EMFILE "when descriptors run out ... never an abort, never a leak"; instances that exist go on working meanwhile.
 */
#include "help.h"

#include <sys/resource.h>

int main(void)
{
    struct rlimit before, low;
    struct waiter waiter;
    int pair[2], epfd = make_epoll(), last, wrong = 0;

    pipe_pair(pair);
    last = pair[1];
    must(getrlimit(RLIMIT_NOFILE, &before));
    low = before;
    low.rlim_cur = (rlim_t)last + 4;
    must(setrlimit(RLIMIT_NOFILE, &low));

    while (dup(STDIN_FILENO) >= 0)
        last++;
    is_int(last, low.rlim_cur - 1, "all numbers are taken");
    is_errno(epoll_create1(0), EMFILE, "epoll_create1");
    is_errno(epoll_create1(EPOLL_CLOEXEC), EMFILE, "epoll_create1(EPOLL_CLOEXEC)");
    is_errno(epoll_create(1), EMFILE, "epoll_create");
    is_errno(epoll_create(0), EINVAL, "a bad size is found first");
    is_errno(epoll_create1(1), EINVAL, "bad flags are found first");

    is_int(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), 0, "epoll_ctl needs no descriptor");
    expect_quiet(epfd, "nor does epoll_wait");
    waiter_launch(&waiter, epfd, SOON_MS); /* not waiter_start: that needs a free number itself */
    sleep_ms(QUIET_MS);
    put(pair[1]);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "nor a thread that sleeps in it");

    must(close(last));
    for (int i = 0; i < 1000; i++) {
        int only = epoll_create1(0);

        wrong += only != last;
        wrong += epoll_create1(0) != -1 || errno != EMFILE;
        close(only);
    }
    is_int(wrong, 0, "1,000 times one that fits and one too many: nothing leaks");

    must(setrlimit(RLIMIT_NOFILE, &before));
    is_int(epoll_create1(0), last, "works when the limit is lifted");
    is_int(epoll_create1(0), last + 1, "beyond it, too");
    expect_event(epfd, EPOLLIN, "and the old instance is as before");
    return done_testing();
}
