/* C1 for listeners: each new connection is an edge, while earlier ones still wait to be accepted. */
#include "help.h"

/* A socket is another kind of file before listen(), and again after shutdown(). */
static void of_other_days(void)
{
    int socket = must(bound_socket(SOCK_STREAM, 0)), other = must(fcntl(socket, F_DUPFD_CLOEXEC, 0));
    int epfd = make_epoll(), listener = tcp_listener(), far;
    struct sockaddr_in address = loopback(port_of(listener));

    watch(epfd, socket, EPOLLIN | EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT | EPOLLHUP, "a socket without connection has hung up");
    must(listen(other, 64));
    expect_quiet(epfd, "listen() is no event");
    for (int i = 1; i <= 3; i++) {
        tcp_connect(port_of(socket));
        expect_event(epfd, EPOLLIN, "registered before listen(), by its other number: connection %d is an edge", i);
        expect_quiet(epfd, "which is reported once");
    }
    must(shutdown(socket, SHUT_WR));
    expect_event(epfd, EPOLLIN, "a listener has no writing side to shut, and wakes who waits for it");
    tcp_connect(port_of(socket));
    expect_event(epfd, EPOLLIN, "and goes on");

    must(shutdown(other, SHUT_RD));
    expect_event(epfd, EPOLLOUT | EPOLLHUP, "shut for reading, it is a socket without connection once more");
    must(connect(socket, (struct sockaddr *)&address, sizeof address));
    expect_event(epfd, EPOLLOUT, "which may connect");
    far = must(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    for (int i = 1; i <= 3; i++) {
        put(far);
        expect_event(epfd, EPOLLIN | EPOLLOUT, "undrained, write %d of the other side is an edge", i);
        expect_quiet(epfd, "which is reported once");
    }
    set_nonblocking(socket);
    drain(socket);
    expect_quiet(epfd, "reading it all is none");
    must(close(far));
    must(close(listener));
    must(close(other));
    must(close(socket));
    must(close(epfd));
}

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

    of_other_days();
    return done_testing();
}
