#!/bin/bash
# redis: values that come back as they went in, crowds of clients, a snapshot (fork) under load, blocked clients, an end
# in good time, and no processor time when idle.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 240 redis-server redis-cli redis-benchmark

PORT=$(free_port)
KEYS=10000

start() {
    start_app "$PORT" redis-server --port "$PORT" --bind 127.0.0.1 --dir "$TMP" --save '' --appendonly no --daemonize no \
        --dbfilename dump.rdb --maxclients 2000
}

cli() { within 60 redis-cli -p "$PORT" "$@"; }

# One field of INFO.
info() { cli INFO | tr -d '\r' | sed -n "s/^$1://p"; }

info_is() { [[ $(info "$1") == "$2" ]]; }

# --- the data -------------------------------------------------------------------------------------------------------

# Files of commands for redis-cli: 10,000 SETs of random values, the GETs, and what these must answer.
make_data() {
    head -c $((KEYS * 75)) /dev/urandom | base64 -w 100 >"$TMP/values"
    awk '{print "SET key:" NR " " $0}' "$TMP/values" >"$TMP/sets"
    awk '{print "GET key:" NR}' "$TMP/values" >"$TMP/gets"
    head -c 3000000 /dev/urandom >"$TMP/big"
    same 'values' "$(wc -l <"$TMP/values")" "$KEYS"
}

store() {
    # Through one connection, without waiting for answers.
    cli --pipe <"$TMP/sets" | tail -n 1 | tee "$TMP/pipe.out"
    same 'answers' "$(<"$TMP/pipe.out")" "errors: 0, replies: $KEYS"
    same 'answer to a big SET' "$(cli -x SET big <"$TMP/big")" OK
    served $((KEYS + 1))
}

read_back() {
    cli <"$TMP/gets" >"$TMP/gotten"
    cmp "$TMP/gotten" "$TMP/values"
    # Raw output ends with a newline more.
    cli --raw GET big | head -c 3000000 | cmp - "$TMP/big"
    served $((KEYS + 1))
}

# --- the checks -----------------------------------------------------------------------------------------------------

pings() { same 'PING' "$(cli PING)" PONG; }

# benchmark CLIENTS DEPTH: it ends only when every request was answered.
benchmark() {
    within 60 redis-benchmark -p "$PORT" -q -t get,set -n 50000 -c "$1" -P "$2" >"$TMP/bench.out"
    tr '\r' '\n' <"$TMP/bench.out" | grep 'requests per second' | tee "$TMP/bench.sum"
    same 'results' "$(wc -l <"$TMP/bench.sum")" 2
    served 100000
}

# The client, whose event loop is redis' own, under the library as well.
benchmark_under_library() {
    within 60 "${LAUNCHER[@]}" redis-benchmark -p "$PORT" -q -t get,set -n 50000 -c 50 | tr '\r' '\n' |
        grep 'requests per second'
    served 100000
}

# Only the connection that asks is left.
clients_gone() {
    wait_for 10 info_is connected_clients 1
    same 'CLIENT LIST' "$(cli CLIENT LIST | grep -c addr=)" 1
}

server_quiet() { quiet "$APP_PID"; }

crowd_is_quiet() {
    # It has no end of its own.
    timeout 30 redis-benchmark -p "$PORT" -I -c 500 >/dev/null &
    CROWD=$!
    trap 'kill "$CROWD"' EXIT
    wait_for 10 info_is connected_clients 501
    server_quiet
    pings
}

message_arrives() {
    local subscriber
    timeout 20 redis-cli -p "$PORT" SUBSCRIBE news >"$TMP/news" &
    subscriber=$!
    wait_for 10 subscribed
    same 'receivers' "$(cli PUBLISH news 'hello there')" 1
    wait_for 10 grep -qx 'hello there' "$TMP/news"
    kill "$subscriber"
}

subscribed() { [[ $(cli PUBSUB NUMSUB news | tail -n 1) == 1 ]]; }

blocked_pop_gets_value() {
    local popper
    cli BLPOP queue 20 >"$TMP/popped" &
    popper=$!
    wait_for 10 info_is blocked_clients 1
    same 'length after RPUSH' "$(cli RPUSH queue 'a value')" 1
    wait "$popper"
    same 'popped' "$(paste -sd, "$TMP/popped")" 'queue,a value'
}

blocked_pop_times_out() {
    local start=${EPOCHREALTIME/./} took
    same 'popped' "$(cli BLPOP nothing 1)" ''
    took=$(((${EPOCHREALTIME/./} - start) / 1000))
    echo "BLPOP with a limit of 1 s took $took ms"
    [[ $took -ge 900 && $took -lt 4000 ]]
}

snapshot_under_load() {
    local load
    within 60 redis-benchmark -p "$PORT" -q -t get,set -n 50000 -c 50 >/dev/null &
    load=$!
    sleep 0.2
    cli BGSAVE
    wait_for 30 info_is rdb_bgsave_in_progress 0
    same 'rdb_last_bgsave_status' "$(info rdb_last_bgsave_status)" ok
    wait "$load"
    served 100000
    [[ -s $TMP/dump.rdb ]]
    cli DBSIZE | tee "$TMP/dbsize"
}

same_after_restart() {
    wait_for 20 info_is loading 0
    same 'DBSIZE' "$(cli DBSIZE)" "$(<"$TMP/dbsize")"
    read_back
}

shut_down() {
    # The connection may end before an answer; the server's status tells.
    cli SHUTDOWN NOSAVE || true
}

# --- the run --------------------------------------------------------------------------------------------------------

start
check 'PING' pings
check 'it runs under the library' under_library "$APP_PID"
check "$KEYS random values and a big one: made" make_data
check "$KEYS random values and a big one: stored" store
check "$KEYS random values and a big one: read back" read_back
for clients in 50 500; do
    for depth in 1 16; do
        check "benchmark, $clients clients, $depth requests at a time" benchmark "$clients" "$depth"
        check 'all its connections are closed' clients_gone
    done
done
check 'idle' server_quiet
check 'idle with 500 idle clients' crowd_is_quiet
check 'all their connections are closed' clients_gone
check 'a message reaches a subscriber' message_arrives
check 'a blocked BLPOP gets its value' blocked_pop_gets_value
check 'a blocked BLPOP times out' blocked_pop_times_out
check 'BGSAVE under load' snapshot_under_load
check 'idle after BGSAVE' server_quiet
shut_down
await_exit 'SHUTDOWN NOSAVE'

start
check 'after a restart from the snapshot everything is there' same_after_restart
check 'redis-benchmark itself under the library' benchmark_under_library
check 'all connections are closed' clients_gone
shut_down
await_exit 'SHUTDOWN NOSAVE of the second server'
compare 'GET' start redis_rate -t get -n 60000 -c 50
compare 'GET, 16 at a time' start redis_rate -t get -n 400000 -c 50 -P 16
compare 'GET, 1 client' start redis_rate -t get -n 20000 -c 1
summary "$(redis-server --version | cut -d ' ' -f 1-3)" \
    'random values compared, pipelines, 500 clients, a subscriber, blocked clients, a snapshot under load, a restart'
finish
