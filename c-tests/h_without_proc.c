/* H: the library must not need /proc, which a sandbox may lack. (Not in SEMANTICS.md: to the kernel it makes no difference.) */
#include "help.h"

#include <sched.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

enum { CROWD = 200 };

static int epfd;

static void message(int fd)
{
    put(fd);
}

static void sent_signal(int unused)
{
    (void)unused;
    must_zero(raise(SIGRTMIN));
}

static void touched(int unused)
{
    static char name[] = "/proc/touched0";

    (void)unused;
    name[sizeof name - 2]++;
    must(close(must(open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600))));
}

/* Nobody takes what comes. */
static void undrained(const char *kind, int fd, void (*stir)(int), int argument)
{
    watch(epfd, fd, EPOLLIN | EPOLLET);
    expect_quiet(epfd, "%s: nothing came", kind);
    for (int i = 1; i <= 3; i++) {
        stir(argument);
        expect_event(epfd, EPOLLIN, "%s: %d is an edge", kind, i);
        expect_quiet(epfd, "%s: told once", kind);
    }
    unwatch(epfd, fd);
}

static void refused(const char *path, int flags)
{
    int fd = must(open(path, flags | O_CLOEXEC, 0600));

    is_errno(control(epfd, EPOLL_CTL_ADD, fd, EPOLLIN), EPERM, "%s has no poll", path);
    must(close(fd));
}

int main(void)
{
    int pair[2], fd, crowd[CROWD][2];
    struct itimerspec soon = {.it_value.tv_nsec = 1000000};
    sigset_t set;

    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/proc", "tmpfs", 0, NULL) < 0) {
        skip("/proc cannot be hidden: %s", strerror(errno));
        return done_testing();
    }
    epfd = make_epoll();
    ok(access("/proc/self", F_OK) < 0, "there is no /proc");
    pipe_pair(pair);
    undrained("pipe", pair[0], message, pair[1]);
    close_pair(pair);
    unix_pair(SOCK_DGRAM, pair);
    undrained("UNIX datagrams", pair[0], message, pair[1]);
    close_pair(pair);
    tcp_pair(pair);
    undrained("TCP", pair[0], message, pair[1]);
    close_pair(pair);
    fd = make_eventfd(0);
    undrained("eventfd", fd, message, fd);
    must(close(fd));
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    must_zero(pthread_sigmask(SIG_BLOCK, &set, NULL));
    fd = must(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    undrained("signalfd", fd, sent_signal, 0);
    must(close(fd));
    fd = must(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    must(inotify_add_watch(fd, "/proc", IN_CREATE | IN_OPEN));
    undrained("inotify", fd, touched, 0);
    must(close(fd));

    fd = must(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    watch(epfd, fd, EPOLLIN);
    must(timerfd_settime(fd, 0, &soon, NULL));
    expect_event(epfd, EPOLLIN, "a timer");
    must(close(fd));
    refused("/tmp", O_RDONLY);
    refused("/dev/null", O_RDONLY);
    refused("/proc/touched1", O_RDWR);

    add_crowd(epfd, crowd, CROWD);
    let_idle(epfd);
    put(crowd[CROWD / 2][1]);
    is_int(wait_fd(epfd, SOON_MS), crowd[CROWD / 2][0], "one of an idle crowd");
    return done_testing();
}
