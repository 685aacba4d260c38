/*
 * C3: "after one report the item is disabled - stays registered, ADD gives EEXIST - until MOD": the whole item, with
 * the ERR and HUP that cannot be masked otherwise.
 */
#include "help.h"

static void disabled_until_mod(const char *trigger, uint32_t flag)
{
    int pair[2], epfd = make_epoll();

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLRDHUP | EPOLLONESHOT | flag);
    expect_quiet(epfd, "%s: nothing to report does not use it up", trigger);
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "%s: reported", trigger);
    expect_quiet(epfd, "%s: once, still readable", trigger);
    put(pair[1]);
    expect_quiet(epfd, "%s: nor for new data", trigger);
    is_errno(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), EEXIST, "%s: it is still registered", trigger);

    rearm(epfd, pair[0], EPOLLIN | EPOLLONESHOT | flag);
    expect_event(epfd, EPOLLIN, "%s: MOD re-arms it, what is readable is reported", trigger);
    drain(pair[0]);
    put(pair[1]);
    expect_quiet(epfd, "%s: once, drained and refilled", trigger);

    must(close(pair[1]));
    expect_quiet(epfd, "%s: the hang-up is not reported either", trigger);
    drain(pair[0]);
    rearm(epfd, pair[0], EPOLLONESHOT | flag);
    expect_event(epfd, EPOLLHUP, "%s: after MOD it is", trigger);
    expect_quiet(epfd, "%s: once", trigger);
    rearm(epfd, pair[0], EPOLLIN | flag);
    expect_event(epfd, EPOLLIN | EPOLLHUP, "%s: MOD to a mask without ONESHOT", trigger);
    is_mask(wait_mask(epfd, QUIET_MS), flag ? 0 : EPOLLIN | EPOLLHUP, "%s: makes it an ordinary item", trigger);
    must(close(pair[0]));
    must(close(epfd));
}

int main(void)
{
    int pair[2], epfd = make_epoll();

    disabled_until_mod("one-shot", 0);
    disabled_until_mod("one-shot, edge-triggered", EPOLLET);

    pipe_pair(pair);
    watch(epfd, pair[1], EPOLLOUT | EPOLLONESHOT);
    expect_event(epfd, EPOLLOUT, "one-shot OUT");
    must(close(pair[0]));
    expect_quiet(epfd, "then the reader's close: the error is not reported");
    rearm(epfd, pair[1], EPOLLONESHOT);
    expect_event(epfd, EPOLLERR, "after MOD it is");

    unwatch(epfd, pair[1]);
    is_int(control(epfd, EPOLL_CTL_ADD, pair[1], 0), 0, "DEL and ADD re-arm, too");
    expect_event(epfd, EPOLLERR, "and report");
    return done_testing();
}
