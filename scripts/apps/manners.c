/* The program of manners.sh: each word of its command line is one way to behave that a preloaded library has to bear.
 * Each prints one line and returns, or says what is wrong and ends with status 1. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(holds)                                                                                    \
    do                                                                                                  \
        if (!(holds)) {                                                                                 \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #holds, strerror(errno));   \
            exit(1);                                                                                    \
        }                                                                                               \
    while (0)

extern char **environ;

static void watch(int epfd, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = { .events = events, .data.u64 = data };
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
}

/* Takes it out before it is closed: a forked child may have the same file open still. */
static void unwatch(int epfd, int fd)
{
    CHECK(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL) == 0);
    CHECK(close(fd) == 0);
}

/* As epoll_wait, for 20 s and for one event. The kernel's ends with EINTR for a SIGCHLD that nobody handles, where it
 * was sent while posix_spawn had it blocked, and for another thread's setuid. */
static int wait_one(int epfd, struct epoll_event *event)
{
    int count;
    do
        count = epoll_wait(epfd, event, 1, 20000);
    while (count < 0 && errno == EINTR);
    return count;
}

/* The number of open descriptors; the library's own are counted out, as they come and go: all above `limit`. */
static int descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        int number = atoi(entry->d_name);
        count += entry->d_name[0] != '.' && number != dirfd(directory) && number < 1000;
    }
    closedir(directory);
    return count;
}

/* --- work: threads that write, allocate and free, one that waits, a forked child that does it all once more --- */

enum { PAIRS = 60, WRITERS = 4 };

struct writer {
    int first, rounds;
    int (*pairs)[2];
};

static void *write_all(void *argument)
{
    struct writer *writer = argument;
    for (int round = 0; round < writer->rounds; round++)
        for (int pair = writer->first; pair < PAIRS; pair += WRITERS) {
            /* Given away to the reader, which frees it: allocators have a list for each thread. */
            uint32_t *message = malloc(8 + (size_t)(round * 37 + pair) % 5000);
            CHECK(message);
            message[0] = (uint32_t)pair;
            message[1] = (uint32_t)round;
            ssize_t count;
            do
                count = write(writer->pairs[pair][1], &message, sizeof message);
            while (count < 0 && errno == EAGAIN && poll(NULL, 0, 1) == 0);
            CHECK(count == sizeof message);
        }
    return NULL;
}

static long exchange(int rounds)
{
    int pairs[PAIRS][2], before = descriptors();
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epfd >= 0);
    for (int pair = 0; pair < PAIRS; pair++) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pairs[pair]) == 0);
        watch(epfd, pairs[pair][0], pair % 2 ? EPOLLIN | EPOLLET : EPOLLIN, (uint64_t)pair);
    }
    pthread_t threads[WRITERS];
    struct writer writers[WRITERS];
    for (int number = 0; number < WRITERS; number++) {
        writers[number] = (struct writer){ number, rounds, pairs };
        CHECK(pthread_create(&threads[number], NULL, write_all, &writers[number]) == 0);
    }
    long got = 0;
    uint32_t next[PAIRS] = { 0 };
    while (got < (long)rounds * PAIRS) {
        struct epoll_event events[16];
        int count = epoll_wait(epfd, events, 16, 20000);
        CHECK(count > 0);
        for (int at = 0; at < count; at++) {
            uint64_t pair = events[at].data.u64;
            uint32_t *message;
            CHECK(events[at].events == EPOLLIN);
            while (read(pairs[pair][0], &message, sizeof message) == sizeof message) {
                CHECK(message[0] == pair && message[1] == next[pair]++);
                free(message);
                got++;
            }
            CHECK(errno == EAGAIN);
        }
    }
    for (int number = 0; number < WRITERS; number++)
        CHECK(pthread_join(threads[number], NULL) == 0);
    struct epoll_event none;
    CHECK(epoll_wait(epfd, &none, 1, 0) == 0);
    for (int pair = 0; pair < PAIRS; pair++) {
        close(pairs[pair][0]);
        close(pairs[pair][1]);
    }
    close(epfd);
    CHECK(descriptors() == before);
    return got;
}

