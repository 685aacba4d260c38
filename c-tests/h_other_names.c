/* H: "programs call these by other names, too": those that libc has for the same functions. */
#include "help.h"

#include <sys/select.h>
#include <sys/signalfd.h>

extern int __close(int fd);
extern int __dup2(int old, int new);
extern int __fcntl(int fd, int command, ...);
extern int _IO_fclose(FILE *stream);
extern ssize_t __read(int fd, void *buffer, size_t length);
extern ssize_t __write(int fd, const void *buffer, size_t length);
extern ssize_t __send(int fd, const void *buffer, size_t length, int flags);
extern int __connect(int fd, const struct sockaddr *address, socklen_t length);
extern int __pipe(int pair[2]);
extern int __poll(struct pollfd *fds, nfds_t count, int timeout);
extern int __select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout);
extern int __sigaction(int signal, const struct sigaction *new, struct sigaction *old);

static int epfd;

/* A closed descriptor: its item is gone, and its number another file's. */
static void closed(const char *name, int pair[2])
{
    expect_quiet(epfd, "%s: the item is gone", name);
    is_errno(write(pair[1], "x", 1), EPIPE, "%s: the writer sees it", name);
    must(close(pair[1]));
}

static void closes(void)
{
    int pair[2], other = make_eventfd(0);

    must(__pipe(pair));
    watch(epfd, pair[0], EPOLLIN);
    must(__close(pair[0]));
    closed("__close", pair);
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    must(_IO_fclose(fdopen(pair[0], "r")));
    closed("_IO_fclose", pair);
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    must(__dup2(other, pair[0]));
    closed("__dup2", pair);
    is_int(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), 0, "__dup2: the number is another file's");
    unwatch(epfd, pair[0]);
    must(close(pair[0]));
    must(close(other));
}

/* Who has another number of a file that is closed goes on. */
static void duplicates(void)
{
    int pair[2], copy;

    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    copy = must(__fcntl(pair[0], F_DUPFD, 0));
    must(__close(pair[0]));
    put(pair[1]);
    expect_event(epfd, EPOLLIN, "__fcntl: a duplicate is the same file");
    must(close(copy));
    expect_quiet(epfd, "__fcntl: and the last of it");
    must(close(pair[1]));
}

/* An eventfd that nobody else has: what is written to it is known by the write alone. */
static void evidence(void)
{
    uint64_t one = 1;
    int bell = make_eventfd(0), pair[2];

    watch(epfd, bell, EPOLLIN | EPOLLET);
    for (int i = 1; i <= 3; i++) {
        must(__write(bell, &one, sizeof one) == sizeof one ? 0 : -1);
        expect_event(epfd, EPOLLIN, "__write: %d is an edge", i);
        expect_quiet(epfd, "__write: told once");
    }
    must((int)__read(bell, &one, sizeof one));
    is_int((long long)one, 3, "__read");
    one = 1;
    must((int)__write(bell, &one, sizeof one));
    expect_event(epfd, EPOLLIN, "__write: after it was read, an edge");
    must(close(bell));

    unix_pair(SOCK_DGRAM, pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLET);
    for (int i = 1; i <= 3; i++) {
        must((int)__send(pair[1], "m", 1, 0));
        expect_event(epfd, EPOLLIN, "__send: %d is an edge", i);
        expect_quiet(epfd, "__send: told once");
    }
    close_pair(pair);
}

static void looked_at(void)
{
    int bell = make_eventfd(0);
    struct pollfd look = {.fd = epfd, .events = POLLIN};
    struct timeval none = {0};
    fd_set in;

    watch(epfd, bell, EPOLLIN);
    is_int(__poll(&look, 1, 0), 0, "__poll: not ready");
    put(bell);
    is_int(__poll(&look, 1, SOON_MS), 1, "__poll: ready");
    FD_ZERO(&in);
    FD_SET(epfd, &in);
    is_int(__select(epfd + 1, &in, NULL, NULL, &none), 1, "__select: ready");
    must(close(bell));
}

/* A fresh socket that has told its hang-up tells it no more once it connects. */
static void connects(void)
{
    int listener = tcp_listener(), client = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr_in address = loopback(port_of(listener));

    watch(epfd, client, EPOLLOUT | EPOLLET);
    expect_event(epfd, EPOLLOUT | EPOLLHUP, "__connect: before");
    must(__connect(client, (struct sockaddr *)&address, sizeof address));
    expect_event(epfd, EPOLLOUT, "__connect: it is an edge");
    expect_quiet(epfd, "__connect: told once");
    must(close(client));
    must(close(listener));
}

static void handler(int signal)
{
    (void)signal;
    require(epoll_wait(epfd, &(struct epoll_event){0}, 1, 0) == 0);
}

static void signals(void)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    must_zero(pthread_sigmask(SIG_BLOCK, &set, NULL));
    fd = must(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    watch(epfd, fd, EPOLLIN | EPOLLET);
    for (int i = 1; i <= 3; i++) {
        must_zero(gsignal(SIGRTMIN));
        expect_event(epfd, EPOLLIN, "gsignal: %d is an edge", i);
        expect_quiet(epfd, "gsignal: told once");
    }
    must(close(fd));
    must(__sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handler}, NULL));
    must_zero(raise(SIGUSR1));
    ok(ssignal(SIGUSR1, SIG_DFL) == handler, "ssignal: gives the handler that __sigaction set");
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    epfd = make_epoll();
    closes();
    duplicates();
    evidence();
    looked_at();
    connects();
    signals();
    return done_testing();
}
