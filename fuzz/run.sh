#!/usr/bin/env bash
# Builds the fuzz targets, and runs each of them for so many seconds. Fails with the first crash, whose input is left in
# fuzz/artifacts/.
#
#   fuzz/run.sh SECONDS [target ...]
#
# Needs a nightly toolchain and a C++ compiler; cargo-fuzz is not needed, these are the flags that it gives to rustc.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?how many seconds for each target}
shift
targets=("$@")
if [ $# -eq 0 ]; then
    targets=(engine edges program text)
fi

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo 'fuzz/run.sh: nightly Rust is missing: rustup toolchain install nightly' >&2
    exit 1
fi
host=$(rustc -vV | sed -n 's/^host: //p')
build=$PWD/../target/fuzz
export CARGO_TARGET_DIR=$build
export RUSTFLAGS='--cfg fuzzing -Zsanitizer=address -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares'
# With a target named, build scripts are built without them.
cargo +nightly build --quiet --release --target "$host" --bins

for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    # What is found goes into a directory of its own; the corpus in the repository stays small.
    mkdir -p "$build/corpus/$target" "artifacts/$target"
    "$build/$host/release/$target" -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 \
        -max_len=4096 -rss_limit_mb=0 -artifact_prefix="artifacts/$target/" "$build/corpus/$target" "corpus/$target"
    rmdir --ignore-fail-on-non-empty "artifacts/$target"
done
