#!/usr/bin/env bash
# Runs the conformance programs: on the kernel, and under the library. Fails if either fails.
#
#   c-tests/run.sh [native|preloaded|both] [test ...]     a test by its name, with or without .c
#
# UEPOLL=path   the command that preloads the library (default: target/release/uepoll)
# JOBS=n        how many programs run at a time (default: 2)
set -euo pipefail

uepoll=${UEPOLL:+$(realpath -- "$UEPOLL")}
# prove splits --exec at blanks: with relative paths, the repository may lie anywhere.
cd "$(dirname "$0")/.."
uepoll=${uepoll:-target/release/uepoll}
build=target/c-tests
jobs=${JOBS:-2}

mode=both
case ${1:-} in
native | preloaded | both)
    mode=$1
    shift
    ;;
esac

make --silent -C c-tests BUILD="../$build" all

programs=()
if [ $# -eq 0 ]; then
    for source in c-tests/*.c; do
        programs+=("$build/$(basename "$source" .c)")
    done
else
    for name in "$@"; do
        program=$build/$(basename "$name" .c)
        if [ ! -x "$program" ]; then
            echo "run.sh: there is no test $name" >&2
            exit 2
        fi
        programs+=("$program")
    done
fi

failed=0

# Each program's output ends up in prove, whose summary is the last line of its mode.
run() {
    local title=$1 prefix=$2
    echo "== $title"
    prove --jobs "$jobs" --failures --comments --exec "$prefix" "${programs[@]}" || failed=1
}

if [ "$mode" != preloaded ]; then
    run native ''
fi
if [ "$mode" != native ]; then
    if [ -x "$uepoll" ]; then
        run preloaded "$uepoll run --deny-kernel-epoll --"
    else
        echo "run.sh: $uepoll is not there: build it first, or set UEPOLL" >&2
        failed=1
    fi
fi
exit $failed
