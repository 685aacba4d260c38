/* Fetches many URLs at once by libcurl's multi_socket interface: libcurl says which sockets to watch for what, and when to
 * come back at the latest; the loop is our own, an epoll and a timerfd.
 *
 *   curl-multi level|edge 1.1|2 CONNECTIONS DIRECTORY URL...
 *
 * The answer to a URL goes to DIRECTORY/N, N counting up from 0, or nowhere, where DIRECTORY is -. At most CONNECTIONS are open at a time (0: no limit).
 * With `edge` every socket is registered edge-triggered, and anew after each of its events; level-triggered is what
 * libcurl documents. Prints `done=N events=N`; status 0 if all came. */

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int epfd, timer;
static unsigned edge_triggered;
static CURLM *multi;
static unsigned done, failed;
static unsigned wanted[65536]; /* by descriptor: what libcurl asked for last */

static void must(int result, const char *what)
{
    if (result >= 0)
        return;
    perror(what);
    exit(1);
}

/* libcurl: watch this socket for that. It may have closed a socket and opened another one of the same number, of which it
 * tells as of a new one; and a removed one may be closed already. */
static int watch(CURL *easy, curl_socket_t fd, int what, void *data, void *known)
{
    struct epoll_event event = {.data.fd = fd};
    (void)easy, (void)data;
    if (fd >= (int)(sizeof wanted / sizeof *wanted))
        must(-1, "a descriptor too high");
    wanted[fd] = 0;
    if (what == CURL_POLL_REMOVE) {
        if (epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL) != 0 && errno != EBADF && errno != ENOENT)
            must(-1, "EPOLL_CTL_DEL");
        return 0;
    }
    if (what & CURL_POLL_IN)
        event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT)
        event.events |= EPOLLOUT;
    event.events |= edge_triggered;
    wanted[fd] = event.events;
    if (known && epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    must(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event), "EPOLL_CTL_ADD");
    must(curl_multi_assign(multi, fd, &epfd) == CURLM_OK ? 0 : -1, "curl_multi_assign");
    return 0;
}

/* libcurl: come back after so many ms, or -1: need not. */
static int come_back(CURLM *of, long ms, void *data)
{
    struct itimerspec at = {.it_value = {ms / 1000, ms % 1000 * 1000000}};
    (void)of, (void)data;
    if (ms == 0)
        at.it_value.tv_nsec = 1;
    if (ms < 0)
        at.it_value = (struct timespec){0, 0};
    must(timerfd_settime(timer, 0, &at, NULL), "timerfd_settime");
    return 0;
}

static void look_at_results(void)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(multi, &left))) {
        FILE *file;
        char *url;
        CURL *easy = message->easy_handle;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&file);
        curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url);
        if (message->data.result != CURLE_OK) {
            fprintf(stderr, "%s: %s\n", url, curl_easy_strerror(message->data.result));
            failed++;
        } else {
            done++;
        }
        curl_multi_remove_handle(multi, easy);
        curl_easy_cleanup(easy);
        must(fclose(file), "fclose");
    }
}

static void act(curl_socket_t fd, int what, int *running)
{
    CURLMcode code = curl_multi_socket_action(multi, fd, what, running);
    if (code != CURLM_OK) {
        fprintf(stderr, "curl_multi_socket_action: %s\n", curl_multi_strerror(code));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[32], event = {.events = EPOLLIN};
    unsigned long seen = 0;
    int running = 0;

    if (argc < 6) {
        fprintf(stderr, "curl-multi level|edge 1.1|2 CONNECTIONS DIRECTORY URL...\n");
        return 2;
    }
    edge_triggered = strcmp(argv[1], "edge") == 0 ? EPOLLET : 0;
    curl_global_init(CURL_GLOBAL_ALL);
    multi = curl_multi_init();
    must(epfd = epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    must(timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create");
    event.data.fd = timer;
    must(epoll_ctl(epfd, EPOLL_CTL_ADD, timer, &event), "EPOLL_CTL_ADD of the timer");
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, come_back);
    curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, atol(argv[3]));

    for (int i = 5; i < argc; i++) {
        CURL *easy = curl_easy_init();
        char name[4096];
        FILE *file;
        if (strcmp(argv[4], "-") == 0)
            snprintf(name, sizeof name, "/dev/null");
        else
            snprintf(name, sizeof name, "%s/%d", argv[4], i - 5);
        must((file = fopen(name, "wb")) ? 0 : -1, name);
        curl_easy_setopt(easy, CURLOPT_URL, argv[i]);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, file);
        curl_easy_setopt(easy, CURLOPT_PRIVATE, file);
        curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT, 40L);
        /* The certificate is the test's own. */
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, strcmp(argv[2], "2") == 0 ? 1L : 0L);
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                         (long)(strcmp(argv[2], "2") == 0 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
        curl_multi_add_handle(multi, easy);
    }

    do {
        int count = epoll_wait(epfd, events, 32, 20000);
        if (count == 0) {
            fprintf(stderr, "nothing for 20 s, with %d transfers under way\n", running);
            return 1;
        }
        must(count, "epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd, what = 0;
            seen++;
            if (fd == timer) {
                unsigned long long expirations;
                /* libcurl may have set it anew since. */
                if (read(timer, &expirations, sizeof expirations) == sizeof expirations)
                    act(CURL_SOCKET_TIMEOUT, 0, &running);
                continue;
            }
            if (events[i].events & EPOLLIN)
                what |= CURL_CSELECT_IN;
            if (events[i].events & EPOLLOUT)
                what |= CURL_CSELECT_OUT;
            if (events[i].events & (EPOLLERR | EPOLLHUP))
                what |= CURL_CSELECT_ERR;
            act(fd, what, &running);
            /* libcurl need not have read to the end. Registered once more, a socket that is ready is new again. */
            if (edge_triggered && wanted[fd]) {
                struct epoll_event again = {.events = wanted[fd], .data.fd = fd};
                must(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &again), "EPOLL_CTL_MOD");
            }
        }
        look_at_results();
    } while (running > 0);

    curl_multi_cleanup(multi);
    printf("done=%u events=%lu\n", done, seen);
    return failed > 0 || done != (unsigned)argc - 5;
}
