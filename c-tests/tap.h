/*
 * A small TAP harness: results, set-up failures, and a time limit, so that a lost event fails one test instead of
 * hanging the suite. Include it (or help.h) before any system header.
 */
#ifndef TAP_H
#define TAP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#ifndef DEFAULT_LIMIT_S /* scripts/sanitize.sh gives more */
#define DEFAULT_LIMIT_S 20
#endif

static int tap_count;
static int tap_failures;
static pthread_mutex_t tap_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the two above, and keeps output lines whole */

/* Not "Bail out!": to prove that would mean to give up all other tests too. */
static inline void tap_out_of_time(int signal_number)
{
    static const char text[] = "not ok - the time limit passed\n";
    (void)signal_number;
    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
        _exit(2);
    _exit(1);
}

/* Gives the program `seconds` from now, or DEFAULT_LIMIT_S, if that is more. SIGALRM belongs to the harness: a test that
   needs a signal takes another. */
static inline void time_limit(unsigned seconds)
{
    struct sigaction action = {.sa_handler = tap_out_of_time};
    sigset_t only_alarm;

    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&only_alarm);
    sigaddset(&only_alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &only_alarm, NULL);
    alarm(seconds > DEFAULT_LIMIT_S ? seconds : DEFAULT_LIMIT_S);
}

__attribute__((constructor)) static void tap_start(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    time_limit(DEFAULT_LIMIT_S);
}

/* Prints one result line; `detail`, if any, explains a failure. */
__attribute__((format(printf, 5, 0))) static inline bool tap_result(bool passed, const char *file, int line,
                                                                    const char *detail, const char *format,
                                                                    va_list arguments)
{
    pthread_mutex_lock(&tap_lock);
    printf("%sok %d - ", passed ? "" : "not ", ++tap_count);
    vprintf(format, arguments);
    putchar('\n');
    if (!passed) {
        tap_failures++;
        printf("#   at %s:%d\n", file, line);
        if (detail)
            printf("#   %s\n", detail);
    }
    fflush(stdout);
    pthread_mutex_unlock(&tap_lock);
    return passed;
}

/* ok(condition, format, ...): returns the condition. */
#define ok(condition, ...) tap_ok(__FILE__, __LINE__, (condition), __VA_ARGS__)

__attribute__((format(printf, 4, 5))) static inline bool tap_ok(const char *file, int line, bool passed,
                                                                const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    tap_result(passed, file, line, NULL, format, arguments);
    va_end(arguments);
    return passed;
}

/* is_int(got, wanted, format, ...): returns whether they are equal. */
#define is_int(got, wanted, ...) tap_is_int(__FILE__, __LINE__, (got), (wanted), __VA_ARGS__)

__attribute__((format(printf, 5, 6))) static inline bool tap_is_int(const char *file, int line, long long got,
                                                                    long long wanted, const char *format, ...)
{
    char detail[80];
    va_list arguments;

    snprintf(detail, sizeof detail, "got %lld, wanted %lld", got, wanted);
    va_start(arguments, format);
    tap_result(got == wanted, file, line, detail, format, arguments);
    va_end(arguments);
    return got == wanted;
}

/* is_mask(got, wanted, format, ...): is_int for event masks. */
#define is_mask(got, wanted, ...) tap_is_mask(__FILE__, __LINE__, (got), (wanted), __VA_ARGS__)

static inline void tap_mask_text(char *text, size_t size, uint32_t mask)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {
        {EPOLLIN, "IN"},         {EPOLLPRI, "PRI"},       {EPOLLOUT, "OUT"},       {EPOLLERR, "ERR"},
        {EPOLLHUP, "HUP"},       {EPOLLRDNORM, "RDNORM"}, {EPOLLRDBAND, "RDBAND"}, {EPOLLWRNORM, "WRNORM"},
        {EPOLLWRBAND, "WRBAND"}, {EPOLLMSG, "MSG"},       {EPOLLRDHUP, "RDHUP"},
    };
    size_t used = (size_t)snprintf(text, size, "%#x", mask);

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((mask & names[i].bit) && used < size)
            used += (size_t)snprintf(text + used, size - used, " %s", names[i].name);
}

__attribute__((format(printf, 5, 6))) static inline bool tap_is_mask(const char *file, int line, uint32_t got,
                                                                     uint32_t wanted, const char *format, ...)
{
    char got_text[96], wanted_text[96], detail[224];
    va_list arguments;

    tap_mask_text(got_text, sizeof got_text, got);
    tap_mask_text(wanted_text, sizeof wanted_text, wanted);
    snprintf(detail, sizeof detail, "got %s, wanted %s", got_text, wanted_text);
    va_start(arguments, format);
    tap_result(got == wanted, file, line, detail, format, arguments);
    va_end(arguments);
    return got == wanted;
}

/* is_errno(call, wanted errno, format, ...): the call must return -1 with that errno. */
#define is_errno(call, wanted, ...) tap_is_errno(__FILE__, __LINE__, (errno = 0, (call)), (wanted), __VA_ARGS__)

__attribute__((format(printf, 5, 6))) static inline bool tap_is_errno(const char *file, int line, long result,
                                                                      int wanted, const char *format, ...)
{
    int error = errno;
    bool passed = result == -1 && error == wanted;
    char detail[160];
    va_list arguments;

    snprintf(detail, sizeof detail, "got %ld, errno %d (%s); wanted -1, errno %d", result, error, strerror(error),
             wanted);
    va_start(arguments, format);
    tap_result(passed, file, line, detail, format, arguments);
    va_end(arguments);
    return passed;
}

/* One test that cannot run here. */
__attribute__((format(printf, 1, 2))) static inline void skip(const char *reason, ...)
{
    va_list arguments;

    pthread_mutex_lock(&tap_lock);
    printf("ok %d # SKIP ", ++tap_count);
    va_start(arguments, reason);
    vprintf(reason, arguments);
    va_end(arguments);
    putchar('\n');
    pthread_mutex_unlock(&tap_lock);
}

/* The whole program cannot run here. */
static inline _Noreturn void skip_all(const char *reason)
{
    printf("1..0 # SKIP %s\n", reason);
    exit(0);
}

/* Ends the test: `return done_testing();` */
static inline int done_testing(void)
{
    printf("1..%d\n", tap_count);
    fflush(stdout);
    return tap_failures != 0;
}

static inline _Noreturn void tap_die(const char *file, int line, const char *what, int error)
{
    printf("not ok - set-up failed: %s: %s\n#   at %s:%d\n", what, strerror(error), file, line);
    fflush(stdout);
    _exit(1);
}

/* must(call): set-up that has to succeed (not -1); yields the result. */
#define must(call)                                                                                                     \
    ({                                                                                                                 \
        __typeof__(call) must_result = (call);                                                                         \
        if (must_result == (__typeof__(call))-1)                                                                       \
            tap_die(__FILE__, __LINE__, #call, errno);                                                                 \
        must_result;                                                                                                   \
    })

/* require(condition): set-up that has to hold. */
#define require(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            tap_die(__FILE__, __LINE__, #condition, errno);                                                            \
    } while (0)

/* must_zero(call): the same for calls that return an error number, as pthread_* do. */
#define must_zero(call)                                                                                                \
    do {                                                                                                               \
        int must_error = (call);                                                                                       \
        if (must_error)                                                                                                \
            tap_die(__FILE__, __LINE__, #call, must_error);                                                            \
    } while (0)

#endif
