/*
 * C1: an edge is told once, also where the call that woke the sleeper is still on its way while it reports, be it a write, a
 * read, a shutdown, a close or a timer's. What wakes more than once may be told more than once, by the kernel too: TCP's ends now
 * and then, so of many rounds most must have one report; refused datagrams (the error, and the room that is given back) and reads
 * that free many messages so often that they are not here.
 */
#include "help.h"

#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <termios.h>

enum { ROUNDS = 40, MOST = ROUNDS / 4, BYTES = 1 << 20 };

static char bytes[BYTES];

/* --- what is watched: fds[0]; fds[1] belongs to it --- */

static void make_udp(int fds[2])
{
    fds[0] = must(bound_socket(SOCK_DGRAM | SOCK_NONBLOCK, 0));
    fds[1] = must(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));

    struct sockaddr_in address = loopback(port_of(fds[0]));

    must(connect(fds[1], (struct sockaddr *)&address, sizeof address));
}

static void make_terminal(int fds[2])
{
    struct termios raw;

    fds[1] = must(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    require(grantpt(fds[1]) == 0 && unlockpt(fds[1]) == 0);
    fds[0] = must(open(ptsname(fds[1]), O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    require(tcgetattr(fds[0], &raw) == 0);
    cfmakeraw(&raw);
    require(tcsetattr(fds[0], TCSANOW, &raw) == 0);
}

static void make_stream(int fds[2])
{
    unix_pair(SOCK_STREAM, fds);
}

static void make_datagrams(int fds[2])
{
    unix_pair(SOCK_DGRAM, fds);
}

static void make_pipe_to_read(int fds[2])
{
    pipe_pair(fds);
}

static void make_full_pipe(int fds[2])
{
    int ends[2];

    pipe_pair(ends);
    fds[0] = ends[1];
    fds[1] = ends[0];
    fill(fds[0]);
}

static void make_two_numbers(int fds[2])
{
    fds[0] = make_eventfd(0);
    fds[1] = must(fcntl(fds[0], F_DUPFD_CLOEXEC, 0));
}

static void make_full_eventfd(int fds[2])
{
    uint64_t most = UINT64_MAX - 1;

    make_two_numbers(fds);
    require(write(fds[0], &most, sizeof most) == sizeof most);
}

static void make_listener(int fds[2])
{
    fds[0] = tcp_listener();
    set_nonblocking(fds[0]);
    fds[1] = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

static void make_timer(int fds[2])
{
    fds[0] = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    fds[1] = make_eventfd(0);
}

static void make_signal(int fds[2])
{
    sigset_t set;
    struct signalfd_siginfo info;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    fds[0] = must(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    fds[1] = make_eventfd(0);
    (void)!read(fds[0], &info, sizeof info); /* the last round's */
}

/* --- what is done to it, beside a thread that waits --- */

static void write_here(int fds[2])
{
    require(write(fds[0], "x", 1) == 1);
}

static void write_there(int fds[2])
{
    put(fds[1]);
}

static void read_there(int fds[2])
{
    require(read(fds[1], bytes, sizeof bytes) > 0);
}

static void shut_here(int fds[2])
{
    must(shutdown(fds[0], SHUT_RDWR));
}

static void shut_there(int fds[2])
{
    must(shutdown(fds[1], SHUT_RDWR));
}

static void close_there(int fds[2])
{
    must(close(fds[1]));
    fds[1] = make_eventfd(0);
}

static void connect_there(int fds[2])
{
    struct sockaddr_in address = loopback(port_of(fds[0]));

    require(connect(fds[1], (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS);
}

static void set_timer(int fds[2])
{
    must(timerfd_settime(fds[0], 0, &(struct itimerspec){.it_value.tv_nsec = 1}, NULL));
}

static void send_signal(int fds[2])
{
    (void)fds;
    must(kill(getpid(), SIGUSR2));
}

static const struct scene {
    const char *name;
    void (*make)(int fds[2]);
    void (*act)(int fds[2]);
} scenes[] = {
    {"UDP: a datagram comes", make_udp, write_there},
    {"terminal: its own write", make_terminal, write_here},
    {"terminal: input comes", make_terminal, write_there},
    {"UNIX stream: bytes come", make_stream, write_there},
    {"UNIX stream: shut here", make_stream, shut_here},
    {"UNIX stream: shut there", make_stream, shut_there},
    {"UNIX stream: closed there", make_stream, close_there},
    {"UNIX datagrams: one comes", make_datagrams, write_there},
    {"TCP: bytes come", tcp_pair, write_there},
    {"TCP: shut there", tcp_pair, shut_there},
    {"TCP: closed there", tcp_pair, close_there},
    {"TCP listener: a connection comes", make_listener, connect_there},
    {"pipe: bytes come", make_pipe_to_read, write_there},
    {"pipe: room is made", make_full_pipe, read_there},
    {"pipe: its readers close", make_full_pipe, close_there},
    {"pipe: its writers close", make_pipe_to_read, close_there},
    {"eventfd: a write", make_two_numbers, write_there},
    {"eventfd: room is made", make_full_eventfd, read_there},
    {"timerfd: it is set", make_timer, set_timer},
    {"signalfd: a signal is sent", make_signal, send_signal},
};

/* --- the thread that waits --- */

static int epfd;
static _Atomic int told;
static _Atomic bool stop;

static void *wait_on(void *unused)
{
    while (!stop) {
        struct epoll_event event;

        if (must(epoll_wait(epfd, &event, 1, 4)) == 1)
            told++;
    }
    return unused;
}

static void play(const struct scene *scene)
{
    int more = 0, never = 0;

    for (int i = 0; i < ROUNDS; i++) {
        pthread_t thread;
        struct epoll_event event;
        int fds[2];

        epfd = make_epoll();
        told = 0;
        stop = false;
        scene->make(fds);
        watch(epfd, fds[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        while (epoll_wait(epfd, &event, 1, 0) == 1)
            continue; /* most are writable */
        require(pthread_create(&thread, NULL, wait_on, NULL) == 0);
        sleep_ms(1);
        scene->act(fds);
        for (int64_t end = now_ms() + SOON_MS; !told && now_ms() < end;)
            sleep_ms(1);
        sleep_ms(2);
        stop = true;
        require(pthread_join(thread, NULL) == 0);
        more += told > 1;
        never += !told;
        close_pair(fds);
        must(close(epfd));
    }
    ok(never == 0 && more <= MOST, "%s: told once (%d of %d rounds never, %d more often)", scene->name, never, ROUNDS,
       more);
}

int main(void)
{
    sigset_t set;

    time_limit(60);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    require(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++)
        play(&scenes[i]);
    return done_testing();
}
