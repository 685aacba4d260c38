/*
 * C1: "An edge is a wake-up by the file, not a change of level: new data on a still-readable pipe ... is a new edge."
 */
#include "edge.h"

int main(void)
{
    int pair[2];

    pipe_pair(pair);
    edge_suite("pipe", pair[0], pair[1]);
    return done_testing();
}
