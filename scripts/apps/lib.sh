# shellcheck shell=bash
# What the tests with real programs share. A test sources this file, calls `begin`, runs its checks, calls `finish`,
# and prints TAP, so that `prove` can run it.
#
#   APP_RUN      the words put before the program under test. Unset: `uepoll run --deny-kernel-epoll --` of this
#                repository; `preload`: LD_PRELOAD alone, nothing is denied; set but empty: nothing, that is, natively.
#                The launcher must exec, so that its pid is the program's.
#   APP_PAIRS    throughput is compared with the native one, by so many pairs of measurements. Unset: it is not
#   APP_SHORT    not empty: where a test does the same in several variants, the last of them only; few faults of each kind,
#                and no native run beside
#   FAULTS       how many faults of each kind and direction, instead of the test's own choice; FAULTS_SEED where they come
#   APP_LIMIT    seconds that the whole script may take, instead of its own choice
#   APP_KEEP     not empty: leave the temporary directory behind, for a look at its logs

set -euo pipefail
export LC_ALL=C
PATH+=:/usr/sbin:/sbin

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

RELEASE=${CARGO_TARGET_DIR:-$REPO/target}/release
LIBRARY=$RELEASE/libuepoll.so

case ${APP_RUN-run} in
run) LAUNCHER=("$RELEASE/uepoll" run --deny-kernel-epoll --) ;;
preload) LAUNCHER=(env "LD_PRELOAD=$LIBRARY") ;;
*) read -r -a LAUNCHER <<<"$APP_RUN" ;;
esac

TMP=         # the temporary directory of this run
APP_PID=     # the program that start_app started last
APP_LOG=     # where its output goes
RUNNING=()   # every program that was started and not yet seen to end
CHECKS=0
FAILED=0
FINISHED=
WATCHDOG=
WWW=         # what make_www made
PROGRAM=     # what compile made
VARIANTS=()  # what variants chose
WEB_PID=     # the server that start_web started

# --- beginning and end ----------------------------------------------------------------------------------------------

