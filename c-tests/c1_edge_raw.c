/* C1 on sockets that are raw: one more packet, or netlink message, is a new edge. */
#include "edge.h"

#include <linux/netlink.h>

enum { PROTOCOL = 253 /* for experiments (RFC 3692) */ };

static void raw(void)
{
    int reader = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, PROTOCOL), writer;
    struct sockaddr_in address = loopback(0);

    if (reader < 0) {
        skip("no raw sockets: %s", strerror(errno));
        return;
    }
    writer = must(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, PROTOCOL));
    must(connect(writer, (struct sockaddr *)&address, sizeof address));
    edge_suite("raw IP", reader, writer);
}

static void netlink(int type, const char *kind)
{
    int reader = must(socket(AF_NETLINK, type | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_USERSOCK));
    int writer = must(socket(AF_NETLINK, type | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_USERSOCK));
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    socklen_t length = sizeof address;

    must(bind(reader, (struct sockaddr *)&address, sizeof address));
    must(getsockname(reader, (struct sockaddr *)&address, &length));
    must(connect(writer, (struct sockaddr *)&address, sizeof address));
    edge_suite(kind, reader, writer);
}

int main(void)
{
    raw();
    netlink(SOCK_RAW, "netlink, raw");
    netlink(SOCK_DGRAM, "netlink, datagrams");
    return done_testing();
}
