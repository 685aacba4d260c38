#!/usr/bin/env bash
# CPython's own tests of what stands on epoll: they pass under the library as they do natively.
#
# Debian's package libpython3.11-testsuite has them; they belong to the python3 of the same package source.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
read -ra launcher <<<"${APP_RUN-$repository/target/release/uepoll run --deny-kernel-epoll --}"
python=${PYTHON:-/usr/bin/python3}
tests=(test_epoll test_select test_selectors test_asyncio test_socketserver test_subprocess)

if ! "$python" -c 'import test.test_epoll' 2>/dev/null; then
    echo "1..0 # SKIP CPython's tests (libpython3-testsuite) are not installed for $python"
    exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
count=0 failed=0
for test in "${tests[@]}"; do
    count=$((count + 1))
    if timeout 300 "${launcher[@]}" "$python" -m test -u network "$test" >"$log" 2>&1 &&
        grep -q '^1 test OK' "$log"; then
        echo "ok $count - $test"
    else
        echo "not ok $count - $test"
        sed 's/^/# /' "$log"
        failed=$((failed + 1))
    fi
done
echo "1..$count"
exit $((failed > 0))
