/*
 * B6: "ENOSPC past the per-user limit in /proc/sys/fs/epoll/max_user_watches."
 *
 * The limit belongs to the whole system, and watches are counted by user. So it is lowered to a number that nobody else
 * reaches, for the moment in which another user id (that owns no watch yet) fills it up. That child is executed anew,
 * as the limit may be read just once, at start. (a4_enomem, which reaches it, waits for the lock on the file.) The
 * guardian puts the old limit back when the test ends, however it ends.
 */
#include "help.h"

#include <sys/file.h>

static const char path[] = "/proc/sys/fs/epoll/max_user_watches";

enum { LIMIT = 20000, FDS = 200, OTHER_USER = 64321 };

static void write_limit(const char *text)
{
    int fd = must(open(path, O_WRONLY | O_CLOEXEC));

    must(write(fd, text, strlen(text)));
    must(close(fd));
}

/* Returns a descriptor, and the guardian restores the limit when its last copy is closed. */
static int start_guardian(const char *old_limit, pid_t *guardian)
{
    int life[2];
    char byte;

    must(pipe2(life, O_CLOEXEC));
    *guardian = must(fork());
    if (*guardian == 0) {
        must(setsid()); /* signals to our group are not for the guardian */
        must(close(life[1]));
        while (read(life[0], &byte, 1) < 0)
            continue;
        write_limit(old_limit);
        _exit(0);
    }
    must(close(life[0]));
    return life[1];
}

/* As the other user: adds 200 descriptors to 100 instances, which is just the limit, and then one more. */
static int fill_up(void)
{
    int fds[FDS], epfds[LIMIT / FDS + 1], refused = 0;

    must(setuid(OTHER_USER));
    for (int i = 0; i < FDS; i++)
        fds[i] = make_eventfd(0);
    for (int i = 0; i <= LIMIT / FDS; i++)
        epfds[i] = make_epoll();
    for (int i = 0; i < LIMIT; i++)
        refused += control(epfds[i / FDS], EPOLL_CTL_ADD, fds[i % FDS], EPOLLIN) != 0;
    child_check(refused == 0);

    int last = epfds[LIMIT / FDS];
    child_check(control(last, EPOLL_CTL_ADD, fds[0], EPOLLIN) == -1 && errno == ENOSPC);
    child_check(control(epfds[0], EPOLL_CTL_ADD, fds[0], EPOLLIN) == -1 && errno == EEXIST); /* found before ENOSPC */
    child_check(control(last, EPOLL_CTL_MOD, fds[0], EPOLLIN) == -1 && errno == ENOENT);
    child_check(control(epfds[0], EPOLL_CTL_MOD, fds[0], EPOLLOUT) == 0); /* what is there works */
    child_check(wait_mask(epfds[0], SOON_MS) == EPOLLOUT);

    child_check(epoll_ctl(epfds[0], EPOLL_CTL_DEL, fds[0], NULL) == 0); /* DEL makes room for one */
    child_check(control(last, EPOLL_CTL_ADD, fds[0], EPOLLIN) == 0);
    child_check(control(last, EPOLL_CTL_ADD, fds[1], EPOLLIN) == -1 && errno == ENOSPC);

    must(close(epfds[1])); /* closing an instance for all that it had */
    for (int i = 1; i < FDS; i++)
        child_check(control(last, EPOLL_CTL_ADD, fds[i], EPOLLIN) == 0);
    child_check(control(make_epoll(), EPOLL_CTL_ADD, fds[0], EPOLLIN) == 0);
    child_check(control(make_epoll(), EPOLL_CTL_ADD, fds[0], EPOLLIN) == -1 && errno == ENOSPC);

    must(close(fds[5])); /* and closing a file, for its item in each instance */
    child_check(control(make_epoll(), EPOLL_CTL_ADD, fds[0], EPOLLIN) == 0);
    return 0;
}

int main(int argc, char **argv)
{
    char old_limit[32] = "", new_limit[32], after[32] = "";
    pid_t guardian;

    if (argc > 1)
        return fill_up();
    if (geteuid() != 0)
        skip_all("lowering max_user_watches needs root");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        skip_all("there is no max_user_watches here");
    must(flock(fd, LOCK_EX)); /* against this same test, run twice; the guardian holds it, too */
    must(read(fd, old_limit, sizeof old_limit - 1));
    if (access(path, W_OK) != 0 || atol(old_limit) < LIMIT)
        skip_all("max_user_watches cannot be lowered here");

    int life = start_guardian(old_limit, &guardian);
    snprintf(new_limit, sizeof new_limit, "%d\n", LIMIT);
    write_limit(new_limit);
    pid_t child = must(fork());
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/proc/self/exe", argv[0], "fill", (char *)NULL);
        _exit(127);
    }
    is_int(child_result(child), 0, "ENOSPC from the first watch too many, until there is room again");

    must(close(life));
    is_int(child_result(guardian), 0, "the limit is put back");
    must(pread(fd, after, sizeof after - 1, 0));
    ok(strcmp(after, old_limit) == 0, "to what it was");
    return done_testing();
}
