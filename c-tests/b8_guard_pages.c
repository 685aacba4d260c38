/*
 * B8: a call reads and writes the memory that it was given, and no byte beside it. Arrays that end where a page begins that
 * nobody may touch, arrays that begin behind one, and bytes around an array that must stay what they are, wherever in a
 * page the array lies.
 */
#include "help.h"

#include <sys/mman.h>
#include <sys/select.h>
#include <sys/uio.h>

enum { PAGES = 2, MANY = 20, CANARY = 0x5a };

static size_t page;

/* Two pages, one after the other, between two that cannot be touched. */
static char *guarded(void)
{
    char *memory = must(mmap(NULL, (PAGES + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

    must(mprotect(memory + page, PAGES * page, PROT_READ | PROT_WRITE));
    return memory + page;
}

/* The last `size` bytes in front of the guard. */
static void *at_end(char *room, size_t size)
{
    return room + PAGES * page - size;
}

static void *copy_at_end(char *room, const void *from, size_t size)
{
    return memcpy(at_end(room, size), from, size);
}

/* Whether all but `size` bytes at `place` are as they were. */
static bool untouched(const char *room, const char *place, size_t size)
{
    for (const char *byte = room; byte < room + PAGES * page; byte++)
        if ((byte < place || byte >= place + size) && *byte != CANARY)
            return false;
    return true;
}

static void waits(char *room, int epfd)
{
    struct epoll_event event;
    size_t size = sizeof event;
    int wrong = 0, spilled = 0;

    is_int(epoll_wait(epfd, at_end(room, MANY * size), MANY, SOON_MS), MANY, "wait: the array ends at the guard");
    is_int(epoll_wait(epfd, (void *)room, MANY, SOON_MS), MANY, "wait: the array begins behind the guard");
    is_int(epoll_wait(epfd, at_end(room, 3 * size), MANY, SOON_MS), 3, "wait: less room than it says");
    is_errno(epoll_wait(epfd, at_end(room, size - 1), MANY, SOON_MS), EFAULT, "wait: room for less than one");
    is_errno(epoll_wait(epfd, (void *)(room - 1), 1, SOON_MS), EFAULT, "wait: one byte of it in the guard");

    /* One event at each place about the border of two pages, and in the last one in front of the guard. */
    for (size_t before = 0; before <= 2 * size; before++)
        for (int fresh = 0; fresh < 2; fresh++) {
            char *place = room + page - before;

            /* A page that was written to a moment ago, and one of which nothing is known. */
            if (fresh) {
                must(mprotect(room, PAGES * page, PROT_READ));
                must(mprotect(room, PAGES * page, PROT_READ | PROT_WRITE));
            }
            memset(room, CANARY, PAGES * page);
            wrong += epoll_wait(epfd, (void *)place, 1, SOON_MS) != 1;
            memcpy(&event, place, size);
            wrong += event.events != EPOLLIN;
            spilled += !untouched(room, place, size);
        }
    is_int(wrong, 0, "wait: one event, wherever it lies");
    is_int(spilled, 0, "wait: and nothing but it is written");

    memset(room, CANARY, PAGES * page);
    must(epoll_wait(epfd, (void *)(room + page - 7), MANY / 2, SOON_MS));
    ok(untouched(room, room + page - 7, MANY / 2 * size), "wait: nor beside many");

    struct timespec nothing = {0, 0};
    sigset_t mask;

    sigemptyset(&mask);
    /* The kernel's set of signals has 64 bits. */
    is_int(epoll_pwait2(epfd, at_end(room, 2 * size), 2, NULL, NULL), 2, "pwait2: the array ends at the guard");
    is_int(epoll_pwait2(epfd, (void *)room, 2, copy_at_end(room, &nothing, sizeof nothing), NULL), 2,
           "pwait2: the timeout ends at the guard");
    is_int(epoll_pwait2(epfd, (void *)room, 2, &nothing, copy_at_end(room, &mask, 8)), 2, "pwait2: the mask, too");
    is_int(epoll_pwait(epfd, (void *)room, 2, 0, at_end(room, 8)), 2, "pwait: the mask ends at the guard");
    is_errno(epoll_pwait2(epfd, (void *)room, 2, at_end(room, sizeof nothing - 1), NULL), EFAULT,
             "pwait2: a timeout that ends in it");
    is_errno(epoll_pwait(epfd, (void *)room, 2, 0, at_end(room, 7)), EFAULT, "pwait: a mask that ends in it");
}

static void controls(char *room, int epfd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int wrong = 0;

    is_int(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, copy_at_end(room, &event, sizeof event)), 0, "MOD: ends at the guard");
    is_int(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, memcpy(room, &event, sizeof event)), 0, "MOD: begins behind it");
    for (size_t before = 0; before <= sizeof event; before++)
        wrong += epoll_ctl(epfd, EPOLL_CTL_MOD, fd, memcpy(room + page - before, &event, sizeof event)) != 0;
    is_int(wrong, 0, "MOD: across two pages");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, at_end(room, sizeof event - 1)), EFAULT, "MOD: ends in the guard");
    is_errno(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, (void *)(room - 1)), EFAULT, "MOD: begins in it");
    is_int(epoll_ctl(epfd, EPOLL_CTL_DEL, fd, at_end(room, 1)), 0, "DEL: nobody looks at it");
}