# begin SECONDS PROGRAM...: skips the whole test where a program is missing; fails it when SECONDS are over.
begin() {
    local limit=${APP_LIMIT:-$1} program
    shift
    for program; do
        command -v "$program" >/dev/null || skip_all "$program is not installed"
    done
    if [[ ${#LAUNCHER[@]} -gt 0 ]] && ! command -v "${LAUNCHER[0]}" >/dev/null; then
        echo "Bail out!  ${LAUNCHER[0]} is not there: build the release first"
        exit 1
    fi
    if [[ ${APP_RUN:-} == preload && ! -e $LIBRARY ]]; then
        echo "Bail out!  $LIBRARY is not there: build the release first"
        exit 1
    fi
    # The watchdog would cut measurements short.
    [[ -z ${APP_PAIRS:-} ]] || limit=$((2 * limit))
    echo "# launcher: ${LAUNCHER[*]:-none, natively}"
    TMP=$(mktemp -d "${TMPDIR:-/tmp}/uepoll-app.XXXXXX")
    trap on_exit EXIT
    trap 'exit 130' INT TERM HUP
    # Nobody reads the output any more (`| head`): an end, but with servers and files put away.
    trap 'exit 141' PIPE
    trap 'not_ok "the script ends within $APP_LIMIT s"; finish' USR1
    APP_LIMIT=$limit
    mkfifo "$TMP/never"
    watchdog "$limit" &
    WATCHDOG=$!
}

# variants WORD...: sets VARIANTS to all of them; in the short form to the last.
variants() {
    VARIANTS=("$@")
    # shellcheck disable=SC2034 # the sourcing script's
    [[ -z ${APP_SHORT:-} ]] || VARIANTS=("${@: -1}")
}

skip_all() {
    echo "1..0 # SKIP $1"
    FINISHED=yes
    exit 0
}

# Turns a hang into a failure that tells where everything stood.
watchdog() {
    local pid others
    read -r -t "$1" _ <>"$TMP/never" || true
    echo "# not ended after $1 s; this is what runs:"
    # All that the script has started: this shell, forked at the beginning, knows of no server by name.
    dump_stacks $$
    others=$(family $$)
    kill -USR1 $$
    # The shell gets to its trap when the command in its foreground has ended, so end everything but the two of us.
    for pid in $others; do
        [[ $pid == "$$" || $pid == "$BASHPID" ]] || kill -KILL "$pid" 2>/dev/null || true
    done
}

finish() {
    FINISHED=yes
    echo "1..$CHECKS"
    exit $((FAILED > 0))
}

on_exit() {
    local status=$? pid
    trap - EXIT INT TERM HUP USR1
    # With nobody to read it, what is said here must not end it.
    trap '' PIPE
    set +e
    if [[ -n $WATCHDOG ]]; then
        kill "$WATCHDOG"
        wait "$WATCHDOG"
    fi 2>/dev/null
    if [[ -z $FINISHED ]]; then
        not_ok "the script comes to its end (status $status)"
        echo "1..$CHECKS"
        [[ $status != 0 ]] || status=1
    fi
    for pid in "${RUNNING[@]}"; do
        end_by_force "$pid"
    done
    if [[ $FAILED -gt 0 ]]; then
        tail -n 20 "$TMP"/*.log 2>/dev/null | comment
    fi
    if [[ -n ${APP_KEEP:-} ]]; then
        echo "# left behind: $TMP"
    else
        rm -rf "$TMP"
    fi
    exit "$status"
}

# --- checks ---------------------------------------------------------------------------------------------------------

comment() { sed 's/^/# /'; }

ok() {
    CHECKS=$((CHECKS + 1))
    echo "ok $CHECKS - $1"
}

not_ok() {
    CHECKS=$((CHECKS + 1))
    FAILED=$((FAILED + 1))
    echo "not ok $CHECKS - $1"
}

# skip WHAT WHY: a check that cannot be made here.
skip() {
    CHECKS=$((CHECKS + 1))
    echo "ok $CHECKS - $1 # SKIP $2"
}

# check WHAT COMMAND...: runs the command in a subshell with `set -e`; what it prints becomes comments. A command that
# ran into `within` has met a hang: the stacks are shown.
check() {
    local what=$1 status
    shift
    set +e
    (set -e; "$@") >"$TMP/check.out" 2>&1 </dev/null
    status=$?
    set -e
    if [[ $status == 0 ]]; then ok "$what"; else not_ok "$what"; fi
    comment <"$TMP/check.out"
    if [[ $status == 124 || $status == 137 ]]; then dump_stacks "${RUNNING[@]}"; fi
}

# within SECONDS COMMAND...: status 124, or 137, when it takes longer. Not for a background process that is to be
# killed: its pid would be that of a shell.
within() { timeout -k 5 "$@"; }

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS > end)); then
            echo "waited in vain for: $*"
            return 124
        fi
        sleep 0.05
    done
}

# same WHAT FOUND EXPECTED
same() {
    [[ $2 == "$3" ]] || { echo "$1: found '$2', expected '$3'"; return 1; }
}

# --- what was done --------------------------------------------------------------------------------------------------

# served NUMBER: so many requests were answered, and rightly. Checks run in subshells, hence a file.
served() { echo "$1" >>"$TMP/served"; }

# uncounted COMMAND...: in a check; what is served meanwhile does not count, as it is not the program under test that does.
uncounted() {
    # shellcheck disable=SC2317 # the command calls it
    served() { :; }
    "$@"
}

# summary PROGRAM-AND-VERSION WHAT [WHY]: the one line for who reads the output and not the script, of what was done since
# the last one. WHY tells why there is no throughput to compare.
summary() {
    local requests='' ratios=${3:-}
    [[ ! -e $TMP/served ]] || requests="; $(awk '{n += $1} END {printf "%d", n}' "$TMP/served") requests served"
    if [[ -e $TMP/ratios ]]; then
        ratios="throughput beside native: $(paste -sd'|' "$TMP/ratios" | sed 's/|/, /g')"
    elif [[ -z $ratios ]]; then
        ratios='throughput not compared'
    fi
    echo "# $1: $2$requests; $ratios"
    rm -f "$TMP/served" "$TMP/ratios"
}

# compile NAME PACKAGE: a program of ours, NAME.c, with a library; sets PROGRAM. Skips the test where that is missing.
compile() {
    local flags=()
    pkg-config --exists "$2" || skip_all "the development files of $2 are not installed"
    read -r -a flags <<<"$(pkg-config --cflags --libs "$2")"
    PROGRAM=$TMP/$1
    cc -O2 -g -Wall -Wextra -o "$PROGRAM" "$REPO/scripts/apps/$1.c" "${flags[@]}"
}

# echo_client CONNECTIONS BYTES [WORD...]: the client of an echo program, PROGRAM, behind the words; of its connections
# all but every seventh must come to their end.
echo_client() {
    local connections=$1 bytes=$2 found
    shift 2
    # shellcheck disable=SC2153 # PORT is the sourcing script's
    found=$(within 60 "$@" "$PROGRAM" client "$PORT" "$connections" "$bytes")
    echo "$found"
    [[ $found == "whole=$((connections - connections / 7)) cut=$((connections / 7)) "* ]]
    served "$connections"
}

# --- clients --------------------------------------------------------------------------------------------------------

# http_requests PATH FILE ARGUMENT...: every request to PORT for PATH is answered with what FILE contains.
http_requests() {
    local path=$1 file=$2 found status=0
    shift 2
    # shellcheck disable=SC2153 # PORT is the sourcing script's
    found=$(within 40 perl "$REPO/scripts/apps/http-load.pl" --port "$PORT" --path "$path" --body "$file" "$@") ||
        status=$?
    echo "$found"
    found=${found#requests=}
    served "${found%% *}"
    return "$status"
}

# make_www SIZE...: files of random bytes in $TMP/www, each named by its size.
make_www() {
    local size
    WWW=$TMP/www
    mkdir "$WWW"
    for size; do head -c "$size" /dev/urandom >"$WWW/$size"; done
    # Servers that run as somebody else read there.
    chmod 711 "$TMP"
}

# fetch_all CONNECTIONS URL ARGUMENT...: every file of WWW twice over below URL, by curl, which must need so many
# connections for them; ARGUMENTs go to curl.
fetch_all() {
    local connections=$1 url=$2 round name connects args=()
    shift 2
    for round in 1 2; do
        mkdir -p "$TMP/got.$round"
        for name in "$WWW"/*; do
            name=${name##*/}
            args+=(-o "$TMP/got.$round/$name" "$url/$name")
        done
    done
    connects=$(within 30 curl -fsS "$@" -w '%{num_connects}\n' "${args[@]}" | awk '{n += $1} END {print n}')
    for round in 1 2; do
        diff -r "$TMP/got.$round" "$WWW"
        rm -r "$TMP/got.$round"
    done
    same 'connections' "$connects" "$connections"
    served $((${#args[@]} / 3))
}

# make_certificate: key.pem and cert.pem in $TMP, for 127.0.0.1, signed by itself.
make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
        -addext subjectAltName=IP:127.0.0.1 -keyout "$TMP/key.pem" -out "$TMP/cert.pem" 2>"$TMP/openssl.log"
}

# start_web PORT: an nginx with one worker that serves WWW, without the launcher: something to put others in front of.
# WEB_SAYS is more for its server block, WEB_LISTENS for the listener's line.
start_web() {
    local web=$TMP/web.$1
    mkdir -p "$web"
    cat >"$web/nginx.conf" <<END
$([[ $(id -u) != 0 ]] || echo 'user root;')
daemon off;
pid $web/nginx.pid;
error_log $web/error.log warn;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path $web/body;
    proxy_temp_path $web/proxy;
    fastcgi_temp_path $web/fastcgi;
    uwsgi_temp_path $web/uwsgi;
    scgi_temp_path $web/scgi;
    server {
        listen 127.0.0.1:$1 backlog=2048 ${WEB_LISTENS:-};
        ${WEB_SAYS:-}
        root $WWW;
    }
}
END
    local app=$APP_PID log=$APP_LOG
    start_native "$1" nginx -e "$web/error.log" -p "$web" -c "$web/nginx.conf"
    WEB_PID=$APP_PID APP_PID=$app APP_LOG=$log
}

# stop_web WHAT: a check.
stop_web() {
    local APP_PID=$WEB_PID
    kill -QUIT "$WEB_PID"
    await_exit "$1"
}

# rude HOW TEXT [ARGUMENT...]: clients of PORT without manners, see rude.pl.
rude() {
    local how=$1 text=$2
    shift 2
    within 40 perl "$REPO/scripts/apps/rude.pl" --port "$PORT" --how "$how" --send "$text" "$@"
}

# with_crowd COUNT COMMAND...: while that many connections to PORT are open and silent, after sending CROWD_SAYS.
with_crowd() {
    local count=$1
    shift
    rm -f "$TMP/hold"
    : >"$TMP/crowd"
    mkfifo "$TMP/hold"
    within 60 perl "$REPO/scripts/apps/rude.pl" --port "$PORT" --how leave --count "$count" \
        --send "${CROWD_SAYS:-}" <"$TMP/hold" >"$TMP/crowd" &
    (
        # The crowd leaves when nobody holds this any more, however the command ends.
        exec 9>"$TMP/hold"
        wait_for 20 grep -q open "$TMP/crowd"
        "$@"
    )
    wait
}

# --- programs -------------------------------------------------------------------------------------------------------

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port of 127.0.0.1 where nobody listens, below the range that outgoing connections take theirs from.
free_port() {
    local port
    while :; do
        port=$((15000 + RANDOM % 15000))
        listens "$port" || break
    done
    echo "$port"
}

# start_app PORT COMMAND...: under the launcher, in the background; returns when it listens. Sets APP_PID, APP_LOG.
start_app() {
    local port=$1 name
    shift
    name=$(basename "$1")
    APP_LOG=$TMP/$name.log
    "${LAUNCHER[@]}" "$@" >>"$APP_LOG" 2>&1 </dev/null &
    APP_PID=$!
    RUNNING+=("$APP_PID")
    if ! wait_for 15 listens_or_ended "$port" "$APP_PID" || ! runs "$APP_PID"; then
        not_ok "$name listens on port $port"
        dump_stacks "${RUNNING[@]}"
        finish
    fi
}

# The same without the launcher, to compare with.
start_native() {
    local LAUNCHER=()
    start_app "$@"
}

listens_or_ended() { listens "$1" || ! runs "$2"; }

runs() { kill -0 "$1" 2>/dev/null; }

ended() { ! runs "$1"; }

# await_exit WHAT [STATUS]: a check of its own, in this shell, as only the parent learns the exit status: the program,
# which was told to end, does so within 15 s and with status 0, or STATUS. If not, it is shown and ended.
await_exit() {
    local status=0 expected=${2:-0}
    if wait_for 15 ended "$APP_PID" | comment; then
        wait "$APP_PID" || status=$?
        if [[ $status == "$expected" ]]; then ok "$1"; else not_ok "$1 (status $status)"; fi
    else
        not_ok "$1 (still there after 15 s)"
        dump_stacks "$APP_PID"
        end_by_force "$APP_PID"
    fi
    forget "$APP_PID"
}

# forget PID: it has ended.
forget() {
    local i
    for i in "${!RUNNING[@]}"; do
        [[ ${RUNNING[i]} != "$1" ]] || unset "RUNNING[i]"
    done
}

# ours PID: it is this script, or descends from it.
ours() {
    local pid=$1
    while [[ ${pid:-0} -gt 1 ]]; do
        [[ $pid != "$$" ]] || return 0
        pid=$(awk '$1 == "PPid:" {print $2}' "/proc/$pid/status" 2>/dev/null) || return 0
    done
    return 1
}

# open_by_others: the processes that have a file of this run's directory open, as every server has its log, and do not
# descend from this script: the orphans of a server that has ended.
open_by_others() {
    local pid
    find /proc/[0-9]*/fd -lname "$TMP/*" 2>/dev/null | cut -d / -f 3 | sort -u | while read -r pid; do
        ours "$pid" || echo "$pid"
    done
}

none_open() { [[ -z $(open_by_others) ]]; }

# nothing_left [PORT...]: after a server has ended, no process of it runs on, and nobody listens on its ports.
nothing_left() {
    local pid port
    if ! wait_for 5 none_open; then
        for pid in $(open_by_others); do echo "left: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"; done
        return 1
    fi
    for port; do
        if listens "$port"; then
            echo "somebody listens on port $port"
            return 1
        fi
    done
}

# TERM, a moment of patience, KILL; its children too.
end_by_force() {
    local pid pids
    pids=$(family "$1")
    kill -TERM "$1" 2>/dev/null || return 0
    if ! wait_for 3 ended "$1" >/dev/null; then
        for pid in $pids; do kill -KILL "$pid" 2>/dev/null || true; done
    fi
    wait "$1" 2>/dev/null || true
}

children() { cat "/proc/$1"/task/*/children 2>/dev/null || true; }

# The processes and all that descend from them.
family() {
    local pid
    for pid; do
        echo "$pid"
        # shellcheck disable=SC2046 # one word a child
        family $(children "$pid")
    done
}

# dump_stacks PID...: where every thread of them and of their descendants stands; shells left out.
dump_stacks() {
    local pid file pids
    pids=$(family "$@") # before our own pipeline is among them
    for pid in $pids; do
        [[ -d /proc/$pid && ! /proc/$pid/exe -ef /proc/$$/exe ]] || continue
        echo "stacks of $pid, $(tr -s '\0 ' ' ' <"/proc/$pid/cmdline")"
        if command -v gdb >/dev/null; then
            timeout -k 5 30 gdb -p "$pid" -batch -nx -ex 'set print frame-arguments none' -ex 'thread apply all bt' 2>&1 |
                grep -E '^(Thread|#)' || true
        fi
        for file in "/proc/$pid"/task/*/{wchan,syscall,stack}; do
            echo "$file: $(tr '\0\n' '  ' 2>/dev/null <"$file" || echo unreadable)"
        done
    done | comment
}

# under_library PID...: they run with the library and hold no instance of the kernel's epoll; where the launcher was asked
# for that, they cannot. Natively there is nothing to see.
under_library() {
    local pid
    [[ ${LAUNCHER[*]} == *uepoll* ]] || return 0
    for pid; do
        if ! grep -q 'libuepoll' "/proc/$pid/maps"; then
            echo "$pid runs without the library"
            return 1
        fi
        if [[ -n $(find "/proc/$pid/fd" -lname '*eventpoll*' 2>/dev/null) ]]; then
            echo "$pid has an instance of the kernel's epoll"
            return 1
        fi
        if [[ ${LAUNCHER[*]} == *--deny-kernel-epoll* ]] && ! grep -q '^Seccomp:[[:space:]]*2$' "/proc/$pid/status"; then
            echo "$pid may call the kernel's epoll"
            return 1
        fi
    done
}

# Clock ticks of processor time that the process, all its threads together, has used.
ticks() {
    local stat fields
    stat=$(<"/proc/$1/stat")
    # The name, in brackets, may contain blanks: count from behind it. utime and stime are fields 14 and 15.
    read -r -a fields <<<"${stat##*) }"
    echo $((fields[11] + fields[12]))
}

# quiet PID...: over an idle second each uses less than 10 ticks. An event loop that spins takes 100.
quiet() { quiet_for 1 10 "$@"; }

# quiet_for SECONDS TICKS PID...: the same, with less than so many ticks.
quiet_for() {
    local seconds=$1 limit=$2 pid used
    local -A before
    shift 2
    sleep 0.5
    for pid; do before[$pid]=$(ticks "$pid"); done
    sleep "$seconds"
    for pid; do
        runs "$pid"
        used=$(($(ticks "$pid") - before[$pid]))
        echo "$pid used $used ticks in $seconds idle s"
        [[ $used -lt $limit ]]
    done
}

# sockets PID...: how many of their descriptors are sockets.
sockets() {
    local pid
    for pid; do
        find "/proc/$pid/fd" -lname 'socket:*' 2>/dev/null
    done | wc -l
}

sockets_at_most() {
    local count=$1
    shift
    [[ $(sockets "$@") -le $count ]]
}

# --- faults ---------------------------------------------------------------------------------------------------------

# start_proxy PORT TO [ARGUMENT...]: faulty-proxy.py, without the launcher. Sets PROXY_PID; what it did goes to
# $TMP/proxy.PORT when it ends.
start_proxy() {
    local port=$1
    /usr/bin/python3 "$REPO/scripts/apps/faulty-proxy.py" --port "$port" --to "$2" "${@:3}" \
        >"$TMP/proxy.$port" 2>"$TMP/proxy.$port.log" </dev/null &
    PROXY_PID=$!
    RUNNING+=("$PROXY_PID")
    if ! wait_for 15 listens_or_ended "$port" "$PROXY_PID" || ! runs "$PROXY_PID"; then
        not_ok "the proxy listens on port $port"
        finish
    fi
}

# stop_proxy PID: it has said nothing but its counts.
stop_proxy() {
    local status=0
    kill -TERM "$1"
    wait "$1" || status=$?
    forget "$1"
    cat "$TMP"/proxy.*.log >"$TMP/proxy.err"
    if [[ $status == 0 && ! -s $TMP/proxy.err ]]; then ok 'the proxy ends'; else not_ok "the proxy ends (status $status)"; fi
    comment <"$TMP/proxy.err"
}

# made COUNT PORT: by its own account the proxy there made each fault at least so many times.
made() {
    local count=$1 kind found
    cat "$TMP/proxy.$2"
    for kind in reset cut half stall die delay dribble; do
        found=$(sed -n "s/.*\<$kind=\([0-9]*\).*/\1/p" "$TMP/proxy.$2")
        [[ $found -ge $count ]] || { echo "$kind was made $found times, expected $count"; return 1; }
    done
}

# broke COUNT PORT: by its own account the proxy there broke connections so many times.
broke() {
    cat "$TMP/proxy.$2"
    tr ' ' '\n' <"$TMP/proxy.$2" | awk -F = -v count="$1" '/^(reset|cut|half|die)=/ { n += $2 } END { exit n < count }'
}

# descriptors PID...: a line for each, the program's own by kind, and how many are the library's, which has its own at the top
# of the range.
descriptors() {
    local pid file fd target
    local -i top
    for pid; do
        top=$(awk '/^Max open files/ {print ($5 == "unlimited" || $5 > 65536) ? 65536 : $5}' "/proc/$pid/limits")
        for file in "/proc/$pid/fd"/*; do
            fd=${file##*/}
            target=$(readlink "$file") || continue
            # A rename or a new process changes what is in brackets, and nothing else.
            [[ $target == /* ]] || target=${target%%:\[*}
            if [[ $fd -ge $((top - top / 4)) && ${#LAUNCHER[@]} -gt 0 ]]; then target=library; fi
            echo "$pid $target"
        done
    done | sort | uniq -c | awk '{print $2, $3, $1}'
}

# descriptors_back FILE PID...: as descriptors wrote them there, but for the library's own. Of these there may be one for the
# loop and one for each watcher, which has some thirty idle descriptors: few, however many connections there were.
descriptors_back() {
    local file=$1
    shift
    descriptors "$@" >"$TMP/descriptors.now"
    diff <(grep -v ' library ' "$file") <(grep -v ' library ' "$TMP/descriptors.now") >"$TMP/descriptors.diff" &&
        awk '$2 == "library" && $3 > 20 { print; bad = 1 } END { exit bad }' "$TMP/descriptors.now" >"$TMP/descriptors.diff"
}

# same_shares FILE FILE: of each fault and way, each result is as frequent in both tables of faults-load.py, within
# a quarter of its connections.
same_shares() {
    awk '
        { all[FNR == NR, $1 " " $2] += $4; count[FNR == NR, $1 " " $2, $3] = $4; groups[$1 " " $2]; results[$3] }
        END {
            for (g in groups) for (r in results) {
                a = count[1, g, r] / (all[1, g] ? all[1, g] : 1)
                b = count[0, g, r] / (all[0, g] ? all[0, g] : 1)
                d = a > b ? a - b : b - a
                if (d > worst) { worst = d; where = g " " r }
                if (d > 0.25 && all[1, g] > 20) { print g, r, a, b; bad = 1 }
            }
            printf "largest difference of a share: %.2f (%s)\n", worst, where
            exit bad
        }' "$1" "$2"
}

# --- servers that echo ----------------------------------------------------------------------------------------------

# echo_load ARGUMENT...: on PORT; see echo-load.py. Adds what it prints to $TMP/loads.
echo_load() {
    # shellcheck disable=SC2153 # the test has it
    within 60 /usr/bin/python3 "$REPO/scripts/apps/echo-load.py" --port "$PORT" "$@" | tee -a "$TMP/loads"
}

# loaded WHAT: all loads together, where WHAT is connections, vanished, messages or bytes.
loaded() { sed -n "s/.*\<$1=\([0-9]*\).*/\1/p" "$TMP/loads" | awk '{sum += $1} END {print sum + 0}'; }

# counted WHAT: the number in the line of counts that the server left at its end.
counted() { sed -n "s/^SERVED.*\<$1=\([0-9]*\).*/\1/p" "$APP_LOG"; }

# served_what_was_loaded: each connection was accepted and one more, that of start_app; every byte was seen.
served_what_was_loaded() {
    grep SERVED "$APP_LOG"
    same 'accepted connections' "$(counted accepted)" $(($(loaded connections) + $(loaded vanished) + 1))
    served "$(loaded messages)"
    same 'connections that ended' $(($(counted whole) + $(counted broken))) "$(counted accepted)"
    [[ $(counted whole) -ge $(loaded connections) && $(counted bytes) -ge $(loaded bytes) ]]
}

# --- throughput -----------------------------------------------------------------------------------------------------

# compare WHAT START LOAD...: how fast the program is under the launcher beside how fast it is natively; a check that it
# could be measured, no more. START starts a server on PORT by start_app, with files of its own below TMP; LOAD prints what
# that serves in a second. Both are called for either side, and LOADs take turns: APP_PAIRS times, after one that does not
# count. A filter of system calls is left out: it has a price of its own, which the library's users do not pay.
compare() {
    local what=$1 start=$2 side pair word rate missing='' launcher=() APP_PID=$APP_PID APP_LOG=$APP_LOG
    local -A ports servers logs
    shift 2
    [[ -n ${APP_PAIRS:-} && ${#LAUNCHER[@]} -gt 0 ]] || return 0
    for word in "${LAUNCHER[@]}"; do
        [[ $word == --deny-kernel-epoll ]] || launcher+=("$word")
    done
    rm -rf "$TMP"/{native,preloaded}{,.rates} "$TMP/rates.log"
    for side in native preloaded; do
        mkdir "$TMP/$side"
        chmod 711 "$TMP/$side"
        ports[$side]=$(free_port)
        APP_PID=
        on "$side" "$start"
        servers[$side]=$APP_PID logs[$side]=$APP_LOG
    done
    for ((pair = 0; pair <= APP_PAIRS; pair++)); do
        for side in native preloaded; do
            rate=$(on "$side" "$@" 2>>"$TMP/rates.log") || { [[ $? != 127 ]] || missing=yes; }
            [[ $pair == 0 ]] || echo "${rate:-0}" >>"$TMP/$side.rates"
        done
    done
    if [[ -n $missing ]]; then
        skip "$what: throughput beside native's" "$(tail -n 1 "$TMP/rates.log")"
    else
        check "$what: throughput beside native's" ratio "$what" "${servers[preloaded]}"
    fi
    for side in native preloaded; do
        [[ -n ${servers[$side]} ]] || continue
        end_by_force "${servers[$side]}"
        forget "${servers[$side]}"
    done
}

# on SIDE COMMAND...: with what belongs to that side.
on() {
    local TMP=$TMP/$1 PORT=${ports[$1]} LAUNCHER=("${launcher[@]}")
    APP_LOG=${logs[$1]:-} # of compare, as a START sets it
    [[ $1 != native ]] || LAUNCHER=()
    shift
    "$@"
}

# For a program that is measured itself, and serves nobody.
no_server() { :; }

# ratio WHAT [PID]: the median of the pairs, and the lowest and highest of them.
ratio() {
    if [[ -n $2 ]]; then on preloaded under_library "$2"; fi
    echo "natively $(paste -sd' ' "$TMP/native.rates"), preloaded $(paste -sd' ' "$TMP/preloaded.rates") in a second"
    paste "$TMP/native.rates" "$TMP/preloaded.rates" |
        awk '$1 <= 0 || $2 <= 0 { exit 1 } { printf "%.3f\n", $2 / $1 }' | sort -n >"$TMP/pairs" || {
        cat "$TMP/rates.log"
        return 1
    }
    awk -v what="$1" '{ r[NR] = $1 }
        END {
            m = (r[int((NR + 1) / 2)] + r[int(NR / 2) + 1]) / 2
            printf "%s %.2f (%.2f .. %.2f)%s\n", what, m, r[1], r[NR], m < 0.9 ? " below 0.90" : ""
        }' "$TMP/pairs" | tee -a "$TMP/ratios"
}

# redis_rate ARGUMENT...: by redis-benchmark, which takes a number of requests, and no time. What it says of its progress
# ends with a carriage return.
redis_rate() {
    within 20 redis-benchmark -p "$PORT" -q "$@" | tr '\r' '\n' | sed -n 's/.*: \([0-9.]*\) requests per second.*/\1/p'
}

# wrk_rate PATH ARGUMENT...: by 64 connections.
wrk_rate() {
    local path=$1 found
    shift
    found=$(within 20 wrk -t 1 -c 64 -d 1s "$@" "http://127.0.0.1:$PORT$path") || return
    [[ $found != *Non-2xx* && $found != *'Socket errors'* ]] || { echo "$found" >&2 && return 1; }
    sed -n 's/^Requests\/sec: *//p' <<<"$found"
}

# What an echo server is sent.
# shellcheck disable=SC2034 # the sourcing script's
MESSAGE=$(printf '0123456789%.0s' {1..10})

# ask_rate REQUEST [ANSWER]: by 64 connections that each wait for an answer; without ANSWER the server is one that echoes.
ask_rate() {
    local ask=${TMP%/*}/ask
    [[ -x $ask ]] || cc -O2 -Wall -Wextra -o "$ask" "$REPO/scripts/apps/ask.c" || return
    within 20 "$ask" "$PORT" 64 0.8 "$@"
}
