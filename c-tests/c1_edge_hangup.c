/*
 * C1 for the end of a stream: half-close and close are edges of their own, on top of unread data; reading the end is
 * none.
 */
#include "help.h"

static void end_of_stream(const char *kind, const int pair[2], uint32_t after_shutdown, uint32_t after_close)
{
    int epfd = make_epoll();
    char byte;

    watch(epfd, pair[0], EPOLLIN | EPOLLRDHUP | EPOLLET);
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "%s: data", kind);
    if (after_shutdown) {
        must(shutdown(pair[1], SHUT_WR));
        expect_event(epfd, after_shutdown, "%s: half-closed over unread data, an edge", kind);
        expect_quiet(epfd, "%s: reported once", kind);
    }
    drain(pair[0]);
    is_int(read(pair[0], &byte, 1), after_shutdown ? 0 : -1, "%s: drained", kind);
    expect_quiet(epfd, "%s: reading up to the end, and the end itself, is no edge", kind);
    if (after_close) {
        must(close(pair[1]));
        expect_event(epfd, after_close, "%s: closed, an edge", kind);
        is_int(read(pair[0], &byte, 1), 0, "%s: the end", kind);
        expect_quiet(epfd, "%s: reported once", kind);
    }
    must(close(epfd));
}

int main(void)
{
    int pair[2];

    pipe_pair(pair);
    end_of_stream("pipe", pair, 0, EPOLLHUP);
    unix_pair(SOCK_STREAM, pair);
    end_of_stream("UNIX stream", pair, EPOLLIN | EPOLLRDHUP, EPOLLIN | EPOLLRDHUP | EPOLLHUP);
    tcp_pair(pair);
    end_of_stream("TCP", pair, EPOLLIN | EPOLLRDHUP, 0);
    return done_testing();
}
