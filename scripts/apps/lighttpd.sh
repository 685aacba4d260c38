#!/bin/bash
# lighttpd with linux-sysepoll (level-triggered): static files by sendfile and by write, keep-alive, CGI programs on
# pipes, rude clients, restarts under load, a graceful end that lets a download finish.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 120 lighttpd curl perl

PORT=$(free_port)
CONF=$TMP/lighttpd.conf
CGI=$TMP/cgi

write_config() {
    mkdir "$CGI"
    # Says back what it is sent, between two lines of its own.
    cat >"$CGI/say" <<'END'
#!/bin/sh
printf 'Content-Type: application/octet-stream\r\n\r\nbegin\n'
cat
printf 'end\n'
END
    # Never ends by itself, but for SIGPIPE or SIGTERM: the client goes first.
    cat >"$CGI/talk" <<'END'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
while echo still here; do sleep 0.05; done
END
    chmod +x "$CGI"/*
    cat >"$CONF" <<END
server.event-handler = "linux-sysepoll"
server.network-backend = "$1"
server.bind = "127.0.0.1"
server.port = $PORT
server.document-root = "$WWW"
server.errorlog = "$TMP/error.log"
server.upload-dirs = ( "$TMP" )
server.max-keep-alive-requests = 65535
server.max-fds = 2048
server.max-connections = 1000
server.stream-response-body = 1
server.modules = ( "mod_cgi", "mod_alias", "mod_status" )
alias.url = ( "/cgi/" => "$CGI/" )
\$HTTP["url"] =~ "^/cgi/" { cgi.assign = ( "" => "" ) }
status.status-url = "/status"
END
}

url() { echo "http://127.0.0.1:$PORT$1"; }

# How many connections the server says it has, the asking one among them.
busy() { within 10 curl -fsS "$(url '/status?auto')" | sed -n 's/^BusyServers: //p'; }

busy_is() { [[ $(busy) == "$1" ]]; }

# --- the checks -----------------------------------------------------------------------------------------------------

slow_readers() {
    local found
    # shellcheck disable=SC2016 # for the inner shell
    found=$(seq 5 | within 30 xargs -P 5 -I{} sh -c 'curl -fsS --limit-rate 3M "$1" | sha256sum' _ "$(url /3000000)" |
        sort | uniq -c | awk '{print $1, $2}')
    same 'bodies' "$found" "5 $(sha256sum <"$WWW/3000000" | cut -d ' ' -f 1)"
}

# Through two pipes, to and from a program, several at a time.
cgi() {
    local size found
    for size in 1 64000 3000000; do
        {
            echo begin
            cat "$WWW/$size"
            echo end
        } | sha256sum | cut -d ' ' -f 1 >"$TMP/sum"
        # shellcheck disable=SC2016 # for the inner shell
        found=$(seq 8 | within 30 xargs -P 4 -I{} sh -c 'curl -fsS --data-binary "@$1" "$2" | sha256sum' _ \
            "$WWW/$size" "$(url /cgi/say)" | sort | uniq -c | awk '{print $1, $2}')
        same "answers to $size bytes" "$found" "8 $(<"$TMP/sum")"
        served 8
    done
}

# Its output is passed on as it comes, and it is ended when its client goes.
cgi_whose_client_goes() {
    local status=0
    curl -sS --max-time 1 "$(url /cgi/talk)" >"$TMP/talk.out" || status=$?
    same "curl's status" "$status" 28
    [[ $(grep -c 'still here' "$TMP/talk.out") -ge 3 ]]
    wait_for 10 no_child
}

no_child() { [[ -z $(children "$APP_PID") ]]; }

rude_clients() {
    local how
    for how in cut reset; do
        rude "$how" 'GET /3000000 HTTP/1.1\r\nHost: a\r\n' --count 100
        rude "$how" 'GET /3000000 HTTP/1.1\r\nHost: a\r\n\r\n' --count 50 --linger 0.1
        rude "$how" 'POST /cgi/say HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nless' --count 10
        rude "$how" '' --count 50
    done
    wait_for 15 busy_is 1
    wait_for 10 no_child
}

half_closed() {
    rude half 'GET /64000 HTTP/1.0\r\n\r\n' --count 20 >"$TMP/half"
    same 'answers' "$(grep -ao 'HTTP/1.0 200 OK' "$TMP/half" | wc -l)" 20
    [[ $(wc -c <"$TMP/half") -gt $((20 * 64000)) ]]
    served 20
}

beside_crowd() {
    quiet "$APP_PID"
    http_requests /1000 "$WWW/1000" --seconds 0.5
}

# SIGUSR1: it finishes what it has, reads its configuration again and starts anew, in the same process, with the same
# listener. A connection kept alive is closed between two requests, so each request has its own.
restarts() {
    local load restart before status=0
    before=$(starts)
    http_requests /1000 "$WWW/1000" --fresh --connections 4 --seconds 2.5 >"$TMP/load.out" 2>&1 &
    load=$!
    for restart in 1 2 3; do
        sleep 0.2
        kill -USR1 "$APP_PID"
        # A second signal in the middle of a restart would be one with the first.
        wait_for 10 starts_are $((before + restart))
    done
    wait "$load" || status=$?
    cat "$TMP/load.out"
    return "$status"
}

starts() { grep -c 'server started' "$TMP/error.log"; }

starts_are() { [[ $(starts) == "$1" ]]; }

download_is_whole() {
    wait_for 20 ended "$DOWNLOAD"
    cmp "$TMP/slow" "$WWW/3000000"
}

start_compared() {
    local CONF=$TMP/lighttpd.conf CGI=$TMP/cgi
    write_config sendfile
    start_app "$PORT" lighttpd -D -f "$CONF"
}

# --- the run --------------------------------------------------------------------------------------------------------

make_www 1 1000 64000 3000000
variants write sendfile
for backend in "${VARIANTS[@]}"; do
    rm -rf "$CGI"
    write_config "$backend"
    start_app "$PORT" lighttpd -D -f "$CONF"
    check "$backend: it runs under the library" under_library "$APP_PID"
    check "$backend: bodies of 1 B to 3 MB over one connection" fetch_all 1 "http://127.0.0.1:$PORT"
    sockets=$(sockets "$APP_PID")
    check "$backend: 64 connections kept alive" http_requests /1000 "$WWW/1000" --connections 64 --seconds 0.7
    check "$backend: 300 connections, 64 kB" http_requests /64000 "$WWW/64000" --connections 300 --seconds 0.7
    check "$backend: a connection a request" http_requests /1000 "$WWW/1000" --fresh --connections 32 --seconds 0.7
    check "$backend: slow readers" slow_readers
    if [[ $backend == sendfile ]]; then
        check 'CGI programs say back what they are sent' cgi
        check 'a CGI program whose client goes' cgi_whose_client_goes
        check 'clients that go in the middle' rude_clients
        check 'half-closed clients are answered' half_closed
        check '300 idle clients: quiet, and others are served' with_crowd 300 beside_crowd
        check 'three restarts by SIGUSR1 under load, no failed request' restarts
        check 'after the restarts: bodies' fetch_all 1 "http://127.0.0.1:$PORT"
    fi
    check "$backend: all connections are closed" wait_for 10 sockets_at_most "$sockets" "$APP_PID"
    check "$backend: idle" quiet "$APP_PID"
    curl -fsS --max-time 30 --limit-rate 2M -o "$TMP/slow" "$(url /3000000)" 2>"$TMP/slow.log" </dev/null &
    DOWNLOAD=$!
    sleep 0.5
    kill -INT "$APP_PID"
    check "$backend: a download goes on through a graceful stop" download_is_whole
    await_exit "$backend: SIGINT, a graceful stop"
    check "$backend: nothing is left" nothing_left "$PORT"
done
compare 'keep-alive' start_compared wrk_rate /1000
summary "$(lighttpd -v | head -n 1)" 'static files by sendfile and write, CGI, rude clients, restarts, graceful stop'
finish
