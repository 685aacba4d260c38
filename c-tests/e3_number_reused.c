/*
 * E3: "A number that is closed and opened again is a different file: ADD works, no stale event of the old file is
 * reported for the new one, whatever the timing."
 */
#include "help.h"

enum { ROUNDS = 2000 };

static struct {
    int reused, refused, stale, missed;
} seen;

static void one_round(int epfd, uint32_t flag, int round)
{
    struct epoll_event event = {.events = EPOLLIN | flag, .data.u64 = 2 * (uint64_t)round};
    int old[2], new[2];

    pipe_pair(old);
    must(epoll_ctl(epfd, EPOLL_CTL_ADD, old[0], &event));
    if (round % 3 == 1)
        must(wait_one(epfd, &event, 0));
    put(old[1]); /* on the ready list when it is closed */
    if (round % 3 == 2)
        must(wait_one(epfd, &event, 0));
    close_pair(old);

    pipe_pair(new);
    seen.reused += new[0] == old[0];
    if (round % 2)
        seen.stale += wait_one(epfd, &event, 0) != 0;
    event = (struct epoll_event){.events = EPOLLIN | flag, .data.u64 = 2 * (uint64_t)round + 1};
    seen.refused += epoll_ctl(epfd, EPOLL_CTL_ADD, new[0], &event) != 0;
    seen.stale += wait_one(epfd, &event, 0) != 0;
    put(new[1]);
    seen.missed += wait_one(epfd, &event, SOON_MS) != 1 || event.data.u64 != 2 * (uint64_t)round + 1;
    close_pair(new);
    seen.stale += wait_one(epfd, &event, 0) != 0;
}

int main(void)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } triggers[] = {{0, "level-triggered"}, {EPOLLET, "edge-triggered"}, {EPOLLONESHOT, "one-shot"}};
    int pair[2], epfd = make_epoll(), bell = make_eventfd(0), number;
    struct waiter waiter;

    for (size_t i = 0; i < sizeof triggers / sizeof triggers[0]; i++) {
        memset(&seen, 0, sizeof seen);
        for (int round = 0; round < ROUNDS; round++)
            one_round(epfd, triggers[i].flag, round);
        is_int(seen.reused, ROUNDS, "%s: the number was reused each time", triggers[i].name);
        is_int(seen.refused, 0, "%s: ADD works", triggers[i].name);
        is_int(seen.stale, 0, "%s: no stale event", triggers[i].name);
        is_int(seen.missed, 0, "%s: no missed event", triggers[i].name);
    }

    /* Reused by a file that is not added at all, under the eyes of a sleeping thread. */
    pipe_pair(pair);
    number = pair[0];
    watch(epfd, number, EPOLLIN);
    watch(epfd, bell, EPOLLIN);
    waiter_start(&waiter, epfd, -1);
    close_pair(pair);
    pipe_pair(pair);
    is_int(pair[0], number, "a thread sleeps, the number is reused");
    put(pair[1]);
    ok(!waiter_returns(&waiter, QUIET_MS), "and data for the new file is not reported");
    is_errno(control(epfd, EPOLL_CTL_MOD, number, EPOLLIN), ENOENT, "MOD: there is no such item");
    put(bell);
    ok(waiter_got(&waiter, bell, EPOLLIN), "another event is");
    close_pair(pair);
    drain(bell);

    /* Reused by a file that is always ready to poll(2), and that epoll would refuse. */
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    must(close(pair[0]));
    is_int(must(open("/dev/zero", O_RDONLY)), pair[0], "the number is reused by a device that is always readable");
    expect_quiet(epfd, "and is not reported");
    return done_testing();
}
