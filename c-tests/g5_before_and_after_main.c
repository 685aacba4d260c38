/*
 * G5: epoll works before main (in .preinit_array, where no library has been set up, and in constructors), in exit
 * handlers, in destructors, and in those of thread-specific data: all on one instance, that lives through it.
 */
#include "help.h"

enum { ALL_WELL = 42 };

static int epfd = -1, bell = -1, good;
static bool is_child;

/* One wait that finds nothing, one that finds an event; false where anything is wrong. */
static bool works(void)
{
    struct epoll_event event;

    return epfd >= 0 && wait_one(epfd, &event, 1) == 0 && eventfd_write(bell, 1) == 0 &&
           wait_one(epfd, &event, SOON_MS) == 1 && event.data.fd == bell && wait_one(epfd, &event, 0) == 0 &&
           control(epfd, EPOLL_CTL_MOD, bell, EPOLLIN | EPOLLET) == 0 && wait_one(epfd, &event, 0) == 1;
}

static void before_everything(int argc, char **argv, char **environment)
{
    (void)argv, (void)environment;
    is_child = argc > 1;
    epfd = epoll_create1(EPOLL_CLOEXEC);
    bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    good += epfd >= 0 && control(epfd, EPOLL_CTL_ADD, bell, EPOLLIN | EPOLLET) == 0 && works();
}

__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) = before_everything;

__attribute__((constructor(101))) static void early_constructor(void)
{
    good += works();
}

__attribute__((constructor)) static void constructor(void)
{
    good += works();
}

static void of_a_thread(void *unused)
{
    (void)unused;
    good += works();
}

static void *end_at_once(void *key)
{
    pthread_setspecific(*(pthread_key_t *)key, key);
    return NULL;
}

static void at_exit(void)
{
    good += works();
}

static void at_exit_with_status(int status, void *unused)
{
    (void)unused;
    good += status == 7 && works();
}

__attribute__((destructor(101))) static void late_destructor(void)
{
    if (!is_child)
        return;
    good += works();
    _exit(good == 9 ? ALL_WELL : good); /* what the parent looks at */
}

__attribute__((destructor)) static void destructor(void)
{
    if (is_child)
        good += works();
}

static int child_main(void)
{
    pthread_key_t key;
    pthread_t thread;

    must_zero(pthread_key_create(&key, of_a_thread));
    must_zero(pthread_create(&thread, NULL, end_at_once, &key));
    must_zero(pthread_join(thread, NULL));
    must(atexit(at_exit));
    must(on_exit(at_exit_with_status, NULL));
    good += works();
    exit(7);
}

int main(int argc, char **argv)
{
    int early = good;

    if (argc > 1)
        return child_main();
    is_int(early, 3, "an instance made before any constructor, used in three places before main");
    ok(works(), "and in main");

    pid_t child = must(fork());
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/proc/self/exe", argv[0], "child", (char *)NULL);
        _exit(127);
    }
    is_int(child_result(child), ALL_WELL, "before, in and after main, in exit handlers and destructors: nine times");

    /* A thread that outlives main's return, in the wait. */
    child = must(fork());
    if (child == 0) {
        struct waiter waiter;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        waiter_start(&waiter, epfd, -1);
        exit(3);
    }
    is_int(child_result(child), 3, "exit with a thread asleep in the wait");
    return done_testing();
}
