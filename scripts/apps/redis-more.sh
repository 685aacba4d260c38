#!/bin/bash
# redis with I/O threads and an append-only file: nothing that was acknowledged is lost by a kill; a replica that syncs and
# takes over, and the old master that comes back as its replica; publish and subscribe; 5,000 clients.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 120 redis-server redis-cli redis-benchmark perl

# Where the limit on descriptors is low, there are fewer clients.
CLIENTS=5000
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
[[ $(ulimit -n) == unlimited || $(ulimit -n) -ge 6000 ]] || CLIENTS=$(($(ulimit -n) - 200))

PORT=$(free_port)
FIRST=$PORT
SECOND=$(free_port)
KEYS=5000

# server PORT ARGUMENT...: the command line.
server() {
    echo redis-server --port "$1" --bind 127.0.0.1 --daemonize no --maxclients $((CLIENTS + 50)) --tcp-backlog 511 \
        --dir "$TMP/$1" --save "''" --appendonly yes --enable-debug-command yes --repl-diskless-sync-delay 0 "${@:2}"
}

# start PORT ARGUMENT...
start() {
    local words
    mkdir -p "$TMP/$1"
    read -r -a words <<<"$(server "$@")"
    start_app "$1" "${words[@]//\'/}"
    # It listens before it has read its file, and until then answers every command by an error.
    wait_for 20 info_is "$1" loading 0 || not_ok 'it has read its file'
}

# at PORT WORD...: redis-cli.
at() {
    local port=$1
    shift
    within 60 redis-cli -p "$port" "$@"
}

info_of() { at "$1" INFO | tr -d '\r' | sed -n "s/^$2://p"; }

info_is() { [[ $(info_of "$1" "$2") == "$3" ]]; }

size() { at "$1" DBSIZE; }

# --- the checks -----------------------------------------------------------------------------------------------------

benchmark() {
    within 60 redis-benchmark -p "$PORT" -q -t "$3" -n "$2" -c "$1" "${@:4}" >"$TMP/bench.out"
    tr '\r' '\n' <"$TMP/bench.out" | grep 'requests per second'
    served "$2"
}

threads_were_used() {
    local reads
    reads=$(info_of "$PORT" io_threaded_reads_processed)
    echo "reads by I/O threads: $reads"
    [[ $reads -gt 0 ]]
}

# Keys whose values tell what they must be.
write_keys() {
    seq "$KEYS" | awk -v name="$2" '{print "SET " name ":" $1 " " name $1 * 7919 % 1000003}' | at "$1" --pipe >"$TMP/pipe.out"
    same 'answers' "$(tail -n 1 "$TMP/pipe.out")" "errors: 0, replies: $KEYS"
    served "$KEYS"
}

keys_are_there() {
    seq "$KEYS" | awk -v name="$2" '{print "GET " name ":" $1}' | at "$1" >"$TMP/values"
    seq "$KEYS" | awk -v name="$2" '{print name $1 * 7919 % 1000003}' | cmp - "$TMP/values"
    served "$KEYS"
}

# The file is written anew, by a child, while a load goes on, and what comes meanwhile is sent to it.
rewrite_under_load() {
    local load
    within 60 redis-benchmark -p "$PORT" -q -t set,incr -n 30000 -c 50 -r 1000 >"$TMP/load.out" &
    load=$!
    write_keys "$PORT" before
    at "$PORT" BGREWRITEAOF
    write_keys "$PORT" during
    wait "$load"
    wait_for 30 info_is "$PORT" aof_rewrite_in_progress 0
    same 'aof_last_bgrewrite_status' "$(info_of "$PORT" aof_last_bgrewrite_status)" ok
    served 60000
}

killed_and_back() {
    keys_are_there "$FIRST" before
    keys_are_there "$FIRST" during
    keys_are_there "$FIRST" last
    same 'DBSIZE' "$(size "$FIRST")" "$(<"$TMP/size")"
}

digest() { at "$1" DEBUG DIGEST; }

synced() {
    [[ $(info_of "$2" master_link_status) == up ]] && [[ $(digest "$1") == "$(digest "$2")" ]]
}

# replica MASTER REPLICA: syncs while a load goes on, and then follows each write.
replica() {
    local load
    within 60 redis-benchmark -p "$1" -q -t set,lpush -n 30000 -c 20 -r 1000 >"$TMP/load.out" &
    load=$!
    same 'answer' "$(at "$2" REPLICAOF 127.0.0.1 "$1")" OK
    wait "$load"
    served 60000
    wait_for 30 synced "$1" "$2"
    write_keys "$1" "via$1"
    same 'replicas that have it' "$(at "$1" WAIT 1 10000)" 1
    keys_are_there "$2" "via$1"
    same 'size' "$(size "$2")" "$(size "$1")"
}

