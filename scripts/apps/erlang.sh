#!/bin/bash
# Erlang: its run-time system has threads of their own that wait on epoll (+K true, which is the default), and in each
# round one of its schedulers may. Once with one such thread, once with two that have an instance each. The source is
# app_echo.erl.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 180 erl erlc /usr/bin/python3

BEAMS=$TMP
build() { within 60 erlc -Wall -Werror -o "$BEAMS" "$REPO/scripts/apps/app_echo.erl"; }

# everything was right, and each thread that polls has an epoll instance.
beside() {
    sed -n 's/^BESIDE //p' "$APP_LOG" | grep .
    same 'instances of epoll' "$(grep '^BESIDE' "$APP_LOG" | grep -ow epoll | wc -l)" $((threads + 1))
}

connections_gone() { wait_for 10 sockets_at_most "$BASE" "$APP_PID"; }

server_quiet() { quiet "$APP_PID"; }

# The program of its own that starts the children of ports lives as long as the server does.
starter_gone() {
    local pid
    for pid in $1; do wait_for 5 ended "$pid"; done
}

check 'the server is built' build
[[ -e $TMP/app_echo.beam ]] || finish
# No heart, no crash dump in the working directory, no files in a home.
export HOME=$TMP ERL_CRASH_DUMP=/dev/null
start() {
    start_app "$PORT" erl +S 4:4 +IOt "$threads" +IOp "$threads" -noshell -noinput -pa "$BEAMS" -s app_echo main "$PORT"
}

variants 1 2
for threads in "${VARIANTS[@]}"; do
    with="$threads poll thread(s)"
    PORT=$(free_port)
    rm -f "$TMP/loads" "$TMP/erl.log"
    start
    check "$with: it runs under the library" under_library "$APP_PID"
    check "$with: ports, timers, datagrams, the socket module" beside
    sleep 0.2 # the connection that asked whether it listens is closed
    BASE=$(sockets "$APP_PID")
    check "$with: every byte on 100 connections comes back, half-closed and vanishing ones beside them" echo_load
    check "$with: every byte on 300 mostly idle connections comes back" \
        echo_load --connections 50 --idle 250 --half 0
    check "$with: all connections are closed" connections_gone
    check "$with: an idle server is quiet" server_quiet
    STARTER=$(children "$APP_PID")
    kill -TERM "$APP_PID"
    await_exit "$with: a graceful stop on TERM"
    check "$with: its counts are those of the clients" served_what_was_loaded
    check "$with: none is open" same open "$(counted open)" 0
    check "$with: the program that starts its children is gone" starter_gone "$STARTER"
    check "$with: nothing else was said" same 'lines of output' "$(wc -l <"$APP_LOG")" 2
    compare "echo, $with" start ask_rate "$MESSAGE"
done
summary "Erlang/OTP $(cat /usr/lib/erlang/releases/*/OTP_VERSION 2>/dev/null)" \
    '1 and 2 poll threads, gen_tcp {active, once}, ports, timers, datagrams, the socket module'
finish
