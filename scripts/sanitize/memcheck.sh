#!/bin/sh
# scripts/sanitize/memcheck.sh LIBRARY PROGRAM: the program under memcheck, with the library preloaded. 66 if memcheck reports.
lib=$(realpath -- "$1") || exit 2
shift
exec env LD_PRELOAD="$lib" valgrind --quiet --error-exitcode=66 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
    --suppressions="$(dirname "$0")/memcheck.supp" --fair-sched=yes \
    "$@"
