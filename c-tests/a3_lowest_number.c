/*
 * A3: "The new descriptor is the lowest free number, as for any open", and nothing that works behind the program's back
 * takes numbers that the program would have got.
 */
#include "help.h"

enum { CROWD = 400 };

static int lowest_free(void)
{
    int fd = must(dup(STDIN_FILENO));

    must(close(fd));
    return fd;
}

/* Whether the next few descriptors of any kind are the next few numbers. */
static bool numbers_are_contiguous(void)
{
    int first = lowest_free();
    int fds[] = {must(dup(STDIN_FILENO)), make_epoll(), make_eventfd(0), make_epoll(),
                 must(open("/dev/null", O_RDONLY | O_CLOEXEC))};
    bool contiguous = true;

    for (int i = 0; i < (int)(sizeof fds / sizeof fds[0]); i++) {
        contiguous &= fds[i] == first + i;
        must(close(fds[i]));
    }
    return contiguous;
}

int main(void)
{
    struct waiter waiter;
    int free_number = lowest_free(), crowd[CROWD][2], wrong = 0;
    int epfd = make_epoll();

    is_int(epfd, free_number, "epoll_create1 gives the lowest free number");
    is_int(lowest_free(), free_number + 1, "and takes no other");
    must(close(epfd));
    is_int(make_epoll(), free_number, "which is free again after close");
    ok(numbers_are_contiguous(), "descriptors follow one another");

    for (int i = 0; i < CROWD; i++) {
        int expected = lowest_free();

        pipe_pair(crowd[i]);
        watch(epfd, crowd[i][0], EPOLLIN);
        wrong += crowd[i][0] != expected || crowd[i][1] != expected + 1;
    }
    is_int(wrong, 0, "so they do while %d are registered", CROWD);
    is_int(wait_mask(epfd, IDLE_MS), 0, "all of them idle");
    ok(numbers_are_contiguous(), "numbers are contiguous after a long idle wait");

    waiter_start(&waiter, epfd, SOON_MS);
    ok(numbers_are_contiguous(), "and while a thread sleeps in the wait");
    is_int(must(fcntl(STDIN_FILENO, F_DUPFD, 1500)), 1500, "a number far up is free, too");
    put(crowd[7][1]);
    ok(waiter_got(&waiter, crowd[7][0], EPOLLIN), "the event arrives");

    must(close(crowd[3][0]));
    is_int(make_epoll(), crowd[3][0], "a hole is filled first");
    return done_testing();
}
