/*
 * G3: "The library starts a thread only when it needs one, and survives that thread creation fails": a crowd of idle
 * descriptors, in a process that can have no more threads. It works as ever: what stirs is reported, what is closed has
 * ended, sleepers wake.
 */
#include "deny.h"

enum { CROWD = 300, FEW = 60 };

static int pipes[CROWD][2], few_pipes[FEW][2];

static bool no_more_threads(void)
{
    static const int makers[] = {
#ifdef SYS_clone3
        SYS_clone3,
#endif
        SYS_clone,
#ifdef SYS_fork
        SYS_fork,
#endif
    };
    return deny(makers, sizeof makers / sizeof makers[0], EAGAIN);
}

static int threads(void)
{
    DIR *directory = opendir("/proc/self/task");
    int count = -2; /* "." and ".." */

    require(directory);
    while (readdir(directory))
        count++;
    must(closedir(directory));
    return count;
}

static void *do_nothing(void *unused)
{
    return unused;
}

static int epfd;
static _Atomic bool go;
static struct waiter waiters[2];

/* Must exist before there can be no more threads; it must not be able to start one either. */
static void *sleep_later(void *argument)
{
    struct waiter *waiter = argument;

    require(no_more_threads());
    waiter->tid = thread_id();
    while (!go)
        sleep_ms(1);
    waiter->result = wait_one(epfd, &waiter->event, -1);
    waiter->done = true;
    return NULL;
}

/* The crowd has been idle for long; all that it can do is tried. */
static void use_crowd(const char *name)
{
    int lost = 0, wrong = 0, half = CROWD / 2;
    struct epoll_event events[CROWD];

    for (int i = 0; i < CROWD; i += 10) {
        put(pipes[i][1]);
        lost += wait_fd(epfd, SOON_MS) != pipes[i][0];
        drain(pipes[i][0]);
    }
    is_int(lost, 0, "%s: each that stirs is reported", name);
    is_mask(wait_mask(epfd, 0), 0, "%s: and nothing else", name);
    for (int i = 0; i < CROWD; i++)
        put(pipes[i][1]);
    int reported = must(epoll_wait(epfd, events, CROWD, SOON_MS));
    for (int64_t end = now_ms() + SOON_MS; reported < CROWD && now_ms() < end;)
        reported = must(epoll_wait(epfd, events, CROWD, 1));
    is_int(reported, CROWD, "%s: all of them at once", name);
    for (int i = 0; i < CROWD; i++)
        drain(pipes[i][0]);
    let_idle(epfd);
    for (int i = 0; i < half; i++) {
        must(close(pipes[i][0]));
        wrong += write(pipes[i][1], "x", 1) != -1 || errno != EPIPE;
        must(close(pipes[i][1]));
    }
    is_int(wrong, 0, "%s: a closed one has ended when close returns", name);
    for (int i = half; i < CROWD; i++) {
        rearm(epfd, pipes[i][0], EPOLLIN | EPOLLET);
        put(pipes[i][1]);
        wrong += wait_fd(epfd, SOON_MS) != pipes[i][0];
        wrong += wait_mask(epfd, 0) != 0;
        drain(pipes[i][0]);
        unwatch(epfd, pipes[i][0]);
    }
    is_int(wrong, 0, "%s: MOD, an edge each, DEL", name);
}

static void without_threads(void)
{
    pthread_t thread;
    pthread_t sleepers[2];

    epfd = make_epoll();
    for (int i = 0; i < 2; i++) {
        waiters[i] = (struct waiter){.epfd = epfd};
        must_zero(pthread_create(&sleepers[i], NULL, sleep_later, &waiters[i]));
    }
    require(no_more_threads());
    while (!waiters[0].tid || !waiters[1].tid)
        sleep_ms(1);
    is_int(pthread_create(&thread, NULL, do_nothing, NULL), EAGAIN, "no thread can be had");
    add_crowd(epfd, pipes, CROWD);
    let_idle(epfd);
    is_int(threads(), 3, "without threads: there are only those of the program");

    go = true;
    until_asleep(waiters[0].tid);
    until_asleep(waiters[1].tid);
    put(pipes[3][1]);
    for (int64_t end = now_ms() + SOON_MS; !(waiters[0].done && waiters[1].done) && now_ms() < end;)
        sleep_ms(1);
    ok(waiters[0].done && waiters[0].result == 1 && waiters[0].event.data.fd == pipes[3][0],
       "without threads: a sleeper wakes");
    ok(waiters[1].done && waiters[1].result == 1 && waiters[1].event.data.fd == pipes[3][0],
       "without threads: so does the next, level-triggered");
    drain(pipes[3][0]);
    for (int i = 0; i < 2; i++)
        must_zero(pthread_join(sleepers[i], NULL));
    let_idle(epfd);
    use_crowd("without threads");
    is_int(threads(), 1, "without threads: there is only main");
}

int main(void)
{
    int few, told = 0;

    time_limit(60);
    signal(SIGPIPE, SIG_IGN);
    pid_t child = must(fork());
    if (child == 0) {
        bool can = no_more_threads();
        _exit(can ? 0 : 77);
    }
    if (child_result(child) == 77)
        skip_all("there is no seccomp here");

    /* Few idle descriptors need no thread. */
    few = make_epoll();
    add_crowd(few, few_pipes, FEW);
    let_idle(few);
    is_int(threads(), 1, "%d idle descriptors: there is only main", FEW);
    must(close(few));

    /* With threads to be had, what is started ends again when it is no longer needed. */
    epfd = make_epoll();
    add_crowd(epfd, pipes, CROWD);
    let_idle(epfd);
    use_crowd("with threads");
    must(close(epfd));
    for (int64_t end = now_ms() + SOON_MS; threads() > 1 && now_ms() < end;)
        sleep_ms(5);
    is_int(threads(), 1, "with threads: closed, there is only main");

    /* Nor is one needed for the few that a crowd leaves behind, though they have been idle as long as the others. */
    epfd = make_epoll();
    for (int i = CROWD / 2; i < CROWD; i++)
        close_pair(pipes[i]);
    add_crowd(epfd, pipes, CROWD);
    let_idle(epfd);
    for (int i = 5; i < CROWD; i++)
        must(close(pipes[i][0]));
    for (int64_t end = now_ms() + SOON_MS; threads() > 1 && now_ms() < end;)
        told += wait_mask(epfd, 5) != 0;
    is_int(threads(), 1, "with threads: few are left, there is only main");
    is_int(told, 0, "which tell nothing");
    put(pipes[3][1]);
    is_int(wait_fd(epfd, SOON_MS), pipes[3][0], "until one of them stirs");
    must(close(epfd));

    without_threads();
    return done_testing();
}
