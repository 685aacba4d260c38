/*
 * E8: "exec: CLOEXEC as asked; nothing of the library leaks into the new program": it has just the descriptors it
 * should have.
 */
#include "help.h"

#include <dirent.h>

enum { MOST = 1 << 20 };

static bool is_open[MOST];

static void look_at_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");

    require(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        int fd = atoi(entry->d_name);

        if (entry->d_name[0] != '.' && fd < MOST && fd != dirfd(directory))
            is_open[fd] = true;
    }
    closedir(directory);
}

/* What is_open has, as a list for the command line. */
static const char *open_list(void)
{
    static char list[1024];
    size_t used = 0;

    for (int fd = 0; fd < MOST && used < sizeof list; fd++)
        if (is_open[fd])
            used += (size_t)snprintf(list + used, sizeof list - used, "%d ", fd);
    return list;
}

static int check_in_new_program(const char *expected)
{
    if (strcmp(open_list(), expected) == 0)
        return 0;
    dprintf(STDERR_FILENO, "# descriptors: %s, expected: %s\n", open_list(), expected);
    return 1;
}

static int exec_with(const char *self, const char *expected)
{
    pid_t child = must(fork());

    if (child == 0) {
        execl("/proc/self/exe", self, expected, (char *)NULL);
        _exit(127);
    }
    return child_result(child);
}

int main(int argc, char **argv)
{
    int pair[2], crowd[2], epfd;

    look_at_descriptors();
    if (argc > 1)
        return check_in_new_program(argv[1]);

    is_open[must(dup(STDIN_FILENO))] = true;
    epfd = make_epoll();
    pipe_pair(pair);
    watch(epfd, pair[0], EPOLLIN);
    for (int i = 0; i < 50; i++) {
        pipe_pair(crowd);
        watch(epfd, crowd[0], EPOLLIN);
    }
    is_int(wait_mask(epfd, IDLE_MS), 0, "an instance with a crowd of idle descriptors");

    is_int(exec_with(argv[0], open_list()), 0, "after exec only what is not CLOEXEC is open");
    must(fcntl(epfd, F_SETFD, 0));
    is_open[epfd] = true;
    is_int(exec_with(argv[0], open_list()), 0, "and the epoll descriptor, when its FD_CLOEXEC was taken away");

    put(pair[1]);
    is_int(wait_fd(epfd, SOON_MS), pair[0], "and the parent works on");
    return done_testing();
}
