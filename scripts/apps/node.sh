#!/bin/bash
# node: its event loop is libuv's. A server that is loaded and disturbed, and programs that are server and client at
# once, child processes, worker threads, sockets and timers; each without and with libuv's io_uring, which puts changes
# of an interest list into a ring where it can have one.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 180 node perl curl

APPS=$REPO/scripts/apps

# runs_through NAME ARGUMENT...: node-NAME.js finds nothing wrong and ends by itself, as its event loop has run empty.
runs_through() {
    local name=$1
    shift
    within 60 "${LAUNCHER[@]}" node "$APPS/node-$name.js" "$@" >"$TMP/$name.log" 2>&1 ||
        { local status=$?; cat "$TMP/$name.log"; return "$status"; }
    sed -n 's/^RESULT //p' "$TMP/$name.log" | tee "$TMP/$name.result"
    same 'lines of output' "$(wc -l <"$TMP/$name.log")" 1
    [[ -s $TMP/$name.result ]]
}

BODY=$TMP/body
load() { http_requests / "$BODY" "$@"; }

start() { start_app "$PORT" node "$APPS/node-server.js" "$PORT" "$BODY"; }

# Clients that go away: a connection of which nothing is asked, one that asks and does not wait for the answer, one that
# closes its side only and does wait.
disturb() {
    local number half
    for ((number = 0; number < 50; number++)); do
        exec 3<>"/dev/tcp/127.0.0.1/$PORT"
        printf 'GET / HTTP/1.1\r\nHost: x\r\n' >&3
        [[ $((number % 2)) == 0 ]] || printf '\r\n' >&3
        exec 3>&-
    done
    half=$(perl -MIO::Socket::INET -e '
        my $socket = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die "connect: $!";
        print $socket "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        shutdown $socket, 1;
        local $/;
        print <$socket>;' "$PORT" | tail -c "$(stat -c %s "$TMP/body")" | sha256sum)
    same 'body for a client that has closed its side' "$half" "$(sha256sum <"$TMP/body")"
    within 20 curl -fsS "http://127.0.0.1:$PORT/" | cmp - "$TMP/body"
}

connections_gone() { wait_for 10 sockets_at_most "$BASE" "$APP_PID"; }

at_least_what_was_answered() {
    local answered counted
    answered=$(awk '{n += $1} END {print n}' "$TMP/served")
    counted=$(sed -n 's/^SERVED //p' "$TMP/node.log")
    echo "$counted requests counted"
    [[ $counted -ge $((answered - BEFORE)) ]]
}

server_quiet() { quiet "$APP_PID"; }

head -c 30000 /dev/urandom >"$TMP/body"
echo "# node $(node --version)"
variants 0 1
for ring in "${VARIANTS[@]}"; do
    mkdir "$TMP/files"
    export UV_USE_IO_URING=$ring
    with="io_uring $ring"
    check "$with: HTTP server and client in one process" runs_through http
    check "$with: child processes" runs_through children
    check "$with: worker threads" runs_through workers
    check "$with: sockets, timers and files" runs_through net "$TMP/files"
    check "$with: it has removed its files" rmdir "$TMP/files"

    PORT=$(free_port)
    : >"$TMP/node.log"
    touch "$TMP/served"
    BEFORE=$(awk '{n += $1} END {print n + 0}' "$TMP/served")
    start
    check "$with: the server runs under the library" under_library "$APP_PID"
    sleep 0.2 # the connection that asked whether it listens is closed
    BASE=$(sockets "$APP_PID")
    check "$with: every request on 100 connections is answered" load --connections 100 --seconds 1
    check "$with: every request on 100 mostly idle connections is answered" \
        load --connections 100 --pause 1 --seconds 1.5
    check "$with: every request with its own connection is answered, and closed" \
        load --connections 20 --fresh --seconds 1
    check "$with: clients that vanish" disturb
    check "$with: all connections are closed" connections_gone
    check "$with: an idle server is quiet" server_quiet
    kill -TERM "$APP_PID"
    await_exit "$with: a graceful stop"
    # From outside; none is left out of what the server counts itself.
    check "$with: its count is no less than the clients'" at_least_what_was_answered
done
compare 'HTTP' start wrk_rate /
summary "node $(node --version)" 'HTTP, child processes, workers, sockets, timers, files'
finish
