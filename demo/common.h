// What the demo's two programs share.
#ifndef DEMO_COMMON_H
#define DEMO_COMMON_H

#include <stdio.h>
#include <stdlib.h>

// Ends the program when a call failed that must not.
static inline void check(long result, const char *call)
{
    if (result < 0) {
        perror(call);
        exit(1);
    }
}

// A decimal argument in [least, most], or the end.
static inline long number(const char *text, long least, long most, const char *what)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "%s must be a number from %ld to %ld\n", what, least, most);
        exit(2);
    }
    return value;
}

#endif
