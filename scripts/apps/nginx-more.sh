#!/bin/bash
# nginx with four workers, with and without reuseport: TLS with HTTP/2, a reverse proxy with connections kept to another
# server that goes away and returns, a reload and an upgrade of the binary under load.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 120 nginx curl perl openssl

WEB=$(free_port)
CONF=$TMP/nginx.conf
CERTIFICATES=$TMP
# As a daemon, as SIGUSR2 is ignored by a master whose first parent is still there. By its whole path: it executes what it was called by.
NGINX=("$(command -v nginx)" -e "$TMP/error.log" -p "$TMP" -c "$CONF")

# write_config reuseport, or nothing
write_config() {
    mkdir -p "$TMP/temp"
    cat >"$CONF" <<END
$([[ $(id -u) != 0 ]] || echo 'user root;')
# An upgraded binary gets only what is named here of the environment: without this, it would run without the library.
env LD_PRELOAD;
worker_processes 4;
pid $TMP/nginx.pid;
error_log $TMP/error.log warn;
events {
    use epoll;
    worker_connections 1024;
}
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path $TMP/temp/body;
    proxy_temp_path $TMP/temp/proxy;
    fastcgi_temp_path $TMP/temp/fastcgi;
    uwsgi_temp_path $TMP/temp/uwsgi;
    scgi_temp_path $TMP/temp/scgi;
    upstream web {
        server 127.0.0.1:$WEB max_fails=0;
        keepalive 8;
    }
    server {
        listen 127.0.0.1:$PORT $1;
        listen 127.0.0.1:$TLS $1 ssl http2;
        ssl_certificate $CERTIFICATES/cert.pem;
        ssl_certificate_key $CERTIFICATES/key.pem;
        root $WWW;
        location /proxied/ {
            proxy_pass http://web/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
}
END
}

# shellcheck disable=SC2046,SC2005 # one word a worker, blanks between them
workers() { echo $(children "$APP_PID"); }

worker_count_is() { [[ $(workers | wc -w) == 4 ]]; }

# shellcheck disable=SC2046
all_under_library() { under_library "$APP_PID" $(workers); }

# shellcheck disable=SC2046
workers_quiet() { quiet $(workers); }

# Sets APP_PID.
start_daemon() {
    within 20 "${LAUNCHER[@]}" "${NGINX[@]}" >>"$TMP/nginx.log" 2>&1 </dev/null
    wait_for 10 test -s "$TMP/nginx.pid"
    APP_PID=$(<"$TMP/nginx.pid")
    RUNNING+=("$APP_PID")
    wait_for 10 listens "$PORT"
}

# --- the checks -----------------------------------------------------------------------------------------------------

tls() {
    local found
    # One after the other, and many streams at a time over one connection.
    fetch_all 1 "https://127.0.0.1:$TLS" --cacert "$TMP/cert.pem" --http1.1
    fetch_all 1 "https://127.0.0.1:$TLS" --cacert "$TMP/cert.pem" --http2
    fetch_all 1 "https://127.0.0.1:$TLS" --cacert "$TMP/cert.pem" --http2 --parallel --parallel-max 20 --no-progress-meter
    found=$(curl -fsS --cacert "$TMP/cert.pem" -o /dev/null -w '%{http_version}' "https://127.0.0.1:$TLS/1")
    same 'version' "$found" 2
}

tls_parallel() {
    local found
    # shellcheck disable=SC2016 # for the inner shell
    found=$(seq 16 | within 40 xargs -P 8 -I{} sh -c 'curl -fsS --cacert "$1" "$2" | sha256sum' _ "$TMP/cert.pem" \
        "https://127.0.0.1:$TLS/3000000" | sort | uniq -c | awk '{print $1, $2}')
    same 'bodies' "$found" "16 $(sha256sum <"$WWW/3000000" | cut -d ' ' -f 1)"
    served 16
}

http2_load() {
    local found
    found=$(within 40 h2load -n 2000 -c 20 -m 10 "https://127.0.0.1:$TLS/64000")
    grep -E '^(finished|requests)' <<<"$found"
    grep -q '^requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout' <<<"$found"
    served 2000
}

status_of() { within 10 curl -s -o /dev/null -w '%{http_code}\n' "$@" || true; }

upstream_away() {
    local found
    found=$(for _ in 1 2 3 4 5 6 7 8; do status_of "http://127.0.0.1:$PORT/proxied/1000"; done | sort | uniq -c |
        awk '{print $1, $2}')
    same 'answers' "$found" '8 502'
}

rude_clients() {
    local how port
    for port in "$PORT" "$TLS"; do
        for how in cut reset; do
            PORT=$port rude "$how" 'GET /3000000 HTTP/1.1\r\nHost: a\r\n' --count 50
            PORT=$port rude "$how" 'GET /proxied/3000000 HTTP/1.1\r\nHost: a\r\n\r\n' --count 30 --linger 0.1
            # The beginning of a TLS greeting.
            PORT=$port rude "$how" '\x16\x03\x01\x02\x00\x01\x00' --count 50
        done
    done
    # shellcheck disable=SC2046
    wait_for 10 sockets_at_most "$SOCKETS" $(workers)
}

# load_while COMMAND...: no request with its own connection may fail meanwhile.
load_while() {
    local load status=0
    http_requests /proxied/1000 "$WWW/1000" --fresh --connections 4 --seconds 2 >"$TMP/load.out" 2>&1 &
    load=$!
    sleep 0.3
    "$@"
    wait "$load" || status=$?
    cat "$TMP/load.out"
    return "$status"
}

reloads() {
    for _ in 1 2 3; do
        kill -HUP "$APP_PID"
        sleep 0.4
    done
}

new_master() {
    local pid
    # The old master renames its file a while before the new one writes its own, and $(<FILE) of a file that has just gone
    # ends the shell, whatever it stands in.
    pid=$(cat "$TMP/nginx.pid" 2>/dev/null) || return
    [[ -n $pid && -s $TMP/nginx.pid.oldbin && $pid != "$APP_PID" && $(children "$pid" | wc -w) == 4 ]]
}

# As the manual has it: a new master beside the old one, the old workers finish, the old master ends.
upgrade() {
    kill -USR2 "$APP_PID"
    wait_for 10 new_master
    kill -WINCH "$APP_PID"
    # The new master is a child of the old one, until that ends.
    wait_for 10 only_new_master
    kill -QUIT "$APP_PID"
}

only_new_master() { [[ $(workers) == "$(<"$TMP/nginx.pid")" ]]; }

no_alerts() {
    touch "$TMP/error.log"
    ! grep -E '\[(alert|crit|emerg)\]' "$TMP/error.log"
}

# --- throughput -----------------------------------------------------------------------------------------------------

start_compared() {
    local CONF=$TMP/nginx.conf TLS
    TLS=$(free_port)
    echo "$TLS" >"$TMP/tls"
    write_config ''
    start_app "$PORT" nginx -e "$TMP/error.log" -p "$TMP" -c "$CONF" -g 'daemon off;'
}

# Of 20 connections with 10 streams each.
http2_rate() {
    local found
    found=$(within 20 h2load -D 1 -c 20 -m 10 "https://127.0.0.1:$(<"$TMP/tls")/1000") || return
    grep -q ' 0 failed, 0 errored, 0 timeout' <<<"$found" || { echo "$found" >&2 && return 1; }
    sed -n 's/^finished in [^,]*, \([0-9.]*\) req.*/\1/p' <<<"$found"
}

# --- the run --------------------------------------------------------------------------------------------------------

make_www 1 1000 64000 3000000
make_certificate
start_web "$WEB"
variants '' reuseport
for reuseport in "${VARIANTS[@]}"; do
    with="4 workers${reuseport:+, reuseport}"
    PORT=$(free_port)
    TLS=$(free_port)
    write_config "$reuseport"
    start_daemon
    check "$with: all are there" wait_for 5 worker_count_is
    check "$with: they run under the library" all_under_library
    # At most: each worker may keep 8 connections to the other server.
    # shellcheck disable=SC2046
    SOCKETS=$(($(sockets $(workers)) + 4 * 8))
    check "$with: TLS, bodies by HTTP/1.1 and HTTP/2" tls
    check "$with: TLS, 16 downloads of 3 MB, 8 at a time" tls_parallel
    if command -v h2load >/dev/null; then
        check "$with: TLS, HTTP/2, 20 connections with 10 streams each" http2_load
    fi
    check "$with: proxied bodies" fetch_all 1 "http://127.0.0.1:$PORT/proxied"
    check "$with: proxied, 64 connections" http_requests /proxied/64000 "$WWW/64000" --connections 64 --seconds 0.7
    check "$with: clients that go in the middle" rude_clients
    stop_web "$with: the other server goes away"
    check "$with: 502" upstream_away
    start_web "$WEB"
    check "$with: it is back: proxied bodies" fetch_all 1 "http://127.0.0.1:$PORT/proxied"
    check "$with: three reloads under load, no failed request" load_while reloads
    check "$with: all are there" wait_for 10 worker_count_is
    check "$with: an upgrade of the binary under load, no failed request" load_while upgrade
    check "$with: the old master ends" wait_for 10 ended "$APP_PID"
    APP_PID=$(<"$TMP/nginx.pid")
    RUNNING+=("$APP_PID")
    check "$with: the new ones run under the library" all_under_library
    check "$with: the new ones serve" tls
    check "$with: idle workers are quiet" workers_quiet
    kill -QUIT "$APP_PID"
    check "$with: graceful stop" wait_for 10 ended "$APP_PID"
    check "$with: nothing is left" nothing_left "$PORT" "$TLS"
    check "$with: no alert in the log" no_alerts
done
compare 'HTTP/2 over TLS' start_compared http2_rate
compare 'proxy' start_compared wrk_rate /proxied/1000
stop_web 'the other server ends'
summary "$(nginx -v 2>&1)" 'TLS, HTTP/2, proxy with kept connections, reload and binary upgrade, with and without reuseport'
finish
