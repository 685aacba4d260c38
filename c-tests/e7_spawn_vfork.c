/* E7: "vfork and posix_spawn children that close descriptors change nothing in the parent." */
#include "help.h"

#include <spawn.h>

enum { ROUNDS = 20 };

static int epfd, pair[2];

/* The child shares our memory: what it closes must be found open here all the same. */
__attribute__((noinline)) static int vfork_and_close(int first, int second)
{
    int status;
    pid_t child = vfork();

    if (child == 0) {
        close(first);
        close(second);
        _exit(7);
    }
    must(child);
    must(waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

__attribute__((noinline)) static int vfork_and_sweep(int first)
{
    int status;
    pid_t child = vfork();

    if (child == 0) {
        dup2(STDIN_FILENO, first);
        close_range((unsigned)first, ~0u, 0);
        _exit(7);
    }
    must(child);
    must(waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int spawn_and_close(const char *self)
{
    char *arguments[] = {(char *)self, "child", NULL}, *no_environment[] = {NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status;

    must_zero(posix_spawn_file_actions_init(&actions));
    must_zero(posix_spawn_file_actions_addclose(&actions, epfd));
    must_zero(posix_spawn_file_actions_addclose(&actions, pair[1]));
    must_zero(posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, pair[0]));
    must_zero(posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, no_environment));
    must_zero(posix_spawn_file_actions_destroy(&actions));
    must(waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void parent_works(const char *after)
{
    struct waiter waiter;

    drain(pair[0]);
    expect_quiet(epfd, "%s: the parent's instance is quiet", after);
    waiter_start(&waiter, epfd, SOON_MS);
    put(pair[1]);
    ok(waiter_got(&waiter, pair[0], EPOLLIN), "%s: and reports its item", after);
    is_errno(control(epfd, EPOLL_CTL_ADD, pair[0], EPOLLIN), EEXIST, "%s: which is still there", after);
}

int main(int argc, char **argv)
{
    int wrong = 0;

    if (argc > 1)
        return 7;
    epfd = make_epoll();
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    expect_quiet(epfd, "a quiet instance");

    is_int(vfork_and_close(pair[0], pair[1]), 7, "a vfork child closes the item");
    parent_works("the item closed");
    is_int(vfork_and_close(epfd, pair[0]), 7, "a vfork child closes the epoll descriptor, too");
    parent_works("the epoll descriptor closed");
    is_int(vfork_and_sweep(STDERR_FILENO + 1), 7, "a vfork child closes all");
    parent_works("all closed");
    is_int(spawn_and_close(argv[0]), 7, "a posix_spawn child closes both, and replaces the item");
    parent_works("posix_spawn");
    int stream_status = pclose(popen("exit 7", "r"));
    is_int(WEXITSTATUS(stream_status), 7, "popen");
    is_int(WEXITSTATUS(system("exit 7")), 7, "system");
    parent_works("popen and system");

    for (int i = 0; i < ROUNDS; i++) {
        drain(pair[0]);
        wrong += vfork_and_close(epfd, pair[0]) != 7 || wait_mask(epfd, 0) != 0;
        put(pair[1]);
        wrong += spawn_and_close(argv[0]) != 7 || wait_fd(epfd, SOON_MS) != pair[0];
    }
    is_int(wrong, 0, "%d times over", ROUNDS);
    return done_testing();
}
