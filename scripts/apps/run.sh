#!/bin/bash
# Runs the tests with real programs by `prove`: all of them, or those named; words with a dash go to prove.
#
#   scripts/apps/run.sh                         under the library (the release build)
#   APP_RUN= scripts/apps/run.sh nginx          natively, one of them; lib.sh tells what else can be set
#   APP_PAIRS=5 scripts/apps/run.sh nginx       with its throughput beside the native one

set -euo pipefail
cd "$(dirname "$0")"

options=()
tests=()
for word; do
    case $word in
    -*) options+=("$word") ;;
    *) tests+=("$(basename "$word" .sh).sh") ;;
    esac
done
if [[ ${#tests[@]} == 0 ]]; then
    for file in *.sh; do
        [[ $file == lib.sh || $file == run.sh ]] || tests+=("$file")
    done
fi

exec prove --timer --failures --comments --exec bash "${options[@]}" "${tests[@]}"
