/* C2 for timers: one that is disarmed, set again or read is no longer ready, whatever woke us before. */
#include "help.h"

#include <sys/timerfd.h>

static void arm(int timer, int first_ms, int period_ms)
{
    struct itimerspec when = {.it_value = {first_ms / 1000, first_ms % 1000 * 1000000L},
                              .it_interval = {period_ms / 1000, period_ms % 1000 * 1000000L}};

    must(timerfd_settime(timer, 0, &when, NULL));
}

int main(void)
{
    int timer = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)), epfd = make_epoll();

    watch(epfd, timer, EPOLLIN);
    expect_quiet(epfd, "not armed, not ready");
    arm(timer, 10, 0);
    expect_event(epfd, EPOLLIN, "expired");
    expect_event(epfd, EPOLLIN, "level-triggered, again");
    take(timer);
    expect_quiet(epfd, "read, no longer ready");

    arm(timer, 10, 0);
    expect_event(epfd, EPOLLIN, "expired");
    arm(timer, 3600000, 0);
    expect_quiet(epfd, "set again, no longer ready");
    arm(timer, 10, 0);
    sleep_ms(30);
    arm(timer, 0, 0);
    expect_quiet(epfd, "expired and disarmed before the wait, not ready");

    rearm(epfd, timer, EPOLLIN | EPOLLET);
    arm(timer, 10, 0);
    expect_event(epfd, EPOLLIN, "edge-triggered: expired");
    expect_quiet(epfd, "once");
    arm(timer, 10, 0);
    expect_event(epfd, EPOLLIN, "set and expired again, never read: an edge");
    expect_quiet(epfd, "once");
    arm(timer, 10, 10);
    for (int i = 1; i <= 3; i++) {
        expect_event(epfd, EPOLLIN, "periodic: tick %d", i);
        take(timer);
    }
    return done_testing();
}
