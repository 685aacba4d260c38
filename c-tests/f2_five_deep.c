/*
 * F2: five instances, one in another, level- or edge-triggered at each level, in all 32 ways: the outermost reports
 * what becomes ready at the bottom, again with each write, and each level hands it down.
 */
#include "help.h"

enum { DEPTH = 5, LITTLE_MS = 20 };

static int epfds[DEPTH], pair[2], wrong;

static int below(int level)
{
    return level ? epfds[level - 1] : pair[0];
}

/* Each level reports the one below it, from the top down to the pipe. */
static void walk_down(void)
{
    for (int i = DEPTH - 1; i >= 0; i--)
        wrong += wait_fd(epfds[i], SOON_MS) != below(i);
}

static void one_way(int edges)
{
    char name[DEPTH + 1] = "";
    int top;
    struct waiter waiter;

    wrong = 0;
    pipe_pair(pair);
    for (int i = 0; i < DEPTH; i++) {
        epfds[i] = make_epoll();
        watch(epfds[i], below(i), EPOLLIN | (edges >> i & 1 ? EPOLLET : 0));
        name[DEPTH - 1 - i] = edges >> i & 1 ? 'E' : 'L';
    }
    top = epfds[DEPTH - 1];
    is_mask(wait_mask(top, LITTLE_MS), 0, "%s: nothing yet", name);
    put(pair[1]);
    expect_event(top, EPOLLIN, "%s: a write, and the top reports", name);
    /* The level below was not asked: its own item is still to be reported. */
    is_mask(wait_mask(top, LITTLE_MS), name[0] == 'E' ? 0 : EPOLLIN, "%s: %s", name,
            name[0] == 'E' ? "once" : "as long as it is so");
    put(pair[1]);
    walk_down();
    is_int(wrong, 0, "%s: one more write, and each level reports the next", name);
    drain(pair[0]);
    is_mask(wait_mask(top, LITTLE_MS), 0, "%s: drained, nothing", name);

    waiter_start(&waiter, top, SOON_MS);
    put(pair[1]);
    ok(waiter_got(&waiter, epfds[DEPTH - 2], EPOLLIN), "%s: wakes who sleeps in the top", name);
    for (int i = DEPTH - 2; i >= 0; i--)
        wrong += wait_fd(epfds[i], SOON_MS) != below(i);
    put(pair[1]);
    walk_down();
    is_int(wrong, 0, "%s: undrained, again all the way down", name);

    must(close(epfds[1]));
    is_mask(wait_mask(epfds[2], LITTLE_MS), 0, "%s: cut in the middle, nothing above", name);
    put(pair[1]);
    expect_event(epfds[0], EPOLLIN, "%s: and the bottom goes on", name);
    for (int i = 0; i < DEPTH; i++)
        if (i != 1)
            must(close(epfds[i]));
    close_pair(pair);
}

int main(void)
{
    time_limit(60);
    for (int edges = 0; edges < 1 << DEPTH; edges++)
        one_way(edges);
    return done_testing();
}
