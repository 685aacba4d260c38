/*
 * G3: threads only when needed, and not at any price: unshare(2) and setns(2) of what only a process with one thread may
 * have, in a process with a crowd of idle descriptors. And where the table of descriptors is no longer shared, no copy
 * of it is left behind: a close is final (E1).
 */
#include "help.h"

#include <sched.h>

enum { CROWD = 300 };

static int pipes[CROWD][2], epfd;

/* Errors that say what this machine does not allow. */
static bool is_forbidden(int error)
{
    return error == EPERM || error == ENOSPC || error == EUSERS || error == ENOSYS;
}

static int user_of_its_own(void *unused)
{
    (void)unused;
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 ? 0 : errno;
}

static void a_crowd(void)
{
    epfd = make_epoll();
    add_crowd(epfd, pipes, CROWD);
    let_idle(epfd);
}

/* The crowd is waited for as ever. */
static bool goes_on(int one)
{
    put(pipes[one][1]);
    bool told = wait_fd(epfd, SOON_MS) == pipes[one][0];
    drain(pipes[one][0]);
    return told && wait_fd(epfd, 0) == -1;
}

static bool is_final(int one)
{
    must(close(pipes[one][0]));
    return write(pipes[one][1], "x", 1) < 0 && errno == EPIPE;
}

static int with_a_table_of_its_own(void *unused)
{
    (void)unused;
    a_crowd();
    must(unshare(CLONE_FILES | CLONE_FS));
    child_check(is_final(10));
    child_check(goes_on(11));
    let_idle(epfd);
    child_check(is_final(12));
    child_check(goes_on(13));
    return 0;
}

static int with_a_user_of_its_own(void *unused)
{
    (void)unused;
    a_crowd();
    child_check(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
    child_check(goes_on(20));
    let_idle(epfd);

    int mounts = must(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));

    child_check(setns(mounts, CLONE_NEWNS) == 0);
    child_check(goes_on(21));
    let_idle(epfd);
    child_check(syscall(SYS_unshare, CLONE_FILES) == 0);
    child_check(is_final(22));
    child_check(goes_on(23));
    return 0;
}

static void *nap(void *stop)
{
    while (!*(_Atomic bool *)stop)
        sleep_ms(1);
    return NULL;
}

static int with_threads(void *unused)
{
    static _Atomic bool stop;
    pthread_t thread;

    (void)unused;
    a_crowd();
    require(pthread_create(&thread, NULL, nap, (void *)&stop) == 0);
    child_check(unshare(CLONE_NEWUSER) == -1 && errno == EINVAL);
    child_check(unshare(-1) == -1 && errno == EINVAL);
    child_check(setns(-1, 0) == -1 && errno == EBADF);
    child_check(goes_on(30));
    stop = true;
    require(pthread_join(thread, NULL) == 0);
    return 0;
}

int main(void)
{
    time_limit(60);
    signal(SIGPIPE, SIG_IGN);
    is_int(run_child(with_a_table_of_its_own, NULL), 0, "a table of descriptors of its own: closes are final, the crowd is heard");
    is_int(run_child(with_threads, NULL), 0, "a process with threads is refused what it is natively");

    int error = run_child(user_of_its_own, NULL);

    if (is_forbidden(error))
        skip("no user namespaces here (errno %d)", error);
    else
        is_int(run_child(with_a_user_of_its_own, NULL), 0, "a user and mounts of its own, left and entered: the crowd is heard");
    return done_testing();
}
