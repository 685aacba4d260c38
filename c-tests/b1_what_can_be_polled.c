/*
 * B1: EPERM is for files without a poll operation: regular files, directories, some devices; poll(2) calls those ready.
 */
#include "help.h"

#include <mqueue.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static void refused(int fd, const char *what)
{
    struct pollfd poll_it = {.fd = must(fd), .events = POLLIN};

    is_int(poll(&poll_it, 1, 0), 1, "%s: poll(2) has it always ready", what);
    is_errno(control(make_epoll(), EPOLL_CTL_ADD, fd, EPOLLIN), EPERM, "%s: epoll refuses it", what);
}

static void accepted(int fd, const char *what)
{
    is_int(control(make_epoll(), EPOLL_CTL_ADD, must(fd), EPOLLIN), 0, "%s: accepted", what);
}

/* Devices that not every machine has. */
static void refused_if_there(const char *path)
{
    int fd = open(path, O_RDWR);

    if (fd < 0)
        skip("%s: %s", path, strerror(errno));
    else
        refused(fd, path);
}

static void accepted_if_there(const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK);

    if (fd < 0)
        skip("%s: %s", path, strerror(errno));
    else
        accepted(fd, path);
}

/* Message queues tell like a pipe. */
static void message_queue(void)
{
    struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = 8};
    char name[64], message[8];
    int epoll = make_epoll();

    snprintf(name, sizeof name, "/uepoll-test-%d", getpid());
    mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attributes);
    if (queue < 0) {
        skip("no message queues: %s", strerror(errno));
        return;
    }
    must(mq_unlink(name));
    is_int(control(epoll, EPOLL_CTL_ADD, queue, EPOLLIN | EPOLLOUT), 0, "message queue: accepted");
    is_mask(wait_mask(epoll, 0), EPOLLOUT, "empty: room only");
    must(mq_send(queue, "one", 3, 0));
    is_mask(wait_mask(epoll, 0), EPOLLIN | EPOLLOUT, "one of two messages: both");
    must(mq_send(queue, "two", 3, 0));
    is_mask(wait_mask(epoll, 0), EPOLLIN, "full: input only");

    must(control(epoll, EPOLL_CTL_MOD, queue, EPOLLIN | EPOLLET));
    is_mask(wait_mask(epoll, 0), EPOLLIN, "edge-triggered: told when changed");
    is_mask(wait_mask(epoll, 0), 0, "once");
    must((int)mq_receive(queue, message, sizeof message, NULL));
    must((int)mq_receive(queue, message, sizeof message, NULL));
    is_mask(wait_mask(epoll, 0), 0, "emptied");
    must(mq_send(queue, "three", 5, 0));
    expect_event(epoll, EPOLLIN, "a message is an edge");
    must(mq_send(queue, "four", 4, 0));
    expect_event(epoll, EPOLLIN, "and so is another one, behind that");
    mq_close(queue);
    close(epoll);
}

int main(void)
{
    sigset_t none;

    sigemptyset(&none);
    refused(open("/proc/self/exe", O_RDONLY), "regular file");
    refused(open("/", O_RDONLY | O_DIRECTORY), "directory");
    refused(open("/dev/null", O_RDWR), "/dev/null");
    refused(open("/dev/zero", O_RDWR), "/dev/zero");
    refused(memfd_create("memory", 0), "memfd");
    refused(open("/proc/self/status", O_RDONLY), "/proc/self/status");

    /* Without poll, of the devices that go by minor numbers of the same major as others with it. */
    refused_if_there("/dev/kvm");
    refused_if_there("/dev/autofs");
    refused_if_there("/dev/btrfs-control");
    refused_if_there("/dev/loop-control");

    accepted(open("/proc/self/mounts", O_RDONLY), "/proc/self/mounts");
    /* Always ready, and with poll all the same. */
    accepted_if_there("/proc/locks");
    accepted_if_there("/proc/self/net/tcp");
    accepted_if_there("/proc/sys/kernel/hostname");
    accepted_if_there("/proc/sys/kernel/ostype");
    accepted_if_there("/proc/pressure/cpu");
    accepted_if_there("/sys/kernel/notes");
    accepted(signalfd(-1, &none, 0), "signalfd");
    accepted(timerfd_create(CLOCK_MONOTONIC, 0), "timerfd");
    accepted(inotify_init(), "inotify");
    accepted(socket(AF_INET, SOCK_STREAM, 0), "fresh TCP socket");
    accepted(make_epoll(), "another epoll");
    accepted((int)syscall(SYS_pidfd_open, getpid(), 0), "pidfd");
    message_queue();
    return done_testing();
}
