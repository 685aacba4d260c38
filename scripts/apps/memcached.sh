#!/bin/bash
# memcached with four threads (libevent, level-triggered, a pipe or an eventfd to hand connections to threads): values of
# many sizes compared, clients that go in the middle of a value, half-closed ones, a crowd, the server's own counts.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 120 memcached perl

PORT=$(free_port)
# EVENT_SHOW_METHOD: libevent says what it polls with. It would take poll(2) without a word where epoll is missing.
SERVER=(env EVENT_SHOW_METHOD=1 memcached -t 4 -m 256 -c 2000 -l 127.0.0.1 -U 0)
[[ $(id -u) != 0 ]] || SERVER+=(-u root)

ask() { rude half "$1\\r\\n"; }

# stat NAME: one of the server's counts.
stat_of() { ask 'stats' | tr -d '\r' | sed -n "s/^STAT $1 //p"; }

stat_is() { [[ $(stat_of "$1") == "$2" ]]; }

# The connection that asks is counted too, and what the server keeps for itself: its listener.
connections_back() { wait_for 10 stat_is curr_connections "$BASE"; }

# --- the checks -----------------------------------------------------------------------------------------------------

event_method() {
    grep 'libevent using' "$TMP/env.log" | sort | uniq -c
    grep -q 'libevent using: epoll$' "$TMP/env.log"
}

values() {
    local found name got before
    local -A counted
    same 'answer' "$(ask 'set sum 0 0 1\r\n0' | tr -d '\r')" STORED
    for name in cmd_set cmd_get get_hits; do counted[$name]=$(stat_of "$name"); done
    found=$(within 60 perl "$REPO/scripts/apps/memcached-load.pl" --port "$PORT" --clients "$1" --rounds "$2")
    echo "$found"
    [[ $found =~ ^sets=([0-9]+)\ gets=([0-9]+)\ hits=([0-9]+)$ ]]
    got=("${BASH_REMATCH[@]:1}")
    for name in cmd_set cmd_get get_hits; do
        before=${counted[$name]}
        same "$name" "$(($(stat_of "$name") - before))" "${got[0]}"
        got=("${got[@]:1}")
    done
    # Every client adds its number once a round.
    same 'sum' "$(ask 'get sum' | tr -d '\r' | sed -n 2p)" "$(($2 * $1 * ($1 + 1) / 2))"
    served "$((BASH_REMATCH[1] + BASH_REMATCH[2] + $1 * $2))"
}

# What was not sent to its end is not stored, and a client that has gone is forgotten.
cut_clients() {
    local how
    for how in cut reset; do
        rude "$how" 'set half 0 0 1000\r\nnot nearly a thousand' --count 100
        rude "$how" 'set half 0 0 500000\r\nnor here' --count 20 --linger 0.05
        rude "$how" 'get a_rather_long_key_without_an_end_of_li' --count 50
        rude "$how" '' --count 50
    done
    connections_back
    same 'get of a value that was cut' "$(ask 'get half' | tr -d '\r')" END
}

# A client that has closed its own direction is answered, and then closed.
half_closed() {
    local found
    found=$(rude half 'set k 0 0 5\r\nhello\r\nget k\r\n' --count 50 | tr -d '\r' | sort | uniq -c | awk '{print $1, $2}' |
        paste -sd,)
    same 'answers' "$found" '50 END,50 STORED,50 VALUE,50 hello'
    served 100
    connections_back
}

# Clients that ask for much and read nothing: the server waits for room, and gives up when they go.
slow_readers() {
    {
        head -c 900000 /dev/zero
        printf '\r\n'
    } >"$TMP/wide"
    same 'answer' "$(rude half 'set wide 0 0 900000\r\n' --file "$TMP/wide" | tr -d '\r')" STORED
    rude reset 'get wide wide wide wide wide wide wide wide\r\n' --count 20 --linger 0.3
    rude cut 'get wide wide wide wide wide wide wide wide\r\n' --count 20 --linger 0.3
    connections_back
}

beside_crowd() {
    wait_for 10 stat_is curr_connections "$((BASE + 500))"
    quiet "$APP_PID"
    same 'value beside the crowd' "$(ask 'get k' | tr -d '\r' | sed -n 2p)" hello
}

crowd() {
    with_crowd 500 beside_crowd
    connections_back
}

four_threads() { same 'threads' "$(stat_of threads)" 4; }

# --- throughput -----------------------------------------------------------------------------------------------------

THIRTY_TWO=0123456789abcdef0123456789abcdef

start_compared() {
    start_app "$PORT" "${SERVER[@]}" -p "$PORT"
    same 'answer' "$(ask "set k 0 0 32\\r\\n$THIRTY_TWO" | tr -d '\r')" STORED
}

gets() { ask_rate $'get k\r\n' $'VALUE k 0 32\r\n'"$THIRTY_TWO"$'\r\nEND\r\n'; }

# --- the run --------------------------------------------------------------------------------------------------------

start_app "$PORT" "${SERVER[@]}" -p "$PORT"
BASE=$(stat_of curr_connections)
sockets=$(sockets "$APP_PID")
check 'it runs under the library' under_library "$APP_PID"
check 'it polls with epoll' event_method
check 'four threads' four_threads
check 'one client: every value comes back' values 1 2
check '16 clients at a time: every value comes back, the counts are right' values 16 2
check 'clients that go in the middle of a command or a value' cut_clients
check 'half-closed clients are answered, and closed' half_closed
check 'clients that do not read' slow_readers
check '500 idle clients: quiet, and others are served' crowd
check 'all connections are closed' wait_for 10 sockets_at_most "$sockets" "$APP_PID"
check 'idle' quiet "$APP_PID"
kill -TERM "$APP_PID"
await_exit 'SIGTERM'
check 'nothing is left' nothing_left "$PORT"
compare 'GET' start_compared gets
summary "$(memcached -V)" 'values of 0 B to 900 kB compared, cut, half-closed and idle clients, counts'
finish
