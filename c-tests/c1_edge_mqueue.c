/*
 * C1 on POSIX message queues: each message that is put in or taken out wakes whoever waits for the queue, for input or for
 * room. What is high then is reported again.
 */
#include "help.h"

#include <mqueue.h>

enum { LONGEST = 8, MOST = 3 };

static int epfd;
static mqd_t queue;

static void put_message(void)
{
    must(mq_send(queue, "m", 1, 0));
}

static void take_message(void)
{
    char text[LONGEST];

    must((int)mq_receive(queue, text, sizeof text, NULL));
}

static void put_in_time(void)
{
    struct timespec long_ago = {0};

    must(mq_timedsend(queue, "m", 1, 0, &long_ago));
}

static void take_in_time(void)
{
    struct timespec long_ago = {0};
    char text[LONGEST];

    must((int)mq_timedreceive(queue, text, sizeof text, NULL, &long_ago));
}

static void open_queue(uint32_t events)
{
    struct mq_attr attributes = {.mq_maxmsg = MOST, .mq_msgsize = LONGEST};
    char name[32];

    snprintf(name, sizeof name, "/uepoll-%d", getpid());
    queue = must(mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK | O_CLOEXEC, 0600, &attributes));
    must(mq_unlink(name));
    epfd = make_epoll();
    watch(epfd, queue, events);
}

static void close_queue(void)
{
    must(close(epfd));
    must(mq_close(queue));
}

/* What is reported now; nothing, where nothing is expected. */
#define told(expected, ...) is_mask(wait_mask(epfd, (expected) ? SOON_MS : QUIET_MS), (expected), __VA_ARGS__)

/* `asked` of IN and OUT, edge-triggered: a wake-up tells what of it is high. */
static void by_itself(const char *kind, uint32_t asked, void (*put_one)(void), void (*take_one)(void))
{
    char text[LONGEST];

    open_queue(asked | EPOLLET);
    told(asked & EPOLLOUT, "%s: empty", kind);
    for (int count = 1; count <= MOST; count++) {
        put_one();
        told(asked & (count < MOST ? EPOLLIN | EPOLLOUT : EPOLLIN), "%s: message %d is put in", kind, count);
        expect_quiet(epfd, "%s: which is reported once", kind);
    }
    is_errno(mq_send(queue, "m", 1, 0), EAGAIN, "%s: full", kind);
    expect_quiet(epfd, "%s: what is refused wakes nobody", kind);
    for (int left = MOST - 1; left >= 0; left--) {
        take_one();
        told(asked & (left > 0 ? EPOLLIN | EPOLLOUT : EPOLLOUT), "%s: one is taken, %d are left", kind, left);
        expect_quiet(epfd, "%s: which is reported once", kind);
    }
    is_errno((int)mq_receive(queue, text, sizeof text, NULL), EAGAIN, "%s: empty again", kind);
    expect_quiet(epfd, "%s: that nothing was there wakes nobody", kind);
    put_one();
    take_one();
    told(asked & EPOLLOUT, "%s: put in and taken out between two waits", kind);
    put_one();
    told(asked, "%s: nor does that swallow the next edge", kind);
    take_one();
    put_one();
    told(asked, "%s: taken out and put in between two waits", kind);
    close_queue();
}

/* Of a queue of which nothing was taken it is known how many are in it. */
static void by_another_process(void)
{
    open_queue(EPOLLIN | EPOLLET);
    for (int count = 1; count <= MOST; count++) {
        pid_t child = must(fork());

        if (child == 0) {
            put_message();
            _exit(0);
        }
        expect_event(epfd, EPOLLIN, "another process: message %d is put in", count);
        must(waitpid(child, NULL, 0));
        expect_quiet(epfd, "another process: which is reported once");
    }
    close_queue();
}

static void level(void)
{
    open_queue(EPOLLIN);
    put_message();
    put_message();
    for (int i = 0; i < 3; i++)
        expect_event(epfd, EPOLLIN, "level: there is a message");
    take_message();
    expect_event(epfd, EPOLLIN, "level: there still is one");
    take_message();
    expect_quiet(epfd, "level: there is none");
    close_queue();
}

int main(void)
{
    by_itself("input", EPOLLIN, put_message, take_message);
    by_itself("room", EPOLLOUT, put_message, take_message);
    by_itself("both", EPOLLIN | EPOLLOUT, put_message, take_message);
    by_itself("both, with a time", EPOLLIN | EPOLLOUT, put_in_time, take_in_time);
    by_another_process();
    level();
    return done_testing();
}
