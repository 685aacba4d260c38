/* C1 for listeners: each new connection is an edge, while earlier ones still wait to be accepted. */
#include "help.h"

int main(void)
{
    int listener = tcp_listener(), epfd = make_epoll(), client;

    set_nonblocking(listener);
    watch(epfd, listener, EPOLLIN | EPOLLET);
    for (int i = 1; i <= 3; i++) {
        tcp_connect(port_of(listener));
        expect_event(epfd, EPOLLIN, "connection %d is an edge", i);
        expect_quiet(epfd, "which is reported once");
    }
    client = must(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    expect_quiet(epfd, "accepting one of three is no edge");
    tcp_connect(port_of(listener));
    expect_event(epfd, EPOLLIN, "one more connection is an edge");

    while ((client = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        must(close(client));
    is_int(errno, EAGAIN, "the backlog is empty");
    expect_quiet(epfd, "and nothing is reported");
    tcp_connect(port_of(listener));
    expect_event(epfd, EPOLLIN, "drained and refilled, an edge");
    return done_testing();
}
