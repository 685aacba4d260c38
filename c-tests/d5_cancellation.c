/*
 * D5: "epoll_wait is a cancellation point": a thread that sleeps there can be cancelled, its cleanup handlers run, and
 * the instance is as good as before. epoll_ctl and epoll_create1 are none.
 */
#include "help.h"

static int epfd, bell;
static _Atomic pid_t sleeper;
static _Atomic int cleaned_up, came_back, made;

static void clean_up(void *unused)
{
    (void)unused;
    cleaned_up++;
}

static int by_wait(void)
{
    struct epoll_event event;
    return wait_one(epfd, &event, -1);
}

static int by_pwait(void)
{
    struct epoll_event event;
    sigset_t none;

    sigemptyset(&none);
    return epoll_pwait(epfd, &event, 1, -1, &none);
}

static int by_pwait2(void)
{
    struct epoll_event event;
    return epoll_pwait2(epfd, &event, 1, NULL, NULL);
}

static void *sleep_in(void *argument)
{
    int (*wait)(void) = *(int (**)(void))argument;

    pthread_cleanup_push(clean_up, NULL);
    sleeper = thread_id();
    wait();
    came_back++;
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(const char *name, int (*wait)(void))
{
    struct waiter waiter;
    pthread_t thread;
    void *end;

    sleeper = cleaned_up = came_back = 0;
    must_zero(pthread_create(&thread, NULL, sleep_in, &wait));
    while (!sleeper)
        sleep_ms(1);
    until_asleep(sleeper);
    must_zero(pthread_cancel(thread));
    must_zero(pthread_join(thread, &end));
    ok(end == PTHREAD_CANCELED, "%s: the sleeping thread was cancelled", name);
    is_int(cleaned_up, 1, "%s: its cleanup handler ran", name);
    is_int(came_back, 0, "%s: the wait did not return", name);

    waiter_start(&waiter, epfd, -1);
    put(bell);
    ok(waiter_got(&waiter, bell, EPOLLIN), "%s: the next thread to wait gets the event", name);
    drain(bell);
}

/*
 * With the cancellation pending from before: not acted on while disabled, nor by epoll_ctl, but by a wait that need not
 * sleep.
 */
static void *cancel_oneself(void *unused)
{
    struct epoll_event event;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_cancel(pthread_self());
    came_back += must(wait_one(epfd, &event, SOON_MS));
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    rearm(epfd, bell, EPOLLIN | EPOLLET);
    made = epoll_create1(EPOLL_CLOEXEC);
    came_back += wait_one(epfd, &event, SOON_MS);
    return unused;
}

int main(void)
{
    pthread_t thread;
    void *end;

    epfd = make_epoll();
    bell = make_eventfd(0);
    watch(epfd, bell, EPOLLIN);
    cancelled("epoll_wait", by_wait);
    cancelled("epoll_pwait", by_pwait);
    cancelled("epoll_pwait2", by_pwait2);

    came_back = 0;
    put(bell);
    must_zero(pthread_create(&thread, NULL, cancel_oneself, NULL));
    must_zero(pthread_join(thread, &end));
    ok(end == PTHREAD_CANCELED, "a pending cancellation acts on a wait with something ready, too");
    is_int(came_back, 1, "but not while it is disabled");
    ok(made > 0, "nor on epoll_ctl or epoll_create1");
    expect_event(epfd, EPOLLIN, "and it takes no event with it");
    return done_testing();
}
