/*
 * A4: what the kernel refuses is refused with its errno, and costs nothing else: no event, no descriptor, no file that
 * stays open behind its close; and when it is to be had again everything works.
 *
 * Natively, and under the library as it is installed, the scenes are played once. `make faults` plays them with a library
 * that refuses memory, descriptors, threads or polls when told (shim/src/faults.rs): for each k until a scene asks less
 * often, the k-th time, and the k-th time and from then on; each in a process of its own.
 */
#include "deny.h"

#include <dlfcn.h>
#include <sys/select.h>
#include <sys/timerfd.h>

enum resource { MEMORY, DESCRIPTOR, THREAD, POLL, RESOURCES };
enum { CROWD = 150, SLEEPERS = 3, MOST_HIDDEN = 16, NUMBERS = 4096 };

/* In `make faults`: refuses the k-th use of a resource, and gives how often it was used since the last call. */
static int64_t (*set_faults)(int resource, int64_t refused, int for_good);

static enum resource scarce;
static int64_t first;
static bool for_good;
static int refusals; /* calls that said so */

/* --- what may be refused, and must then succeed --- */

static void lift(void)
{
    set_faults(scarce, 0, 0);
}

static void impose_again(void)
{
    if (for_good)
        set_faults(scarce, 1, 1);
}

/* The call that failed may have done so for what is scarce. It is made once more, with plenty. */
#define REPEAT(result, call, may_fail)                                                                                 \
    do {                                                                                                               \
        if (result < 0) {                                                                                              \
            child_check(set_faults && (may_fail));                                                                     \
            refusals++;                                                                                                \
            lift();                                                                                                    \
            result = (call);                                                                                           \
            child_check(result >= 0);                                                                                  \
            impose_again();                                                                                            \
        }                                                                                                              \
    } while (0)

static int create(void)
{
    int epfd = epoll_create1(EPOLL_CLOEXEC);

    REPEAT(epfd, epoll_create1(EPOLL_CLOEXEC),
           (scarce == MEMORY && errno == ENOMEM) || (scarce == DESCRIPTOR && errno == EMFILE));
    return epfd;
}

static void add(int epfd, int fd, uint32_t events)
{
    int result = control(epfd, EPOLL_CTL_ADD, fd, events);

    if (result < 0) {
        child_check(scarce == MEMORY && errno == ENOMEM);
        child_check(control(epfd, EPOLL_CTL_MOD, fd, events) == -1 && errno == ENOENT);
        errno = ENOMEM;
    }
    REPEAT(result, control(epfd, EPOLL_CTL_ADD, fd, events), scarce == MEMORY && errno == ENOMEM);
    child_check(control(epfd, EPOLL_CTL_ADD, fd, events) == -1 && errno == EEXIST);
}

static void modify(int epfd, int fd, uint32_t events)
{
    child_check(control(epfd, EPOLL_CTL_MOD, fd, events) == 0);
}

static void delete(int epfd, int fd)
{
    child_check(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL) == 0);
    child_check(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL) == -1 && errno == ENOENT);
}

/* Waits must not fail; where the kernel has no memory for poll(2) they may say so, and nothing is lost. */
#define NO_POLL (scarce == POLL && errno == ENOMEM)
/* poll(2) and select(2) always may. */
#define POLL_FAILS ((scarce == POLL || scarce == MEMORY) && errno == ENOMEM)

static int collect(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    int count = epoll_wait(epfd, events, max, timeout_ms);

    REPEAT(count, epoll_wait(epfd, events, max, timeout_ms), NO_POLL);
    return count;
}

static int ready(int fd, short events, int timeout_ms)
{
    struct pollfd polled = {.fd = fd, .events = events};
    int count = poll(&polled, 1, timeout_ms);

    REPEAT(count, poll(&polled, 1, timeout_ms), POLL_FAILS);
    return count ? polled.revents : 0;
}

/* --- checks --- */

static void expect_one(int epfd, int fd, uint32_t events)
{
    struct epoll_event event;

    child_check(collect(epfd, &event, 1, SOON_MS) == 1);
    child_check(event.data.fd == fd);
    child_check(event.events == events);
}

static void expect_none(int epfd)
{
    struct epoll_event event;

    child_check(collect(epfd, &event, 1, 0) == 0);
}

