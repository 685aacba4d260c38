#!/bin/bash
# haproxy with four threads in front of an nginx, by HTTP and as a mere tunnel that splices: bodies, keep-alive, rude
# clients, a back end that goes away and returns, reloads under load by SIGUSR2 and by a successor (-sf).
# haproxy registers everything edge-triggered where it can, and moves descriptors between its threads.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 150 haproxy nginx curl perl

HTTP=$(free_port)
TUNNEL=$(free_port)
STATS=$(free_port)
WEB=$(free_port)
CONF=$TMP/haproxy.cfg

write_config() {
    cat >"$CONF" <<END
global
    nbthread 4
    maxconn 3000
    stats socket $TMP/haproxy.sock level admin expose-fd listeners
defaults
    timeout connect 2s
    timeout client 20s
    timeout server 20s
    retries 1
frontend web
    mode http
    bind 127.0.0.1:$HTTP
    default_backend nginx
frontend tunnel
    mode tcp
    option splice-auto
    bind 127.0.0.1:$TUNNEL
    default_backend nginx_by_tcp
frontend stats
    mode http
    bind 127.0.0.1:$STATS
    stats enable
    stats uri /
backend nginx
    mode http
    http-reuse always
    server one 127.0.0.1:$WEB
backend nginx_by_tcp
    mode tcp
    option splice-auto
    server one 127.0.0.1:$WEB
END
}

