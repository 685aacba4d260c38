#!/bin/sh
# An edge-triggered echo server and its client, both with the kernel's epoll denied: what works here, works without it.
#
#     demo/run.sh [--native] [BUILD [UEPOLL]]
#
# BUILD: where server and client are built (target/demo); UEPOLL: the command (target/release/uepoll). --native leaves
# the library out, and the kernel answers: the same programs, for comparison. Exit status 0: every byte came back right,
# in time, and the server said what it served.
#
# UEPOLL_DEMO_CONNECTIONS, UEPOLL_DEMO_ROUNDS: how much the client does; UEPOLL_DEMO_SECONDS: its time limit.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")

native=
if [ "${1-}" = --native ]; then
    native=yes
    shift
fi
if [ $# -gt 2 ]; then
    echo "usage: demo/run.sh [--native] [BUILD [UEPOLL]]" >&2
    exit 2
fi
build=${1:-$root/target/demo}
uepoll=${2:-$root/target/release/uepoll}
mkdir -p "$build"
build=$(CDPATH='' cd -- "$build" && pwd)

fail() {
    echo "demo: $*" >&2
    exit 1
}

# Runs a program by exec, so that the shell's $! is the program's own pid.
under() {
    if [ -n "$native" ]; then
        exec "$@"
    fi
    exec "$uepoll" run --deny-kernel-epoll -v -- "$@"
}

if [ -z "$native" ]; then
    command -v "$uepoll" >/dev/null || fail "$uepoll is not there: build it, or name it as the second argument"
fi
make -s -C "$here" BUILD="$build"

log=$(mktemp)
server=
tidy() {
    if [ -n "$server" ]; then
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -f "$log"
}
trap tidy EXIT
trap 'exit 1' INT TERM HUP

(under "$build/echo-server" 0) >"$log" &
server=$!

# Tries a command every tenth of a second, for ten seconds.
within_ten_seconds() {
    tries=100
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}
has_ended() {
    case $(cut -d ' ' -f 3 "/proc/$server/stat" 2>/dev/null) in
    '' | Z) return 0 ;;
    *) return 1 ;;
    esac
}
listens_or_ended() {
    grep -q '^listening on' "$log" || has_ended
}
within_ten_seconds listens_or_ended || fail "the server did not listen within ten seconds"
port=$(sed -n 's/^listening on 127\.0\.0\.1://p' "$log")
[ -n "$port" ] || fail "the server ended before it listened"

# Descriptors of the kernel's epoll that the server holds.
kernel_epolls() {
    found=0
    for descriptor in "/proc/$server/fd"/*; do
        case $(readlink "$descriptor" || true) in
        *eventpoll*) found=$((found + 1)) ;;
        esac
    done
    echo "$found"
}
held=$(kernel_epolls)

limit=${UEPOLL_DEMO_SECONDS:-120}
status=0
(under timeout -k 5 "$limit" "$build/echo-client" "$port" "${UEPOLL_DEMO_CONNECTIONS:-200}" "${UEPOLL_DEMO_ROUNDS:-20}") || status=$?
case $status in
0) ;;
124 | 137) fail "the client was not done within $limit seconds" ;;
*) fail "the client failed with status $status" ;;
esac

kill -TERM "$server"
within_ten_seconds has_ended || fail "the server did not stop within ten seconds of SIGTERM"
status=0
wait "$server" || status=$?
server=
[ "$status" -eq 0 ] || fail "the server failed with status $status"
grep '^served' "$log" || fail "the server did not say what it served"
if [ -n "$native" ]; then
    echo "the kernel answered (epoll descriptors in the server: $held)"
else
    [ "$held" -eq 0 ] || fail "the server holds $held descriptors of the kernel's epoll"
    echo "kernel epoll was denied to both: each of its system calls answered ENOSYS, and no descriptor of it was held"
fi
