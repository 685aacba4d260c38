#!/bin/bash
# Rust: a server on tokio's threads, and one on mio alone, which registers everything edge-triggered; their sources are
# in rust/, with their Cargo.lock. Built into target/apps-rust.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 500 cargo cc /usr/bin/python3

SOURCES=$REPO/scripts/apps/rust
BUILT=${CARGO_TARGET_DIR:-$REPO/target}/apps-rust

fetch() { within 100 cargo fetch --quiet --locked --manifest-path "$SOURCES/Cargo.toml"; }

build() {
    CARGO_TARGET_DIR=$BUILT within 400 \
        cargo build --quiet --release --locked --manifest-path "$SOURCES/Cargo.toml"
}

version() { grep -A1 "^name = \"$1\"$" "$SOURCES/Cargo.lock" | sed -n 's/^version = "\(.*\)"/\1/p'; }

connections_gone() { wait_for 10 sockets_at_most "$BASE" "$APP_PID"; }

server_quiet() { quiet "$APP_PID"; }

# Each USR1 is answered by a child process through whose pipes data went.
children_at_work() {
    local number
    for number in 1 2 3 4 5; do
        kill -USR1 "$APP_PID"
        wait_for 10 children_done "$number"
    done
    same 'children' "$(children "$APP_PID")" ''
}

children_done() { [[ $(grep -c '^CHILD' "$APP_LOG") -ge $1 ]]; }

# Timers went on ticking beside everything else: a busy machine may delay some, none comes twice.
ticked() {
    echo "$(counted ticks) ticks of $(counted due)"
    [[ $(counted ticks) -le $(($(counted due) + 1)) && $(counted ticks) -ge $(($(counted due) / 4)) ]]
}

# The thread that wakes the loop rings again only when it was answered.
woken() {
    echo "$(counted rung) wake-ups, $(counted answered) answered"
    [[ $(counted rung) -ge 100 && $(($(counted rung) - $(counted answered))) -le 1 ]]
}

beside() { sed -n 's/^BESIDE //p' "$APP_LOG" | grep .; }

if ! fetch >"$TMP/fetch.log" 2>&1; then
    tail -n 3 "$TMP/fetch.log" | comment
    skip_all 'the crates cannot be fetched'
fi
check 'the servers are built' build
[[ -x $BUILT/release/tokio-echo && -x $BUILT/release/mio-echo ]] || finish

start() { start_app "$PORT" "$BUILT/release/$kind-echo" "$PORT"; }

for kind in tokio mio; do
    PORT=$(free_port)
    rm -f "$TMP/loads"
    start
    check "$kind: it runs under the library" under_library "$APP_PID"
    [[ $kind == mio ]] || check 'tokio: timers, tasks, blocking calls, datagrams, pairs, children' beside
    sleep 0.2 # the connection that asked whether it listens is closed
    BASE=$(sockets "$APP_PID")
    check "$kind: every byte on 100 connections comes back, half-closed and vanishing ones beside them" echo_load
    check "$kind: child processes on USR1" children_at_work
    check "$kind: every byte on 300 mostly idle connections comes back" echo_load --connections 50 --idle 250 --half 0
    check "$kind: all connections are closed" connections_gone
    # The mio server has a thread that rings, so it is never idle.
    [[ $kind == mio ]] || check 'tokio: an idle server is quiet' server_quiet
    kill -TERM "$APP_PID"
    await_exit "$kind: a graceful stop on TERM"
    check "$kind: its counts are those of the clients" served_what_was_loaded
    check "$kind: five children" same children "$(counted children)" 5
    if [[ $kind == tokio ]]; then check 'tokio: timers tick' ticked; else check 'mio: wake-ups are answered' woken; fi
    compare 'echo' start ask_rate "$MESSAGE"
    summary "$kind $(version $kind)" 'echo, half-closed, vanishing and idle clients, children, signals, timers, wake-ups'
done
finish
