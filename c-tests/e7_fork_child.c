/*
 * E7: "the child has a working epoll with the same items; what it ... closes does not disturb the parent, nor its
 * exit." Whether the two then share one interest list (as in the kernel) or have one each is not tested here.
 */
#include "help.h"

static int epfd, pair[2];

static int child_exits(void *unused)
{
    (void)unused;
    return 0;
}

static int child_waits(void *unused)
{
    (void)unused;
    child_check(wait_fd(epfd, SOON_MS) == pair[0]);
    child_check(wait_fd(epfd, 0) == pair[0]);
    return 0;
}

static int child_waits_in_thread(void *unused)
{
    struct waiter waiter;

    (void)unused;
    waiter_start(&waiter, epfd, SOON_MS);
    put(pair[1]);
    child_check(waiter_got(&waiter, pair[0], EPOLLIN));
    return 0;
}

static int child_closes_epoll(void *unused)
{
    (void)unused;
    child_check(close(epfd) == 0);
    child_check(wait_one(epfd, &(struct epoll_event){0}, 0) == -1 && errno == EBADF);
    return 0;
}

static int child_closes_item(void *unused)
{
    (void)unused;
    child_check(close(pair[0]) == 0);
    child_check(close(pair[1]) == 0);
    return 0;
}

static int child_makes_its_own(void *unused)
{
    int own = make_epoll(), own_pair[2];

    (void)unused;
    pipe_pair(own_pair);
    watch(own, own_pair[0], EPOLLIN | EPOLLET);
    child_check(wait_mask(own, QUIET_MS) == 0);
    put(own_pair[1]);
    child_check(wait_fd(own, SOON_MS) == own_pair[0]);
    child_check(close(own) == 0);
    return 0;
}

static int grandchild_waits(void *unused)
{
    return run_child(child_waits, unused);
}

/* The parent's instance does all that it did before. */
static void parent_works(const char *after)
{
    struct waiter waiter;

    drain(pair[0]);
    expect_quiet(epfd, "%s: the parent's instance is quiet", after);
    waiter_start(&waiter, epfd, SOON_MS);
    put(pair[1]);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "%s: and reports its item", after);
    drain(pair[0]);
    is_errno(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), EEXIST, "%s: which is still there", after);
}

static void with_child(const char *what, int (*body)(void *))
{
    is_int(run_child(body, NULL), 0, "the child %s", what);
    parent_works(what);
}

int main(void)
{
    struct waiter waiter;
    int crowd[2];

    epfd = make_epoll();
    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN);
    for (int i = 0; i < 50; i++) {
        pipe_pair(crowd);
        watch(epfd, crowd[0], EPOLLIN);
    }
    is_int(wait_mask(epfd, IDLE_MS), 0, "a crowd of idle descriptors beside it");

    with_child("exits", child_exits);
    with_child("closes the epoll descriptor", child_closes_epoll);
    with_child("closes the item's descriptors", child_closes_item);
    with_child("makes an instance of its own", child_makes_its_own);
    with_child("waits in a thread", child_waits_in_thread);

    pid_t child = child_start(child_waits, NULL);
    put(pair[1]);
    is_int(child_result(child), 0, "data from the parent after the fork reaches the child's wait");
    expect_event(epfd, EPOLLIN, "and the parent's, as it is still there");
    is_int(run_child(child_waits, NULL), 0, "data from before the fork as well");
    is_int(run_child(grandchild_waits, NULL), 0, "and a grandchild");
    parent_works("after these");

    /* Forked while another thread sleeps in the instance: it is not in the child, and is not woken. */
    waiter_start(&waiter, epfd, -1);
    is_int(run_child(child_closes_epoll, NULL), 0, "a thread sleeps: the child closes the epoll descriptor");
    is_int(run_child(child_makes_its_own, NULL), 0, "a thread sleeps: the child makes its own");
    ok(!waiter_returns(&waiter, QUIET_MS), "the thread sleeps on");
    put(pair[1]);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "until its event");
    is_int(run_child(child_waits, NULL), 0, "which a new child sees, too");
    parent_works("at last");
    return done_testing();
}
