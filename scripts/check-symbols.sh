#!/usr/bin/env bash
# The library as the loader sees it: every name that has to be interposed is defined in it, and what users install stays
# small.
#
#   scripts/check-symbols.sh [LIBRARY]    default: target/release/libuepoll.so; a stripped copy of it is measured
set -euo pipefail
cd "$(dirname "$0")/.."

library=${1:-target/release/libuepoll.so}
LIMIT=$((2 * 1024 * 1024))

# Section H of docs/SEMANTICS.md.
NAMES=(
    epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    close close_range closefrom fclose pclose mq_close daemon freopen freopen64
    dup dup2 dup3 fcntl fcntl64
    poll ppoll select pselect __poll_chk __ppoll_chk
    preadv2 preadv64v2 pwritev2 pwritev64v2
    read readv recv recvfrom recvmsg recvmmsg __read_chk __recv_chk __recvfrom_chk eventfd_read
    write writev send sendto sendmsg sendmmsg sendfile sendfile64 splice eventfd_write
    mq_send mq_timedsend mq_receive mq_timedreceive
    accept accept4 connect listen shutdown socket socketpair pipe pipe2 eventfd timerfd_create timerfd_settime
    signalfd inotify_init inotify_init1
    unshare setns ioctl mmap mmap64 munmap mprotect mremap
    syscall pthread_cancel _Fork
    __close __dup2 __fcntl _IO_fclose __read __write __send __connect __pipe __poll __select
    raise kill tgkill sigqueue pthread_kill pthread_sigqueue gsignal
    sigaction __sigaction signal ssignal bsd_signal
)

for tool in nm strip; do
    if ! command -v "$tool" >/dev/null; then
        echo "check-symbols.sh: $tool is missing: apt-get install binutils" >&2
        exit 1
    fi
done
if [ ! -e "$library" ]; then
    echo "check-symbols.sh: $library is not there: run make build first" >&2
    exit 1
fi

passed=0
failed=0
ok() {
    passed=$((passed + 1))
}
not_ok() {
    failed=$((failed + 1))
    echo "not ok - $1"
}

# A function that is defined, and that the loader may take instead of libc's: T, in the dynamic table.
defined=$(nm -D --defined-only "$library" | awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }')
for name in "${NAMES[@]}"; do
    if grep -qx -- "$name" <<<"$defined"; then ok; else not_ok "$library defines $name"; fi
done

# What refuses memory and descriptors on demand (`make faults`) is in a library of its own.
if grep -q -- faults <<<"$defined"; then not_ok "$library was built without the feature faults"; else ok; fi

# Names that nobody listed are no failure, but replace functions of the program's all the same.
others=$(grep -vxF "$(printf '%s\n' "${NAMES[@]}")" <<<"$defined" || true)
if [ -n "$others" ]; then echo "# defined too, and not in the list of this script: ${others//$'\n'/ }"; fi

copy=$(mktemp)
trap 'rm -f "$copy"' EXIT
strip -o "$copy" "$library"
size=$(stat -c %s "$copy")
if [ "$size" -lt "$LIMIT" ]; then ok; else not_ok "the stripped library has $size bytes, $LIMIT are allowed"; fi

echo "symbols: $passed passed, $failed failed (stripped library: $size bytes)"
[ "$failed" -eq 0 ]
