/*
 * What the tests share beside TAP: pairs of descriptors, short forms of epoll calls, threads that sleep in a wait,
 * children. All pairs are non-blocking, and data flows from [1] to [0] (sockets: both ways).
 */
#ifndef HELP_H
#define HELP_H

#include "tap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum {
    SOON_MS = 10000, /* for what must happen: long, as a busy machine is no failure */
    QUIET_MS = 60,   /* for what must not happen: only as good as its length, and every wait costs it */
    IDLE_MS = 400,   /* long enough that a descriptor counts as idle to whoever treats those differently */
};

/* --- time --- */

static inline int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t now_ms(void)
{
    return now_ns() / 1000000;
}

static inline void sleep_ms(int milliseconds)
{
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000L};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}

/* --- descriptors --- */

static inline void set_nonblocking(int fd)
{
    must(fcntl(fd, F_SETFL, must(fcntl(fd, F_GETFL)) | O_NONBLOCK));
}

static inline void pipe_pair(int pair[2])
{
    must(pipe2(pair, O_NONBLOCK | O_CLOEXEC));
}

static inline void unix_pair(int type, int pair[2])
{
    must(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
}

static inline int make_eventfd(int flags)
{
    return must(eventfd(0, flags | EFD_NONBLOCK | EFD_CLOEXEC));
}

static inline struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline int bound_socket(int type, int port)
{
    int fd = must(socket(AF_INET, type | SOCK_CLOEXEC, 0));
    struct sockaddr_in address = loopback(port);

    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static inline int port_of(int fd)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;

    must(getsockname(fd, (struct sockaddr *)&address, &length));
    return ntohs(address.sin_port);
}

static inline int tcp_listener(void)
{
    int fd = must(bound_socket(SOCK_STREAM, 0));

    must(listen(fd, 64));
    return fd;
}

static inline int tcp_connect(int port)
{
    int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr_in address = loopback(port);

    must(connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

static inline void tcp_pair(int pair[2])
{
    int listener = tcp_listener(), yes = 1;

    pair[1] = tcp_connect(port_of(listener));
    pair[0] = must(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    set_nonblocking(pair[1]);
    must(setsockopt(pair[0], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes));
    must(setsockopt(pair[1], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes));
    must(close(listener));
}

static inline void close_pair(const int pair[2])
{
    must(close(pair[0]));
    must(close(pair[1]));
}

/* One message that every kind of file takes: eight bytes, to an eventfd the number 1. */
static inline void put(int fd)
{
    uint64_t one = 1;

    require(write(fd, &one, sizeof one) == sizeof one);
}

/* Takes one message; what is left over stays. */
static inline void take(int fd)
{
    uint64_t message;

    must(read(fd, &message, sizeof message));
}

/* Reads until EAGAIN or the end. */
static inline void drain(int fd)
{
    char buffer[65536];
    ssize_t got;

    do
        got = read(fd, buffer, sizeof buffer);
    while (got > 0);
    require(got == 0 || errno == EAGAIN);
}

/* Writes until EAGAIN. */
static inline void fill(int fd)
{
    static const char zeros[4096];
    ssize_t sent;

    do
        sent = write(fd, zeros, sizeof zeros);
    while (sent > 0);
    require(errno == EAGAIN);
    /* A pipe or socket may still take less than a page. */
    do
        sent = write(fd, zeros, 1);
    while (sent > 0);
}

/*
 * A system call that no library sees: up to three arguments, the result or minus the error. ENOSYS on machines that
 * this does not know.
 */
static inline long inline_call(long number, long a, long b, long c)
{
#if defined(__x86_64__)
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x8 __asm__("x8") = number;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory");
    return x0;
#else
    (void)number, (void)a, (void)b, (void)c;
    return -ENOSYS;
#endif
}

/* Bad arguments that the compiler knows nothing of, so that it does not warn of them. */
static inline void *address_of(uintptr_t value)
{
    __asm__("" : "+r"(value));
    return (void *)value;
}

static inline int number(int value)
{
    __asm__("" : "+r"(value));
    return value;
}

/* --- epoll, short --- */

/* epoll_ctl with data.fd = fd. */
static inline int control(int epfd, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = 0};

    event.data.fd = fd;
    return epoll_ctl(epfd, operation, fd, &event);
}

static inline void watch(int epfd, int fd, uint32_t events)
{
    must(control(epfd, EPOLL_CTL_ADD, fd, events));
}

static inline void rearm(int epfd, int fd, uint32_t events)
{
    must(control(epfd, EPOLL_CTL_MOD, fd, events));
}

static inline void unwatch(int epfd, int fd)
{
    must(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL));
}

static inline int make_epoll(void)
{
    return must(epoll_create1(EPOLL_CLOEXEC));
}

/* At most one event. */
static inline int wait_one(int epfd, struct epoll_event *event, int timeout_ms)
{
    return epoll_wait(epfd, event, 1, timeout_ms);
}

/* The mask of one event, or 0 when none came in time. */
static inline uint32_t wait_mask(int epfd, int timeout_ms)
{
    struct epoll_event event;

    return must(wait_one(epfd, &event, timeout_ms)) ? event.events : 0;
}

/* The data.fd of one event, or -1 when none came in time. */
static inline int wait_fd(int epfd, int timeout_ms)
{
    struct epoll_event event;

    return must(wait_one(epfd, &event, timeout_ms)) ? event.data.fd : -1;
}

/* The next event must come, with exactly that mask. */
#define expect_event(epfd, mask, ...) is_mask(wait_mask((epfd), SOON_MS), (mask), __VA_ARGS__)

/* No event may come. */
#define expect_quiet(epfd, ...) is_mask(wait_mask((epfd), QUIET_MS), 0, __VA_ARGS__)

/* --- a crowd of idle descriptors --- */

/* Pipes that nothing is written to. */
static inline void add_crowd(int epfd, int (*pipes)[2], int count)
{
    for (int i = 0; i < count; i++) {
        pipe_pair(pipes[i]);
        watch(epfd, pipes[i][0], EPOLLIN);
    }
}

/* Waits in the instance so often, each time for an event of another item, that all others count as idle. */
static inline void let_idle(int epfd)
{
    int bell = make_eventfd(0);

    watch(epfd, bell, EPOLLIN);
    for (int i = 0; i < 1500; i++) {
        put(bell);
        require(wait_fd(epfd, SOON_MS) == bell);
        take(bell);
    }
    unwatch(epfd, bell);
    must(close(bell));
}

/* --- threads --- */

static inline pid_t thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* The state letter of a thread of this process ('R', 'S', ...), 0 when it has ended. */
static inline char thread_state(pid_t tid)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    ssize_t got = read(fd, line, sizeof line - 1);
    close(fd);
    const char *name_end = got > 0 ? strrchr(line, ')') : NULL;
    return name_end ? name_end[2] : 0;
}

/*
 * Returns when the thread has been asleep for a few looks in a row (it sits in its wait, not in some lock before it),
 * or has ended, which it should not: the caller's checks will say so.
 */
static inline void until_asleep(pid_t tid)
{
    for (int looks = 0; looks < 5;) {
        sleep_ms(2);
        char state = thread_state(tid);
        if (state == 0)
            return;
        looks = state == 'S' ? looks + 1 : 0;
    }
}

/* A thread that makes one epoll_wait for one event. */
struct waiter {
    pthread_t thread;
    int epfd, timeout_ms;
    _Atomic pid_t tid; /* set just before the wait */
    _Atomic bool done; /* the fields below are valid */
    int result, error;
    struct epoll_event event;
};

static inline void *waiter_main(void *argument)
{
    struct waiter *waiter = argument;

    waiter->tid = thread_id();
    waiter->result = wait_one(waiter->epfd, &waiter->event, waiter->timeout_ms);
    waiter->error = errno;
    waiter->done = true;
    return NULL;
}

/* Starts the thread, and returns when it is about to wait. */
static inline void waiter_launch(struct waiter *waiter, int epfd, int timeout_ms)
{
    *waiter = (struct waiter){.epfd = epfd, .timeout_ms = timeout_ms};
    must_zero(pthread_create(&waiter->thread, NULL, waiter_main, waiter));
    while (!waiter->tid)
        sleep_ms(1);
}

/* Starts the thread, and returns when it sleeps in its wait. Needs a free descriptor number. */
static inline void waiter_start(struct waiter *waiter, int epfd, int timeout_ms)
{
    waiter_launch(waiter, epfd, timeout_ms);
    until_asleep(waiter->tid);
}

/* Whether the wait returns within the time; the thread is joined then. */
static inline bool waiter_returns(struct waiter *waiter, int timeout_ms)
{
    for (int64_t end = now_ms() + timeout_ms; !waiter->done && now_ms() < end;)
        sleep_ms(1);
    if (!waiter->done)
        return false;
    must_zero(pthread_join(waiter->thread, NULL));
    return true;
}

/* The wait returns, with exactly one event of that mask for that descriptor (its data.fd). */
static inline bool waiter_got(struct waiter *waiter, int fd, uint32_t mask)
{
    if (!waiter_returns(waiter, SOON_MS))
        return false;
    return waiter->result == 1 && waiter->event.events == mask && waiter->event.data.fd == fd;
}

/* --- a storm of signals --- */

enum {
    STORM_MS = 8000,    /* a storm is over then: on a busy machine a handler may take milliseconds to get its turn */
    STORM_ENOUGH = 100, /* but not before so many have run */
};

static inline bool storm_has_time(int64_t end, int handled)
{
    return now_ms() < end || handled < STORM_ENOUGH;
}

/* SIGUSR1 for one thread, again and again: the next one when its handler has counted the last in `handled`. */
struct storm {
    pthread_t target, thread;
    int64_t end;
    _Atomic int handled;
    _Atomic bool over;
};

static inline void *storm_blow(void *argument)
{
    struct storm *storm = argument;

    while (!storm->over) {
        int before = storm->handled;

        must_zero(pthread_kill(storm->target, SIGUSR1));
        while (storm->handled == before && !storm->over)
            sched_yield();
    }
    return NULL;
}

/* Over the calling thread. */
static inline void storm_start(struct storm *storm, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    must(sigaction(SIGUSR1, &action, NULL));
    storm->target = pthread_self();
    storm->end = now_ms() + STORM_MS;
    must_zero(pthread_create(&storm->thread, NULL, storm_blow, storm));
}

/* Whether it has not yet blown so often, and there is time. */
static inline bool storm_goes_on(const struct storm *storm, int often)
{
    return storm->handled < often && storm_has_time(storm->end, storm->handled);
}

static inline void storm_stop(struct storm *storm)
{
    storm->over = true;
    must_zero(pthread_join(storm->thread, NULL));
}

/* --- children --- */

/* Forks a child that exits with what `body` returns. It dies with the parent, so that nobody is left holding stdout. */
static inline pid_t child_start(int (*body)(void *), void *argument)
{
    pid_t parent = getpid(), child = must(fork());

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        _exit(body(argument));
    }
    return child;
}

/* The exit code of a child, or 1000 + the signal that ended it. */
static inline int child_result(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0)
        require(errno == EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static inline int run_child(int (*body)(void *), void *argument)
{
    return child_result(child_start(body, argument));
}

/* In a child, in place of ok(): the parent counts the results, and checks the exit code. */
#define child_check(condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            dprintf(STDERR_FILENO, "# child failed at %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

#endif
