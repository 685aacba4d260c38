/*
 * C1: an edge is told once, also where the call that woke the sleeper is still on its way while it reports: a send to a port
 * where nobody listens, a write to a terminal, a shutdown of this end and of the other one. The kernel, too, tells one of a few
 * dozen refused sends twice: by the error, and by the room that is given back. So of many rounds most must have one report.
 */
#include "help.h"

#include <stdlib.h>
#include <termios.h>

enum { ROUNDS = 300 };

struct scene {
    int epfd, fds[2];
    _Atomic int told, rounds;
    _Atomic bool stop;
};

static void *sleeper(void *argument)
{
    struct scene *scene = argument;

    while (!scene->stop) {
        struct epoll_event event;

        if (must(epoll_wait(scene->epfd, &event, 1, 20)) == 1)
            scene->told++;
    }
    return NULL;
}

static void write_one(const int fds[2])
{
    require(write(fds[0], "x", 1) == 1);
}

static void shut_this(const int fds[2])
{
    must(shutdown(fds[0], SHUT_RDWR));
}

static void shut_other(const int fds[2])
{
    must(shutdown(fds[1], SHUT_RDWR));
}

static void make_udp(int fds[2])
{
    int gone = must(bound_socket(SOCK_DGRAM, 0));
    struct sockaddr_in address = loopback(port_of(gone));

    must(close(gone));
    fds[0] = must(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    fds[1] = make_eventfd(0);
    must(connect(fds[0], (struct sockaddr *)&address, sizeof address));
}

static void make_terminal(int fds[2])
{
    struct termios raw;

    fds[1] = must(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    require(grantpt(fds[1]) == 0 && unlockpt(fds[1]) == 0);
    fds[0] = must(open(ptsname(fds[1]), O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    require(tcgetattr(fds[0], &raw) == 0);
    cfmakeraw(&raw);
    require(tcsetattr(fds[0], TCSANOW, &raw) == 0);
}

static void make_pair(int fds[2])
{
    unix_pair(SOCK_STREAM, fds);
}

/* How many rounds told more than one event. */
static void scene_of(const char *name, void (*make)(int[2]), void (*act)(const int[2]), int most)
{
    int twice = 0, never = 0;

    for (int i = 0; i < ROUNDS; i++) {
        struct scene scene = {.epfd = make_epoll()};
        pthread_t thread;
        struct epoll_event event;

        make(scene.fds);
        watch(scene.epfd, scene.fds[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        require(epoll_wait(scene.epfd, &event, 1, 0) == 1);
        require(pthread_create(&thread, NULL, sleeper, &scene) == 0);
        sleep_ms(1);
        act(scene.fds);
        int64_t end = now_ms() + SOON_MS;
        while (!scene.told && now_ms() < end)
            sleep_ms(1);
        sleep_ms(2);
        scene.stop = true;
        require(pthread_join(thread, NULL) == 0);
        twice += scene.told > 1;
        never += !scene.told;
        close_pair(scene.fds);
        must(close(scene.epfd));
    }
    is_int(never, 0, "%s: told", name);
    ok(twice <= most, "%s: told once (%d of %d rounds told more)", name, twice, ROUNDS);
}

int main(void)
{
    time_limit(60);
    scene_of("a send that is refused", make_udp, write_one, 60);
    scene_of("a write to a terminal", make_terminal, write_one, 15);
    scene_of("a shutdown of this end", make_pair, shut_this, 15);
    scene_of("a shutdown of the other end", make_pair, shut_other, 15);
    return done_testing();
}
