/*
 * C7: "EPOLLRDHUP, EPOLLPRI, RDNORM, RDBAND, WRNORM, WRBAND, MSG are as poll(2) reports them": for each state of each
 * kind of file the two agree on every bit, together and asked for one by one; the masks that matter most are also
 * written out.
 */
#include "help.h"

#include <sys/un.h>

static const uint32_t all_bits = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLRDNORM | EPOLLRDBAND |
                                 EPOLLWRNORM | EPOLLWRBAND | EPOLLMSG | EPOLLRDHUP;

/* What poll(2) says, for a question of poll's 16 bits. */
static uint32_t poll_mask(int fd, uint32_t asked)
{
    struct pollfd poll_it = {.fd = fd, .events = (short)asked};

    must(poll(&poll_it, 1, 0));
    return (uint16_t)poll_it.revents;
}

static void agree(int fd, uint32_t wanted, const char *state)
{
    int epfd = make_epoll(), wrong = 0;

    watch(epfd, fd, all_bits);
    /* Loopback delivers in its own time: wait for the state before looking at it. */
    for (int64_t end = now_ms() + 2000; poll_mask(fd, all_bits) != wanted && now_ms() < end;)
        sleep_ms(1);
    is_mask(poll_mask(fd, all_bits), wanted, "%s: poll(2)", state);
    is_mask(wait_mask(epfd, 0), wanted, "%s: epoll", state);
    for (uint32_t bit = 1; bit <= all_bits; bit <<= 1) {
        if (!(bit & all_bits))
            continue;
        rearm(epfd, fd, bit);
        wrong += wait_mask(epfd, 0) != poll_mask(fd, bit);
    }
    is_int(wrong, 0, "%s: bit by bit", state);
    must(close(epfd));
}

int main(void)
{
    const uint32_t readable = EPOLLIN | EPOLLRDNORM, writable = EPOLLOUT | EPOLLWRNORM;
    const uint32_t unix_writable = writable | EPOLLWRBAND;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    int pair[2], listener = tcp_listener();

    pipe_pair(pair);
    agree(pair[0], 0, "pipe, empty, reader");
    agree(pair[1], writable, "pipe, empty, writer");
    put(pair[1]);
    agree(pair[0], readable, "pipe with data, reader");
    fill(pair[1]);
    agree(pair[1], 0, "pipe, full, writer");
    must(close(pair[1]));
    agree(pair[0], readable | EPOLLHUP, "pipe with data, writer closed");
    drain(pair[0]);
    agree(pair[0], EPOLLHUP, "pipe, empty, writer closed");
    pipe_pair(pair);
    must(close(pair[0]));
    agree(pair[1], writable | EPOLLERR, "pipe, reader closed");

    agree(must(socket(AF_INET, SOCK_STREAM, 0)), writable | EPOLLHUP, "TCP, fresh");
    agree(listener, 0, "TCP, listening");
    tcp_connect(port_of(listener));
    agree(listener, readable, "TCP, listening, a connection waits");
    tcp_pair(pair);
    agree(pair[0], writable, "TCP, connected");
    put(pair[1]);
    agree(pair[0], readable | writable, "TCP with data");
    must(send(pair[1], "!", 1, MSG_OOB));
    agree(pair[0], readable | writable | EPOLLPRI, "TCP with urgent data");
    tcp_pair(pair);
    must(shutdown(pair[1], SHUT_WR));
    agree(pair[0], readable | writable | EPOLLRDHUP, "TCP, half-closed by the peer");
    agree(pair[1], writable, "TCP, half-closed by itself");
    must(shutdown(pair[0], SHUT_WR));
    agree(pair[0], readable | writable | EPOLLRDHUP | EPOLLHUP, "TCP, closed by both");
    tcp_pair(pair);
    must(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
    must(close(pair[1]));
    agree(pair[0], readable | writable | EPOLLRDHUP | EPOLLHUP | EPOLLERR, "TCP, reset by the peer");

    unix_pair(SOCK_STREAM, pair);
    agree(pair[0], unix_writable, "UNIX stream");
    must(shutdown(pair[1], SHUT_WR));
    agree(pair[0], readable | unix_writable | EPOLLRDHUP, "UNIX stream, half-closed by the peer");
    must(close(pair[1]));
    agree(pair[0], readable | unix_writable | EPOLLRDHUP | EPOLLHUP, "UNIX stream, closed by the peer");
    unix_pair(SOCK_DGRAM, pair);
    put(pair[1]);
    agree(pair[0], readable | unix_writable, "UNIX datagram with data");

    int bell = make_eventfd(0);
    uint64_t most = UINT64_MAX - 1;
    agree(bell, EPOLLOUT, "eventfd, 0");
    put(bell);
    agree(bell, EPOLLIN | EPOLLOUT, "eventfd, 1");
    take(bell);
    must(write(bell, &most, sizeof most));
    agree(bell, EPOLLIN, "eventfd, at its maximum");

    int controller = must(posix_openpt(O_RDWR | O_NOCTTY));
    must(grantpt(controller));
    must(unlockpt(controller));
    int terminal = must(open(ptsname(controller), O_RDWR | O_NOCTTY));
    agree(controller, writable, "pty, controlling side");
    must(write(terminal, "x", 1));
    agree(controller, readable | writable, "pty with data");
    set_nonblocking(controller);
    drain(controller);
    must(close(terminal));
    agree(controller, writable | EPOLLHUP, "pty, terminal closed");
    return done_testing();
}
