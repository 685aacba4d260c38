/*
 * A4: ENOMEM: the process may have no more memory. The kernel's own is not limited by RLIMIT_AS, so calls may succeed;
 * or they fail with ENOMEM, and change nothing. When there is memory again everything works.
 */
#include "deny.h"

#include <sys/file.h>
#include <sys/resource.h>

enum { INSTANCES = 40, FILES = 500, STACK = 256 * 1024 };

static int epfds[INSTANCES], files[FILES];
static bool added[INSTANCES][FILES];
static struct epoll_event events[FILES];

/* A stack that has to grow would be the end of the program. */
static __attribute__((noinline)) void touch_stack(void)
{
    volatile char bytes[STACK];

    for (size_t i = 0; i < sizeof bytes; i += 512)
        bytes[i] = 1;
}

/* How many other outcomes than success and ENOMEM there were; `refused` counts the latter. */
static int wrong, refused;

static bool succeeds(int result)
{
    if (result >= 0)
        return true;
    wrong += errno != ENOMEM;
    refused++;
    return false;
}

int main(void)
{
    struct rlimit before, low;
    struct waiter waiter;
    int pair[2], descriptors, missing = 0, lost = 0;

    /*
     * So many watches at a time are not there for b6_max_user_watches, which lowers the limit that is locked here: before
     * the first instance, for the limit may be read just once.
     */
    int limit = open("/proc/sys/fs/epoll/max_user_watches", O_RDONLY | O_CLOEXEC);
    if (limit >= 0)
        must(flock(limit, LOCK_SH));

    int old = make_epoll(), outer = make_epoll();

    must(getrlimit(RLIMIT_NOFILE, &low));
    low.rlim_cur = low.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &low));
    pipe_pair(pair);
    watch(old, pair[0], EPOLLIN | EPOLLET);
    require(wait_mask(old, 1) == 0);
    for (int i = 0; i < FILES; i++) {
        files[i] = make_eventfd(0);
        put(files[i]);
    }
    waiter_start(&waiter, old, -1);

    touch_stack();
    must(getrlimit(RLIMIT_AS, &before));
    low = before;
    low.rlim_cur = mapped();
    must(setrlimit(RLIMIT_AS, &low));
    for (int i = 0; i < INSTANCES; i++) {
        epfds[i] = epoll_create1(EPOLL_CLOEXEC);
        if (!succeeds(epfds[i]))
            continue;
        for (int j = 0; j < FILES; j++) {
            added[i][j] = succeeds(control(epfds[i], EPOLL_CTL_ADD, files[j], EPOLLIN));
            if (added[i][j] && j % 100 == 0)
                succeeds(control(epfds[i], EPOLL_CTL_MOD, files[j], EPOLLIN | EPOLLET));
        }
        succeeds(epoll_wait(epfds[i], events, FILES, 1));
        struct pollfd poll_it = {.fd = epfds[i], .events = POLLIN};
        succeeds(poll(&poll_it, 1, 0));
        if (succeeds(control(outer, EPOLL_CTL_ADD, epfds[i], EPOLLIN)))
            succeeds(epoll_wait(outer, events, FILES, 1));
        if (i % 4 == 3) {
            must(close(epfds[i]));
            epfds[i] = -1;
            memset(added[i], 0, sizeof added[i]);
        }
    }
    put(pair[1]);
    bool woken = waiter_got(&waiter, pair[0], EPOLLIN);
    must(setrlimit(RLIMIT_AS, &before));

    printf("# %d calls failed for lack of memory\n", refused);
    is_int(wrong, 0, "without memory calls succeed, or fail with ENOMEM");
    ok(woken, "a thread that slept meanwhile gets its event");
    for (int i = 0; i < INSTANCES; i++) {
        if (epfds[i] < 0)
            epfds[i] = make_epoll();
        for (int j = 0; j < FILES; j++)
            missing += control(epfds[i], added[i][j] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, files[j], EPOLLIN) != 0;
        lost += epoll_wait(epfds[i], events, FILES, SOON_MS) != FILES;
    }
    is_int(missing, 0, "with memory again: what was refused can be added, what was not is there");
    is_int(lost, 0, "and each of %d instances reports all its %d files", INSTANCES, FILES);
    put(pair[1]);
    expect_event(old, EPOLLIN, "so does the old one");
    for (int i = 0; i < INSTANCES; i++)
        must(close(epfds[i]));

    /* What is kept for later is used again then. */
    descriptors = open_descriptors();
    for (int i = 0; i < INSTANCES; i++) {
        epfds[i] = make_epoll();
        watch(epfds[i], files[i], EPOLLIN);
        lost += wait_fd(epfds[i], SOON_MS) != files[i];
    }
    is_int(lost, 0, "as many instances once more");
    for (int i = 0; i < INSTANCES; i++)
        must(close(epfds[i]));
    is_int(open_descriptors(), descriptors, "and no descriptor was left over");
    return done_testing();
}
