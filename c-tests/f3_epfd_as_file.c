/*
 * F3: "read and write give EINVAL, lseek 0. fstat, fcntl (F_GETFL is O_RDWR, F_SETFL), FD_CLOEXEC, ioctl answer as for
 * an epoll" - also when the instance has something ready, or is nested in another.
 */
#include "help.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

static void as_a_file(const char *state, int epfd)
{
    char byte[16] = "";
    struct iovec vector = {byte, sizeof byte};
    eventfd_t count;
    struct stat status;

    is_errno(read(epfd, byte, sizeof byte), EINVAL, "%s: read", state);
    is_errno(write(epfd, byte, 8), EINVAL, "%s: write", state);
    is_errno(readv(epfd, &vector, 1), EINVAL, "%s: readv", state);
    is_errno(writev(epfd, &vector, 1), EINVAL, "%s: writev", state);
    is_errno(preadv2(epfd, &vector, 1, -1, 0), EINVAL, "%s: preadv2", state);
    is_errno(pwritev2(epfd, &vector, 1, -1, 0), EINVAL, "%s: pwritev2", state);
    is_errno(eventfd_read(epfd, &count), EINVAL, "%s: eventfd_read", state);
    is_errno(eventfd_write(epfd, 1), EINVAL, "%s: eventfd_write", state);
    is_int(lseek(epfd, 0, SEEK_SET), 0, "%s: lseek", state);
    is_int(lseek(epfd, 5, SEEK_END), 0, "%s: lseek goes nowhere", state);
    is_errno(recv(epfd, byte, 1, 0), ENOTSOCK, "%s: recv", state);
    is_errno(ftruncate(epfd, 0), EINVAL, "%s: ftruncate", state);
    ok(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, epfd, 0) == MAP_FAILED && errno == ENODEV, "%s: mmap", state);
    is_int(fstat(epfd, &status), 0, "%s: fstat", state);
    is_int(status.st_size, 0, "%s: size", state);
    ok(!S_ISSOCK(status.st_mode) && !S_ISFIFO(status.st_mode), "%s: no socket or pipe", state);
    ok(!isatty(epfd), "%s: no terminal", state);

    is_int(fcntl(epfd, F_GETFL), O_RDWR, "%s: F_GETFL", state);
    is_int(fcntl(epfd, F_SETFL, O_NONBLOCK), 0, "%s: F_SETFL", state);
    is_int(fcntl(epfd, F_GETFL), O_RDWR | O_NONBLOCK, "%s: is remembered", state);
    is_errno(read(epfd, byte, sizeof byte), EINVAL, "%s: read with O_NONBLOCK", state);
    is_int(fcntl(epfd, F_SETFL, 0), 0, "%s: F_SETFL back", state);
    is_int(fcntl(epfd, F_GETFD), FD_CLOEXEC, "%s: F_GETFD", state);
    is_int(fcntl(epfd, F_SETFD, 0), 0, "%s: F_SETFD", state);
    is_int(fcntl(epfd, F_GETFD), 0, "%s: is remembered", state);
    is_int(fcntl(epfd, F_SETFD, FD_CLOEXEC), 0, "%s: F_SETFD back", state);
}

int main(void)
{
    int epfd = make_epoll(), outer = make_epoll(), bell = make_eventfd(0);
    struct epoll_event event;

    as_a_file("empty", epfd);
    watch(epfd, bell, EPOLLIN);
    watch(outer, epfd, EPOLLIN);
    as_a_file("nested", epfd);
    put(bell);
    expect_event(outer, EPOLLIN, "something is ready");
    as_a_file("ready", epfd);
    expect_event(outer, EPOLLIN, "reading and writing changed nothing");
    expect_event(epfd, EPOLLIN, "in either");
    drain(bell);
    expect_quiet(outer, "nor did it make anything ready");

    /* O_NONBLOCK does not make the wait one that never sleeps. */
    must(fcntl(epfd, F_SETFL, O_NONBLOCK));
    int64_t start = now_ms();
    is_int(wait_one(epfd, &event, QUIET_MS), 0, "a wait with O_NONBLOCK");
    ok(now_ms() - start >= QUIET_MS, "waits all the same");
    return done_testing();
}
