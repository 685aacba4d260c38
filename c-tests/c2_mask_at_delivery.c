/*
 * C2: "The mask reported is the descriptor's state at delivery, not at the wake-up: what is no longer ready is dropped
 * silently; an edge for IN also reports OUT when OUT is then true and asked for."
 */
#include "help.h"

static void dropped(const char *trigger, uint32_t flag)
{
    int pair[2], epfd = make_epoll();

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN | flag);
    put(pair[1]);
    drain(pair[0]);
    expect_quiet(epfd, "%s: ready, and no longer so at the wait: dropped", trigger);
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "%s: the next one is reported", trigger);
    drain(pair[0]);

    put(pair[1]);
    must(close(pair[1]));
    drain(pair[0]);
    rearm(epfd, pair[0], flag);
    expect_event(epfd, EPOLLHUP, "%s: a wake-up for data and hang-up, masked to the hang-up", trigger);
    must(close(pair[0]));
    must(close(epfd));
}

int main(void)
{
    int pair[2], epfd = make_epoll();

    dropped("level-triggered", 0);
    dropped("edge-triggered", EPOLLET);
    dropped("one-shot", EPOLLONESHOT);

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT, "edge-triggered IN and OUT: there is room at ADD");
    expect_quiet(epfd, "reported once");
    put(pair[1]);
    expect_event(epfd, EPOLLIN | EPOLLOUT, "the edge for IN reports OUT as well");
    expect_quiet(epfd, "both once");
    put(pair[1]);
    fill(pair[0]);
    expect_event(epfd, EPOLLIN, "but not when there is no room then");
    put(pair[1]);
    must(close(pair[1]));
    expect_event(epfd, EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP, "data, and the end over unread data, in one event");
    must(close(epfd));
    must(close(pair[0]));

    epfd = make_epoll();
    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLET);
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "IN alone asked for: OUT is not reported, though it is true");
    return done_testing();
}
