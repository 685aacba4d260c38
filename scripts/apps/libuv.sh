#!/bin/bash
# A small echo server on libuv, and its client: a thread pool, timers, signals, many connections whose every byte is
# compared, and some that go in the middle; and a parent that talks with children through pipes.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 120 cc pkg-config perl
compile libuv-echo libuv

PORT=$(free_port)

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

children_talk() {
    same 'children' "$(within 60 "${LAUNCHER[@]}" "$PROGRAM" children "$1" "$2")" "whole=$1 bytes=$(($1 * $2))"
    served "$1"
}

start() { start_app "$PORT" "$PROGRAM" server "$PORT"; }

start
check 'it runs under the library' under_library "$APP_PID"
SOCKETS=$(sockets "$APP_PID")
check 'one connection, 10 MB' echo_client 1 10000000
check '200 connections, 200 kB each' echo_client 200 200000
check '200 connections, 200 kB each, the client under the library' echo_client 200 200000 "${LAUNCHER[@]}"
check '700 connections, 10 kB each, the client under the library' echo_client 700 10000 "${LAUNCHER[@]}"
check 'clients that go, half-closed ones' rude_clients
check '500 idle clients: quiet, and others are served' with_crowd 500 beside_crowd
check 'all connections are closed' wait_for 10 sockets_at_most "$SOCKETS" "$APP_PID"
check 'it is quiet' quiet "$APP_PID"
kill -TERM "$APP_PID"
await_exit 'SIGTERM; every connection was closed, ticks came in time'
tail -n 1 "$APP_LOG" | comment
check 'one child, 10 MB there and back' children_talk 1 10000000
check '20 children at a time, 500 kB each' children_talk 20 500000
check 'nothing is left' nothing_left "$PORT"
compare 'echo' start ask_rate "$MESSAGE"
summary "libuv $(pkg-config --modversion libuv)" 'every byte echoed, thread pool, timers, children on pipes'
finish
