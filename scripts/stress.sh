#!/usr/bin/env bash
# Runs uepoll-stress, part by part: natively for a short while, which proves the checks, then under the library.
#
#     scripts/stress.sh short|full|connections SECONDS
#
# connections: that part alone, under the library, for so long.
set -euo pipefail
cd "$(dirname "$0")/.."

stress=target/release/uepoll-stress
uepoll=target/release/uepoll
seed=${STRESS_SEED:-$(date +%s)}
failed=()
skipped=()

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# part SIDE LIMIT ARGUMENTS...: one part, ended after LIMIT seconds.
part() {
    local side=$1 limit=$2 status=0
    shift 2
    local run=()
    [[ $side == kernel ]] || run=("$uepoll" run --)
    # faketime's library, for `clock`, is preloaded behind ours.
    if [[ $1 == clock && -n $faketime ]]; then
        echo '+0' >"$dir/faketime"
        run=(env "LD_PRELOAD=$faketime" "FAKETIME_TIMESTAMP_FILE=$dir/faketime" FAKETIME_NO_CACHE=1 "${run[@]}")
    fi
    timeout -k 5 "$limit" "${run[@]}" "$stress" --on "$side" "$@" >"$dir/out" 2>&1 || status=$?
    cat "$dir/out"
    if [[ $status != 0 ]]; then
        echo "stress: FAILED with status $status on the $side: uepoll-stress $*" >&2
        failed+=("$1 on the $side")
    fi
    if grep -q SKIPPED "$dir/out"; then
        skipped+=("a part of $1 on the $side")
    fi
}

faketime=
for library in /usr/lib/*/faketime/libfaketimeMT.so.1; do
    [[ ! -e $library ]] || faketime=$library
done
[[ -n $faketime ]] || echo 'stress: faketime is not installed (apt-get install faketime)' >&2

echo "scripts/stress.sh $*: seed $seed"
case ${1-} in
short)
    for side in kernel library; do
        part $side 300 messages --seed "$seed" --seconds 1
        part $side 300 forks --seed "$seed" --seconds 1
        part $side 300 stops --seed "$seed" --seconds 1
    done
    part library 300 connections --seed "$seed" --seconds 1 --round 1 --idle 200 --rate 20000
    part library 300 watcher
    part library 300 clock
    ;;
full)
    part kernel 300 messages --seed "$seed" --seconds 10
    part library 600 messages --seed "$seed" --seconds 60
    part kernel 300 connections --seed "$seed" --seconds 10 --round 3
    part library 600 connections --seed "$seed" --seconds 60
    part kernel 300 forks --seed "$seed" --seconds 10
    part library 600 forks --seed "$seed" --seconds 40
    part kernel 600 stops --seed "$seed" --seconds 10
    part library 600 stops --seed "$seed" --seconds 40
    for side in kernel library; do
        part $side 300 watcher
        part $side 300 clock
    done
    ;;
connections)
    part library $((${2:?SECONDS} + 600)) connections --seed "$seed" --seconds "$2"
    ;;
*)
    echo 'usage: scripts/stress.sh short|full|connections SECONDS' >&2
    exit 2
    ;;
esac

for what in "${skipped[@]}"; do
    echo "stress: NOT CHECKED: $what"
done
if [[ ${#failed[@]} != 0 ]]; then
    printf 'stress: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
