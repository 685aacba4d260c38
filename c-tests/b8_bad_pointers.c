/* B8: "A bad pointer never crashes the program: EFAULT, for unmapped, NULL and (for epoll_wait) read-only memory." */
#include "help.h"

#include <sys/mman.h>

int main(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char *memory = must(mmap(NULL, 3 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    char *read_only = memory, *unmapped = memory + 2 * page; /* and a writable page between them */
    int pair[2], other[2], epfd = make_epoll();
    struct epoll_event event = {.events = EPOLLIN};

    pipe_pair(pair);
    pipe_pair(other);
    memcpy(read_only, &event, sizeof event);
    must(mprotect(read_only, (size_t)page, PROT_READ));
    must(munmap(unmapped, (size_t)page));

    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], address_of(0)), EFAULT, "ADD: NULL");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], (void *)unmapped), EFAULT, "ADD: unmapped");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], (void *)(unmapped - 1)), EFAULT, "ADD: ends in a hole");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], address_of(UINTPTR_MAX - 4095)), EFAULT, "ADD: kernel space");
    is_int(epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], (void *)read_only), 0, "ADD: read-only memory is good enough");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, pair[0], (void *)unmapped), EFAULT, "MOD: unmapped");
    rearm(epfd, pair[0], EPOLLIN | EPOLLET);

    is_int(epoll_wait(epfd, address_of(0), 1, 0), 0, "wait: NULL, but nothing to write");
    is_int(epoll_wait(epfd, (void *)unmapped, 1, QUIET_MS), 0, "wait: unmapped, but nothing to write");
    put(pair[1]);
    is_errno(epoll_wait(epfd, address_of(0), 1, SOON_MS), EFAULT, "wait: NULL");
    is_errno(epoll_wait(epfd, (void *)unmapped, 1, SOON_MS), EFAULT, "wait: unmapped");
    is_errno(epoll_wait(epfd, (void *)read_only, 1, SOON_MS), EFAULT, "wait: read-only");
    is_errno(epoll_wait(epfd, (void *)(unmapped - sizeof event + 1), 1, SOON_MS), EFAULT, "wait: ends in a hole");
    is_errno(epoll_pwait(epfd, (void *)unmapped, 1, SOON_MS, NULL), EFAULT, "pwait: unmapped");
    is_errno(epoll_pwait2(epfd, (void *)unmapped, 1, NULL, NULL), EFAULT, "pwait2: unmapped");
    expect_event(epfd, EPOLLIN, "after all that the edge is still there");
    expect_quiet(epfd, "once");

    /* Room for one event in front of the hole, and two are ready. */
    watch(epfd, other[0], EPOLLIN | EPOLLET);
    put(pair[1]);
    put(other[1]);
    struct epoll_event *last = (void *)(unmapped - sizeof event);
    is_int(epoll_wait(epfd, last, 2, SOON_MS), 1, "the second event of two does not fit: the first is returned");
    memcpy(&event, last, sizeof event);
    is_int(event.data.fd, pair[0], "the first that became ready");
    is_int(wait_fd(epfd, SOON_MS), other[0], "the second is in the next wait");
    expect_quiet(epfd, "once");
    return done_testing();
}
