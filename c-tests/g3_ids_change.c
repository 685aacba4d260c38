/*
 * G3: "no handler on our threads". But one: setuid(2) and its kin concern a thread only, and the C library makes them
 * hold for the process by a signal of its own that each thread must answer, those of the library too.
 */
#include "help.h"

#include <dirent.h>

enum { CROWD = 300, PATIENCE_S = 8 };

static uid_t new_id;

static void *change_ids(void *unused)
{
    (void)unused;
    /* For who is not root it is the same id; the threads are asked all the same. */
    must(setresgid(new_id ? new_id : getgid(), new_id ? new_id : getgid(), -1));
    must(setuid(new_id));
    return NULL;
}

/* How many threads of this process do not have the id. */
static int threads_without_id(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    int others = 0;

    require(tasks);
    while ((task = readdir(tasks))) {
        char name[280], line[128];
        unsigned real, effective;
        FILE *status;

        snprintf(name, sizeof name, "/proc/self/task/%s/status", task->d_name);
        if (task->d_name[0] == '.' || !(status = fopen(name, "r")))
            continue; /* a thread that has ended */
        while (fgets(line, sizeof line, status))
            if (sscanf(line, "Uid: %u %u", &real, &effective) == 2 && (real != new_id || effective != new_id))
                others++;
        fclose(status);
    }
    closedir(tasks);
    return others;
}

int main(void)
{
    static int pipes[CROWD][2];
    struct timespec deadline;
    struct waiter waiter;
    pthread_t changer;
    int epfd = make_epoll(), status;

    add_crowd(epfd, pipes, CROWD);
    let_idle(epfd);
    new_id = getuid() ? getuid() : 65534;
    must(clock_gettime(CLOCK_REALTIME, &deadline));
    deadline.tv_sec += PATIENCE_S;
    require(pthread_create(&changer, NULL, change_ids, NULL) == 0);
    status = pthread_timedjoin_np(changer, NULL, &deadline);
    ok(status == 0, "setresgid and setuid return, beside a crowd of idle descriptors");
    if (status != 0)
        return done_testing();
    is_int(threads_without_id(), 0, "threads that have another id");

    waiter_start(&waiter, epfd, -1);
    put(pipes[CROWD / 2][1]);
    ok(waiter_got(&waiter, pipes[CROWD / 2][0], EPOLLIN), "and one of the crowd is heard");
    return done_testing();
}
