#!/bin/bash
# PostgreSQL: pgbench and its sums, big results, notifications to sleeping listeners, clients that vanish in the middle of
# a query, a reload, a crash of one process and the recovery from it, a clean end.
# Each of its processes has an epoll of its own, made after its fork, with a signalfd, sockets and the pipe that tells of
# the postmaster's end in it; WL_SOCKET_CLOSED waits for RDHUP alone.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# Debian puts them where only its own wrappers look.
for directory in /usr/lib/postgresql/*/bin; do PATH=$directory:$PATH; done
begin 180 postgres initdb psql pgbench perl setpriv

PORT=$(free_port)
DATA=$TMP/data
ACCOUNTS=200000

# It refuses to run as root.
AS=()
if [[ $(id -u) == 0 ]]; then
    AS=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    chmod 711 "$TMP"
    if [[ ${LAUNCHER[*]} == *uepoll* && -z ${UEPOLL_LIB:-} ]]; then
        # nobody must be able to load the library, wherever the repository is.
        cp "$LIBRARY" "$TMP/libuepoll.so"
        chmod 755 "$TMP/libuepoll.so"
        export UEPOLL_LIB=$TMP/libuepoll.so
        LAUNCHER=("${LAUNCHER[@]/#LD_PRELOAD=*/LD_PRELOAD=$UEPOLL_LIB}")
    fi
fi

# server PORT DATA: sets SERVER, and whom psql and pgbench ask.
server() {
    SERVER=("${AS[@]}" "$(command -v postgres)" -D "$2" -p "$1" -c listen_addresses=127.0.0.1
        -c unix_socket_directories="$2" -c max_connections=80 -c fsync=off -c shared_buffers=32MB
        -c client_connection_check_interval=200 -c restart_after_crash=on
        # Scans begin at the beginning, so that what is copied out has the order of what was copied in.
        -c synchronize_seqscans=off)
    export PGHOST=127.0.0.1 PGPORT=$1 PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=10
}
server "$PORT" "$DATA"

sql() { within 40 psql -X -A -t -q -v ON_ERROR_STOP=1 -c "$1"; }

sql_is() { [[ $(sql "$1" 2>/dev/null) == "$2" ]]; }

# Sessions of clients, but for the one that asks.
others() { sql "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"; }

others_are() { [[ $(others 2>/dev/null) == "$1" ]]; }

start() {
    start_app "$PORT" "${SERVER[@]}"
    wait_for 20 sql_is 'select 1' 1 || not_ok 'the server answers'
}

# --- the checks -----------------------------------------------------------------------------------------------------

