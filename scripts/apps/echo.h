/* What the echo programs share: what a connection's bytes are, and how the two sides report. */

#ifndef ECHO_H
#define ECHO_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICK_MS 20

/* The byte at an offset of what a connection sends: no two connections send the same, and no stretch is repeated where a
 * buffer would be. */
static inline unsigned char echo_byte(unsigned connection, size_t offset)
{
    return (unsigned char)(offset * 31 + (offset >> 8) * 17 + (offset >> 16) * 101 + connection * 7);
}

static inline void echo_fill(unsigned char *to, unsigned connection, size_t offset, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = echo_byte(connection, offset + i);
}

/* Ends the client at the first wrong byte. */
static inline void echo_compare(const unsigned char *got, unsigned connection, size_t offset, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (got[i] == echo_byte(connection, offset + i))
            continue;
        fprintf(stderr, "connection %u: another byte at %zu\n", connection, offset + i);
        exit(1);
    }
}

static inline double echo_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct echo_counts {
    unsigned long accepted, closed, bytes, ticks;
};

/* Ticks come every TICK_MS, never earlier; on a busy machine some are late, and are not made up for. */
static inline int echo_report(const char *who, const struct echo_counts *counts, double seconds)
{
    unsigned long expected = (unsigned long)(seconds * 1000 / TICK_MS);
    printf("%s: accepted=%lu closed=%lu bytes=%lu ticks=%lu of %lu\n", who, counts->accepted, counts->closed, counts->bytes,
           counts->ticks, expected);
    fflush(stdout);
    return counts->accepted != counts->closed || counts->ticks > expected + 1 || counts->ticks < expected / 4;
}

#endif
