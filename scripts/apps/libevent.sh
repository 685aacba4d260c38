#!/bin/bash
# A small echo server on libevent, and its client: by bufferevents, with libevent's list of changes, and edge-triggered;
# timers, signals, many connections whose every byte is compared, and some that go in the middle.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 120 cc pkg-config perl
compile libevent-echo libevent

PORT=$(free_port)

polls_by_epoll() { grep -q "^polls by epoll$2\$" "$1"; }

rude_clients() {
    rude cut 'half a message' --count 100
    rude reset 'half a message' --count 100
    same 'echo' "$(rude half 'there and back' --count 3)" 'there and backthere and backthere and back'
    wait_for 10 sockets_at_most "$SOCKETS" "$APP_PID"
}

beside_crowd() {
    # With a tick every 20 ms.
    quiet "$APP_PID"
    echo_client 20 10000
}

start() { start_app "$PORT" "$PROGRAM" server "$PORT" "$way"; }

variants plain changelist edge
for way in "${VARIANTS[@]}"; do
    start
    method=
    [[ $way != changelist ]] || method=' (with changelist)'
    check "$way: it runs under the library" under_library "$APP_PID"
    check "$way: it polls by epoll$method" polls_by_epoll "$APP_LOG" "$method"
    SOCKETS=$(sockets "$APP_PID")
    check "$way: one connection, 10 MB" echo_client 1 10000000
    check "$way: 200 connections, 200 kB each" echo_client 200 200000
    check "$way: 700 connections, 10 kB each, the client under the library" echo_client 700 10000 "${LAUNCHER[@]}"
    check "$way: clients that go, half-closed ones" rude_clients
    [[ $way == changelist ]] || check "$way: 500 idle clients: quiet, and others are served" with_crowd 500 beside_crowd
    check "$way: all connections are closed" wait_for 10 sockets_at_most "$SOCKETS" "$APP_PID"
    kill -TERM "$APP_PID"
    await_exit "$way: SIGTERM; every connection was closed, ticks came in time"
    tail -n 1 "$APP_LOG" | comment
    rm "$APP_LOG"
    compare "$way" start ask_rate "$MESSAGE"
done
check 'nothing is left' nothing_left "$PORT"
summary "libevent $(pkg-config --modversion libevent)" 'every byte echoed, by bufferevents and edge-triggered, timers'
finish
