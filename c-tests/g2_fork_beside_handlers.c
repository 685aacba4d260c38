/*
 * G2: a handler that interrupts malloc may call epoll_ctl, also while another thread forks: fork waits for malloc, malloc for
 * the handler, and so the handler must wait for nobody.
 */
#include "help.h"

enum { FORKS = 300 };

static int epfd, bell;
static _Atomic bool over;
static _Atomic int handled, wrong;

static void handler(int signal)
{
    int saved = errno;

    (void)signal;
    wrong += control(epfd, EPOLL_CTL_MOD, bell, EPOLLIN | EPOLLET) != 0;
    handled++;
    errno = saved;
}

static void *allocate(void *unused)
{
    while (!over) {
        void *some[16];

        for (int i = 0; i < 16; i++)
            some[i] = malloc((size_t)2000 + 100 * (size_t)i);
        for (int i = 0; i < 16; i++)
            free(some[i]);
    }
    return unused;
}

static void *keep_sending(void *thread)
{
    while (!over) {
        must_zero(pthread_kill(*(pthread_t *)thread, SIGUSR1));
        sched_yield();
    }
    return NULL;
}

static int child(void *unused)
{
    (void)unused;
    child_check(control(epfd, EPOLL_CTL_MOD, bell, EPOLLIN) == 0);
    child_check(wait_fd(epfd, SOON_MS) == bell);
    return 0;
}

int main(void)
{
    pthread_t allocator, sender;
    int good = 0;

    time_limit(60);
    epfd = make_epoll();
    bell = make_eventfd(0);
    put(bell);
    watch(epfd, bell, EPOLLIN);
    must(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handler, .sa_flags = SA_RESTART}, NULL));
    must_zero(pthread_create(&allocator, NULL, allocate, NULL));
    must_zero(pthread_create(&sender, NULL, keep_sending, &allocator));
    for (int i = 0; i < FORKS; i++)
        good += run_child(child, NULL) == 0;
    over = true;
    must_zero(pthread_join(sender, NULL));
    must_zero(pthread_join(allocator, NULL));
    is_int(good, FORKS, "forks, and children that wait");
    ok(handled >= FORKS, "handlers beside them");
    is_int(wrong, 0, "which changed the item");
    expect_event(epfd, EPOLLIN, "the instance is as before");
    return done_testing();
}
