/* C1: one more datagram on a still-readable UDP socket is a new edge. */
#include "edge.h"

int main(void)
{
    int reader = must(bound_socket(SOCK_DGRAM | SOCK_NONBLOCK, 0));
    int writer = must(bound_socket(SOCK_DGRAM | SOCK_NONBLOCK, 0));
    struct sockaddr_in address = loopback(port_of(reader));

    must(connect(writer, (struct sockaddr *)&address, sizeof address));
    edge_suite("UDP", reader, writer);
    empty_messages("UDP", reader, writer, EPOLLOUT);
    return done_testing();
}
