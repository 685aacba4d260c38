/*
 * F2: "epoll in epoll, LT and ET at every level": the outer instance reports an inner one that has something to report.
 */
#include "help.h"

enum { DEPTH = 4 };

static void two_levels(void)
{
    int inner = make_epoll(), outer = make_epoll(), pair[2];
    struct waiter waiter;

    pipe_pair(pair);
    watch(inner, pair[0], EPOLLIN);
    watch(outer, inner, EPOLLIN | EPOLLOUT | EPOLLPRI);
    expect_quiet(outer, "LT in LT: nothing ready");
    put(pair[1]);
    is_int(wait_fd(outer, SOON_MS), inner, "LT in LT: the outer reports the inner");
    expect_event(outer, EPOLLIN, "LT in LT: with IN, again");
    expect_event(inner, EPOLLIN, "LT in LT: the inner reports the pipe");
    expect_event(outer, EPOLLIN, "LT in LT: and is still ready");
    drain(pair[0]);
    expect_quiet(outer, "LT in LT: drained without a wait on the inner, the outer is quiet");
    waiter_start(&waiter, outer, SOON_MS);
    put(pair[1]);
    ok(waiter_got(&waiter, inner, EPOLLIN), "LT in LT: a thread that sleeps in the outer is woken");
    drain(pair[0]);

    rearm(outer, inner, EPOLLIN | EPOLLET);
    expect_quiet(outer, "LT in ET: nothing ready");
    put(pair[1]);
    expect_event(outer, EPOLLIN, "LT in ET: an edge");
    expect_quiet(outer, "LT in ET: once");
    put(pair[1]);
    expect_event(outer, EPOLLIN, "LT in ET: one more write is one more edge, with the inner never asked");
    expect_quiet(outer, "LT in ET: once");
    expect_event(inner, EPOLLIN, "LT in ET: the inner is level-triggered");
    waiter_start(&waiter, outer, SOON_MS);
    put(pair[1]);
    ok(waiter_got(&waiter, inner, EPOLLIN), "LT in ET: a thread that sleeps in the outer is woken");
    drain(pair[0]);

    rearm(inner, pair[0], EPOLLIN | EPOLLET);
    rearm(outer, inner, EPOLLIN);
    expect_quiet(outer, "ET in LT: nothing ready");
    put(pair[1]);
    expect_event(outer, EPOLLIN, "ET in LT: the inner has an edge");
    expect_event(outer, EPOLLIN, "ET in LT: until it is taken");
    expect_event(inner, EPOLLIN, "ET in LT: by a wait on the inner");
    expect_quiet(outer, "ET in LT: then it has none, though undrained");
    put(pair[1]);
    expect_event(outer, EPOLLIN, "ET in LT: until the next write");
    expect_event(inner, EPOLLIN, "ET in LT: which the inner reports");

    rearm(outer, inner, EPOLLIN | EPOLLET | EPOLLONESHOT);
    put(pair[1]);
    expect_event(outer, EPOLLIN, "one-shot: the outer reports");
    expect_event(inner, EPOLLIN, "one-shot: the inner reports");
    put(pair[1]);
    expect_quiet(outer, "one-shot: the outer has fired");
    expect_event(inner, EPOLLIN, "one-shot: the inner goes on");
    must(close(inner));
    expect_quiet(outer, "the inner is closed: nothing");
}

static void chain(uint32_t flag, const char *trigger)
{
    int epfds[DEPTH], pair[2], wrong = 0;
    struct waiter waiter;

    pipe_pair(pair);
    for (int i = 0; i < DEPTH; i++)
        watch(epfds[i] = make_epoll(), i ? epfds[i - 1] : pair[0], EPOLLIN | flag);
    for (int i = 0; i < DEPTH; i++)
        wrong += wait_mask(epfds[i], 0) != 0;
    is_int(wrong, 0, "%s, %d levels: nothing ready", trigger, DEPTH);
    waiter_start(&waiter, epfds[DEPTH - 1], SOON_MS);
    put(pair[1]);
    ok(waiter_got(&waiter, epfds[DEPTH - 2], EPOLLIN), "%s, %d levels: the outermost wakes", trigger, DEPTH);
    for (int i = DEPTH - 2; i >= 0; i--)
        wrong += wait_fd(epfds[i], SOON_MS) != (i ? epfds[i - 1] : pair[0]);
    is_int(wrong, 0, "%s, %d levels: then each down to the pipe", trigger, DEPTH);
    drain(pair[0]);
    is_mask(wait_mask(epfds[DEPTH - 1], QUIET_MS), 0, "%s, %d levels: drained, quiet", trigger, DEPTH);
}

int main(void)
{
    two_levels();
    chain(0, "level-triggered");
    chain(EPOLLET, "edge-triggered");
    return done_testing();
}
