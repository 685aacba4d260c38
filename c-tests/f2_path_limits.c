/*
 * F2: "wake-up path limits (500, 100, 50, 10 for depths 2 to 5) give EINVAL": how many instances a file may wake
 * through chains of each length. A file in an instance that stands alone is not limited.
 */
#include "help.h"

enum { MOST = 1100 };

/* Puts instance after instance over `below`, until one is refused; returns how many were not. */
static int crowd_over(int below, int refused_with)
{
    int count = 0, epfd = -1;

    while (count < MOST && (epfd = make_epoll()) >= 0 && control(epfd, EPOLL_CTL_ADD, below, EPOLLIN) == 0)
        count++;
    if (count < MOST)
        is_int(errno, refused_with, "number %d is refused", count + 1);
    return count;
}

int main(void)
{
    static const int limits[] = {500, 100, 50, 10};
    int bell = make_eventfd(0), top = bell;

    is_int(crowd_over(bell, 0), MOST, "a file in %d instances of depth 1", MOST);

    for (int depth = 2; depth <= 5; depth++) {
        bell = make_eventfd(0);
        top = bell;
        for (int i = 1; i < depth; i++) {
            int epfd = make_epoll();

            watch(epfd, top, EPOLLIN);
            top = epfd;
        }
        is_int(crowd_over(top, EINVAL), limits[depth - 2], "instances that a file reaches at depth %d", depth);
    }
    put(bell);
    expect_event(top, EPOLLIN, "what was accepted works");
    return done_testing();
}
