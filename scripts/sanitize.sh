#!/usr/bin/env bash
# The C tests, the differential tester and the engine's Rust tests under ThreadSanitizer and AddressSanitizer; and the C tests
# under valgrind's memcheck. Fails if any of them reports something that is not explained here or in scripts/sanitize/.
#
#   scripts/sanitize.sh [thread|address|memcheck ...]     which of them (default: all)
#
# TESTS='c1_level ...'   only these C tests
# SECONDS_OF_DIFFTEST=n  for each of the differential tester's two runs (default: 30)
# JOBS=n                 how many programs run at a time (default: 2)
#
# The library is built with the sanitizer, by nightly Rust; the C tests by gcc, with the runtime that is Rust's: gcc's own is
# another version. A preloaded library that wants a sanitizer's runtime would stop each program that has none (env, the
# symbolizer), so here the library is linked to the programs, first of all libraries, where a preloaded one stands too.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=${JOBS:-2}
seconds=${SECONDS_OF_DIFFTEST:-30}
host=$(rustc -vV | sed -n 's/^host: //p')
failed=0

# Names of lines "name  reason" in a list of tests that are left out.
left_out() {
    sed -n 's/^\([a-z][a-z0-9_]*\) .*/\1/p' "scripts/sanitize/$1"
}

# The C tests, but those that are left out, which are told.
tests_for() {
    local out
    out=" $(left_out "$1.out" | tr '\n' ' ') "
    for source in ${TESTS:-c-tests/*.c}; do
        source=$(basename "$source" .c)
        if [[ $out == *" $source "* && -z ${TESTS:-} ]]; then
            echo "left out: $(grep "^$source " "scripts/sanitize/$1.out")" >&2
        else
            echo "$source"
        fi
    done
}

# build SANITIZER RUNTIME CARGO_FLAGS...: the library, the tester and the C tests, into target/sanitize/SANITIZER.
build() {
    local sanitizer=$1 archive=$2
    shift 2
    local place=$PWD/target/sanitize/$sanitizer
    local lib=$place/$host/sanitize runtime
    runtime=$(rustc +nightly --print target-libdir)/$archive
    if [[ ! -e $runtime ]]; then
        echo "sanitize.sh: $runtime is missing: rustup toolchain install nightly" >&2
        exit 1
    fi
    export CARGO_TARGET_DIR=$place RUSTFLAGS="-Zsanitizer=$sanitizer -Zexternal-clangrt"
    # Of memory AddressSanitizer knows what malloc gave.
    [[ $sanitizer != address ]] || RUSTFLAGS+=' --cfg sanitized'
    cargo +nightly build --quiet --profile sanitize --target "$host" "$@" -p uepoll-shim
    # In the executable, the runtime comes before the library: its epoll_wait would call the library's. ThreadSanitizer takes
    # whatever runs within a call that may block for the kernel, and heeds no atomic operation there. Without these four names
    # the library's are the first.
    objcopy --localize-symbol={epoll_wait,epoll_pwait,poll,ppoll} "$runtime" "$place/runtime.a"
    local link=('-Wl,--whole-archive' "$place/runtime.a" '-Wl,--no-whole-archive' -rdynamic '-Wl,--no-as-needed'
        "-L$lib" -luepoll "-Wl,-rpath,$lib" -lm -ldl -lrt -lresolv)
    # Before libc, whose functions come after the library's: rustc has libc stand before its link arguments.
    cargo +nightly rustc --quiet --profile sanitize --target "$host" "$@" -p uepoll-difftest -- \
        "${link[@]/#/-Zpre-link-arg=}"
    mkdir -p "$place/c"
    # shellcheck disable=SC2016 # the inner shell expands these
    tests_for "$sanitizer" | xargs -P "$jobs" -I{} sh -ec '
        test=$1 place=$2 sanitizer=$3
        shift 3
        if [ "$place/c/$test" -nt "c-tests/$test.c" ] && [ "$place/c/$test" -nt "$place/runtime.a" ]; then exit 0; fi
        gcc -O1 -g -U_FORTIFY_SOURCE -std=gnu11 -pthread "-fsanitize=$sanitizer" -DDEFAULT_LIMIT_S=120 \
            -c -o "$place/c/$test.o" "c-tests/$test.c"
        gcc -pthread -o "$place/c/$test" "$place/c/$test.o" "$@"' \
        sh {} "$place" "$sanitizer" "${link[@]}"
    unset CARGO_TARGET_DIR RUSTFLAGS
}

# run SANITIZER: what `build` built. A report ends the program with status 66, which prove and we take for a failure.
run() {
    local place=target/sanitize/$1 programs=() tester test
    for test in $(tests_for "$1" 2>/dev/null); do
        programs+=("$place/c/$test")
    done
    echo "== the C tests under $1 sanitizer"
    prove --jobs "$jobs" --failures --exec '' "${programs[@]}" || failed=1
    if [[ -z ${TESTS:-} ]]; then
        tester=$place/$host/sanitize/uepoll-difftest
        echo "== the differential tester under $1 sanitizer"
        "$tester" --threads --scripts 1000000 --seed 81000000 --seconds "$seconds" --regressions difftest/regressions || failed=1
        "$tester" --scripts 1000000 --seed 81000000 --seconds "$seconds" --regressions difftest/regressions || failed=1
    fi
}

# rust_tests SANITIZER CARGO_FLAGS...: the engine's own, in a program that has nothing of the library's hooks.
rust_tests() {
    local sanitizer=$1
    shift
    [[ -z ${TESTS:-} ]] || return 0
    echo "== the Rust tests of the engine under $sanitizer sanitizer"
    CARGO_TARGET_DIR=$PWD/target/sanitize/$sanitizer-rust RUSTFLAGS="-Zsanitizer=$sanitizer" \
        cargo +nightly test --quiet --profile sanitize --target "$host" "$@" -p uepoll --lib --test engine || failed=1
}

under_thread() {
    # The standard library too: its own atomics would go unseen.
    build thread librustc-nightly_rt.tsan.a -Zbuild-std
    # The runtime's handlers of faults are installed by the library's sigaction, before the runtime is ready for instrumented
    # code.
    TSAN_OPTIONS="handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigill=0:handle_sigfpe=0:handle_sigtrap=0:exitcode=66:suppressions=$PWD/scripts/sanitize/thread.supp" \
        run thread
    TSAN_OPTIONS='exitcode=66' rust_tests thread -Zbuild-std
}

under_address() {
    build address librustc-nightly_rt.asan.a
    # Locals stand where the program's handlers are told to have them, on their own stack.
    ASAN_OPTIONS="detect_stack_use_after_return=0:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigill=0:handle_sigfpe=0:exitcode=66:detect_leaks=1" \
        LSAN_OPTIONS="suppressions=$PWD/scripts/sanitize/leaks.supp" run address
    # Each test has engines of its own, which live as long as the process, and nobody knows of any more when it ends.
    ASAN_OPTIONS='detect_leaks=0:exitcode=66' rust_tests address
}

under_memcheck() {
    local programs=() test
    make --silent -C c-tests BUILD=../target/sanitize/memcheck CFLAGS='-O1 -g -DDEFAULT_LIMIT_S=240' all
    for test in $(tests_for memcheck); do
        programs+=("target/sanitize/memcheck/$test")
    done
    echo '== the C tests under memcheck'
    prove --jobs "$jobs" --failures --exec \
        "scripts/sanitize/memcheck.sh target/release/libuepoll.so" "${programs[@]}" || failed=1
}

[[ $# -gt 0 ]] || set -- thread address memcheck
for which; do
    case $which in
    thread) under_thread ;;
    address) under_address ;;
    memcheck) under_memcheck ;;
    *)
        echo "sanitize.sh: thread, address or memcheck, not $which" >&2
        exit 2
        ;;
    esac
done
exit $failed
