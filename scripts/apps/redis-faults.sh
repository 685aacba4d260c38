#!/bin/bash
# redis and its replica behind proxies that make faults: pipelines, one command after the other, large values, subscribers.
# 1,000 faults of each kind in each direction, first natively and then under the launcher, by the same seed; meanwhile the
# link between the two breaks at random bytes.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 900 redis-server redis-cli /usr/bin/python3

COUNT=${FAULTS:-1000}
[[ -z ${APP_SHORT:-} ]] || COUNT=${FAULTS:-30}
SEED=${FAULTS_SEED:-1}

# start PORT ARGUMENT...
start() {
    rm -rf "${TMP:?}/$1"
    mkdir -p "$TMP/$1"
    # No limit on what a subscriber that stalls has still to get: who is cut off would be a matter of time.
    start_app "$1" redis-server --port "$1" --bind 127.0.0.1 --daemonize no --save '' --appendonly no --dir "$TMP/$1" \
        --enable-debug-command yes --client-output-buffer-limit pubsub 0 0 0 --client-output-buffer-limit replica 0 0 0 \
        --repl-diskless-sync-delay 0 --repl-backlog-size 64mb "${@:2}"
}

# at PORT WORD...: redis-cli.
at() {
    local port=$1
    shift
    within 60 redis-cli -p "$port" "$@"
}

info_of() { at "$1" INFO | tr -d '\r' | sed -n "s/^$2://p"; }

info_is() { [[ $(info_of "$1" "$2") == "$3" ]]; }

digest() { at "$1" DEBUG DIGEST; }

synced() { info_is "$REPLICA" master_link_status up && [[ $(digest "$MASTER") == "$(digest "$REPLICA")" ]]; }

# --- the checks -----------------------------------------------------------------------------------------------------

# load COUNT TABLE
load() {
    local found status=0
    found=$(within 600 /usr/bin/python3 "$REPO/scripts/apps/faults-load.py" redis --port "$MASTER" --proxy "$PROXY" \
        --count "$1" --seed "$SEED" --table "$2" --parallel 48 --idle 100) || status=$?
    echo "$found"
    found=${found#*whole=}
    served "${found%% *}"
    return "$status"
}

# Ten connections for each fault: what is made at the first need is there before anybody counts.
warm_up() {
    load 10 /dev/null
    wait_for 30 synced
}

only_replica_and_us() {
    wait_for 20 info_is "$MASTER" connected_clients 1
    wait_for 20 info_is "$MASTER" pubsub_channels 0
}

# The link is whole again; what the replica has missed it gets.
replica_follows() {
    kill -USR1 "$LINK_PID"
    wait_for 90 synced
    same 'keys' "$(at "$REPLICA" DBSIZE)" "$(at "$MASTER" DBSIZE)"
    echo "syncs: $(info_of "$MASTER" sync_full) in full, $(info_of "$MASTER" sync_partial_ok) in part"
}

clean() {
    local found
    found=$(within 5 redis-cli -p "$MASTER" PING)
    same 'PING' "$found" PONG
    same 'SET' "$(within 5 redis-cli -p "$MASTER" SET clean value)" OK
    same 'replicas that have it' "$(within 5 redis-cli -p "$MASTER" WAIT 1 4000)" 1
    same 'GET' "$(within 5 redis-cli -p "$REPLICA" GET clean)" value
}

descriptors_are_back() {
    wait_for 20 descriptors_back "$TMP/descriptors.before" "$MASTER_PID" "$REPLICA_PID" ||
        { cat "$TMP/descriptors.diff"; return 1; }
    grep -h ' library ' "$TMP/descriptors.before" "$TMP/descriptors.now" || true
}

# By its own cron a server takes one or two hundredths of a processor.
both_quiet() { quiet_for 2 10 "$MASTER_PID" "$REPLICA_PID"; }

# What it says of the link is shown; nothing else is a warning.
right_logs() {
    sed -n 's/^[0-9]*:[A-Z] [0-9A-Za-z :.]* # //p' "$APP_LOG" | sed 's/[0-9]\+/N/g' | sort | uniq -c | sort -n | tail -n 20
    ! grep -iE 'epoll|eventfd|crash|assert|BUG REPORT|Unrecoverable|Accepting client connection' "$APP_LOG"
}

# faults WITH TABLE
faults() {
    local with=$1 table=$2 link
    MASTER=$(free_port)
    start "$MASTER"
    MASTER_PID=$APP_PID
    link=$(free_port)
    start_proxy "$link" "$MASTER" --random "$SEED" --reach $((16000 * COUNT))
    LINK_PID=$PROXY_PID
    REPLICA=$(free_port)
    start "$REPLICA" --replicaof 127.0.0.1 "$link"
    REPLICA_PID=$APP_PID
    PROXY=$(free_port)
    start_proxy "$PROXY" "$MASTER"
    check "$with: they run under the library" under_library "$MASTER_PID" "$REPLICA_PID"
    check "$with: ten of each fault, to begin with" uncounted warm_up
    descriptors "$MASTER_PID" "$REPLICA_PID" >"$TMP/descriptors.before"
    # The link begins to break.
    kill -USR1 "$LINK_PID"
    check "$with: $COUNT of each fault, each way, and $COUNT connections without" load "$COUNT" "$table"
    check "$with: nobody else is left" only_replica_and_us
    check "$with: the replica has it all" replica_follows
    check "$with: a clean client is answered at once" clean
    check "$with: descriptors are as before" descriptors_are_back
    check "$with: idle servers are quiet" both_quiet
    stop_proxy "$PROXY_PID"
    check "$with: the proxy made as many faults" made "$((2 * COUNT))" "$PROXY"
    for pid in "$REPLICA_PID" "$MASTER_PID"; do
        APP_PID=$pid
        kill -TERM "$pid"
        await_exit "$with: SIGTERM"
    done
    stop_proxy "$LINK_PID"
    check "$with: the link broke" broke "$(((COUNT + 99) / 100))" "$link"
    check "$with: logs" right_logs
    check "$with: nothing is left" nothing_left "$MASTER" "$REPLICA"
}

# --- the run --------------------------------------------------------------------------------------------------------

if [[ ${#LAUNCHER[@]} -gt 0 && -z ${APP_SHORT:-} ]]; then
    preloaded=("${LAUNCHER[@]}")
    LAUNCHER=()
    faults natively "$TMP/table.native"
    LAUNCHER=("${preloaded[@]}")
    mkdir "$TMP/native"
    mv "$TMP"/*.log "$TMP/native/"
    rm "$TMP/served"
fi
faults 'with a replica' "$TMP/table"
[[ ! -e $TMP/table.native ]] ||
    check 'requests fail as often as natively' same_shares "$TMP/table.native" "$TMP/table"
summary "$(redis-server --version | cut -d ' ' -f 1-3)" \
    "$COUNT each of 14 faults, in pipelines, commands, large values, subscriptions; a replica on a breaking link" 'no throughput'
finish
