#!/bin/bash
# nginx with one worker and with four: right bodies, load, reloads under load, a graceful end.
# nginx registers everything edge-triggered and stops reading after a short read.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 240 nginx wrk curl perl

SIZES=(1 1000 64000 1000000 10000000)
WWW=$TMP/www
CONF=$TMP/nginx.conf
NGINX=(nginx -e "$TMP/error.log" -p "$TMP" -c "$CONF")

make_files() {
    local size
    mkdir "$WWW"
    for size in "${SIZES[@]}"; do head -c "$size" /dev/urandom >"$WWW/$size"; done
    (cd "$WWW" && sha256sum -- *) >"$TMP/sums"
}

# The ways a body takes through nginx, each a location: by sendfile; by read and write; by a thread pool, whose threads
# tell the event loop through an eventfd that is edge-triggered and never drained; by nginx as its own client.
WAYS=(sendfile written proxied)
nginx -V 2>&1 | grep -q -e --with-threads && WAYS+=(threads)

# write_config WORKERS
write_config() {
    local workers=$1
    mkdir -p "$TMP/temp"
    {
        # The workers read files of a directory that only we may enter.
        [[ $(id -u) != 0 ]] || echo 'user root;'
        cat <<END
daemon off;
master_process on;
worker_processes $workers;
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
    upstream itself {
        server 127.0.0.1:$PORT;
        keepalive 4;
    }
    server {
        listen 127.0.0.1:$PORT;
        location /sendfile/ { alias $WWW/; sendfile on; }
        location /written/ { alias $WWW/; sendfile off; }
        location /proxied/ {
            proxy_pass http://itself/sendfile/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
END
        [[ ${WAYS[*]} != *threads* ]] || echo "location /threads/ { alias $WWW/; sendfile off; aio threads; }"
        echo '} }'
    } >"$CONF"
}

url() { echo "http://127.0.0.1:$PORT/$1"; }

workers() {
    # shellcheck disable=SC2046,SC2005 # one word a worker, blanks between them
    echo $(children "$APP_PID")
}

worker_count_is() { [[ $(workers | wc -w) == "$1" ]]; }

# --- the checks -----------------------------------------------------------------------------------------------------

workers_under_library() {
    # shellcheck disable=SC2046
    under_library "$APP_PID" $(workers)
}

# Every size, twice over, through one connection.
bodies() {
    local way=$1 round size connects args=()
    for round in 1 2; do
        mkdir "$TMP/got.$round"
        for size in "${SIZES[@]}"; do args+=(-o "$TMP/got.$round/$size" "$(url "$way/$size")"); done
    done
    connects=$(within 30 curl -fsS -w '%{num_connects}\n' "${args[@]}" | awk '{n += $1} END {print n}')
    for round in 1 2; do
        (cd "$TMP/got.$round" && sha256sum --quiet -c "$TMP/sums")
        rm -r "$TMP/got.$round"
    done
    same 'connections' "$connects" 1
    served $((2 * ${#SIZES[@]}))
}

parallel_downloads() {
    local found
    # shellcheck disable=SC2016 # for the inner shell
    found=$(seq 20 | within 60 xargs -P 20 -I{} sh -c 'curl -fsS "$1" | sha256sum' _ "$(url "$1/10000000")" |
        sort | uniq -c | awk '{print $1, $2}')
    same 'bodies' "$found" "20 $(awk '$2 == "10000000" {print $1}' "$TMP/sums")"
    served 20
}

# The server has to wait for this client again and again.
slow_reader() {
    local found
    found=$(within 30 curl -fsS --limit-rate 5M "$(url "$1/10000000")" | sha256sum)
    same 'body' "${found%% *}" "$(awk '$2 == "10000000" {print $1}' "$TMP/sums")"
}

WRK=(wrk)

# wrk_load SECONDS ARGUMENT...: prints one line.
wrk_load() {
    local seconds=$1
    shift
    within $((seconds + 20)) "${WRK[@]}" -t 2 -c 64 -d "${seconds}s" "$@" "$(url sendfile/1000)" |
        grep -E 'requests in|Requests/sec|Socket errors|Non-2xx' | tr -s ' \n' ' '
}

wrk_without_errors() {
    local found
    found=$(wrk_load "$@")
    echo "$found"
    [[ $found =~ ([0-9]+)' requests in' && $found != *errors* && $found != *Non-2xx* && $found != ' 0 requests'* ]]
    served "${BASH_REMATCH[1]}"
}

# The client, which has an event loop a thread, under the library as well.
wrk_under_library() {
    local WRK=("${LAUNCHER[@]}" wrk)
    wrk_without_errors 2
}

# http_load SIZE ARGUMENT...
http_load() { http_requests "/sendfile/$1" "$WWW/$1" "${@:2}"; }

# Five reloads while wrk keeps connections alive and a second client takes a new one for each request. The old workers
# close the former between two requests, and wrk counts some of them as read errors, natively too: those are only
# shown. The latter meet either an old worker or a new one, and none may fail. Writes their failures to $1.
reload_under_load() {
    local wrk fresh found before pid
    before=$(workers)
    wrk_load 3 >"$TMP/wrk.out" &
    wrk=$!
    http_load 1000 --fresh --seconds 2.5 >"$TMP/fresh.out" 2>"$TMP/fresh.err" &
    fresh=$!
    sleep 0.4
    for _ in 1 2 3 4 5; do
        kill -HUP "$APP_PID"
        sleep 0.3
    done
    wait "$fresh" || echo "the second client ended with status $?"
    wait "$wrk"
    cat "$TMP/wrk.out" "$TMP/fresh.out" "$TMP/fresh.err"
    sed -n 's/.*failed=\([0-9]*\).*/\1/p' "$TMP/fresh.out" >"$1"
    [[ -s $1 ]]
    found=$(<"$TMP/wrk.out")
    [[ $found == *'requests in'* && $found != *Non-2xx* ]]
    [[ $found != *errors* || $found == *'connect 0,'*'timeout 0'* ]]
    # The old workers are gone, and as many new ones there.
    wait_for 10 worker_count_is "$2"
    for pid in $before; do
        [[ " $(workers) " != *" $pid "* ]]
    done
}

reload_here() {
    local failed allowed=0
    reload_under_load "$TMP/failed" "$1"
    failed=$(<"$TMP/failed")
    [[ ! -s $TMP/failed.native ]] || allowed=$(<"$TMP/failed.native")
    echo "failed requests: $failed, natively $allowed"
    [[ $failed -le $allowed ]]
}

# No more sockets than before the loads, that is, all connections are closed.
sockets_back() {
    # shellcheck disable=SC2046
    wait_for 10 sockets_at_most "$1" $(workers)
}

workers_quiet() {
    # shellcheck disable=SC2046
    quiet $(workers)
}

# A request in flight at the time of a graceful stop is answered to its end.
start_slow_download() {
    curl -fsS --max-time 30 --limit-rate 5M -o "$TMP/slow" "$(url sendfile/10000000)" 2>"$TMP/slow.log" </dev/null &
    DOWNLOAD=$!
    sleep 0.5
}

download_is_whole() {
    wait_for 20 ended "$DOWNLOAD"
    cmp "$TMP/slow" "$WWW/10000000"
}

no_alerts() {
    touch "$TMP/error.log"
    ! grep -E '\[(alert|crit|emerg)\]' "$TMP/error.log"
}

start_compared() {
    local CONF=$TMP/nginx.conf
    write_config 1
    start_app "$PORT" nginx -e "$TMP/error.log" -p "$TMP" -c "$CONF"
}

# --- the run --------------------------------------------------------------------------------------------------------

make_files
variants 1 4
for workers in "${VARIANTS[@]}"; do
    PORT=$(free_port)
    write_config "$workers"
    with="$workers worker(s)"

    rm -f "$TMP/failed.native"
    if [[ ${#LAUNCHER[@]} -gt 0 ]]; then
        start_native "$PORT" "${NGINX[@]}"
        check "$with, natively: load" uncounted wrk_without_errors 2
        check "$with, natively: five reloads under load" uncounted reload_under_load "$TMP/failed.native" "$workers"
        kill -QUIT "$APP_PID"
        await_exit "$with, natively: graceful stop"
    fi

    start_app "$PORT" "${NGINX[@]}"
    check "$with: all are there" wait_for 5 worker_count_is "$workers"
    check "$with: master and workers run under the library" workers_under_library
    for way in "${WAYS[@]}"; do
        check "$with, $way: bodies of 1 B to 10 MB over one connection" bodies "$way"
        check "$with, $way: 20 parallel downloads of 10 MB" parallel_downloads "$way"
        check "$with, $way: a slow reader" slow_reader "$way"
    done
    # shellcheck disable=SC2046
    base=$(sockets $(workers))
    check "$with: wrk, 64 connections kept alive" wrk_without_errors 3
    check "$with: wrk, a connection a request" wrk_without_errors 2 -H 'Connection: close'
    check "$with: every request on 64 connections is answered" http_load 1000 --connections 64
    check "$with: every request for 64 kB on 300 connections is answered" http_load 64000 --connections 300
    check "$with: every request on 300 mostly idle connections is answered" \
        http_load 1000 --connections 300 --pause 2 --seconds 5
    check "$with: every request with its own connection is answered, and closed" http_load 1000 --connections 64 --fresh
    check "$with: wrk itself under the library" wrk_under_library
    check "$with: all connections are closed" sockets_back "$base"
    check "$with: five reloads under load, no failed request beyond native" reload_here "$workers"
    check "$with: workers of the last reload run under the library" workers_under_library
    check "$with: idle workers are quiet" workers_quiet
    start_slow_download
    kill -QUIT "$APP_PID"
    check "$with: a download goes on through a graceful stop" download_is_whole
    await_exit "$with: graceful stop"
    check "$with: no alert in the log" no_alerts
done
compare 'keep-alive' start_compared wrk_rate /sendfile/1000
compare 'a connection a request' start_compared wrk_rate /sendfile/1000 -H 'Connection: close'
summary "$(nginx -v 2>&1)" \
    'with 1 and 4 workers bodies of 1 B to 10 MB in four ways, load, slow and idle clients, reloads under load, graceful stop'
finish
