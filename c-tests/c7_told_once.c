/*
 * C7: some files tell of a change once, to whoever polls them first, as /proc/self/mounts does. epoll tells its program of it
 * all the same: level- and edge-triggered, asleep or not, beside a crowd, and where there was no room.
 */
#include "help.h"

#include <sched.h>
#include <sys/mount.h>

enum { CROWD = 200 };

static char directory[] = "/tmp/uepoll-mount-XXXXXX";

static void change(void)
{
    static bool mounted;

    must(mounted ? umount(directory) : mount("none", directory, "tmpfs", 0, NULL));
    mounted = !mounted;
}

static void *change_later(void *sleeper)
{
    until_asleep(*(pid_t *)sleeper);
    change();
    return NULL;
}

static int open_mounts(void)
{
    char text[4096];
    int fd = must(open("/proc/self/mounts", O_RDONLY));
    struct pollfd look = {.fd = fd, .events = POLLPRI};

    while (must((int)read(fd, text, sizeof text)) > 0)
        continue;
    must(poll(&look, 1, 0));
    return fd;
}

static void told(int epoll, const char *mode, const char *when)
{
    pid_t self = thread_id();
    pthread_t thread;

    expect_quiet(epoll, "%s, %s: nothing changed", mode, when);
    change();
    expect_event(epoll, EPOLLPRI | EPOLLERR, "%s, %s: changed", mode, when);
    is_mask(wait_mask(epoll, 0), 0, "%s, %s: told once", mode, when);
    pthread_create(&thread, NULL, change_later, &self);
    expect_event(epoll, EPOLLPRI | EPOLLERR, "%s, %s: changed during the wait", mode, when);
    pthread_join(thread, NULL);
    expect_quiet(epoll, "%s, %s: told once", mode, when);
}

static void no_room(int epoll, int mounts, const char *mode)
{
    int bell = make_eventfd(0), first, second;

    watch(epoll, bell, EPOLLIN);
    put(bell);
    change();
    first = wait_fd(epoll, SOON_MS);
    second = wait_fd(epoll, SOON_MS);
    ok(first == bell && second == mounts, "%s: room for one, then for the other", mode);
    unwatch(epoll, bell);
    expect_quiet(epoll, "%s: and that was it", mode);
    close(bell);
}

int main(void)
{
    static const uint32_t modes[] = {EPOLLPRI, EPOLLPRI | EPOLLET};
    static const char *const names[] = {"level", "edge"};
    static int pipes[CROWD][2];

    /* A list of mounts that nobody else changes. */
    if ((unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) ||
        mount(NULL, "/", "none", MS_REC | MS_PRIVATE, NULL) < 0) {
        skip("no mounts of one's own: %s", strerror(errno));
        return done_testing();
    }
    require(mkdtemp(directory));
    for (int i = 0; i < 2; i++) {
        int epoll = make_epoll(), mounts = open_mounts();

        watch(epoll, mounts, modes[i]);
        told(epoll, names[i], "alone");
        no_room(epoll, mounts, names[i]);
        add_crowd(epoll, pipes, CROWD);
        let_idle(epoll);
        told(epoll, names[i], "beside a crowd");
        no_room(epoll, mounts, names[i]);
        for (int k = 0; k < CROWD; k++)
            close_pair(pipes[k]);
        close(mounts);
        close(epoll);
    }
    umount(directory);
    rmdir(directory);
    return done_testing();
}
