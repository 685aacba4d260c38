#!/bin/bash
# Python: asyncio as server and client at once, by its own loop and by uvloop; gunicorn with several workers, reloaded
# under load. uvloop and gunicorn come from PyPI into target/apps-python.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 240 /usr/bin/python3 perl curl

APPS=$REPO/scripts/apps
VENV=${CARGO_TARGET_DIR:-$REPO/target}/apps-python
# gunicorn's own ASGI worker runs on uvloop where it is told to.
PACKAGES=(uvloop==0.23.0 gunicorn==27.0.1)
PYTHON=/usr/bin/python3
WORKERS=3

# An environment with the packages: made once, good for all later runs.
have_packages() {
    [[ "$("$VENV/bin/python" -c 'import uvloop, gunicorn; print(uvloop.__version__, gunicorn.__version__)' 2>&1)" == \
        "$(printf '%s\n' "${PACKAGES[@]#*==}" | paste -sd' ')" ]]
}

make_venv() {
    have_packages && return
    rm -rf "$VENV"
    within 100 "$PYTHON" -m venv "$VENV"
    within 100 "$VENV/bin/python" -m pip install -q --disable-pip-version-check --retries 1 --timeout 10 \
        "${PACKAGES[@]}"
    have_packages
}

# runs_through PYTHON LOOP: nothing is found wrong, and nothing but the result said, no warning either.
runs_through() {
    within 60 "${LAUNCHER[@]}" "$1" -W default "$APPS/python-asyncio.py" "$2" "$TMP/loop" >"$TMP/$2.log" 2>&1 ||
        { local status=$?; cat "$TMP/$2.log"; return "$status"; }
    sed 's/^RESULT //; s/; /\n/g' "$TMP/$2.log"
    same 'lines of output' "$(wc -l <"$TMP/$2.log")" 1
    grep -q '^RESULT ' "$TMP/$2.log"
}

certificate() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -keyout "$TMP/loop/key.pem" -out "$TMP/loop/cert.pem" 2>"$TMP/openssl.log"
}

# --- gunicorn -------------------------------------------------------------------------------------------------------

workers() {
    # shellcheck disable=SC2046,SC2005 # one word a worker, blanks between them
    echo $(children "$APP_PID")
}

worker_count_is() { [[ $(workers | wc -w) == "$WORKERS" ]]; }

# renewed PIDS: none of these is among the workers any more, which are all there.
renewed() {
    local pid now
    now=" $(workers) "
    for pid in $1; do
        [[ $now != *" $pid "* ]] || return 1
    done
    worker_count_is
}

all_under_library() {
    # shellcheck disable=SC2046 # one word a worker
    under_library "$APP_PID" $(workers)
}

all_quiet() {
    # shellcheck disable=SC2046
    quiet "$APP_PID" $(workers)
}

sockets_back() {
    # shellcheck disable=SC2046
    wait_for 10 sockets_at_most "$1" $(workers)
}

url() { echo "http://127.0.0.1:$PORT/$1"; }

http_load() { http_requests /body "$TMP/body" "$@"; }

# All workers take part, and answer with what they are sent.
all_answer() {
    local number
    for ((number = 0; number < 200; number++)); do
        [[ $(sort -u "$TMP/pids" 2>/dev/null | wc -l) -lt $WORKERS ]] || break
        within 10 curl -fsS "$(url pid)" >>"$TMP/pids"
    done
    same 'workers that answer' "$(sort -nu "$TMP/pids" | paste -sd' ')" \
        "$(workers | tr ' ' '\n' | sort -n | paste -sd' ')"
    rm "$TMP/pids"
    within 20 curl -fsS --data-binary "@$TMP/body" "$(url post)" | cmp - "$TMP/body"
}

vanishing_clients() {
    local number
    for ((number = 0; number < 60; number++)); do
        exec 3<>"/dev/tcp/127.0.0.1/$PORT"
        [[ $((number % 3)) == 0 ]] || printf 'GET /body HTTP/1.1\r\nHost: x\r\n' >&3
        [[ $((number % 3)) != 2 ]] || printf '\r\n' >&3
        exec 3>&-
    done
    within 20 curl -fsS "$(url body)" | cmp - "$TMP/body"
}

# Three reloads, while each request takes a connection of its own: it meets an old worker or a new one. Writes to $1 how
# many failed: gunicorn drops what an old worker has accepted and not begun.
reload_under_load() {
    local load old=
    http_load --connections 4 --fresh --seconds 4 >"$TMP/load.out" 2>"$TMP/load.err" &
    load=$!
    for _ in 1 2 3; do
        sleep 0.8
        old+=" $(workers)"
        kill -HUP "$APP_PID"
    done
    wait "$load" || echo 'some requests failed'
    cat "$TMP/load.out" "$TMP/load.err"
    sed -n 's/.*failed=\([0-9]*\).*/\1/p' "$TMP/load.out" >"$1"
    [[ -s $1 ]]
    wait_for 15 renewed "$old"
}

reload_here() {
    local failed allowed=0
    reload_under_load "$TMP/failed"
    failed=$(<"$TMP/failed")
    [[ ! -s $TMP/failed.native ]] || allowed=$(<"$TMP/failed.native")
    echo "failed requests: $failed, natively $allowed"
    [[ $failed -le $allowed ]]
}

slow_is_whole() {
    wait_for 20 ended "$SLOW"
    cmp "$TMP/slow" "$TMP/body"
}

none_left() {
    local pid
    for pid in $1; do ended "$pid"; done
    [[ $(sort "$TMP/gunicorn.log" | grep -cE 'Traceback|CRITICAL') == 0 ]]
}

# The worker classes: threads, and an event loop for asynchronous applications.
KIND=gthread
APPLICATION=python-wsgi:application

start() {
    : >"$TMP/gunicorn.log"
    "${1:-start_app}" "$PORT" "$VENV/bin/gunicorn" --chdir "$APPS" --bind "127.0.0.1:$PORT" --workers "$WORKERS" \
        --worker-class "$KIND" --threads 4 --asgi-loop uvloop --keep-alive 30 --graceful-timeout 10 --no-control-socket \
        "$APPLICATION"
}

# --- the run --------------------------------------------------------------------------------------------------------

mkdir "$TMP/loop"
head -c 30000 /dev/urandom >"$TMP/body"
export WSGI_BODY=$TMP/body PYTHONDONTWRITEBYTECODE=1
if command -v openssl >/dev/null; then certificate; fi

check "asyncio: streams, TLS, child processes, signals, threads, timers" runs_through "$PYTHON" asyncio
if ! (set -e; make_venv) >"$TMP/pip.log" 2>&1; then
    tail -n 2 "$TMP/pip.log" | comment
    why='no PyPI registry that pip can reach, or no venv'
    skip 'uvloop' "$why"
    skip 'gunicorn' "$why"
    finish
fi

check "uvloop: streams, TLS, child processes, signals, threads, timers" runs_through "$VENV/bin/python" uvloop

variants gthread asgi
for KIND in "${VARIANTS[@]}"; do
    with="gunicorn, $KIND"
    APPLICATION=python-${KIND/gthread/wsgi}:application
    rm -f "$TMP/failed.native"
    PORT=$(free_port)
    if [[ ${#LAUNCHER[@]} -gt 0 ]]; then
        start start_native
        check "$with, natively: reloads under load" uncounted reload_under_load "$TMP/failed.native"
        kill -TERM "$APP_PID"
        await_exit "$with, natively: a graceful stop"
    fi
    start
    check "$with: all workers are there" wait_for 10 worker_count_is
    check "$with: all run under the library" all_under_library
    check "$with: each worker answers" all_answer
    # shellcheck disable=SC2046
    BASE=$(sockets $(workers))
    check "$with: every request on 20 connections is answered" http_load --connections 20 --seconds 2
    check "$with: every request with its own connection is answered, and closed" \
        http_load --connections 8 --fresh --seconds 1
    check "$with: clients that vanish" vanishing_clients
    check "$with: all connections are closed" sockets_back "$BASE"
    check "$with: three reloads under load, no failed request beyond native" reload_here
    check "$with: workers of the last reload run under the library" all_under_library
    check "$with: idle, all are quiet" all_quiet
    curl -fsS --max-time 20 -o "$TMP/slow" "$(url slow)" 2>"$TMP/slow.log" </dev/null &
    SLOW=$!
    sleep 0.5
    FAMILY=$(workers)
    kill -TERM "$APP_PID"
    check "$with: a request in flight is answered through a graceful stop" slow_is_whole
    await_exit "$with: a graceful stop"
    check "$with: no worker is left, no trouble in the log" none_left "$FAMILY"
    compare "$with" start wrk_rate /body
done
summary "Python $("$PYTHON" -c 'import platform; print(platform.python_version())'), ${PACKAGES[*]}" \
    'asyncio and uvloop with streams, TLS, children, signals; gunicorn with threads and with ASGI on uvloop, reloads under load'
finish