static void polls(char *room, int epfd, int fd)
{
    struct pollfd set[3] = {{.fd = epfd, .events = POLLIN}, {.fd = fd, .events = POLLIN}, {.fd = -1}};
    struct timespec nothing = {0, 0};
    struct pollfd *last;

    last = copy_at_end(room, set, sizeof set);
    is_int(poll(last, 3, SOON_MS), 2, "poll: the array ends at the guard");
    is_mask((uint32_t)last[0].revents, POLLIN, "poll: and is answered");
    is_errno(poll(last, 4, SOON_MS), EFAULT, "poll: ends in the guard");
    for (size_t before = 11; before <= 12; before++) {
        memcpy(room + page - before, set, sizeof set);
        is_int(poll((void *)(room + page - before), 3, SOON_MS), 2, "poll: across two pages");
    }
    is_int(poll(memcpy(room, set, sizeof set), 3, SOON_MS), 2, "poll: begins behind the guard");
    is_int(poll(at_end(room, 0), 0, 0), 0, "poll: none at all");
    is_int(ppoll(memcpy(room, set, sizeof set), 3, copy_at_end(room, &nothing, sizeof nothing), NULL), 2,
           "ppoll: the timeout ends at the guard");

    must(mprotect(room, PAGES * page, PROT_READ));
    is_errno(poll((void *)room, 3, SOON_MS), EFAULT, "poll: read-only");
    must(mprotect(room, PAGES * page, PROT_READ | PROT_WRITE));
}

static void selects(char *room, int epfd)
{
    enum { WORD = 8 * sizeof(unsigned long) };
    size_t size = ((size_t)epfd / WORD + 1) * sizeof(unsigned long);
    struct timeval nothing = {0, 0};
    char *place = at_end(room, size);

    memset(room, CANARY, PAGES * page);
    memset(place, 0, size);
    FD_SET(epfd, (fd_set *)place);
    is_int(select(epfd + 1, (void *)place, NULL, NULL, NULL), 1, "select: a set of just as many bits, at the guard");
    ok(FD_ISSET(epfd, (fd_set *)place) && untouched(room, place, size), "select: and nothing else is written");
    /* The timeout is given back. */
    is_int(select(0, NULL, NULL, NULL, copy_at_end(room, &nothing, sizeof nothing)), 0, "select: a timeout at the guard");
    memset(room, 0, size);
    FD_SET(epfd, (fd_set *)room);
    is_int(select(epfd + 1, (void *)room, NULL, NULL, at_end(room, sizeof nothing)), 1, "select: with an instance");

    /* select(getdtablesize(), ...) with an ordinary set: the kernel looks at no more than the process has room for. */
    for (int instance = 0; instance < 2; instance++) {
        int fd = instance ? epfd : make_eventfd(0);

        if (!instance)
            put(fd);
        place = room + page - sizeof(fd_set) / 2;
        memset(room, CANARY, PAGES * page);
        FD_ZERO((fd_set *)place);
        FD_SET(fd, (fd_set *)place);
        is_int(select(number(1 << 20), (void *)place, NULL, NULL, &nothing), 1, "select: more numbers than bits, %s",
               instance ? "an instance" : "an eventfd");
        ok(untouched(room, place, sizeof(fd_set)), "select: and nothing behind the set is written");
    }
}

