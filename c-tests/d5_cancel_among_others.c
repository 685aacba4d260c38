/*
 * D5: one of several threads that sleep in one instance is cancelled, be it the first or the last that came: its
 * cleanup handlers run, and may use the instance; the others sleep on, and each still gets its event.
 */
#include "help.h"

enum { THREADS = 4 };

static int epfd, bell;
static _Atomic int cleaned_up, wrong;

static void use_instance(void *unused)
{
    struct epoll_event event;
    int other = make_eventfd(0);

    (void)unused;
    put(other);
    wrong += control(epfd, EPOLL_CTL_ADD, other, EPOLLPRI) != 0; /* nothing that would wake the others */
    wrong += epoll_ctl(epfd, EPOLL_CTL_DEL, other, NULL) != 0;
    wrong += wait_one(epfd, &event, 0) != 0;
    must(close(other));
    cleaned_up++;
}

struct sleeper {
    pthread_t thread;
    _Atomic pid_t tid;
    _Atomic bool done;
    int result;
    struct epoll_event event;
};

static void *sleep_in_wait(void *argument)
{
    struct sleeper *sleeper = argument;

    pthread_cleanup_push(use_instance, NULL);
    sleeper->tid = thread_id();
    sleeper->result = wait_one(epfd, &sleeper->event, -1);
    sleeper->done = true;
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancel_number(int victim)
{
    struct sleeper sleepers[THREADS];
    int woken = 0, others_wrong = 0;
    void *end;

    cleaned_up = wrong = 0;
    memset(sleepers, 0, sizeof sleepers);
    for (int i = 0; i < THREADS; i++) {
        must_zero(pthread_create(&sleepers[i].thread, NULL, sleep_in_wait, &sleepers[i]));
        while (!sleepers[i].tid)
            sleep_ms(1);
        until_asleep(sleepers[i].tid);
    }
    must_zero(pthread_cancel(sleepers[victim].thread));
    must_zero(pthread_join(sleepers[victim].thread, &end));
    ok(end == PTHREAD_CANCELED && cleaned_up == 1, "thread %d was cancelled, and its cleanup handler ran", victim + 1);
    is_int(wrong, 0, "and could use the instance");
    sleep_ms(QUIET_MS);
    for (int i = 0; i < THREADS; i++)
        woken += sleepers[i].done;
    is_int(woken, 0, "the others sleep on");

    /* One edge at a time, one thread for each. */
    for (int edge = 1; edge < THREADS; edge++) {
        put(bell);
        for (int64_t stop = now_ms() + SOON_MS; now_ms() < stop; sleep_ms(1)) {
            woken = 0;
            for (int i = 0; i < THREADS; i++)
                woken += sleepers[i].done;
            if (woken >= edge)
                break;
        }
        others_wrong += woken != edge;
    }
    for (int i = 0; i < THREADS; i++)
        if (i != victim && sleepers[i].done) {
            must_zero(pthread_join(sleepers[i].thread, NULL));
            others_wrong += sleepers[i].result != 1 || sleepers[i].event.data.fd != bell;
        }
    is_int(others_wrong, 0, "and get an edge each");
    drain(bell);
    expect_quiet(epfd, "nothing is left");
}

int main(void)
{
    epfd = make_epoll();
    bell = make_eventfd(0);
    watch(epfd, bell, EPOLLIN | EPOLLET);
    for (int victim = 0; victim < THREADS; victim++)
        cancel_number(victim);
    return done_testing();
}
