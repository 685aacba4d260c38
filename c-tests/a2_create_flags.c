/* A2: epoll_create1(flags): "only EPOLL_CLOEXEC is known, any other bit gives EINVAL; FD_CLOEXEC follows it." */
#include "help.h"

int main(void)
{
    is_int(fcntl(epoll_create1(0), F_GETFD), 0, "flags 0: no FD_CLOEXEC");
    is_int(fcntl(epoll_create1(EPOLL_CLOEXEC), F_GETFD), FD_CLOEXEC, "EPOLL_CLOEXEC: FD_CLOEXEC");

    for (int bit = 0; bit < 32; bit++) {
        int flag = (int)(1u << bit);

        if (flag == EPOLL_CLOEXEC)
            continue;
        is_errno(epoll_create1(flag), EINVAL, "flag %#x alone", (unsigned)flag);
        is_errno(epoll_create1(flag | EPOLL_CLOEXEC), EINVAL, "flag %#x with EPOLL_CLOEXEC", (unsigned)flag);
    }
    is_errno(epoll_create1(-1), EINVAL, "all bits");
    return done_testing();
}
