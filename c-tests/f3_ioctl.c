/*
 * F3: "ioctl answer[s] as for an epoll (the busy-poll parameters EPIOCSPARAMS/EPIOCGPARAMS of Linux 6.9 are checked,
 * remembered and given back)."
 */
#include "help.h"

#include <sys/ioctl.h>

/* As in <linux/eventpoll.h>, which older systems have without them. */
struct busy_poll {
    uint32_t busy_poll_usecs;
    uint16_t busy_poll_budget;
    uint8_t prefer_busy_poll;
    uint8_t pad;
};

#define SET_PARAMETERS _IOW(0x8A, 0x01, struct busy_poll)
#define GET_PARAMETERS _IOR(0x8A, 0x02, struct busy_poll)

static int set(int epfd, uint32_t usecs, uint16_t budget, uint8_t prefer, uint8_t pad)
{
    struct busy_poll parameters = {usecs, budget, prefer, pad};

    return ioctl(epfd, SET_PARAMETERS, &parameters);
}

int main(void)
{
    int epfd = make_epoll(), available, pipe[2];
    struct busy_poll now = {1, 1, 1, 1};

    available = ioctl(epfd, GET_PARAMETERS, &now);
    if (available < 0 && (errno == ENOTTY || errno == EINVAL))
        skip_all("this kernel's epoll has no ioctl");
    is_int(available, 0, "EPIOCGPARAMS");
    is_int(now.busy_poll_usecs + now.busy_poll_budget + now.prefer_busy_poll + now.pad, 0, "all zero at first");
    is_int(set(epfd, 100, 8, 1, 0), 0, "EPIOCSPARAMS");
    is_int(ioctl(epfd, GET_PARAMETERS, &now), 0, "EPIOCGPARAMS");
    is_int(now.busy_poll_usecs, 100, "gives back: busy_poll_usecs");
    is_int(now.busy_poll_budget, 8, "gives back: busy_poll_budget");
    is_int(now.prefer_busy_poll, 1, "gives back: prefer_busy_poll");

    is_errno(set(epfd, 1, 1, 1, 1), EINVAL, "padding must be 0");
    is_errno(set(epfd, 1u << 31, 1, 1, 0), EINVAL, "busy_poll_usecs beyond INT_MAX");
    is_errno(set(epfd, 1, 1, 2, 0), EINVAL, "prefer_busy_poll is 0 or 1");
    is_errno(ioctl(epfd, SET_PARAMETERS, NULL), EFAULT, "EPIOCSPARAMS: NULL");
    is_errno(ioctl(epfd, GET_PARAMETERS, NULL), EFAULT, "EPIOCGPARAMS: NULL");
    is_int(ioctl(epfd, GET_PARAMETERS, &now), 0, "after all that");
    is_int(now.busy_poll_usecs, 100, "nothing has changed");
    if (geteuid() == 0)
        is_int(set(epfd, 0, 65535, 0, 0), 0, "root may have a budget beyond 64");

    int other = make_epoll();
    is_int(ioctl(other, GET_PARAMETERS, &now), 0, "another instance");
    is_int(now.busy_poll_usecs, 0, "has its own");
    is_errno(ioctl(epfd, FIONREAD, &available), EINVAL, "unknown requests: FIONREAD");
    is_errno(ioctl(epfd, TCGETS, &now), EINVAL, "unknown requests: TCGETS");
    pipe_pair(pipe);
    is_errno(ioctl(pipe[0], GET_PARAMETERS, &now), ENOTTY, "a pipe has no such thing");
    return done_testing();
}
