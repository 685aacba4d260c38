/* C1: new data on a still-readable UNIX stream socket is a new edge. */
#include "edge.h"

int main(void)
{
    int pair[2];

    unix_pair(SOCK_STREAM, pair);
    edge_suite("UNIX stream", pair[0], pair[1]);
    return done_testing();
}