static void transfers(char *room)
{
    int pair[2], watcher = make_epoll();
    struct iovec parts[2] = {{room, 4}, {room + 8, 4}};
    struct iovec *vector = copy_at_end(room, parts, sizeof parts);

    unix_pair(SOCK_STREAM, pair);
    watch(watcher, pair[0], EPOLLIN | EPOLLOUT | EPOLLET);
    watch(watcher, pair[1], EPOLLIN | EPOLLOUT | EPOLLET);
    is_int(writev(pair[1], vector, 2), 8, "writev: the parts end at the guard");
    is_errno(writev(pair[1], vector, 3), EFAULT, "writev: in it");
    is_int(readv(pair[0], vector, 2), 8, "readv: the parts end at the guard");
    is_errno(readv(pair[0], vector, 3), EFAULT, "readv: in it");
    is_errno(writev(pair[1], vector, number(-1)), EINVAL, "writev: a count below 0");
    is_errno(writev(pair[1], vector, 1025), EINVAL, "writev: too many");

    struct msghdr message = {.msg_iov = vector, .msg_iovlen = 2};
    struct msghdr *header = copy_at_end(room, &message, sizeof message);

    /* Both end there, so the parts go elsewhere. */
    header->msg_iov = memcpy(room + 64, parts, sizeof parts);
    is_int(sendmsg(pair[1], header, 0), 8, "sendmsg: the message ends at the guard");
    is_int(recvmsg(pair[0], header, 0), 8, "recvmsg: the message ends at the guard");
    is_errno(recvmsg(pair[0], header, 0), EAGAIN, "recvmsg: nothing there");
    is_errno(sendmsg(pair[1], (void *)((char *)header + 1), 0), EFAULT, "sendmsg: ends in the guard");
    is_errno(recvmsg(pair[0], (void *)((char *)header + 1), 0), EFAULT, "recvmsg: ends in the guard");
    is_errno(sendmsg(pair[1], address_of(0), 0), EFAULT, "sendmsg: NULL");
    header->msg_iov = at_end(room, 8);
    is_errno(sendmsg(pair[1], header, 0), EFAULT, "sendmsg: parts in the guard");
    is_errno(recvmsg(pair[0], header, 0), EFAULT, "recvmsg: parts in the guard");
    header->msg_iov = (void *)(room + 64);
    header->msg_iovlen = SIZE_MAX / 2;
    is_errno(sendmsg(pair[1], header, 0), EMSGSIZE, "sendmsg: too many parts");
    header->msg_iovlen = 2;
    fill(pair[1]);
    is_errno(sendmsg(pair[1], header, 0), EAGAIN, "sendmsg: no room");
    drain(pair[0]);

    struct mmsghdr batch[2] = {{.msg_hdr = *header}, {.msg_hdr = *header}};
    struct mmsghdr *messages = copy_at_end(room, batch, sizeof batch);

    is_int(sendmmsg(pair[1], messages, 2, 0), 2, "sendmmsg: the messages end at the guard");
    is_int(recvmmsg(pair[0], messages, 2, MSG_DONTWAIT, NULL), 2, "recvmmsg: the messages end at the guard");
    is_int(sendmmsg(pair[1], messages, 3, 0), 2, "sendmmsg: one in the guard, those before it are sent");
    is_errno(sendmmsg(pair[1], at_end(room, 8), 1, 0), EFAULT, "sendmmsg: in the guard");
    drain(pair[0]);
    is_errno(recvmmsg(pair[0], at_end(room, 8), 1, MSG_DONTWAIT, NULL), EFAULT, "recvmmsg: in the guard");

    /* Bytes that cannot be read or written. */
    is_errno(write(pair[1], at_end(room, 0), 8), EFAULT, "write: of the guard");
    is_errno(send(pair[1], at_end(room, 0), 8, 0), EFAULT, "send: of the guard");
    put(pair[1]);
    is_errno(read(pair[0], at_end(room, 0), 8), EFAULT, "read: into the guard");
    is_errno(recv(pair[0], at_end(room, 0), 8, 0), EFAULT, "recv: into the guard");

    /* Numbers given back. */
    int *numbers = at_end(room, 2 * sizeof *numbers);

    is_int(pipe2(numbers, O_CLOEXEC), 0, "pipe2: the numbers end at the guard");
    close_pair(numbers);
    is_errno(pipe2(numbers + 1, O_CLOEXEC), EFAULT, "pipe2: in it");
    is_int(socketpair(AF_UNIX, SOCK_STREAM, 0, numbers), 0, "socketpair: the numbers end at the guard");
    close_pair(numbers);
    is_errno(socketpair(AF_UNIX, SOCK_STREAM, 0, numbers + 1), EFAULT, "socketpair: in it");
    close_pair(pair);
    must(close(watcher));
}

int main(void)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    char *room = guarded();
    int epfd = make_epoll(), bells[MANY];

    for (int i = 0; i < MANY; i++) {
        bells[i] = make_eventfd(0);
        put(bells[i]);
        watch(epfd, bells[i], EPOLLIN);
    }
    waits(room, epfd);
    polls(room, epfd, bells[0]);
    selects(room, epfd);
    transfers(room);
    controls(room, epfd, bells[0]);
    return done_testing();
}
