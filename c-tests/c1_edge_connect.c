/* C1: connect(2) wakes who waits for a TCP socket, and not who waits for a UNIX one. */
#include "edge.h"

#include <sys/un.h>

static void unix_socket(int type, const char *kind)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = must(socket(AF_UNIX, type | SOCK_CLOEXEC, 0)), epfd = make_epoll();
    int fd = must(socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)), other;
    socklen_t length = sizeof(sa_family_t);

    /* A name that the kernel chooses. */
    must(bind(listener, (struct sockaddr *)&address, length));
    length = sizeof address;
    must(getsockname(listener, (struct sockaddr *)&address, &length));
    must(listen(listener, 1));

    watch(epfd, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    expect_event(epfd, EPOLLOUT | EPOLLHUP, "%s: not connected, room and a hang-up", kind);
    must(connect(fd, (struct sockaddr *)&address, length));
    expect_quiet(epfd, "%s: connected, no edge", kind);
    other = must(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    expect_quiet(epfd, "%s: accepted, no edge", kind);
    put(other);
    expect_event(epfd, EPOLLIN | EPOLLOUT, "%s: data is one", kind);
    put(other);
    expect_event(epfd, EPOLLIN | EPOLLOUT, "%s: and so is more of it", kind);
    drain(fd);
    expect_quiet(epfd, "%s: drained", kind);
    close(other);
    expect_event(epfd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP, "%s: the end", kind);
    close(fd);
    close(listener);
    close(epfd);
}

static void tcp_socket(void)
{
    int listener = tcp_listener(), epfd = make_epoll(), other;
    int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    struct sockaddr_in address = loopback(port_of(listener));

    watch(epfd, fd, EPOLLIN | EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT | EPOLLHUP, "TCP: not connected, room and a hang-up");
    is_errno(connect(fd, (struct sockaddr *)&address, sizeof address), EINPROGRESS, "TCP: connecting");
    expect_event(epfd, EPOLLOUT, "TCP: connected, an edge");
    expect_quiet(epfd, "TCP: which is told once");
    other = must(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    expect_quiet(epfd, "TCP: accepted, no edge");
    put(other);
    expect_event(epfd, EPOLLIN | EPOLLOUT, "TCP: data is one");
    close(other);
    close(fd);
    close(listener);
    close(epfd);
}

int main(void)
{
    unix_socket(SOCK_STREAM, "UNIX stream");
    unix_socket(SOCK_SEQPACKET, "UNIX sequenced packets");
    tcp_socket();
    return done_testing();
}
