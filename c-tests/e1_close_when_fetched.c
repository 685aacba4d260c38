/*
 * E1: "by the time close() returns": the peer sees the end, also of a descriptor that was idle for long, stirred just now,
 * and was removed or is a one-shot that was reported. All threads share one processor, so that whoever watched it in the
 * background has had no time to find out.
 */
#include "deny.h"

#include <sched.h>

enum { CROWD = 150, ROUNDS = 3 };

static int pipes[CROWD][2];

static int held(const int pair[2])
{
    must(close(pair[0]));
    int bad = write(pair[1], "x", 1) != -1 || errno != EPIPE;
    must(close(pair[1]));
    return bad;
}

int main(void)
{
    int removed = 0, fired = 0, modified = 0, plain = 0;
    cpu_set_t one;

    time_limit(60);
    signal(SIGPIPE, SIG_IGN);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    must(sched_setaffinity(0, sizeof one, &one));
    for (int round = 0; round < ROUNDS; round++) {
        int epfd = make_epoll();

        for (int i = 0; i < CROWD; i++) {
            pipe_pair(pipes[i]);
            watch(epfd, pipes[i][0], i % 4 == 1 ? EPOLLIN | EPOLLONESHOT : EPOLLIN);
        }
        let_idle(epfd);
        for (int i = 0; i < CROWD; i++) {
            put(pipes[i][1]);
            require(wait_fd(epfd, SOON_MS) == pipes[i][0]);
            switch (i % 4) {
            case 0:
                unwatch(epfd, pipes[i][0]);
                removed += held(pipes[i]);
                break;
            case 1:
                fired += held(pipes[i]);
                break;
            case 2:
                rearm(epfd, pipes[i][0], EPOLLIN | EPOLLET);
                modified += held(pipes[i]);
                break;
            default:
                plain += held(pipes[i]);
            }
        }
        must(close(epfd));
    }
    is_int(removed, 0, "removed, then closed");
    is_int(fired, 0, "reported once, then closed");
    is_int(modified, 0, "modified, then closed");
    is_int(plain, 0, "closed");
    return done_testing();
}