# count PROXY FIELD: one of haproxy's counts, of a whole frontend.
count() {
    within 10 curl -fsS "http://127.0.0.1:$STATS/;csv" | awk -F, -v proxy="$1" -v field="$2" '
        NR == 1 { sub(/^# /, ""); for (i = 1; i <= NF; i++) if ($i == field) column = i }
        $1 == proxy && $2 == "FRONTEND" { print $column }'
}

count_is() { [[ $(count "$1" "$2") == "$3" ]]; }

all_of_it() {
    # shellcheck disable=SC2046 # one word a worker
    echo "$APP_PID" $(children "$APP_PID")
}

# --- the checks -----------------------------------------------------------------------------------------------------

runs_right() {
    # shellcheck disable=SC2046
    under_library $(all_of_it)
    grep -q 'Using epoll() as the polling mechanism' "$APP_LOG"
}

bodies() {
    fetch_all 1 "http://127.0.0.1:$HTTP"
    fetch_all 1 "http://127.0.0.1:$TUNNEL"
}

# What haproxy counts is what the clients were answered.
load() {
    local PORT=$1 proxy=$2 before after found
    shift 2
    before=$(count "$proxy" req_tot)
    found=$(http_requests "$@")
    echo "$found"
    after=$(count "$proxy" req_tot)
    found=${found#requests=}
    # A tunnel knows of no requests.
    [[ $proxy == tunnel ]] || same 'requests counted' "$((after - before))" "${found%% *}"
}

slow_reader() {
    local PORT
    for PORT in "$HTTP" "$TUNNEL"; do
        within 30 curl -fsS --limit-rate 3M "http://127.0.0.1:$PORT/3000000" | cmp - "$WWW/3000000"
    done
}

rude_clients() {
    local PORT how
    for PORT in "$HTTP" "$TUNNEL"; do
        for how in cut reset; do
            rude "$how" 'GET /3000000 HTTP/1.1\r\nHost: a\r\n' --count 100
            rude "$how" 'GET /3000000 HTTP/1.1\r\nHost: a\r\n\r\n' --count 50 --linger 0.1
            rude "$how" '' --count 50
        done
    done
    # They are forgotten, but for those whose request had gone to the back end, which end with it.
    wait_for 10 count_is web scur 0
    wait_for 10 count_is tunnel scur 0
}

# A client that has closed its own direction gets its answer all the same.
half_closed() {
    local PORT
    for PORT in "$HTTP" "$TUNNEL"; do
        rude half 'GET /64000 HTTP/1.0\r\n\r\n' --count 20 >"$TMP/half"
        same 'answers' "$(grep -ao 'HTTP/1.1 200 OK' "$TMP/half" | wc -l)" 20
        [[ $(wc -c <"$TMP/half") -gt $((20 * 64000)) ]]
        served 20
    done
}

beside_crowd() {
    wait_for 10 count_is web scur 300
    # shellcheck disable=SC2046
    quiet $(all_of_it)
    http_requests /1000 "$WWW/1000" --seconds 0.5
}

status_of() { within 10 curl -s -o /dev/null -w '%{http_code}' "$@" || true; }

back_end_away() {
    local found
    same 'status by HTTP' "$(status_of "http://127.0.0.1:$HTTP/1000")" 503
    # The tunnel can only close.
    same 'status by the tunnel' "$(status_of "http://127.0.0.1:$TUNNEL/1000")" 000
    # Many at a time.
    # shellcheck disable=SC2016 # for the inner shell
    found=$(seq 30 | within 30 xargs -P 15 -I{} curl -s -o /dev/null -w '%{http_code}\n' \
        "http://127.0.0.1:$HTTP/1000" | sort | uniq -c | awk '{print $1, $2}')
    same 'answers' "$found" '30 503'
}

back_end_returned() {
    same 'status by HTTP' "$(status_of "http://127.0.0.1:$HTTP/1000")" 200
    same 'status by the tunnel' "$(status_of "http://127.0.0.1:$TUNNEL/1000")" 200
    bodies
}

worker_of() { children "$APP_PID" | tr -d ' '; }

# Sockets are handed on from worker to worker: no request with its own connection may fail.
reloads() {
    local by_http by_tunnel old status=0
    PORT=$HTTP http_requests /1000 "$WWW/1000" --fresh --connections 4 --seconds 2.5 >"$TMP/reload.http" 2>&1 &
    by_http=$!
    PORT=$TUNNEL http_requests /1000 "$WWW/1000" --fresh --connections 4 --seconds 2.5 >"$TMP/reload.tunnel" 2>&1 &
    by_tunnel=$!
    sleep 0.3
    old=$(worker_of)
    for _ in 1 2 3; do
        kill -USR2 "$APP_PID"
        sleep 0.6
    done
    wait "$by_http" || status=$?
    wait "$by_tunnel" || status=$?
    cat "$TMP/reload.http" "$TMP/reload.tunnel"
    same 'status of the clients' "$status" 0
    # The old workers go, as their connections end.
    wait_for 15 one_worker
    [[ $(worker_of) != "$old" ]]
    bodies
}

one_worker() { [[ $(children "$APP_PID" | wc -w) == 1 ]]; }

former_workers_ended_well() {
    local worker
    # The master may execute itself anew just then and say nothing of one.
    grep 'exited with code' "$APP_LOG"
    while read -r worker; do
        crashed_by_itself "$worker" || return 1
    done < <(sed '/exited with code/!d; /exited with code 0 /d; s/.*worker (\([0-9]*\)) exited with code.*/\1/' "$APP_LOG")
}

# Version 2.6.12 may crash in its last moment, natively too: it looks at a list that it has freed (haproxy's issue 2114, mended
# in 2.6.14). The kernel's log tells in whose code that was.
crashed_by_itself() {
    [[ $(haproxy -v) == *' version 2.6.12'* ]] && dmesg | grep "haproxy\[$1\]: segfault .* in haproxy\["
}

quiet_all() {
    # shellcheck disable=SC2046
    quiet $(all_of_it)
}

# --- throughput -----------------------------------------------------------------------------------------------------

start_compared() {
    local HTTP=$PORT CONF=$TMP/haproxy.cfg TUNNEL STATS
    TUNNEL=$(free_port)
    STATS=$(free_port)
    write_config
    echo "$TUNNEL" >"$TMP/tunnel"
    start_app "$PORT" haproxy -db -f "$CONF"
}

tunnel_rate() {
    local PORT
    PORT=$(<"$TMP/tunnel")
    wrk_rate "$@"
}

# --- the run --------------------------------------------------------------------------------------------------------

make_www 1 1000 64000 3000000
write_config
start_web "$WEB"
PORT=$HTTP

start_app "$HTTP" haproxy -V -W -db -f "$CONF"
check 'a worker' wait_for 5 one_worker
check 'master and worker run under the library, with epoll' runs_right
check 'bodies of 1 B to 3 MB over one connection, by HTTP and by the tunnel' bodies
check 'HTTP: 64 connections kept alive' load "$HTTP" web /1000 "$WWW/1000" --connections 64 --seconds 0.7
check 'HTTP: 150 connections, 64 kB' load "$HTTP" web /64000 "$WWW/64000" --connections 150 --seconds 0.7
check 'HTTP: a connection a request' load "$HTTP" web /1000 "$WWW/1000" --fresh --connections 32 --seconds 0.7
check 'tunnel: 64 connections kept alive' load "$TUNNEL" tunnel /1000 "$WWW/1000" --connections 64 --seconds 0.7
check 'tunnel: 150 connections, 64 kB' load "$TUNNEL" tunnel /64000 "$WWW/64000" --connections 150 --seconds 0.7
check 'tunnel: a connection a request' load "$TUNNEL" tunnel /1000 "$WWW/1000" --fresh --connections 32 --seconds 0.7
check 'slow readers' slow_reader
check 'clients that go in the middle' rude_clients
check 'half-closed clients are answered' half_closed
check '300 idle clients: quiet, and others are served' with_crowd 300 beside_crowd
stop_web 'the back end goes away'
check '503, and closed tunnels' back_end_away
start_web "$WEB"
check 'the back end is back: all as before' back_end_returned
check 'three reloads by SIGUSR2 under load, no failed request' reloads
check 'the former workers ended well' former_workers_ended_well
check 'the worker of the last reload runs under the library' runs_right
check 'idle' quiet_all
kill -USR1 "$APP_PID"
await_exit 'SIGUSR1: a graceful stop'

# Without a master: a successor takes the sockets over and tells the old one to finish.
start_app "$HTTP" haproxy -V -db -f "$CONF"
check 'without a master: bodies' bodies
OLD=$APP_PID
start_app "$HTTP" haproxy -V -db -f "$CONF" -x "$TMP/haproxy.sock" -sf "$OLD"
NEW=$APP_PID
APP_PID=$OLD
await_exit 'a successor by -sf: the old one ends'
APP_PID=$NEW
check 'the successor runs under the library' runs_right
check 'the successor serves' bodies
kill -USR1 "$APP_PID"
await_exit 'SIGUSR1: a graceful stop of the successor'
compare 'HTTP' start_compared wrk_rate /1000
compare 'tunnel' start_compared tunnel_rate /1000
stop_web 'the back end ends'
check 'nothing is left' nothing_left "$HTTP" "$TUNNEL" "$STATS" "$WEB"
summary "$(haproxy -v | head -n 1)" 'HTTP and TCP mode, bodies, counts, rude clients, back end away, reloads (USR2, -sf)'
finish
