#!/bin/bash
# Java: an echo server on NIO's selectors, which are woken from other threads and whose keys are cancelled, and the
# asynchronous channels, which are registered one-shot. The source is NioEcho.java.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 180 java javac /usr/bin/python3

CLASSES=$TMP/classes
build() { within 100 javac -XDignore.symbol.file -proc:none -d "$CLASSES" "$REPO/scripts/apps/NioEcho.java"; }

beside() { sed -n 's/^BESIDE //p' "$APP_LOG" | grep .; }

connections_gone() { wait_for 10 sockets_at_most "$BASE" "$APP_PID"; }

woken() {
    echo "$(counted rung) wake-ups, $(counted answered) answered"
    # One for each selector may be on its way when it ends.
    [[ $(counted rung) -ge 300 && $(($(counted rung) - $(counted answered))) -le 3 ]]
}

wandered() {
    echo "$(counted wandered) times a key was cancelled, and its connection registered with another selector"
    [[ $(counted wandered) -ge 500 ]]
}

check 'the server is built' build
[[ -e $CLASSES/NioEcho.class ]] || finish
start() { start_app "$PORT" java -Xmx200m -XX:+UseSerialGC -cp "$CLASSES" NioEcho "$PORT"; }

PORT=$(free_port)
start
check 'it runs under the library' under_library "$APP_PID"
check 'asynchronous channels, pipes, datagrams, children' beside
sleep 0.2 # the connection that asked whether it listens is closed
BASE=$(sockets "$APP_PID")
check 'every byte on 100 connections comes back, half-closed and vanishing ones beside them' echo_load
check 'every byte on 300 mostly idle connections comes back' echo_load --connections 50 --idle 250 --half 0
check 'all connections are closed' connections_gone
kill -TERM "$APP_PID"
await_exit 'a graceful stop on TERM'
check 'its counts are those of the clients' served_what_was_loaded
check 'none is open' same open "$(counted open)" 0
check 'wake-ups are answered' woken
check 'connections wander' wandered
check 'nothing was thrown' same 'lines of output' "$(wc -l <"$APP_LOG")" 2
compare 'echo' start ask_rate "$MESSAGE"
summary "Java $(java -XshowSettings:properties -version 2>&1 | sed -n 's/ *java.runtime.version = //p')" \
    'selectors, wakeup, cancelled keys, asynchronous channels, pipes, datagrams, children'
finish
