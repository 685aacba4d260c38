/*
 * C1: each write to an eventfd is an edge, drained or not. Event loops lean on it: they wake themselves by an
 * edge-triggered eventfd that they never read.
 */
#include "edge.h"

int main(void)
{
    /* A semaphore, so that one read takes just one of several writes. */
    int semaphore = make_eventfd(EFD_SEMAPHORE), epfd = make_epoll(), bell = make_eventfd(0), lost = 0, spurious = 0;

    edge_suite("eventfd", semaphore, semaphore);

    watch(epfd, bell, EPOLLIN | EPOLLET);
    for (int i = 0; i < 1000; i++) {
        put(bell);
        lost += wait_mask(epfd, SOON_MS) != EPOLLIN;
        spurious += wait_mask(epfd, 0) != 0;
    }
    is_int(lost, 0, "1,000 writes without a read: no edge is lost");
    is_int(spurious, 0, "and none comes twice");
    return done_testing();
}
