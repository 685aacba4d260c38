/* C1 on sockets that are raw: one more packet, or netlink message, is a new edge. */
#include "edge.h"

#include <linux/netlink.h>

enum { PROTOCOL = 253 /* for experiments (RFC 3692) */ };

/* An address of the loopback network that no other process takes: raw sockets hear all that is sent to theirs. */
static struct sockaddr_in own_address(void)
{
    struct sockaddr_in address = loopback(0);

    address.sin_addr.s_addr = htonl(0x7f000000u | ((uint32_t)getpid() & 0x3fffff) << 1 | 0x800000);
    return address;
}

static void raw(void)
{
    int reader = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, PROTOCOL), writer;
    struct sockaddr_in address = own_address();

    if (reader < 0) {
        skip("no raw sockets: %s", strerror(errno));
        return;
    }
    must(bind(reader, (struct sockaddr *)&address, sizeof address));
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
