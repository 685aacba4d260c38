/*
 * G5: with AddressSanitizer, whose runtime replaces read, write, poll, sigaction, pthread_create and malloc, as the
 * library does some of these: epoll works, the sanitizer finds nothing in it, and what is wrong in the program it
 * finds.
 *
 * The runtime wants to be the first library. It is told not to mind a preloaded one, as its users do by
 * ASAN_OPTIONS=verify_asan_link_order=0; then it is preloaded itself, before the library and after it.
 */
#include "help.h"

#ifndef SANITIZED /* the Makefile's word that the compiler has it */

int main(void)
{
    skip_all("the compiler has no AddressSanitizer (gcc has it with libasan)");
}

#else

#include <dlfcn.h>

enum { ALL_WELL = 42, FOUND = 77 };

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "verify_asan_link_order=0:detect_leaks=0:exitcode=77:handle_abort=0";
}

static _Atomic int handled;

static void count(int signal_number)
{
    (void)signal_number;
    handled++;
}

static int wait_for_all(void)
{
    int epfd = make_epoll(), outer = make_epoll(), lost = 0;
    struct sigaction action = {.sa_handler = count};
    struct epoll_event *events = malloc(4 * sizeof *events), *freed;
    struct waiter waiter;
    int pair[2];

    must(sigaction(SIGUSR1, &action, NULL));
    unix_pair(SOCK_STREAM, pair);
    watch(epfd, pair[0], EPOLLIN | EPOLLET);
    watch(outer, epfd, EPOLLIN);
    for (int i = 0; i < 1000; i++) {
        put(pair[1]);
        lost += epoll_wait(epfd, events, 4, SOON_MS) != 1 || events[0].events != EPOLLIN;
        if (i % 2)
            drain(pair[0]);
    }
    child_check(lost == 0);
    put(pair[1]);
    struct pollfd poll_it = {.fd = outer, .events = POLLIN};
    child_check(poll(&poll_it, 1, SOON_MS) == 1);
    drain(pair[0]);
    waiter_start(&waiter, epfd, -1);
    must_zero(pthread_kill(waiter.thread, SIGUSR1));
    child_check(waiter_returns(&waiter, SOON_MS) && waiter.error == EINTR && handled == 1);
    waiter_start(&waiter, epfd, -1);
    must_zero(pthread_cancel(waiter.thread));
    must_zero(pthread_join(waiter.thread, NULL));
    child_check(epoll_wait(epfd, events, 4, 0) == 0);
    child_check(close(pair[0]) == 0 && read(pair[1], &lost, sizeof lost) == 0);
    freed = events;
    __asm__("" : "+r"(freed)); /* so that the compiler does not see what is wrong */
    free(events);
    if (getenv("USE_AFTER_FREE"))
        return (int)freed->events;
    return ALL_WELL;
}

static int run(char *name, const char *preload, bool broken)
{
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t child = must(fork());

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (preload)
            setenv("LD_PRELOAD", preload, 1);
        if (broken) {
            setenv("USE_AFTER_FREE", "1", 1);
            must(dup2(quiet, STDERR_FILENO)); /* the report */
        }
        execl("/proc/self/exe", name, "child", (char *)NULL);
        _exit(127);
    }
    close(quiet);
    return child_result(child);
}

int main(int argc, char **argv)
{
    const char *preloaded = getenv("LD_PRELOAD");
    char both[8192];
    Dl_info runtime;

    if (argc > 1)
        return wait_for_all();
    time_limit(60);
    is_int(run(argv[0], NULL, false), ALL_WELL, "linked with the runtime");
    is_int(run(argv[0], NULL, true), FOUND, "a use after free is found");
    require(dladdr((void *)dlsym(RTLD_DEFAULT, "__asan_init"), &runtime));
    snprintf(both, sizeof both, "%s%s%s", runtime.dli_fname, preloaded ? ":" : "", preloaded ? preloaded : "");
    is_int(run(argv[0], both, false), ALL_WELL, "with the runtime preloaded first");
    is_int(run(argv[0], both, true), FOUND, "a use after free is found");
    snprintf(both, sizeof both, "%s%s%s", preloaded ? preloaded : "", preloaded ? ":" : "", runtime.dli_fname);
    is_int(run(argv[0], both, false), ALL_WELL, "with the runtime preloaded last");
    is_int(run(argv[0], both, true), FOUND, "a use after free is found");
    return done_testing();
}

#endif