master_is_gone() {
    wait_for 15 info_is "$SECOND" master_link_status down
    same 'answer' "$(at "$SECOND" REPLICAOF NO ONE)" OK
    same 'role' "$(info_of "$SECOND" role)" master
    keys_are_there "$SECOND" "via$FIRST"
    write_keys "$SECOND" after
    keys_are_there "$SECOND" after
}

publish_subscribe() {
    local i subscribers=()
    for i in $(seq 20); do
        # Not `within`: what is killed below must be this, not a shell.
        timeout 40 redis-cli -p "$PORT" SUBSCRIBE news >"$TMP/news.$i" &
        subscribers+=("$!")
    done
    wait_for 20 subscribed news 20
    seq 300 | sed 's/.*/PUBLISH news message-&/' | at "$PORT" >"$TMP/receivers"
    same 'receivers' "$(sort "$TMP/receivers" | uniq -c | awk '{print $1, $2}')" '300 20'
    for i in $(seq 20); do
        wait_for 10 grep -qx message-300 "$TMP/news.$i"
        grep '^message-' "$TMP/news.$i" | cmp - <(seq 300 | sed 's/^/message-/')
    done
    # They have no end of their own, and go without a word.
    for i in "${subscribers[@]}"; do kill "$i"; done
    wait_for 10 subscribed news 0
    served 6000
}

subscribed() { [[ $(at "$PORT" PUBSUB NUMSUB "$1" | tail -n 1) == "$2" ]]; }

only_us() {
    # What replicates is no client of ours.
    wait_for 20 info_is "$PORT" connected_clients "$1"
}

beside_crowd() {
    wait_for 20 info_is "$PORT" connected_clients $((CLIENTS + 1))
    quiet "$APP_PID"
    keys_are_there "$PORT" after
}

# --- the run --------------------------------------------------------------------------------------------------------

# The threads spin while there is work: on few processors that is slow, natively too. So this server is for little.
start "$FIRST" --io-threads 4 --io-threads-do-reads yes
check 'four I/O threads: it runs under the library' under_library "$APP_PID"
check 'four I/O threads: load, 50 clients, 16 requests at a time' benchmark 50 20000 set -P 16
check 'four I/O threads: keys written' write_keys "$FIRST" threads
check 'four I/O threads: keys read' keys_are_there "$FIRST" threads
check 'four I/O threads: they were used' threads_were_used
check 'four I/O threads: quiet without work' quiet "$APP_PID"
kill -TERM "$APP_PID"
await_exit 'four I/O threads: SIGTERM'

start "$FIRST"
check 'it runs under the library' under_library "$APP_PID"
check 'BGREWRITEAOF under load' rewrite_under_load
check "$KEYS last keys" write_keys "$FIRST" last
size "$FIRST" >"$TMP/size"
kill -KILL "$APP_PID"
await_exit 'it is killed' 137
start "$FIRST"
FIRST_PID=$APP_PID
check 'nothing that was acknowledged is lost' killed_and_back

start "$SECOND"
SECOND_PID=$APP_PID
check 'a replica syncs under load and follows' replica "$FIRST" "$SECOND"
check 'both are quiet' quiet "$FIRST_PID" "$SECOND_PID"
APP_PID=$FIRST_PID
kill -KILL "$APP_PID"
await_exit 'the master is killed' 137
check 'the replica takes over' master_is_gone
start "$FIRST"
FIRST_PID=$APP_PID
check 'the old master comes back as a replica' replica "$SECOND" "$FIRST"
at "$FIRST" SHUTDOWN || true
await_exit 'SHUTDOWN of the replica'

PORT=$SECOND
APP_PID=$SECOND_PID
check '300 messages reach 20 subscribers each, in order' publish_subscribe
check "$CLIENTS clients at work" benchmark "$CLIENTS" 50000 get
check 'all their connections are closed' only_us 1
check "$CLIENTS idle clients: quiet, and others are served" with_crowd "$CLIENTS" beside_crowd
check 'all their connections are closed' only_us 1
check 'idle' quiet "$APP_PID"
kill -TERM "$APP_PID"
await_exit 'SIGTERM'
check 'nothing is left' nothing_left "$FIRST" "$SECOND"
start_compared() { start "$PORT"; }
compare 'SET with AOF' start_compared redis_rate -t set -n 50000 -c 50 -r 1000
summary "$(redis-server --version | cut -d ' ' -f 1-3)" \
    "I/O threads, AOF and a kill, replica and failover, 20 subscribers, $CLIENTS clients"
finish
