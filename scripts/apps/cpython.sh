#!/bin/bash
# CPython's own tests of what stands on epoll: they pass under the library as they do natively.
# Debian's package libpython3.11-testsuite has them; they belong to the python3 of the same package source.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
PYTHON=${PYTHON:-/usr/bin/python3}
begin 900 "$PYTHON"
"$PYTHON" -c 'import test.test_epoll' 2>/dev/null ||
    skip_all "CPython's tests (libpython3-testsuite) are not installed for $PYTHON"

TESTS=(test_epoll test_select test_selectors test_socketserver)
# The slow ones.
[[ -n ${APP_SHORT:-} ]] || TESTS+=(test_asyncio test_subprocess)

passes() {
    if within 300 "${LAUNCHER[@]}" "$PYTHON" -m test -u network "$1" >"$TMP/test.out" 2>&1 &&
        grep '^1 test OK' "$TMP/test.out"; then
        return
    fi
    cat "$TMP/test.out"
    return 1
}

for test in "${TESTS[@]}"; do check "$test" passes "$test"; done
summary "$("$PYTHON" --version)" "its own tests: ${TESTS[*]}" 'no throughput: tests serve nobody'
finish
