/*
 * A3: daemons close every descriptor that they do not know of, by closefrom, close_range or a loop up to the limit.
 * What they keep goes on working.
 */
#include "help.h"

enum { IDLE_CROWD = 100 };

static int first_swept;

static void by_closefrom(void)
{
    closefrom(first_swept);
}

static void by_close_range(void)
{
    must(close_range((unsigned)first_swept, ~0u, 0));
}

static void by_loop(void)
{
    long limit = sysconf(_SC_OPEN_MAX);

    /* Where the limit is absurd, nobody closes all: what is open is found far below. */
    for (int fd = first_swept; fd < limit && fd < 1 << 20; fd++)
        close(fd);
}

static int sweep_and_go_on(void *argument)
{
    void (*sweep)(void) = argument;
    int pair[2], other[2], crowd[2], epfd = make_epoll();
    struct waiter waiter;

    pipe_pair(pair);
    pipe_pair(other);
    first_swept = other[1] + 1;
    watch(epfd, pair[0], EPOLLIN);
    /* Enough idle ones that something may have been set up to look after them. */
    for (int i = 0; i < IDLE_CROWD; i++) {
        pipe_pair(crowd);
        watch(epfd, crowd[0], EPOLLIN);
    }
    child_check(wait_mask(epfd, IDLE_MS) == 0);

    sweep();

    child_check(wait_mask(epfd, QUIET_MS) == 0); /* the crowd is gone; its hang-ups are not reported */
    put(pair[1]);
    child_check(wait_fd(epfd, SOON_MS) == pair[0]);
    drain(pair[0]);
    waiter_start(&waiter, epfd, SOON_MS);
    put(pair[1]);
    child_check(waiter_got(&waiter, pair[0], EPOLLIN));
    drain(pair[0]);

    watch(epfd, other[0], EPOLLIN | EPOLLET);
    child_check(wait_mask(epfd, IDLE_MS) == 0);
    sweep();
    put(other[1]);
    child_check(wait_fd(epfd, SOON_MS) == other[0]);
    child_check(make_epoll() == first_swept);
    return 0;
}

int main(void)
{
    is_int(run_child(sweep_and_go_on, by_closefrom), 0, "closefrom");
    is_int(run_child(sweep_and_go_on, by_close_range), 0, "close_range");
    is_int(run_child(sweep_and_go_on, by_loop), 0, "a loop of close up to the limit");
    return done_testing();
}
