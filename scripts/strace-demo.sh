#!/bin/bash
# What the kernel sees of a program under the library: sleeps in poll or ppoll, and no epoll call.
#
#   scripts/strace-demo.sh               the demo: server and client of demo/run.sh, which puts the library before them
#   scripts/strace-demo.sh COMMAND...    this command, under the library (or APP_RUN, see apps/lib.sh)

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=apps/lib.sh
. "$(dirname "$0")/apps/lib.sh"

if [[ $# -gt 0 ]]; then
    command=("${LAUNCHER[@]}" "$@")
else
    command=(bash "$REPO/demo/run.sh")
fi
begin 90 strace "${command[0]}"
strace -f -o /dev/null true 2>/dev/null || skip_all 'strace is not permitted'

TRACE=$TMP/trace
CALLS=poll,ppoll,epoll_create,epoll_create1,epoll_ctl,epoll_wait,epoll_pwait,epoll_pwait2

run_traced() { within 60 strace -f -qq -o "$TRACE" -e "trace=$CALLS" "${command[@]}"; }

# How often each call was made. A call that was interrupted by another thread's stands in two lines: count the first.
# Rust's runtime looks at descriptors 0 to 2 with poll when a program starts; that is no sleep.
count_calls() {
    grep -v -e 'resumed>' -e 'poll(\[{fd=0, events=0}, {fd=1, events=0}, {fd=2, events=0}\], 3, 0)' "$TRACE" |
        sed -nE 's/^[0-9]+ +([a-z0-9_]+)\(.*/\1/p' | sort | uniq -c
}

sleeps_in_poll() { count_calls | grep -E ' p?poll$'; }

no_epoll() { ! grep -E '^[0-9]+ +epoll_' "$TRACE" | head -n 10 | grep .; }

check "traced: ${command[*]}" run_traced
check 'it sleeps in poll or ppoll' sleeps_in_poll
check 'it makes no epoll system call' no_epoll
count_calls | comment || true
finish
