/*
 * A4: RLIMIT_NOFILE bounds new numbers, not what is watched: with the limit at 16, at 64 and at the hard one, instances
 * with more descriptors than that work, also looked at from outside and in one another, where the same files are watched
 * by several.
 */
#include "deny.h"

#include <sys/resource.h>

enum { FILES = 100, INNERS = 5, EACH = 20 };

struct few {
    rlim_t limit;
};

static void set_limit(rlim_t limit)
{
    struct rlimit now;

    must(getrlimit(RLIMIT_NOFILE, &now));
    now.rlim_cur = limit ? limit : now.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &now));
}

static void expect_one(int epfd, int fd)
{
    struct epoll_event event;

    child_check(wait_one(epfd, &event, SOON_MS) == 1);
    child_check(event.data.fd == fd && event.events == EPOLLIN);
    child_check(wait_one(epfd, &event, 0) == 0);
}

/* Lowered below the number of descriptors that are registered already. */
static int many_in_one(void *argument)
{
    struct few *few = argument;
    int epfd = make_epoll(), pipes[FILES][2], extra = make_eventfd(0);
    struct waiter waiter;

    alarm(15);
    set_limit(0);
    for (int i = 0; i < FILES; i++) {
        pipe_pair(pipes[i]);
        watch(epfd, pipes[i][0], EPOLLIN | EPOLLET);
    }
    let_idle(epfd);
    set_limit(few->limit);
    for (int i = 0; i < FILES; i += 7) {
        put(pipes[i][1]);
        expect_one(epfd, pipes[i][0]);
    }
    waiter_launch(&waiter, epfd, SOON_MS);
    sleep_ms(20);
    child_check(control(epfd, EPOLL_CTL_ADD, extra, EPOLLIN | EPOLLONESHOT) == 0);
    put(extra);
    child_check(waiter_got(&waiter, extra, EPOLLIN));
    for (int i = 0; i < FILES; i++) {
        child_check(close(pipes[i][0]) == 0);
        child_check(write(pipes[i][1], "x", 1) == -1 && errno == EPIPE);
    }
    return 0;
}

/* No more descriptors than the limit allows, but each in several instances, and these in one. */
static int few_in_many(void *argument)
{
    struct few *few = argument;
    int inners[INNERS], files[EACH], outer = make_epoll();
    struct pollfd polled = {.fd = outer, .events = POLLIN};
    struct waiter waiter;

    alarm(15);
    for (int i = 0; i < EACH; i++)
        files[i] = make_eventfd(0);
    for (int i = 0; i < INNERS; i++) {
        inners[i] = make_epoll();
        for (int j = 0; j < EACH; j++)
            watch(inners[i], files[j], EPOLLIN);
        watch(outer, inners[i], EPOLLIN);
    }
    set_limit(few->limit);
    child_check(wait_mask(outer, 5) == 0);
    child_check(poll(&polled, 1, 5) == 0);
    waiter_launch(&waiter, outer, SOON_MS);
    sleep_ms(20);
    put(files[3]);
    child_check(waiter_returns(&waiter, SOON_MS) && waiter.result == 1);
    child_check(poll(&polled, 1, SOON_MS) == 1 && polled.revents == POLLIN);
    struct epoll_event events[INNERS];
    child_check(epoll_wait(outer, events, INNERS, SOON_MS) == INNERS);
    for (int i = 0; i < INNERS; i++)
        child_check(wait_fd(inners[i], SOON_MS) == files[3]);
    take(files[3]);
    child_check(wait_mask(outer, 0) == 0);
    return 0;
}

int main(void)
{
    static struct few limits[] = {{16}, {64}, {0}};

    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 3; i++) {
        char name[32];

        snprintf(name, sizeof name, limits[i].limit ? "limit %d" : "no limit", (int)limits[i].limit);
        is_int(run_child(many_in_one, &limits[i]), 0, "%s: %d descriptors in an instance", name, FILES);
        is_int(run_child(few_in_many, &limits[i]), 0, "%s: %d descriptors in %d instances in another one", name, EACH,
               INNERS);
    }
    return done_testing();
}
