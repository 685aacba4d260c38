#!/bin/bash
# The manners of a preloaded library: beside allocators that are preloaded too, before or after it; under strace and
# valgrind; in programs that change their user, unshare, fork by the thousand, spawn with file actions, execute what
# cannot be preloaded; named twice, there twice, loaded by dlopen and unloaded. The program is manners.c.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 240 cc

BUILT=$TMP/manners
ALLOCATORS=(libjemalloc.so.2 libmimalloc.so.2 libtcmalloc_minimal.so.4)

build() {
    cc -O1 -g -Wall -Wextra -Werror -pthread -o "$BUILT" "$REPO/scripts/apps/manners.c"
    echo 'int main(int count, char **words) { return count > 1 ? words[1][0] - 48 : 0; }' >"$TMP/static.c"
    # Not everywhere is there a libc for it.
    cc -static -o "$TMP/static" "$TMP/static.c" 2>"$TMP/static.log" || rm -f "$TMP/static"
}

# behaves WORD...: under the launcher. What it printed is in $TMP/said.
behaves() {
    within 60 "${LAUNCHER[@]}" "$BUILT" "$@" | tee "$TMP/said"
    [[ -s $TMP/said ]]
}

# --- allocators -----------------------------------------------------------------------------------------------------

# Not by `grep -q`, which leaves ldconfig with a broken pipe.
known_to_loader() { ldconfig -p | grep -F "$1 (" >/dev/null; }

# preloads LIBRARIES COMMAND...: under the launcher, but with exactly these in front.
preloads() {
    local libraries=$1
    shift
    within 60 "${LAUNCHER[@]}" env "LD_PRELOAD=$libraries" "$@"
}

# in_order LIBRARIES: the program works, and the libraries are mapped.
in_order() {
    preloads "$1" "$BUILT" work spawn | tee "$TMP/said"
    same 'lines' "$(wc -l <"$TMP/said")" 2
    same 'lines on standard error' "$(preloads "$1" "$BUILT" little 2>&1 >/dev/null)" ''
    local library
    for library in $1; do
        # shellcheck disable=SC2016 # for the inner shell
        preloads "$1" bash -c 'grep -qF "$1" "/proc/$$/maps"' _ "$(basename "$library")"
    done
}

# A server that forks for a snapshot while it is loaded.
redis_in_order() {
    local keys=2000
    within 30 redis-benchmark -p "$PORT" -q -t set,get,lpush -n "$keys" -r 100000 -c 50 -d 500 |
        tr '\r' '\n' | grep -c 'requests per second' >"$TMP/said"
    same 'results' "$(<"$TMP/said")" 3
    same 'BGSAVE' "$(within 10 redis-cli -p "$PORT" BGSAVE)" 'Background saving started'
    wait_for 20 saved
    grep -q "${1##*/}" "/proc/$APP_PID/maps"
}

saved() {
    within 10 redis-cli -p "$PORT" INFO persistence | tr -d '\r' >"$TMP/persistence"
    grep -qx 'rdb_bgsave_in_progress:0' "$TMP/persistence" && grep -qx 'rdb_last_bgsave_status:ok' "$TMP/persistence" &&
        [[ -s $TMP/dump.rdb ]]
}

redis_under() {
    local what=$1 allocator=$2
    shift 2
    PORT=$(free_port)
    rm -f "$TMP/dump.rdb"
    start_app "$PORT" env "LD_PRELOAD=$*" redis-server --port "$PORT" --bind 127.0.0.1 --dir "$TMP" --save '' \
        --appendonly no --daemonize no
    check "redis, $what: load and a snapshot" redis_in_order "$allocator"
    kill -TERM "$APP_PID"
    await_exit "redis, $what: a graceful stop"
}

# --- tracers --------------------------------------------------------------------------------------------------------

