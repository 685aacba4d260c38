/* C7: "The user data comes back bit for bit (64 bits)." */
#include "help.h"

int main(void)
{
    static const uint64_t values[] = {
        0, 1, UINT64_MAX, UINT64_C(0xdeadbeefcafef00d), UINT64_C(1) << 63, UINT64_C(1) << 32};
    int pair[2], epfd = make_epoll();
    struct epoll_event event;

    pipe_pair(pair);
    put(pair[1]);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        event = (struct epoll_event){.events = EPOLLIN, .data.u64 = values[i]};
        must(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &event));
        event.data.u64 = ~values[i];
        is_int(wait_one(epfd, &event, SOON_MS), 1, "one event");
        ok(event.data.u64 == values[i], "ADD with %#llx", (unsigned long long)values[i]);

        event = (struct epoll_event){.events = EPOLLIN, .data.u64 = ~values[i]};
        must(epoll_ctl(epfd, EPOLL_CTL_MOD, pair[0], &event));
        event.data.u64 = values[i];
        is_int(wait_one(epfd, &event, SOON_MS), 1, "one event");
        ok(event.data.u64 == ~values[i], "MOD to %#llx", (unsigned long long)~values[i]);
        unwatch(epfd, pair[0]);
    }

    /* An array is filled from the front, and not beyond the events. */
    struct epoll_event events[3];
    memset(events, 0x5a, sizeof events);
    watch(epfd, pair[0], EPOLLIN);
    watch(epfd, pair[1], EPOLLOUT);
    is_int(epoll_wait(epfd, events, 3, SOON_MS), 2, "two events in an array of three");
    is_int(events[0].data.fd + events[1].data.fd, pair[0] + pair[1], "are the two");
    is_mask(events[2].events, 0x5a5a5a5a, "the third is not touched");
    ok(events[2].data.u64 == UINT64_C(0x5a5a5a5a5a5a5a5a), "nor its data");
    return done_testing();
}
