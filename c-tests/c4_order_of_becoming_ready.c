/* C4: "Order is that of becoming ready", not that of ADD, nor that of numbers. */
#include "help.h"

enum { ITEMS = 6 };

static void in_order(uint32_t flag, const char *trigger)
{
    static const int rings[ITEMS] = {3, 0, 5, 1, 4, 2};
    struct epoll_event events[ITEMS];
    int bells[ITEMS], epfd = make_epoll(), wrong = 0;

    for (int i = 0; i < ITEMS; i++)
        watch(epfd, bells[i] = make_eventfd(0), EPOLLIN | flag);
    is_int(wait_mask(epfd, 0), 0, "%s: none ready", trigger);
    for (int i = 0; i < ITEMS; i++)
        put(bells[rings[i]]);
    put(bells[rings[0]]); /* ringing again does not send it to the back */
    is_int(epoll_wait(epfd, events, ITEMS, SOON_MS), ITEMS, "%s: all ready", trigger);
    for (int i = 0; i < ITEMS; i++)
        wrong += events[i].data.fd != bells[rings[i]];
    is_int(wrong, 0, "%s: in the order in which they became ready", trigger);
    must(close(epfd));
}

int main(void)
{
    in_order(0, "level-triggered");
    in_order(EPOLLET, "edge-triggered");
    in_order(EPOLLONESHOT, "one-shot");
    return done_testing();
}