init() {
    mkdir "$DATA"
    [[ ${#AS[@]} == 0 ]] || chown nobody:nogroup "$DATA"
    (cd "$DATA" && within 60 "${AS[@]}" "$(command -v initdb)" -D "$DATA" -U postgres -A trust -E UTF8 --no-locale -N) |
        tail -n 1
}

# Those that stay: the postmaster, its helpers, and the sessions that listen.
lasting() {
    echo "$APP_PID"
    sql "select pid from pg_stat_activity
        where backend_type not in ('client backend', 'autovacuum worker', 'parallel worker') or query like 'LISTEN%'"
}

all_under_library() {
    # shellcheck disable=SC2046 # one word a process
    under_library $(lasting)
}

fill() {
    within 60 pgbench -i -q -s "$((ACCOUNTS / 100000))" 2>&1 | tail -n 1
    same 'accounts' "$(sql 'select count(*) from pgbench_accounts')" "$ACCOUNTS"
    sql 'create table done (n bigint)'
}

# bench ARGUMENT...: every transaction that pgbench counts has left its traces, no more and no fewer.
bench() {
    local found
    within 60 pgbench -n "$@" >"$TMP/pgbench.out" 2>&1 || {
        cat "$TMP/pgbench.out"
        return 1
    }
    grep -E '^(tps|number of (transactions|failed))' "$TMP/pgbench.out"
    found=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$TMP/pgbench.out")
    [[ $found -gt 0 ]]
    sql "insert into done values ($found)"
    served "$found"
    sums
}

sums() {
    same 'rows of the history, and transactions' "$(sql 'select count(*) from pgbench_history')" \
        "$(sql 'select sum(n) from done')"
    same 'accounts = tellers = branches = history' "$(sql 'select
        (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) and
        (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history) and
        (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)')" t
}

# 10 MB in and out, more than any buffer: the server waits for room, and for input.
copies() {
    local i
    seq 1 300000 | awk '{print $1 "\t" $1 * 7919 % 1000003 "-some-text-to-make-it-longer"}' >"$TMP/rows"
    sql 'create table rows (n int, t text)'
    within 40 psql -X -q -c 'copy rows from stdin' <"$TMP/rows"
    for i in 1 2 3 4; do
        within 40 psql -X -q -c 'copy rows to stdout' >"$TMP/rows.$i" &
    done
    wait
    for i in 1 2 3 4; do cmp "$TMP/rows" "$TMP/rows.$i"; done
    # A reader that is slow to begin.
    within 40 psql -X -q -c 'copy rows to stdout' | (sleep 0.5 && cmp - "$TMP/rows")
}

notifications() {
    local listeners
    : >"$TMP/listen.out"
    perl "$REPO/scripts/apps/pg-listen.pl" --port "$PORT" --user postgres --channel news --listeners 20 --expect 200 \
        >"$TMP/listen.out" 2>&1 &
    listeners=$!
    wait_for 20 grep -q listening "$TMP/listen.out"
    # In a hundred transactions, that is, a hundred times to wake up; then a hundred at once.
    seq 1 100 | awk '{print "notify news, \047" $1 "\047;"}' | within 30 psql -X -q
    sql "select pg_notify('news', n::text) from generate_series(101, 200) n" >/dev/null
    wait "$listeners" || {
        cat "$TMP/listen.out"
        return 1
    }
    same 'notifications' "$(tail -n 1 "$TMP/listen.out")" notifications=4000
    served 4000
}

# A session that sleeps is woken: by the end of its time, by the end of a lock, by a cancellation.
sleepers() {
    local took start sleeper
    start=${EPOCHREALTIME/./}
    sql 'select pg_sleep(0.7)' >/dev/null
    took=$(((${EPOCHREALTIME/./} - start) / 1000))
    echo "pg_sleep(0.7) took $took ms"
    [[ $took -ge 700 && $took -lt 4000 ]]

    same 'an end by statement_timeout' "$(sql 'set statement_timeout = 300; select pg_sleep(30)' 2>&1 |
        grep -c 'due to statement timeout')" 1

    sql 'begin; lock table done; select pg_sleep(1); insert into done values (0); commit' >/dev/null &
    sleeper=$!
    wait_for 10 sql_is "select count(*) from pg_locks where relation = 'done'::regclass and mode = 'AccessExclusiveLock'
        and granted" 1
    same 'seen behind the lock' "$(sql 'select count(*) from done where n = 0')" 1
    wait "$sleeper"

    sql 'select pg_sleep(30)' >"$TMP/cancelled" 2>&1 &
    sleeper=$!
    wait_for 10 sql_is "select count(*) from pg_stat_activity where wait_event = 'PgSleep'" 1
    same 'cancelled' "$(sql "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")" t
    wait "$sleeper" || true
    grep 'canceling statement due to user request' "$TMP/cancelled"
}

# client_connection_check_interval: the server notices in the middle of a query that its client has gone.
vanished() {
    local i pid pids=()
    for i in 1 2 3 4 5 6 7 8; do
        psql -X -q -c 'select pg_sleep(60)' >/dev/null 2>&1 &
        pids+=("$!")
    done
    wait_for 20 sql_is "select count(*) from pg_stat_activity where wait_event = 'PgSleep'" 8
    # The shell need not tell of their ends.
    disown "${pids[@]}"
    for pid in "${pids[@]}"; do kill -KILL "$pid"; done
    wait_for 15 others_are 0
    # Those that send part of a greeting, nothing, or nonsense.
    rude cut '\x00\x00\x00\x50\x00\x03' --count 20
    rude reset '' --count 20
    rude half 'GET / HTTP/1.0\r\n\r\n' --count 5 >/dev/null
    wait_for 15 others_are 0
}

idle_sessions() {
    local quiet_ones
    : >"$TMP/idle.out"
    perl "$REPO/scripts/apps/pg-listen.pl" --port "$PORT" --user postgres --channel nothing --listeners 40 --expect 1 \
        >"$TMP/idle.out" 2>&1 &
    quiet_ones=$!
    wait_for 20 grep -q listening "$TMP/idle.out"
    wait_for 10 others_are 40
    all_under_library
    # shellcheck disable=SC2046
    quiet $(lasting) | tee "$TMP/ticks" | tail -n 3
    [[ $(wc -l <"$TMP/ticks") -gt 40 ]]
    sql "notify nothing, '1'"
    wait "$quiet_ones"
    wait_for 10 others_are 0
}

reload() {
    sql "alter system set work_mem = '7MB'"
    kill -HUP "$APP_PID"
    wait_for 10 sql_is 'show work_mem' 7MB
    all_under_library
}

# One process dies: the postmaster ends all others, recovers and goes on, and nothing that was committed is lost.
crash() {
    local victim
    psql -X -q -c 'select pg_sleep(60)' >/dev/null 2>&1 &
    wait_for 10 sql_is "select count(*) from pg_stat_activity where wait_event = 'PgSleep'" 1
    victim=$(sql "select pid from pg_stat_activity where wait_event = 'PgSleep'")
    kill -KILL "$victim"
    wait_for 20 grep -q 'all server processes terminated; reinitializing' "$APP_LOG"
    wait_for 30 sql_is 'select 1' 1
    sums
    all_under_library
}

# --- throughput -----------------------------------------------------------------------------------------------------

start_compared() {
    cp -a "$DATA" "$TMP/data"
    server "$PORT" "$TMP/data"
    start
}

transactions() {
    within 20 pgbench -p "$PORT" -n -c 16 -j 2 -T 1 "$@" | sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

# --- the run --------------------------------------------------------------------------------------------------------

segments=$(ipcs -m | wc -l)
check 'initdb' init
start
check 'postmaster and helpers run under the library' all_under_library
check "$ACCOUNTS accounts" fill
check 'pgbench, 16 clients: the sums agree' bench -c 16 -j 2 -T 3
check 'pgbench, 16 clients, prepared: the sums agree' bench -c 16 -j 2 -T 1 -M prepared
check 'pgbench, a connection a transaction: the sums agree' bench -c 8 -j 2 -t 20 -C
check '10 MB copied in, and out by four at a time' copies
check '20 listeners get 200 notifications each, in order' notifications
check 'sleeping sessions are woken' sleepers
check 'clients that vanish' vanished
check '40 idle sessions: quiet' idle_sessions
check 'SIGHUP: a reload' reload
check 'a process that is killed, and the recovery' crash
check 'pgbench after the recovery: the sums agree' bench -c 16 -j 2 -T 1
kill -INT "$APP_PID"
await_exit 'SIGINT: a fast stop'
check 'nothing is left' nothing_left "$PORT"
start
check 'after a restart the sums agree' sums
kill -TERM "$APP_PID"
await_exit 'SIGTERM: a smart stop'
check 'nothing is left again' nothing_left "$PORT"
compare 'SELECTs' start_compared transactions -S
compare 'transactions' start_compared transactions
check 'no shared memory is left' same 'segments' "$(ipcs -m | wc -l)" "$segments"
summary "$(postgres --version)" 'pgbench and its sums, copies, LISTEN/NOTIFY, vanished clients, reload, crash, restart'
finish
