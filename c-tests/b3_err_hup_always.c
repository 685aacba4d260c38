/* B3: "EPOLLERR and EPOLLHUP are always in the mask, asked for or not. A mask of 0 still reports those two." */
#include "help.h"

int main(void)
{
    int pair[2], epfd = make_epoll();

    pipe_pair(pair);
    watch(epfd, pair[0], 0);
    watch(epfd, pair[1], 0);
    put(pair[1]);
    expect_quiet(epfd, "mask 0: readable and writable are not reported");
    must(close(pair[1]));
    expect_event(epfd, EPOLLHUP, "mask 0: the writer's close is");
    expect_event(epfd, EPOLLHUP, "level-triggered, again");
    rearm(epfd, pair[0], EPOLLET);
    expect_event(epfd, EPOLLHUP, "mask EPOLLET alone: MOD reports it");
    expect_quiet(epfd, "edge-triggered, once");
    rearm(epfd, pair[0], EPOLLIN);
    expect_event(epfd, EPOLLIN | EPOLLHUP, "mask IN: beside the data");
    must(close(pair[0]));

    pipe_pair(pair);
    watch(epfd, pair[1], 0);
    must(close(pair[0]));
    expect_event(epfd, EPOLLERR, "mask 0: the reader's close is an error for the writer");
    rearm(epfd, pair[1], EPOLLOUT);
    expect_event(epfd, EPOLLOUT | EPOLLERR, "mask OUT: beside the room");
    must(close(pair[1]));

    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], 0);
    expect_quiet(epfd, "mask 0 on a socket: writable is not reported");
    must(shutdown(pair[1], SHUT_WR));
    expect_quiet(epfd, "mask 0: nor the peer's half-close");
    must(close(pair[1]));
    expect_event(epfd, EPOLLHUP, "mask 0: but its close");
    return done_testing();
}
