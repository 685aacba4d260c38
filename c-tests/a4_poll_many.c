/*
 * A4: poll(2) over an instance and very many other descriptors, in a process that may have no more memory: it answers, or
 * says ENOMEM.
 */
#include "deny.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>

enum { MOST = 500000 };

int main(void)
{
    struct rlimit files, before, low;
    int epfd = make_epoll(), bell = make_eventfd(0), result;

    must(getrlimit(RLIMIT_NOFILE, &files));
    files.rlim_cur = files.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &files));
    size_t count = files.rlim_max < MOST ? files.rlim_max : MOST;
    struct pollfd *polled = calloc(count, sizeof *polled);
    require(polled);
    for (size_t i = 0; i < count; i++)
        polled[i].fd = -1;
    polled[count / 2] = (struct pollfd){.fd = epfd, .events = POLLIN};
    watch(epfd, bell, EPOLLIN);
    put(bell);

    must(getrlimit(RLIMIT_AS, &before));
    low = before;
    low.rlim_cur = mapped();
    must(setrlimit(RLIMIT_AS, &low));
    for (int i = 0; i < 20; i++) {
        result = poll(polled, count, SOON_MS);
        if (result != 1 && !(result == -1 && errno == ENOMEM))
            break;
    }
    must(setrlimit(RLIMIT_AS, &before));
    ok(result == 1 || errno == ENOMEM, "without memory poll of %zu answers, or says ENOMEM", count);
    is_int(poll(polled, count, SOON_MS), 1, "with memory it answers");
    is_int(polled[count / 2].revents, POLLIN, "rightly");
    return done_testing();
}
