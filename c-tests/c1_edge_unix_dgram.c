/* C1: one more datagram on a still-readable UNIX socket is a new edge; taking one of several is none. */
#include "edge.h"

int main(void)
{
    int pair[2];

    unix_pair(SOCK_DGRAM, pair);
    edge_suite("UNIX datagram", pair[0], pair[1]);
    empty_messages("UNIX datagram", pair[0], pair[1], 0);
    close_pair(pair);
    unix_pair(SOCK_SEQPACKET, pair);
    edge_suite("UNIX seqpacket", pair[0], pair[1]);
    empty_messages("UNIX seqpacket", pair[0], pair[1], 0);
    return done_testing();
}
