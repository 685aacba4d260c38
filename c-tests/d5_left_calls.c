/*
 * D5, of reads and writes: a thread that is cancelled while it blocks in one, or that a handler jumps out of with
 * siglongjmp, never returns from that call. What comes to the file afterwards is told as ever.
 */
#include "help.h"

#include <setjmp.h>

static _Atomic pid_t sleeper;
static sigjmp_buf outside;

static void blocking(int fd)
{
    must(fcntl(fd, F_SETFL, must(fcntl(fd, F_GETFL)) & ~O_NONBLOCK));
}

static void by_read(int fd)
{
    char byte;
    (void)!read(fd, &byte, 1);
}

static void by_recvmsg(int fd)
{
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    recvmsg(fd, &message, 0);
}

static void by_write(int fd)
{
    (void)!write(fd, "x", 1);
}

static void by_sendmsg(int fd)
{
    struct iovec part = {.iov_base = "x", .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    sendmsg(fd, &message, 0);
}

struct call {
    void (*make)(int fd);
    int fd;
    bool jump;
};

static void jump_out(int signal)
{
    (void)signal;
    siglongjmp(outside, 1);
}

static void *in_call(void *argument)
{
    const struct call *call = argument;

    sleeper = thread_id();
    if (!call->jump || sigsetjmp(outside, 1) == 0)
        call->make(call->fd);
    return NULL;
}

/* Blocks in a call, and leaves it. */
static void leave(void (*make)(int fd), int fd, bool jump)
{
    struct call call = {.make = make, .fd = fd, .jump = jump};
    pthread_t thread;
    void *end;

    sleeper = 0;
    must_zero(pthread_create(&thread, NULL, in_call, &call));
    while (!sleeper)
        sleep_ms(1);
    until_asleep(sleeper);
    must_zero(jump ? pthread_kill(thread, SIGUSR1) : pthread_cancel(thread));
    must_zero(pthread_join(thread, &end));
    require((end == PTHREAD_CANCELED) == !jump);
}

static void reader(const char *kind, const int pair[2], void (*make)(int fd), bool jump)
{
    int epfd = make_epoll();

    watch(epfd, pair[0], EPOLLIN | EPOLLET);
    blocking(pair[0]);
    leave(make, pair[0], jump);
    set_nonblocking(pair[0]);
    expect_quiet(epfd, "%s: nothing came", kind);
    for (int i = 1; i <= 3; i++) {
        put(pair[1]);
        expect_event(epfd, EPOLLIN, "%s: write %d is an edge", kind, i);
        expect_quiet(epfd, "%s: which is reported once", kind);
    }
    for (int i = 4; i <= 6; i++) {
        inline_call(SYS_write, pair[1], (long)"x", 1);
        expect_event(epfd, EPOLLIN, "%s: write %d, by nobody that is known, is an edge", kind, i);
        expect_quiet(epfd, "%s: which is reported once", kind);
    }
    must(close(epfd));
    close_pair(pair);
}

/* The other end is watched: for what is written to it, and for the room that is made where it writes to. */
static void writer(const char *kind, const int pair[2], void (*make)(int fd), bool jump)
{
    int epfd = make_epoll();

    watch(epfd, pair[1], EPOLLIN | EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT, "%s: there is room", kind);
    fill(pair[0]);
    expect_event(epfd, EPOLLIN | EPOLLOUT, "%s: filled", kind);
    blocking(pair[0]);
    leave(make, pair[0], jump);
    set_nonblocking(pair[0]);
    wait_mask(epfd, 0);
    expect_quiet(epfd, "%s: nothing came", kind);
    drain(pair[1]);
    put(pair[0]);
    expect_event(epfd, EPOLLIN | EPOLLOUT, "%s: what is written then is an edge", kind);
    for (int i = 1; i <= 3; i++) {
        put(pair[1]);
        take(pair[0]);
        expect_event(epfd, EPOLLIN | EPOLLOUT, "%s: read %d by its reader is an edge", kind, i);
        expect_quiet(epfd, "%s: which is reported once", kind);
    }
    must(close(epfd));
    close_pair(pair);
}

int main(void)
{
    int pair[2];

    must(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = jump_out}, NULL));
    for (int jump = 0; jump <= 1; jump++) {
        const char *how = jump ? "jumped out" : "cancelled";
        char kind[64];

        pipe_pair(pair);
        snprintf(kind, sizeof kind, "pipe, read, %s", how);
        reader(kind, pair, by_read, jump);
        tcp_pair(pair);
        snprintf(kind, sizeof kind, "TCP, recvmsg, %s", how);
        reader(kind, pair, by_recvmsg, jump);
        unix_pair(SOCK_STREAM, pair);
        snprintf(kind, sizeof kind, "UNIX stream, write, %s", how);
        writer(kind, pair, by_write, jump);
        unix_pair(SOCK_STREAM, pair);
        snprintf(kind, sizeof kind, "UNIX stream, sendmsg, %s", how);
        writer(kind, pair, by_sendmsg, jump);
    }
    return done_testing();
}