static int status_of(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static long work_with(int rounds)
{
    long got = exchange(rounds);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        exit(exchange(rounds) == (long)rounds * PAIRS ? 0 : 3);
    got += exchange(rounds);
    CHECK(status_of(child) == 0);
    return got;
}

static void work(void)
{
    printf("work: %ld messages, and half as many in a child\n", work_with(200));
}

/* For machines that are made slow by who looks on. */
static void little(void)
{
    printf("little: %ld messages, and half as many in a child\n", work_with(10));
}

/* --- alarms: a handler that waits itself, a thousand times a second, in the middle of waits and epoll_ctl --- */

static volatile sig_atomic_t alarms;
static int alarmed_epfd;

static void on_alarm(int signal_number)
{
    int saved = errno;
    struct epoll_event event;
    (void)signal_number;
    CHECK(epoll_wait(alarmed_epfd, &event, 1, 0) >= 0);
    alarms++;
    errno = saved;
}

static void alarmed(void)
{
    enum { ENOUGH = 100 };
    int bell = eventfd(1, EFD_CLOEXEC);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
    alarmed_epfd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(bell >= 0 && alarmed_epfd >= 0);
    watch(alarmed_epfd, bell, EPOLLIN, 1);
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int round = 0; alarms < ENOUGH; round++) {
        struct epoll_event event = {.events = round % 2 ? EPOLLIN : EPOLLOUT};
        CHECK(epoll_ctl(alarmed_epfd, EPOLL_CTL_MOD, bell, &event) == 0);
        CHECK(epoll_wait(alarmed_epfd, &event, 1, 0) == 1);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    action.sa_handler = SIG_DFL;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    close(bell);
    close(alarmed_epfd);
    printf("alarmed: %d times\n", ENOUGH);
}

/* --- children: 1,000 forked and reaped by one event loop --- */

enum { CHILDREN = 1000, AT_ONCE = 40 };

static void children(void)
{
    int before = descriptors(), epfd = epoll_create1(EPOLL_CLOEXEC), started = 0, reaped = 0;
    long bytes = 0;
    static int pipes[CHILDREN], pidfds[CHILDREN];
    CHECK(epfd >= 0);
    while (reaped < CHILDREN) {
        while (started < CHILDREN && started - reaped < AT_ONCE) {
            int ends[2];
            CHECK(pipe2(ends, O_CLOEXEC) == 0);
            pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                /* It has inherited the instance and may close it. */
                close(epfd);
                int number = started;
                CHECK(write(ends[1], &number, sizeof number) == sizeof number);
                _exit(started % 256);
            }
            close(ends[1]);
            pipes[started] = ends[0];
            pidfds[started] = (int)syscall(SYS_pidfd_open, child, 0);
            CHECK(pidfds[started] >= 0);
            watch(epfd, pipes[started], EPOLLIN, (uint64_t)started);
            watch(epfd, pidfds[started], EPOLLIN, (uint64_t)started | 1U << 31);
            started++;
        }
        struct epoll_event events[16];
        int count = epoll_wait(epfd, events, 16, 20000);
        CHECK(count > 0);
        for (int at = 0; at < count; at++) {
            int number = (int)(events[at].data.u64 & 0x7fffffff);
            if (events[at].data.u64 >> 31) {
                siginfo_t info = { 0 };
                CHECK(waitid(P_PIDFD, (id_t)pidfds[number], &info, WEXITED) == 0);
                CHECK(info.si_code == CLD_EXITED && info.si_status == number % 256);
                unwatch(epfd, pidfds[number]);
                reaped++;
            } else {
                int said;
                ssize_t length = read(pipes[number], &said, sizeof said);
                CHECK(length >= 0);
                if (length == 0) {
                    unwatch(epfd, pipes[number]);
                } else {
                    CHECK(length == sizeof said && said == number);
                    bytes += length;
                }
            }
        }
    }
    /* Ends of pipes that come after the child was reaped. */
    for (;;) {
        struct epoll_event event;
        int said, count = epoll_wait(epfd, &event, 1, 0);
        CHECK(count >= 0);
        if (count == 0)
            break;
        ssize_t length = read(pipes[event.data.u64], &said, sizeof said);
        CHECK(length >= 0);
        bytes += length;
        if (length == 0)
            unwatch(epfd, pipes[event.data.u64]);
    }
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    CHECK(bytes == (long)(CHILDREN * sizeof(int)));
    close(epfd);
    CHECK(descriptors() == before);
    printf("children: %d forked and reaped\n", reaped);
}

/* --- spawn: posix_spawn with file actions, and vfork, by threads, while another waits on what they redirect --- */

static int shared_epfd, shared_pipe[2];