under_strace() {
    within 100 "${LAUNCHER[@]}" strace -f -o "$TMP/trace" "$BUILT" little spawn | tee "$TMP/said"
    same 'lines' "$(wc -l <"$TMP/said")" 2
    # Started without an error of the library's own; and, under it, none of the calls is the kernel's.
    if [[ -n $OURS ]]; then
        same 'calls of the kernel'\''s epoll' "$(grep -cE ' epoll_[a-z0-9]+\(' "$TMP/trace" || true)" 0
    fi
}

traced_away() {
    local program
    "${LAUNCHER[@]}" "$BUILT" work work work work >"$TMP/said" 2>&1 &
    program=$!
    # From outside, while it works: attached and detached three times.
    for _ in 1 2 3; do
        sleep 0.1
        timeout -s INT 0.3 strace -f -p "$program" -o /dev/null 2>/dev/null || true
    done
    wait "$program" || { cat "$TMP/said"; return 1; }
    same 'lines' "$(wc -l <"$TMP/said")" 4
}

under_valgrind() {
    within 150 "${LAUNCHER[@]}" valgrind -q --error-exitcode=99 "$BUILT" little alarmed unshared 2>"$TMP/valgrind.out" |
        tee "$TMP/said"
    grep -v 'unhandled' "$TMP/valgrind.out" | head -n 30 || true
    same 'lines' "$(wc -l <"$TMP/said")" 3
}

# --- the library, twice ---------------------------------------------------------------------------------------------

twice() {
    preloads "$*" "$BUILT" work children spawn | tee "$TMP/said"
    same 'lines' "$(wc -l <"$TMP/said")" 3
}

# --- the run --------------------------------------------------------------------------------------------------------

check 'the program is built' build
[[ -x $BUILT ]] || finish
# What the launcher preloads; natively nothing.
OURS=$("${LAUNCHER[@]}" env | sed -n 's/^LD_PRELOAD=//p')
# Where it is to be loaded by hand, also natively.
LIBRARY=${OURS:-$LIBRARY}

for word in work children spawn ids unshared; do
    check "$word" behaves "$word"
done
check 'all of it, one after the other' behaves children work spawn ids children work unshared
if [[ -x $TMP/static ]]; then
    check 'a static program is executed' behaves exec "$TMP/static"
else
    skip 'a static program is executed' 'there is no static libc'
fi

for allocator in "${ALLOCATORS[@]}"; do
    if ! known_to_loader "$allocator"; then
        skip "$allocator" 'not installed'
        continue
    fi
    check "$allocator behind the library" in_order "${OURS:+$OURS }$allocator"
    check "$allocator before the library" in_order "$allocator${OURS:+ $OURS}"
    if command -v redis-server >/dev/null; then
        redis_under "$allocator before the library" "$allocator" "$allocator${OURS:+ $OURS}"
    else
        skip "redis, $allocator" 'not installed'
    fi
done

if command -v strace >/dev/null; then
    check 'under strace -f' under_strace
    check 'strace comes and goes' traced_away
else
    skip 'under strace' 'not installed'
fi
if command -v valgrind >/dev/null; then
    check 'under valgrind, no error' under_valgrind
else
    skip 'under valgrind' 'not installed'
fi

if [[ -e $LIBRARY ]]; then
    cp "$LIBRARY" "$TMP/libcopy.so"
    if [[ -n $OURS ]]; then
        check 'named twice' twice "$OURS" "$OURS"
        check 'there twice, by a copy of it' twice "$OURS" "$TMP/libcopy.so"
    fi
    check 'loaded by dlopen, unloaded, and loaded again' behaves load "$LIBRARY"
    check 'a copy of it, too' behaves load "$TMP/libcopy.so"
else
    skip 'loaded by dlopen' 'the library is not built'
fi
summary "$(cc --version | sed -n 1p), glibc $(ldd --version | sed -n '1s/.* //p')" \
    "${ALLOCATORS[*]}, tracers, user ids, unshare, 1,000 children, posix_spawn, vfork, static programs, loaded twice" \
    'no throughput: nothing is served'
finish
