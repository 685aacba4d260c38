/*
 * C4: "an LT item that was just reported goes to the back. With more ready items than maxevents, successive waits go
 * round all of them: nothing starves." Items become ready here in the order in which they were added.
 */
#include "help.h"

enum { ITEMS = 5, CROWD = 64 };

/* The last digits of the items that one wait reports, as a number: 3, 4 is 34. */
static int wait_digits(int epfd, int max_events)
{
    struct epoll_event events[ITEMS];
    int count = must(epoll_wait(epfd, events, max_events, SOON_MS)), digits = 0;

    for (int i = 0; i < count; i++)
        digits = digits * 10 + (int)events[i].data.u32;
    return digits;
}

static void add_numbered(int epfd, int fd, uint32_t events, uint32_t number)
{
    struct epoll_event event = {.events = events, .data.u32 = number};

    must(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
}

static void round_robin(uint32_t flag)
{
    int bells[ITEMS], epfd = make_epoll();

    for (uint32_t i = 0; i < ITEMS; i++)
        add_numbered(epfd, bells[i] = make_eventfd(0), EPOLLIN | flag, i + 1);
    for (int i = 0; i < ITEMS; i++)
        put(bells[i]);

    if (flag & EPOLLET) {
        is_int(wait_digits(epfd, 2), 12, "edge-triggered, two a wait: the first two");
        is_int(wait_digits(epfd, 2), 34, "the next two");
        is_int(wait_digits(epfd, 2), 5, "the rest");
        expect_quiet(epfd, "and no more");
        put(bells[3]);
        is_int(wait_digits(epfd, 2), 4, "until one rings again");
    } else {
        is_int(wait_digits(epfd, 5), 12345, "level-triggered, room for all: all, in order");
        is_int(wait_digits(epfd, 1), 1, "one a wait");
        is_int(wait_digits(epfd, 1), 2, "the next");
        is_int(wait_digits(epfd, 1), 3, "the next");
        is_int(wait_digits(epfd, 2), 45, "two a wait");
        is_int(wait_digits(epfd, 2), 12, "the next two");
        is_int(wait_digits(epfd, 2), 34, "the next two");
        is_int(wait_digits(epfd, 2), 51, "round the corner");
        is_int(wait_digits(epfd, 3), 234, "three a wait");
        drain(bells[4]);
        is_int(wait_digits(epfd, 3), 123, "one that was drained is passed over");
        put(bells[4]);
        is_int(wait_digits(epfd, 5), 41235, "and stands at the back when it is ready again");
    }
    must(close(epfd));
}

int main(void)
{
    int bells[CROWD], seen[CROWD] = {0}, epfd = make_epoll(), busy = make_eventfd(0), starved = 0, short_waits = 0;
    struct epoll_event events[7];

    round_robin(0);
    round_robin(EPOLLET);

    add_numbered(epfd, busy, EPOLLIN, 1);
    put(busy);
    is_int(wait_digits(epfd, 1), 1, "a level-triggered item that is always ready");
    int late = make_eventfd(0);
    add_numbered(epfd, late, EPOLLIN, 2);
    put(late);
    is_int(wait_digits(epfd, 1), 1, "is still in front when another becomes ready");
    is_int(wait_digits(epfd, 1), 2, "but then it is the other's turn");
    is_int(wait_digits(epfd, 1), 1, "by turns");
    is_int(wait_digits(epfd, 1), 2, "by turns");
    must(close(epfd));

    epfd = make_epoll();
    for (uint32_t i = 0; i < CROWD; i++) {
        add_numbered(epfd, bells[i] = make_eventfd(0), EPOLLIN, i);
        put(bells[i]);
    }
    for (int i = 0; i < 7 * CROWD; i += 7) {
        int count = must(epoll_wait(epfd, events, 7, SOON_MS));

        short_waits += count != 7;
        for (int j = 0; j < count; j++)
            seen[events[j].data.u32]++;
    }
    is_int(short_waits, 0, "%d items ready, seven a wait: always seven", CROWD);
    for (int i = 0; i < CROWD; i++)
        starved += seen[i] != 7;
    is_int(starved, 0, "after %d waits each item has had its seven turns", CROWD);
    return done_testing();
}