static void *spawn_some(void *unused)
{
    (void)unused;
    for (int round = 0; round < 25; round++) {
        posix_spawn_file_actions_t actions;
        CHECK(posix_spawn_file_actions_init(&actions) == 0);
        /* The child says its word into the watched pipe, and closes its copies of all that the parent watches. */
        CHECK(posix_spawn_file_actions_adddup2(&actions, shared_pipe[1], 1) == 0);
        CHECK(posix_spawn_file_actions_addclose(&actions, shared_pipe[0]) == 0);
        CHECK(posix_spawn_file_actions_addclose(&actions, shared_pipe[1]) == 0);
        CHECK(posix_spawn_file_actions_addclose(&actions, shared_epfd) == 0);
        CHECK(posix_spawn_file_actions_addopen(&actions, shared_epfd, "/dev/null", O_RDWR, 0) == 0);
        CHECK(posix_spawn_file_actions_addchdir_np(&actions, "/") == 0);
        char *arguments[] = { "sh", "-c", "printf x; test \"$(pwd)\" = /", NULL };
        pid_t child;
        CHECK(posix_spawn(&child, "/bin/sh", &actions, NULL, arguments, environ) == 0);
        posix_spawn_file_actions_destroy(&actions);
        CHECK(status_of(child) == 0);
        child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            dup2(shared_pipe[1], 1);
            close(shared_pipe[0]);
            close(shared_epfd);
            execl("/bin/sh", "sh", "-c", "printf y", (char *)NULL);
            _exit(127);
        }
        CHECK(status_of(child) == 0);
        /* One that cannot be executed: the error comes back, and nothing else happens. */
        CHECK(posix_spawn(&child, "/nothing/there", NULL, NULL, arguments, environ) == ENOENT);
    }
    return NULL;
}

static void spawn(void)
{
    int before = descriptors(), got[2] = { 0, 0 };
    shared_epfd = epoll_create1(0);
    CHECK(shared_epfd >= 0 && pipe2(shared_pipe, 0) == 0);
    CHECK(fcntl(shared_pipe[0], F_SETFL, O_NONBLOCK) == 0);
    watch(shared_epfd, shared_pipe[0], EPOLLIN | EPOLLET, 7);
    pthread_t threads[4];
    for (int number = 0; number < 4; number++)
        CHECK(pthread_create(&threads[number], NULL, spawn_some, NULL) == 0);
    while (got[0] + got[1] < 200) {
        struct epoll_event event;
        char text[64];
        CHECK(wait_one(shared_epfd, &event) == 1 && event.data.u64 == 7 && event.events == EPOLLIN);
        for (ssize_t count; (count = read(shared_pipe[0], text, sizeof text)) > 0;)
            for (ssize_t at = 0; at < count; at++)
                got[text[at] == 'y']++;
    }
    for (int number = 0; number < 4; number++)
        CHECK(pthread_join(threads[number], NULL) == 0);
    CHECK(got[0] == 100 && got[1] == 100);
    close(shared_pipe[0]);
    close(shared_pipe[1]);
    close(shared_epfd);
    CHECK(descriptors() == before);
    printf("spawn: 100 by posix_spawn, 100 by vfork\n");
}

/* --- setuid: with threads that wait; glibc signals each of them, and waits until each has changed its ids --- */

enum { WAITERS = 3, IDLE = 300 };

static void *wait_for_end(void *unused)
{
    (void)unused;
    struct epoll_event event;
    CHECK(wait_one(shared_epfd, &event) == 1);
    CHECK(event.data.u64 == 99);
    return NULL;
}

/* How many threads have not that user id as their effective one. */
static int threads_without(uid_t uid, int *all)
{
    int others = 0;
    DIR *directory = opendir("/proc/self/task");
    CHECK(directory);
    *all = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char name[300], line[200];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(name, "r");
        if (!file)
            continue; /* it has ended */
        unsigned real, effective = ~0U;
        while (fgets(line, sizeof line, file))
            if (sscanf(line, "Uid: %u %u", &real, &effective) == 2)
                break;
        fclose(file);
        ++*all;
        others += effective != uid;
    }
    closedir(directory);
    return others;
}

static void *change_ids(void *argument)
{
    uid_t uid = *(uid_t *)argument;
    /* Without being root it is the same id, and glibc asks all threads nevertheless. */
    CHECK(setgid(uid ? uid : getgid()) == 0 || getuid() != 0);
    CHECK(setuid(uid) == 0);
    return NULL;
}

