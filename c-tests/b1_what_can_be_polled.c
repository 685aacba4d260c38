/*
 * B1: EPERM is for files without a poll operation: regular files, directories, some devices; poll(2) calls those ready.
 */
#include "help.h"

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

    accepted(open("/proc/self/mounts", O_RDONLY), "/proc/self/mounts");
    accepted(signalfd(-1, &none, 0), "signalfd");
    accepted(timerfd_create(CLOCK_MONOTONIC, 0), "timerfd");
    accepted(inotify_init(), "inotify");
    accepted(socket(AF_INET, SOCK_STREAM, 0), "fresh TCP socket");
    accepted(make_epoll(), "another epoll");
    accepted((int)syscall(SYS_pidfd_open, getpid(), 0), "pidfd");
    return done_testing();
}
