/*
 * G2, G4: a signal handler that interrupted the program's malloc or free, and makes epoll calls. They are system calls
 * to the program: they must not wait for a lock of malloc's.
 */
#include "help.h"

enum { OFTEN = 10000 };

static int epfd, wrong;
static struct storm storm;

static void register_and_wait(int signal_number)
{
    int saved = errno, bell = make_eventfd(0);
    struct epoll_event event;

    (void)signal_number;
    wrong += control(epfd, EPOLL_CTL_ADD, bell, EPOLLIN) != 0;
    wrong += wait_one(epfd, &event, 0) < 0;
    wrong += epoll_ctl(epfd, EPOLL_CTL_DEL, bell, NULL) != 0;
    wrong += close(bell) != 0;
    storm.handled++;
    errno = saved;
}

/* With another thread about, malloc locks. */
static void *allocate(void *unused)
{
    while (!storm.over) {
        free(malloc(100));
        sched_yield(); /* it need only be there, and the others have enough to do */
    }
    return unused;
}

int main(void)
{
    pthread_t allocator;
    unsigned size = 1;

    time_limit(60);
    epfd = make_epoll();
    must_zero(pthread_create(&allocator, NULL, allocate, NULL));
    storm_start(&storm, register_and_wait);
    while (storm_goes_on(&storm, OFTEN)) {
        void *large = malloc(size % 9000), *small = malloc(77);

        free(large);
        free(small);
        size = size * 1664525 + 1013904223;
    }
    storm_stop(&storm);
    must_zero(pthread_join(allocator, NULL));
    ok(storm.handled >= STORM_ENOUGH, "the program was interrupted often enough");
    is_int(wrong, 0, "and the handlers made their calls in the middle of malloc");
    return done_testing();
}
