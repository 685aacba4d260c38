/*
 * D3, G3: a signal for the process ends the wait of a thread that lets it through, and runs on a thread of the program:
 * with all but one of these blocking it, always on that one.
 */
#include "help.h"

enum { SIGNALS = 200 };

static _Atomic int handled, strayed;
static _Atomic pid_t open_thread;
static _Atomic int interrupted;
static int idle_epfd;

static void note(int signal_number)
{
    (void)signal_number;
    strayed += thread_id() != open_thread;
    handled++;
}

static void *wait_and_count(void *unused)
{
    sigset_t usr1;
    struct epoll_event event;

    (void)unused;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    open_thread = thread_id();
    must_zero(pthread_sigmask(SIG_UNBLOCK, &usr1, NULL));
    while (wait_one(idle_epfd, &event, -1) < 0 && errno == EINTR)
        interrupted++;
    return NULL;
}

int main(void)
{
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    struct waiter blocked;
    pthread_t thread;
    sigset_t usr1;
    int crowd[2], bell = make_eventfd(0), late = 0;

    must(sigaction(SIGUSR1, &action, NULL));
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    must_zero(pthread_sigmask(SIG_BLOCK, &usr1, NULL));

    idle_epfd = make_epoll();
    for (int i = 0; i < 100; i++) {
        pipe_pair(crowd);
        watch(idle_epfd, crowd[0], EPOLLIN);
    }
    is_int(wait_mask(idle_epfd, IDLE_MS), 0, "a crowd of idle descriptors");
    watch(idle_epfd, bell, EPOLLIN);
    must_zero(pthread_create(&thread, NULL, wait_and_count, NULL));
    while (!open_thread)
        sleep_ms(1);
    waiter_start(&blocked, idle_epfd, -1);

    for (int i = 1; i <= SIGNALS; i++) {
        until_asleep(open_thread);
        must(kill(getpid(), SIGUSR1));
        for (int64_t end = now_ms() + SOON_MS; handled < i && now_ms() < end;)
            sched_yield();
        for (int64_t end = now_ms() + SOON_MS; interrupted < i && now_ms() < end;)
            sched_yield();
        late += handled != i || interrupted != i;
        if (late)
            break;
    }
    is_int(late, 0, "%d signals for the process, each ran the handler and ended the one wait", SIGNALS);
    is_int(strayed, 0, "always on the thread that let it through");
    ok(!blocked.done, "the thread that blocks it sleeps on");
    put(bell);
    must_zero(pthread_join(thread, NULL));
    ok(waiter_got(&blocked, bell, EPOLLIN), "until the event");
    return done_testing();
}
