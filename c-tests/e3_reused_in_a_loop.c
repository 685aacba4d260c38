/*
 * E3: 100,000 times a number is closed and at once another file, which has input before it is added: what is reported
 * then would be a stale event of the old file. By all kinds of closes; alone, in an idle crowd, and under the eyes of a
 * thread that waits all the time.
 */
#include "help.h"

enum { ALONE = 100000, IN_CROWD = 20000, WATCHED = 20000, CROWD = 200 };

static int epfd;
static _Atomic uint64_t current; /* the generation that may be reported */
static _Atomic uint64_t last_seen;
static _Atomic int stale;
static _Atomic bool over;

static void close_any(int fd, int round)
{
    switch (round % 5) {
    case 0:
    case 1: must(close(fd)); break;
    case 2: must(syscall(SYS_close, fd)); break;
    case 3: must(close_range((unsigned)fd, (unsigned)fd, 0)); break;
    default:
        must(dup2(STDERR_FILENO, fd)); /* ends the item; and that it is closed again, nothing more */
        must(close(fd));
    }
}

static bool look(int timeout_ms)
{
    struct epoll_event event;

    if (must(wait_one(epfd, &event, timeout_ms)) == 0)
        return false;
    stale += event.data.u64 != current;
    last_seen = event.data.u64;
    return true;
}

static void *look_all_the_time(void *unused)
{
    while (!over)
        look(100);
    return unused;
}

static bool comes(uint64_t round, bool other_thread)
{
    if (!other_thread)
        return look(SOON_MS) && last_seen == round;
    for (int64_t end = now_ms() + SOON_MS; last_seen != round && now_ms() < end;)
        sched_yield();
    return last_seen == round;
}

static void reuse(const char *name, int rounds, bool other_thread)
{
    int first = -1, reused = 0, refused = 0, missed = 0;
    pthread_t thread;

    stale = 0;
    over = false;
    current = last_seen = 0;
    if (other_thread)
        must_zero(pthread_create(&thread, NULL, look_all_the_time, NULL));
    for (int round = 1; round <= rounds && !missed; round++) {
        /* Every other file is readable at birth, and reported once; the others never, so that none is on its way. */
        bool readable = round % 2;
        uint32_t trigger = readable ? EPOLLET | (round % 4 == 1 ? EPOLLONESHOT : 0) : 0;
        struct epoll_event event = {.events = EPOLLIN | trigger, .data.u64 = (uint64_t)round};
        int file = must(eventfd(readable, EFD_NONBLOCK | (round % 3 ? EFD_CLOEXEC : 0)));

        first = first < 0 ? file : first;
        reused += file == first;
        if (readable && round % 16 == 1 && !other_thread)
            stale += look(0);
        current = (uint64_t)round;
        refused += epoll_ctl(epfd, EPOLL_CTL_ADD, file, &event) != 0;
        if (readable)
            missed += !comes((uint64_t)round, other_thread);
        close_any(file, round);
    }
    over = true;
    if (other_thread)
        must_zero(pthread_join(thread, NULL));
    is_int(reused, rounds, "%s: the number was the same %d times", name, rounds);
    is_int(refused, 0, "%s: ADD works", name);
    is_int(stale, 0, "%s: no stale event", name);
    is_int(missed, 0, "%s: none missed", name);
    expect_quiet(epfd, "%s: and nothing is left", name);
}

int main(void)
{
    static int pipes[CROWD][2];

    time_limit(60);
    epfd = make_epoll();
    reuse("alone", ALONE, false);
    reuse("under the eyes of a thread", WATCHED, true);
    add_crowd(epfd, pipes, CROWD);
    let_idle(epfd);
    reuse("in an idle crowd", IN_CROWD, false);
    reuse("in an idle crowd, under the eyes of a thread", WATCHED, true);
    put(pipes[7][1]);
    is_int(wait_fd(epfd, SOON_MS), pipes[7][0], "the crowd is there");
    return done_testing();
}
