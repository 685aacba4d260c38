/* C1: "LT: reported by every wait for as long as it is ready." */
#include "help.h"

static void level_suite(const char *kind, int reader, int writer)
{
    int epfd = make_epoll();

    watch(epfd, reader, EPOLLIN);
    expect_quiet(epfd, "%s: empty, no event", kind);
    put(writer);
    put(writer);
    for (int i = 1; i <= 3; i++)
        expect_event(epfd, EPOLLIN, "%s: readable, wait %d", kind, i);
    take(reader);
    expect_event(epfd, EPOLLIN, "%s: partly read, still reported", kind);
    drain(reader);
    expect_quiet(epfd, "%s: drained, no event", kind);
    put(writer);
    expect_event(epfd, EPOLLIN, "%s: refilled, reported", kind);
    drain(reader);
    must(close(epfd));
}

int main(void)
{
    int pair[2], semaphore = make_eventfd(EFD_SEMAPHORE), epfd = make_epoll();

    pipe_pair(pair);
    level_suite("pipe", pair[0], pair[1]);
    unix_pair(SOCK_STREAM, pair);
    level_suite("UNIX stream", pair[0], pair[1]);
    unix_pair(SOCK_DGRAM, pair);
    level_suite("UNIX datagram", pair[0], pair[1]);
    tcp_pair(pair);
    level_suite("TCP", pair[0], pair[1]);
    level_suite("eventfd", semaphore, semaphore);

    pipe_pair(pair);
    watch(epfd, pair[1], EPOLLOUT);
    expect_event(epfd, EPOLLOUT, "room in a pipe");
    fill(pair[1]);
    expect_quiet(epfd, "full, no event");
    drain(pair[0]);
    expect_event(epfd, EPOLLOUT, "room again");
    expect_event(epfd, EPOLLOUT, "and still");
    return done_testing();
}
