/*
 * G2, F1: poll(2) is async-signal-safe: a handler may look at an epoll descriptor by it, and by select and ppoll,
 * having interrupted a call on the very instance. What it sees is true.
 */
#include "help.h"

#include <sys/select.h>

enum { ROUNDS = 20000, OFTEN = 5000 };

static int epfd, outer, ready_bell, quiet_epfd;
static _Atomic int wrong;
static struct storm storm;

static void look(int signal_number)
{
    int saved = errno, which = storm.handled % 3;
    struct pollfd polls[] = {{.fd = epfd, .events = POLLIN}, {.fd = quiet_epfd, .events = POLLIN},
                             {.fd = outer, .events = POLLIN}};
    struct timespec no_time = {0, 0};
    struct timeval none = {0, 0};
    fd_set set;

    (void)signal_number;
    if (which == 2) {
        FD_ZERO(&set);
        FD_SET(epfd, &set);
        FD_SET(quiet_epfd, &set);
        wrong += select((epfd > quiet_epfd ? epfd : quiet_epfd) + 1, &set, NULL, NULL, &none) != 1;
        wrong += !FD_ISSET(epfd, &set) || FD_ISSET(quiet_epfd, &set);
    } else {
        int count = which ? ppoll(polls, 3, &no_time, NULL) : poll(polls, 3, 0);

        wrong += count != 2 || polls[0].revents != POLLIN || polls[1].revents != 0 || polls[2].revents != POLLIN;
    }
    storm.handled++;
    errno = saved;
}

int main(void)
{
    int failed = 0, pair[2];

    time_limit(60);
    epfd = make_epoll();
    quiet_epfd = make_epoll();
    outer = make_epoll();
    ready_bell = make_eventfd(0);
    put(ready_bell);
    pipe_pair(pair);
    watch(epfd, ready_bell, EPOLLIN);
    watch(quiet_epfd, pair[0], EPOLLIN);
    watch(outer, epfd, EPOLLIN);
    storm_start(&storm, look);
    for (int round = 0; storm_goes_on(&storm, OFTEN) || (round < ROUNDS && now_ms() < storm.end); round++) {
        struct epoll_event event;
        struct pollfd poll_it = {.fd = quiet_epfd, .events = POLLIN};

        failed += control(epfd, EPOLL_CTL_MOD, ready_bell, EPOLLIN | (round % 2 ? EPOLLOUT : 0)) != 0;
        failed += wait_one(epfd, &event, 0) != 1;
        int count = wait_one(quiet_epfd, &event, round % 16 ? 0 : 1);
        failed += count > 0 || (count < 0 && errno != EINTR);
        count = poll(&poll_it, 1, round % 16 ? 0 : 1);
        failed += count > 0 || (count < 0 && errno != EINTR);
        failed += control(quiet_epfd, EPOLL_CTL_MOD, pair[0], EPOLLIN | (round % 2 ? EPOLLET : 0)) != 0;
    }
    storm_stop(&storm);
    ok(storm.handled >= STORM_ENOUGH, "the program was interrupted often enough");
    is_int(wrong, 0, "and the handlers saw what is ready, and what is not");
    is_int(failed, 0, "and what they interrupted worked");
    return done_testing();
}
