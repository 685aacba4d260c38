#!/bin/bash
# nginx with four workers behind a proxy that makes faults, and in front of it: files, uploads, and both by way of itself.
# 1,000 faults of each kind in each direction, first natively and then under the launcher, by the same seed.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 900 nginx perl /usr/bin/python3

COUNT=${FAULTS:-1000}
[[ -z ${APP_SHORT:-} ]] || COUNT=${FAULTS:-30}
SEED=${FAULTS_SEED:-1}
CONF=$TMP/nginx.conf
NGINX=(nginx -e "$TMP/error.log" -p "$TMP" -c "$CONF")

# Small buffers of sockets, so that a client that does not read is soon felt. Connections to itself are kept for 2 s, which
# is waited for.
write_config() {
    rm -rf "$TMP/temp" "$TMP/store"
    mkdir -p "$TMP/temp" "$TMP/store"
    cat >"$CONF" <<END
$([[ $(id -u) != 0 ]] || echo 'user root;')
daemon off;
worker_processes 4;
pid $TMP/nginx.pid;
error_log $TMP/error.log info;
events {
    use epoll;
    worker_connections 1024;
}
http {
    log_format faults '\$arg_id \$status';
    access_log $TMP/access.log faults;
    keepalive_requests 1000000000;
    # For those that are silent all the while.
    client_header_timeout 900;
    client_body_temp_path $TMP/temp/body;
    proxy_temp_path $TMP/temp/proxy;
    fastcgi_temp_path $TMP/temp/fastcgi;
    uwsgi_temp_path $TMP/temp/uwsgi;
    scgi_temp_path $TMP/temp/scgi;
    # What a client does not take waits in buffers, and then in the server behind, and in no file.
    proxy_max_temp_file_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream itself {
        server 127.0.0.1:$PORT max_fails=0;
        keepalive 8;
        keepalive_timeout 2s;
    }
    upstream proxy {
        server 127.0.0.1:$PROXY max_fails=0;
        keepalive 8;
        keepalive_timeout 2s;
    }
    server {
        listen 127.0.0.1:$PORT sndbuf=32k rcvbuf=32k;
        client_max_body_size 10m;
        location /sendfile/ { alias $WWW/; sendfile on; }
        location /written/ { alias $WWW/; sendfile off; }
        location /store/ { root $TMP; dav_methods PUT; }
        location /via/ { proxy_pass http://itself/; }
        location /behind/ { proxy_pass http://proxy/; proxy_request_buffering off; }
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
workers_quiet() { quiet_for 2 5 $(workers); }

# --- the checks -----------------------------------------------------------------------------------------------------

# Ten connections for each fault: what is made at the first request is there before anybody counts.
warm_up() { load 10 /dev/null; }

# load COUNT TABLE
load() {
    local found status=0
    rm -f "$TMP"/store/*
    found=$(within 600 /usr/bin/python3 "$REPO/scripts/apps/faults-load.py" http --port "$PORT" --proxy "$PROXY" \
        --files "$WWW" --store "$TMP/store" --count "$1" --seed "$SEED" --table "$2" --parallel 48 --idle 300) || status=$?
    echo "$found"
    found=${found#*whole=}
    served "${found%% *}"
    return "$status"
}

no_socket_of_clients() {
    # shellcheck disable=SC2046
    wait_for 20 descriptors_back "$1" $(workers) || { cat "$TMP/descriptors.diff"; return 1; }
    grep ' library ' "$TMP/descriptors.now" || true
}

clean() { http_requests /sendfile/300000 "$WWW/300000" --connections 16 --seconds 1 "$@"; }

# What it logged of errors, without what differs from one to the next.
complaints() {
    sed -n 's/^[^[]*\[\(error\|crit\|alert\|emerg\)\] [^:]*: \*\?[0-9]* *\([^,]*\).*/\1 \2/p' "$TMP/error.log" |
        sed 's/"[^"]*"/""/g' | sort | uniq -c
}

# Natively there is none of these. What else it says of clients and of itself as a server is shown.
right_logs() {
    complaints | tee "$TMP/complaints"
    if grep -E '\[(crit|alert|emerg)\]|(epoll|eventfd)[^ ]* failed' "$TMP/error.log"; then return 1; fi
    awk 'NF == 2 {print $2}' "$TMP/access.log" | sort | uniq -c | tee "$TMP/statuses"
    awk '$2 !~ /^(200|201|204|400|499|502)$/ {print "status", $2; bad = 1} END {exit bad}' "$TMP/statuses"
}

# faults WITH TABLE: everything, for the nginx and the proxy that have been started.
faults() {
    local with=$1 table=$2
    check "$with: all workers are there" wait_for 5 worker_count_is
    check "$with: ten of each fault, to begin with" uncounted warm_up
    # Connections to itself are closed, which are kept for 2 s.
    sleep 3
    # shellcheck disable=SC2046
    descriptors $(workers) >"$TMP/descriptors.before"
    check "$with: $COUNT of each fault, each way, and $COUNT connections without" load "$COUNT" "$table"
    check "$with: a clean load is answered at once" clean
    check "$with: descriptors are as before" no_socket_of_clients "$TMP/descriptors.before"
    check "$with: idle workers are quiet" workers_quiet
    stop_proxy "$PROXY_PID"
    check "$with: the proxy made as many faults" made "$((2 * COUNT))" "$PROXY"
    check "$with: logs" right_logs
    kill -QUIT "$APP_PID"
    await_exit "$with: graceful stop"
    check "$with: nothing is left" nothing_left "$PORT"
}

# --- the run --------------------------------------------------------------------------------------------------------

make_www 1000 64000 64001 300000 300001
PORT=$(free_port)
PROXY=$(free_port)
if [[ ${#LAUNCHER[@]} -gt 0 && -z ${APP_SHORT:-} ]]; then
    start_proxy "$PROXY" "$PORT"
    write_config
    start_native "$PORT" "${NGINX[@]}"
    faults natively "$TMP/table.native"
    mv "$TMP/error.log" "$TMP/error.native"
    rm "$TMP/access.log" "$TMP/served"
fi
start_proxy "$PROXY" "$PORT"
write_config
start_app "$PORT" "${NGINX[@]}"
check 'master and workers run under the library' all_under_library
faults '4 workers' "$TMP/table"
[[ ! -e $TMP/table.native ]] ||
    check 'requests fail as often as natively' same_shares "$TMP/table.native" "$TMP/table"
summary "$(nginx -v 2>&1)" "$COUNT each of 14 faults, in files, uploads and both by way of itself" 'no throughput'
finish