/* So many different ones are reported, in however many waits, `max` at a time. Level-triggered ones may come again. */
static void expect_all(int epfd, int count, int max)
{
    static bool seen[NUMBERS];
    struct epoll_event events[CROWD];
    int64_t end = now_ms() + SOON_MS;

    memset(seen, 0, sizeof seen);
    while (count > 0) {
        int got = collect(epfd, events, max, SOON_MS);

        child_check(got > 0 && now_ms() < end);
        for (int i = 0; i < got; i++) {
            child_check((unsigned)events[i].data.fd < NUMBERS);
            count -= !seen[events[i].data.fd];
            seen[events[i].data.fd] = true;
        }
    }
}

/* The other end of a pipe or socket sees that this one is closed, by the time close returns. */
static void close_and_see(int fd, int writer)
{
    child_check(close(fd) == 0);
    child_check(write(writer, "x", 1) == -1 && errno == EPIPE);
    child_check(close(writer) == 0);
}

static void close_all(const int *fds, int count)
{
    for (int i = 0; i < count; i++)
        child_check(close(fds[i]) == 0);
}

/* --- scenes: each leaves nothing open --- */

static void kinds(void)
{
    int epfd = create(), pair[2], tcp[2], unix_ends[2], datagrams[2], bell, clock, listener;
    struct itimerspec soon = {.it_value.tv_nsec = 1};
    struct epoll_event events[2];
    sigset_t mask;

    pipe_pair(pair);
    tcp_pair(tcp);
    unix_pair(SOCK_STREAM, unix_ends);
    unix_pair(SOCK_DGRAM, datagrams);
    bell = make_eventfd(0);
    clock = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    listener = tcp_listener();

    add(epfd, pair[0], EPOLLIN);
    put(pair[1]);
    expect_one(epfd, pair[0], EPOLLIN);
    expect_one(epfd, pair[0], EPOLLIN);
    drain(pair[0]);
    expect_none(epfd);

    add(epfd, tcp[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    expect_one(epfd, tcp[0], EPOLLOUT);
    put(tcp[1]);
    expect_one(epfd, tcp[0], EPOLLIN | EPOLLOUT);
    expect_none(epfd);
    put(tcp[1]);
    expect_one(epfd, tcp[0], EPOLLIN | EPOLLOUT);
    must(shutdown(tcp[1], SHUT_WR));
    expect_one(epfd, tcp[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP);

    add(epfd, bell, EPOLLIN | EPOLLET);
    put(bell);
    expect_one(epfd, bell, EPOLLIN);
    put(bell);
    expect_one(epfd, bell, EPOLLIN);
    expect_none(epfd);

    add(epfd, unix_ends[0], EPOLLIN | EPOLLONESHOT);
    put(unix_ends[1]);
    expect_one(epfd, unix_ends[0], EPOLLIN);
    expect_none(epfd);
    modify(epfd, unix_ends[0], EPOLLIN | EPOLLONESHOT);
    expect_one(epfd, unix_ends[0], EPOLLIN);
    modify(epfd, unix_ends[0], EPOLLIN | EPOLLET);
    expect_one(epfd, unix_ends[0], EPOLLIN);

    add(epfd, datagrams[0], EPOLLIN | EPOLLET);
    put(datagrams[1]);
    put(datagrams[1]);
    expect_one(epfd, datagrams[0], EPOLLIN);
    drain(datagrams[0]);

    add(epfd, clock, EPOLLIN | EPOLLET);
    add(epfd, listener, EPOLLIN | EPOLLET);
    must(timerfd_settime(clock, 0, &soon, NULL));
    expect_one(epfd, clock, EPOLLIN);
    int client = tcp_connect(port_of(listener));
    expect_one(epfd, listener, EPOLLIN);

    /* More than there is room for; with a mask; with a time in nanoseconds. */
    put(pair[1]);
    put(bell);
    put(datagrams[1]);
    put(unix_ends[1]);
    expect_all(epfd, 4, 1);
    sigemptyset(&mask);
    int count = epoll_pwait(epfd, events, 2, SOON_MS, &mask);
    REPEAT(count, epoll_pwait(epfd, events, 2, SOON_MS, &mask), NO_POLL);
    child_check(count == 1 && events[0].data.fd == pair[0]);
    drain(pair[0]);
    count = epoll_pwait2(epfd, events, 2, &(struct timespec){.tv_nsec = 1000}, NULL);
    REPEAT(count, epoll_pwait2(epfd, events, 2, &(struct timespec){.tv_nsec = 1000}, NULL), NO_POLL);
    child_check(count == 0);

    delete(epfd, bell);
    delete(epfd, datagrams[0]);
    put(bell);
    put(datagrams[1]);
    expect_none(epfd);
    close_and_see(pair[0], pair[1]);
    close_and_see(unix_ends[0], unix_ends[1]);
    close_all((int[]){tcp[0], tcp[1], datagrams[0], datagrams[1], bell, clock, listener, client}, 8);
    expect_none(epfd);
    child_check(close(epfd) == 0);
}

/* The same files by several numbers and in several instances, numbers that are used again, and high ones. */
static void numbers(void)
{
    int one = create(), other = create(), pair[2], spare[2], twin, high;

    pipe_pair(pair);
    add(one, pair[0], EPOLLIN | EPOLLET);
    twin = must(dup(pair[0]));
    add(one, twin, EPOLLIN | EPOLLET);
    add(other, twin, EPOLLIN);
    put(pair[1]);
    expect_all(one, 2, 1);
    expect_one(other, twin, EPOLLIN);
    child_check(close(pair[0]) == 0);
    put(pair[1]);
    expect_all(one, 2, 4);
    child_check(close(twin) == 0);
    child_check(write(pair[1], "x", 1) == -1 && errno == EPIPE);
    expect_none(one);
    expect_none(other);
    child_check(close(pair[1]) == 0);

    for (int i = 0; i < 20; i++) {
        pipe_pair(spare);
        add(one, spare[0], EPOLLIN | EPOLLET);
        add(other, spare[0], EPOLLIN | EPOLLONESHOT);
        put(spare[1]);
        expect_one(one, spare[0], EPOLLIN);
        expect_one(other, spare[0], EPOLLIN);
        close_and_see(spare[0], spare[1]);
    }
    expect_none(one);
    expect_none(other);

    pipe_pair(spare);
    high = must(fcntl(spare[0], F_DUPFD_CLOEXEC, 900));
    child_check(close(spare[0]) == 0);
    add(one, high, EPOLLIN);
    put(spare[1]);
    expect_one(one, high, EPOLLIN);
    close_and_see(high, spare[1]);

    /* Instances come and go. */
    int again = must(dup(one));
    child_check(close(one) == 0);
    pipe_pair(spare);
    for (int i = 0; i < 10; i++) {
        int brief = create();

        add(brief, spare[0], EPOLLIN | EPOLLET);
        add(again, spare[0], EPOLLIN | EPOLLET);
        put(spare[1]);
        expect_one(brief, spare[0], EPOLLIN);
        child_check(close(brief) == 0);
        expect_one(again, spare[0], EPOLLIN);
        delete(again, spare[0]);
    }
    close_and_see(spare[0], spare[1]);
    close_all((int[]){again, other}, 2);
}

static void nesting(void)
{
    int outer = create(), middle = create(), inner = create(), pair[2], bell = make_eventfd(0);

    pipe_pair(pair);
    add(inner, pair[0], EPOLLIN);
    add(middle, inner, EPOLLIN | EPOLLET);
    add(outer, middle, EPOLLIN);
    add(outer, bell, EPOLLIN | EPOLLET);
    child_check(control(inner, EPOLL_CTL_ADD, outer, EPOLLIN) == -1 && errno == ELOOP);
    expect_none(outer);
    child_check(ready(outer, POLLIN, 0) == 0);
    put(pair[1]);
    child_check(ready(inner, POLLIN, SOON_MS) == POLLIN);
    child_check(ready(outer, POLLIN, SOON_MS) == POLLIN);
    expect_one(outer, middle, EPOLLIN);
    expect_one(middle, inner, EPOLLIN);
    expect_none(middle);
    expect_none(outer);
    expect_one(inner, pair[0], EPOLLIN);
    drain(pair[0]);
    put(bell);
    put(pair[1]);
    expect_all(outer, 2, 1);

    fd_set set;
    struct timeval at_once = {0};
    FD_ZERO(&set);
    FD_SET(inner, &set);
    int count = select(inner + 1, &set, NULL, NULL, &at_once);
    FD_SET(inner, &set);
    REPEAT(count, select(inner + 1, &set, NULL, NULL, &at_once), POLL_FAILS);
    child_check(count == 1 && FD_ISSET(inner, &set));

    delete(outer, bell);
    expect_one(middle, inner, EPOLLIN);
    child_check(close(inner) == 0);
    expect_none(middle);
    expect_none(outer);
    add(middle, pair[0], EPOLLIN | EPOLLET);
    expect_one(outer, middle, EPOLLIN);
    close_and_see(pair[0], pair[1]);
    close_all((int[]){outer, middle, bell}, 3);
}

/* One wait; where there may be no poll it is made again, as a program would. */
static void *sleep_in_it(void *argument)
{
    struct waiter *waiter = argument;
    sigset_t mask;

    sigemptyset(&mask);
    waiter->tid = thread_id();
    do
        waiter->result = epoll_pwait(waiter->epfd, &waiter->event, 1, SOON_MS, waiter->timeout_ms ? &mask : NULL);
    while (waiter->result < 0 && NO_POLL);
    waiter->error = errno;
    waiter->done = true;
    return NULL;
}

static void start(struct waiter *waiter, int epfd, bool with_mask)
{
    *waiter = (struct waiter){.epfd = epfd, .timeout_ms = with_mask};
    must_zero(pthread_create(&waiter->thread, NULL, sleep_in_it, waiter));
}

static void threads(void)
{
    int epfd = create(), outer = create(), pair[2], ends[2], bells[SLEEPERS];
    struct waiter waiters[SLEEPERS], last;
    bool seen[SLEEPERS] = {false};
    struct pollfd polled;

    pipe_pair(pair);
    unix_pair(SOCK_STREAM, ends);
    add(epfd, pair[0], EPOLLIN | EPOLLET);
    for (int i = 0; i < SLEEPERS; i++) {
        bells[i] = make_eventfd(0);
        start(&waiters[i], epfd, i == 1);
    }
    sleep_ms(1);
    /* Added while they sleep: each gets one. */
    for (int i = 0; i < SLEEPERS; i++) {
        add(epfd, bells[i], EPOLLIN | EPOLLONESHOT);
        put(bells[i]);
    }
    for (int i = 0; i < SLEEPERS; i++) {
        child_check(waiter_returns(&waiters[i], SOON_MS));
        child_check(waiters[i].result == 1);
        for (int j = 0; j < SLEEPERS; j++)
            if (waiters[i].event.data.fd == bells[j]) {
                child_check(!seen[j]);
                seen[j] = true;
            }
    }
    child_check(seen[0] && seen[1] && seen[2]);

    /* Closed while somebody sleeps on it; removed; then its event. */
    add(epfd, ends[0], EPOLLIN);
    start(&last, epfd, false);
    sleep_ms(1);
    close_and_see(ends[0], ends[1]);
    delete(epfd, bells[0]);
    put(bells[0]);
    put(pair[1]);
    child_check(waiter_got(&last, pair[0], EPOLLIN));

    /* Looked at from outside, and from within another one, by sleepers. */
    drain(pair[0]);
    add(outer, epfd, EPOLLIN);
    start(&waiters[0], outer, false);
    start(&waiters[1], epfd, true);
    sleep_ms(1);
    modify(epfd, bells[1], EPOLLIN | EPOLLONESHOT);
    put(bells[1]);
    child_check(waiter_got(&waiters[1], bells[1], EPOLLIN));
    modify(epfd, bells[1], EPOLLIN);
    put(bells[1]);
    child_check(waiter_got(&waiters[0], epfd, EPOLLIN));
    polled = (struct pollfd){.fd = outer, .events = POLLIN};
    int count = poll(&polled, 1, SOON_MS);
    REPEAT(count, poll(&polled, 1, SOON_MS), POLL_FAILS);
    child_check(polled.revents == POLLIN);
    close_and_see(pair[0], pair[1]);
    close_all(bells, SLEEPERS);
    close_all((int[]){epfd, outer}, 2);
}

/* More than 64, most of them idle: they are parked with watcher threads. */
static void crowd(void)
{
    int epfd = create(), bell = make_eventfd(0), (*pipes)[2] = calloc(CROWD, sizeof *pipes);
    struct waiter waiter;

    add(epfd, bell, EPOLLIN);
    for (int i = 0; i < CROWD; i++) {
        pipe_pair(pipes[i]);
        add(epfd, pipes[i][0], i % 2 ? EPOLLIN : EPOLLIN | EPOLLET);
    }
    for (int i = 0; i < 400; i++) {
        put(bell);
        expect_one(epfd, bell, EPOLLIN);
        take(bell);
    }
    for (int i = 0; i < CROWD; i += 15) {
        put(pipes[i][1]);
        expect_one(epfd, pipes[i][0], EPOLLIN);
        drain(pipes[i][0]);
    }
    /* Parked again, and a sleeper. */
    for (int i = 0; i < 200; i++) {
        put(bell);
        expect_one(epfd, bell, EPOLLIN);
        take(bell);
    }
    start(&waiter, epfd, false);
    sleep_ms(1);
    close_and_see(pipes[0][0], pipes[0][1]);
    close_and_see(pipes[1][0], pipes[1][1]);
    delete(epfd, pipes[2][0]);
    modify(epfd, pipes[3][0], EPOLLIN | EPOLLET);
    put(pipes[3][1]);
    /* Who must ask so many has no answer before it can. */
    bool was_scarce = scarce == POLL && for_good && set_faults && set_faults(POLL, 0, 0) >= first;
    child_check(waiter_got(&waiter, pipes[3][0], EPOLLIN));
    drain(pipes[3][0]);
    if (was_scarce) {
        refusals++;
        impose_again();
    }
    for (int i = 3; i < CROWD; i++)
        put(pipes[i][1]);
    expect_all(epfd, CROWD - 3, CROWD);
    for (int i = 2; i < CROWD; i++)
        close_and_see(pipes[i][0], pipes[i][1]);
    expect_none(epfd);
    close_all((int[]){epfd, bell}, 2);
    free(pipes);
}

static int in_child(void *argument)
{
    const int *fds = argument;
    int bell = make_eventfd(0);

    alarm(10);
    expect_one(fds[0], fds[1], EPOLLIN);
    add(fds[0], bell, EPOLLIN | EPOLLET);
    put(bell);
    expect_all(fds[0], 2, 1);
    delete(fds[0], bell);
    expect_one(fds[0], fds[1], EPOLLIN);
    child_check(close(bell) == 0);
    return 0;
}

static void forks(void)
{
    int pair[2], fds[2] = {create()};

    pipe_pair(pair);
    fds[1] = pair[0];
    add(fds[0], pair[0], EPOLLIN);
    expect_none(fds[0]);
    put(pair[1]);
    child_check(run_child(in_child, fds) == 0);
    expect_one(fds[0], pair[0], EPOLLIN);
    close_and_see(pair[0], pair[1]);
    child_check(close(fds[0]) == 0);
}

static const struct scene {
    const char *name;
    void (*play)(void);
} scenes[] = {
    {"kinds", kinds},     {"numbers", numbers}, {"nesting", nesting},
    {"threads", threads}, {"crowd", crowd},     {"forks", forks},
};

/* --- playing --- */

/* Descriptors that are open: those that the program has, and others. */
static void count_descriptors(int *own, int *hidden)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;

    require(directory);
    *own = *hidden = 0;
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        int fd = atoi(entry->d_name);
        ++*(fcntl(fd, F_GETFD) >= 0 ? own : hidden);
    }
    must(closedir(directory));
}

enum { FINISHED = 10, REFUSED = 11 };

static int play(void *argument)
{
    const struct scene *scene = argument;
    int own, own_before, hidden;
    bool reached = false;

    alarm(15);
    signal(SIGPIPE, SIG_IGN);
    count_descriptors(&own_before, &hidden);
    if (set_faults)
        set_faults(scarce, first, for_good);
    scene->play();
    if (set_faults) {
        /* Where a call was refused the count began anew. */
        reached = set_faults(scarce, 0, 0) >= first || refusals > 0;
        /* With plenty, once more; the crowd takes its time. */
        if (scene->play != crowd || first % 4 == 1)
            scene->play();
    }
    count_descriptors(&own, &hidden);
    child_check(own == own_before);
    child_check(hidden <= MOST_HIDDEN);
    return !reached ? 0 : refusals ? REFUSED : FINISHED;
}

int main(int argc, char **argv)
{
    static const char *const names[RESOURCES] = {"memory", "descriptor", "thread", "poll"};
    int from = argc > 3 ? atoi(argv[3]) : 1;
    void *found = dlsym(RTLD_DEFAULT, "uepoll_faults");

    memcpy(&set_faults, &found, sizeof found);
    time_limit(set_faults ? 600 : 60);
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
        struct scene scene = scenes[i];

        if (!set_faults) {
            is_int(run_child(play, &scene), 0, "%s", scene.name);
            continue;
        }
        if (argc > 1 && strcmp(argv[1], scene.name) != 0)
            continue;
        for (int mode = 0; mode < 2 * RESOURCES; mode++) {
            int result, said = 0;

            scarce = mode / 2;
            for_good = mode % 2;
            if (argc > 2 && strcmp(argv[2], names[scarce]) != 0)
                continue;
            /* Polls are many and much the same. */
            for (first = from;; first += scarce == POLL ? 1 + first / 8 : 1) {
                result = run_child(play, &scene);
                said += result == REFUSED;
                if (result != FINISHED && result != REFUSED)
                    break;
            }
            is_int(result, 0, "%s: no %s for the k-th time%s, k < %d (%d calls said so)", scene.name, names[scarce],
                   for_good ? " and from then on" : "", (int)first, said);
        }
    }
    return done_testing();
}
