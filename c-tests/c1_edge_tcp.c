/* C1: new data on a still-readable TCP connection is a new edge. */
#include "edge.h"

int main(void)
{
    int pair[2];

    tcp_pair(pair);
    edge_suite("TCP", pair[0], pair[1]);
    edge_suite("TCP, the other way", pair[1], pair[0]);
    return done_testing();
}
