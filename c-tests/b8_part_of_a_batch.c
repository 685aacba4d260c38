/*
 * B8: where only a part of the array can be written, the events that fit are returned, and the others are in the next
 * wait: none is lost, one-shot or edge-triggered. Where not even the first one can, EFAULT.
 */
#include "help.h"

#include <sys/mman.h>

enum { FILES = 5 };

static size_t page;

/* What follows the room: nothing at all, or memory that cannot be written, or not even read. */
static void spoil(char *following, int how)
{
    if (how == 0)
        must(munmap(following, page));
    else
        must(mprotect(following, page, how == 1 ? PROT_READ : PROT_NONE));
}

static void part_of_a_batch(const char *trigger, uint32_t flag, int how)
{
    static const char *const names[] = {"unmapped", "read-only", "unreadable"};
    int epfd = make_epoll(), bells[FILES], reports[FILES] = {0}, wrong = 0, total = 0;
    char *memory = must(mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    struct epoll_event event;

    spoil(memory + page, how);
    for (int i = 0; i < FILES; i++) {
        bells[i] = make_eventfd(0);
        put(bells[i]);
        event = (struct epoll_event){.events = EPOLLIN | flag, .data.u32 = (uint32_t)i};
        must(epoll_ctl(epfd, EPOLL_CTL_ADD, bells[i], &event));
    }
    /* Room for none, and for less than one. */
    is_errno(epoll_wait(epfd, (void *)(memory + page), FILES, SOON_MS), EFAULT, "%s, %s: the whole array", trigger,
             names[how]);
    is_errno(epoll_wait(epfd, (void *)(memory + page - sizeof event / 2), FILES, SOON_MS), EFAULT,
             "%s, %s: all but half an event", trigger, names[how]);
    /* Room for two at a time. */
    char *room = memory + page - 2 * sizeof event;
    for (int waits = 0; waits < 3; waits++) {
        int count = epoll_wait(epfd, (void *)room, FILES, SOON_MS);

        wrong += count != (flag && waits == 2 ? 1 : 2);
        for (int i = 0; i < count; i++) {
            memcpy(&event, room + (size_t)i * sizeof event, sizeof event);
            wrong += event.events != EPOLLIN || event.data.u32 >= FILES;
            if (event.data.u32 < FILES)
                reports[event.data.u32]++;
            total++;
        }
    }
    is_int(wrong, 0, "%s, %s: two events fit, and two come", trigger, names[how]);
    for (int i = 0; i < FILES; i++)
        wrong += reports[i] == 0;
    is_int(wrong, 0, "%s, %s: the others in the next waits", trigger, names[how]);
    is_int(total, flag ? FILES : 6, "%s, %s: %s", trigger, names[how], flag ? "each once" : "in turn");
    if (flag)
        expect_quiet(epfd, "%s, %s: and that was all", trigger, names[how]);
    must(munmap(memory, how == 0 ? page : 2 * page));
    for (int i = 0; i < FILES; i++)
        must(close(bells[i]));
    must(close(epfd));
}

int main(void)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    for (int how = 0; how < 3; how++) {
        part_of_a_batch("level-triggered", 0, how);
        part_of_a_batch("edge-triggered", EPOLLET, how);
        part_of_a_batch("one-shot", EPOLLONESHOT, how);
        part_of_a_batch("one-shot, edge-triggered", EPOLLONESHOT | EPOLLET, how);
    }
    return done_testing();
}
