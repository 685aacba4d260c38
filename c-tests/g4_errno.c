/* G4: "errno is untouched by successful calls." */
#include "help.h"

#include <sys/select.h>

enum { SENTINEL = 4711 };

static bool is_untouched(void)
{
    int now = errno;

    errno = SENTINEL;
    return now == SENTINEL;
}

/* The call succeeds, and errno is still what it was. */
#define untouched_by(call) ok((errno = SENTINEL, (call)) >= 0 && is_untouched(), "%s", #call)

int main(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct timespec little = {0, 1000000};
    struct timeval no_time = {0, 0};
    char buffer[64] = "";
    int first, second, pair[2], bell = make_eventfd(0);
    fd_set set;
    sigset_t none;

    sigemptyset(&none);
    pipe_pair(pair);
    untouched_by(first = epoll_create(1));
    untouched_by(second = epoll_create1(EPOLL_CLOEXEC));
    untouched_by(epoll_ctl(first, EPOLL_CTL_ADD, pair[0], &event));
    untouched_by(epoll_ctl(first, EPOLL_CTL_ADD, bell, &event));
    untouched_by(epoll_ctl(second, EPOLL_CTL_ADD, first, &event));
    untouched_by(epoll_wait(first, &event, 1, 0));
    untouched_by(epoll_wait(first, &event, 1, QUIET_MS));
    untouched_by(epoll_wait(second, &event, 1, IDLE_MS));
    untouched_by(epoll_pwait(first, &event, 1, 1, &none));
    untouched_by(epoll_pwait2(first, &event, 1, &little, &none));
    untouched_by(write(pair[1], buffer, 16));
    untouched_by(epoll_wait(first, &event, 1, -1));
    untouched_by(epoll_wait(second, &event, 1, -1));
    untouched_by(epoll_pwait(first, &event, 1, -1, &none));
    untouched_by(epoll_pwait2(first, &event, 1, NULL, &none));
    event.events = EPOLLIN | EPOLLET;
    untouched_by(epoll_ctl(first, EPOLL_CTL_MOD, pair[0], &event));
    untouched_by(poll(&(struct pollfd){.fd = first, .events = POLLIN}, 1, 0));
    untouched_by(ppoll(&(struct pollfd){.fd = first, .events = POLLIN}, 1, &little, NULL));
    FD_ZERO(&set);
    FD_SET(first, &set);
    untouched_by(select(first + 1, &set, NULL, NULL, &no_time));
    untouched_by(epoll_wait(first, &event, 1, -1));
    untouched_by(read(pair[0], buffer, 8));
    untouched_by(read(pair[0], buffer, sizeof buffer));
    untouched_by(eventfd_write(bell, 1));
    untouched_by(epoll_wait(first, &event, 1, -1));
    untouched_by(dup2(bell, 90));
    untouched_by(dup3(first, 91, O_CLOEXEC));
    untouched_by(close(bell));
    untouched_by(epoll_wait(first, &event, 1, -1));
    untouched_by(dup2(pair[0], 90));
    untouched_by(epoll_wait(first, &event, 1, 0));
    untouched_by(fcntl(first, F_DUPFD, 100));
    untouched_by(close_range(90, 110, 0));
    untouched_by(epoll_ctl(first, EPOLL_CTL_DEL, pair[0], NULL));
    untouched_by(close(pair[0]));
    untouched_by(close(first));
    untouched_by(close(second));
    return done_testing();
}