static void ids(void)
{
    int before = descriptors(), all, bell = eventfd(0, EFD_CLOEXEC), busy[2];
    static int idle[IDLE][2];
    pthread_t waiters[WAITERS], changer;
    uid_t uid = getuid() == 0 ? 65534 : getuid();
    struct rlimit limit = { 0, 0 };
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    shared_epfd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(shared_epfd >= 0 && bell >= 0);
    /* Many that are idle: the library has threads of its own for these, that the C library signals too. */
    for (int number = 0; number < IDLE; number++) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, idle[number]) == 0);
        watch(shared_epfd, idle[number][0], EPOLLIN, (uint64_t)number + 100);
    }
    CHECK(pipe2(busy, O_CLOEXEC) == 0);
    watch(shared_epfd, busy[0], EPOLLIN, 1);
    for (int round = 0; round < 3000; round++) {
        struct epoll_event event;
        char byte = 'x';
        CHECK(write(busy[1], &byte, 1) == 1);
        CHECK(epoll_wait(shared_epfd, &event, 1, 20000) == 1 && event.data.u64 == 1);
        CHECK(read(busy[0], &byte, 1) == 1);
    }
    for (int number = 0; number < WAITERS; number++)
        CHECK(pthread_create(&waiters[number], NULL, wait_for_end, NULL) == 0);
    usleep(50000);
    CHECK(pthread_create(&changer, NULL, change_ids, &uid) == 0);
    CHECK(pthread_join(changer, NULL) == 0);
    CHECK(geteuid() == uid && threads_without(uid, &all) == 0);
    /* All still wait, and one of the idle ones is heard. */
    watch(shared_epfd, bell, EPOLLIN, 99);
    uint64_t one = 1;
    CHECK(write(bell, &one, sizeof one) == sizeof one);
    for (int number = 0; number < WAITERS; number++)
        CHECK(pthread_join(waiters[number], NULL) == 0);
    CHECK(read(bell, &one, sizeof one) == sizeof one && write(idle[200][1], "x", 1) == 1);
    struct epoll_event event;
    CHECK(epoll_wait(shared_epfd, &event, 1, 20000) == 1 && event.data.u64 == 300);
    for (int number = 0; number < IDLE; number++) {
        close(idle[number][0]);
        close(idle[number][1]);
    }
    close(busy[0]);
    close(busy[1]);
    close(bell);
    close(shared_epfd);
    CHECK(descriptors() == before);
    printf("ids: changed for all threads, while %d of them waited\n", WAITERS);
}

/* --- unshare: of what needs a process with one thread --- */

static void unshared(void)
{
    int epfd = epoll_create1(EPOLL_CLOEXEC), ends[2], others[2];
    struct epoll_event event;
    CHECK(epfd >= 0 && pipe2(ends, O_CLOEXEC) == 0);
    watch(epfd, ends[0], EPOLLIN, 1);
    CHECK(epoll_wait(epfd, &event, 1, 10) == 0);
    CHECK(unshare(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM) == 0);
    /* EINVAL here is a process with threads. */
    const char *user = "with";
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        CHECK(errno == EPERM || errno == ENOSPC);
        user = "without permission for";
    }
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(epoll_wait(epfd, &event, 1, 20000) == 1 && event.data.u64 == 1);
    CHECK(pipe2(others, O_CLOEXEC) == 0);
    watch(epfd, others[1], EPOLLOUT | EPOLLET, 2);
    int found = 0;
    for (int round = 0; round < 2; round++) {
        CHECK(epoll_wait(epfd, &event, 1, 20000) == 1);
        found |= 1 << event.data.u64;
    }
    CHECK(found == 6);
    printf("unshared: files and file system, %s a user and a network of its own\n", user);
}

/* --- exec: a program without a dynamic loader, by three ways --- */

static void execute(const char *program)
{
    char *arguments[] = { (char *)program, "9", NULL };
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        execv(program, arguments);
        _exit(127);
    }
    CHECK(status_of(child) == 9);
    CHECK(posix_spawn(&child, program, NULL, NULL, arguments, environ) == 0);
    CHECK(status_of(child) == 9);
    char command[4096];
    snprintf(command, sizeof command, "'%s' 9", program);
    int status = system(command);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9);
    printf("exec: by fork, posix_spawn and system\n");
}

/* --- load: a library by dlopen, and away with it --- */

static void load(const char *library)
{
    long got = exchange(20);
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    got += work_with(20);
    CHECK(dlclose(handle) == 0);
    got += work_with(20);
    handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    CHECK(handle);
    got += work_with(20);
    printf("load: %ld messages before, between and after\n", got);
}

int main(int count, char **words)
{
    CHECK(count > 1);
    for (int at = 1; at < count; at++) {
        const char *word = words[at];
        if (!strcmp(word, "work")) work();
        else if (!strcmp(word, "little")) little();
        else if (!strcmp(word, "alarmed")) alarmed();
        else if (!strcmp(word, "children")) children();
        else if (!strcmp(word, "spawn")) spawn();
        else if (!strcmp(word, "ids")) ids();
        else if (!strcmp(word, "unshared")) unshared();
        else if (!strcmp(word, "exec") && ++at < count) execute(words[at]);
        else if (!strcmp(word, "load") && ++at < count) load(words[at]);
        else CHECK(!"a word that is known");
        fflush(stdout);
    }
    return 0;
}
