#!/bin/bash
# libcurl's multi_socket interface on an epoll loop of our own: many files at once from an nginx, each compared, over many
# connections and over few, by HTTP/1.1 and by HTTP/2 over TLS; a server that goes away in the middle.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 120 cc pkg-config nginx openssl
compile curl-multi libcurl

PORT=$(free_port)
WEB=$PORT

# client WAY VERSION CONNECTIONS URL...
client() { within 60 "${LAUNCHER[@]}" "$PROGRAM" "$1" "$2" "$3" "$TMP/got" "${@:4}"; }

# fetch WAY VERSION CONNECTIONS COUNT: so many times all files.
fetch() {
    local way=$1 version=$2 connections=$3 count=$4 server=http://127.0.0.1:$PORT urls=() names=() name i found
    [[ $version != 2 ]] || server=https://127.0.0.1:$PORT2
    for ((i = 0; i < count; i++)); do
        for name in "$WWW"/*; do
            names+=("$name")
            urls+=("$server/${name##*/}")
        done
    done
    rm -rf "$TMP/got"
    mkdir "$TMP/got"
    found=$(client "$way" "$version" "$connections" "${urls[@]}")
    echo "$found"
    [[ $found == "done=${#urls[@]} "* ]]
    for ((i = 0; i < ${#names[@]}; i++)); do cmp "$TMP/got/$i" "${names[i]}"; done
    served "${#urls[@]}"
}

refused() {
    local status=0
    client level 1.1 0 "http://127.0.0.1:$1/1" "http://127.0.0.1:$1/1000" >"$TMP/refused" 2>&1 || status=$?
    same 'status' "$status" 1
    same 'refused' "$(grep -c "Couldn't connect" "$TMP/refused")" 2
    grep -q '^done=0 ' "$TMP/refused"
}

# The server is killed while it sends, slowly: each transfer must end, by an error.
cut_off() {
    local status=0 fetching
    rm -rf "$TMP/got"
    mkdir "$TMP/got"
    # Slower than the client reads: most of the time there is nothing to read.
    client level 1.1 0 "http://127.0.0.1:$PORT/slow/2000000" "http://127.0.0.1:$PORT/slow/300000" \
        "http://127.0.0.1:$PORT/1" >"$TMP/cut" 2>&1 &
    fetching=$!
    sleep 1
    # shellcheck disable=SC2046 # one word a worker
    kill -KILL $(children "$WEB_PID")
    wait "$fetching" || status=$?
    cat "$TMP/cut"
    same 'status' "$status" 1
    same 'cut off' "$(grep -c '/slow/.*partial file' "$TMP/cut")" 2
    grep -q '^done=1 ' "$TMP/cut"
    cmp "$TMP/got/2" "$WWW/1"
}

# 3,000 small files over 20 connections, and nowhere: a file system is no part of it. The client is what is measured.
files() {
    local start urls=()
    mapfile -t urls < <(yes "http://127.0.0.1:$WEB/1000" | head -n 3000)
    start=${EPOCHREALTIME/./}
    within 20 "${LAUNCHER[@]}" "$PROGRAM" level 1.1 20 - "${urls[@]}" >"$TMP/files" || return
    echo $((3000 * 1000000 / (${EPOCHREALTIME/./} - start)))
}

make_www 1 1000 64000 300000 2000000
WEB_SAYS="location /slow/ { alias $WWW/; limit_rate 50k; }"
start_web "$PORT"
PORT2=$(free_port)
make_certificate
WEB_LISTENS='ssl http2'
WEB_SAYS="ssl_certificate $TMP/cert.pem; ssl_certificate_key $TMP/key.pem;"
start_second() {
    local first=$WEB_PID
    start_web "$PORT2"
    WEB2_PID=$WEB_PID WEB_PID=$first
}
start_second

for way in level edge; do
    check "$way: HTTP/1.1, 100 files over as many connections" fetch "$way" 1.1 0 20
    check "$way: HTTP/1.1, 100 files over 5 connections" fetch "$way" 1.1 5 20
    check "$way: HTTP/2, 100 files over one connection" fetch "$way" 2 1 20
done
check 'nobody listens' refused "$(free_port)"
check 'the server is killed in the middle' cut_off
check 'its successor serves' fetch level 1.1 0 20
compare 'files' no_server files
stop_web 'the server ends'
WEB_PID=$WEB2_PID
stop_web 'the other server ends'
check 'nothing is left' nothing_left "$PORT" "$PORT2"
summary "libcurl $(pkg-config --modversion libcurl)" 'multi_socket on epoll, level and edge, HTTP/1.1 and HTTP/2'
finish
