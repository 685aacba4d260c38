#!/bin/bash
# Installs what the tests need and the machine lacks: as root, with apt-get. Otherwise it only tells what is missing, and
# the tests concerned skip themselves (but `make budget`, which fails without valgrind).

set -euo pipefail
PATH+=:/usr/sbin:/sbin

# program=package
NEEDS=(
    nginx=nginx
    redis-server=redis-server
    redis-cli=redis-tools
    redis-benchmark=redis-tools
    memcached=memcached
    lighttpd=lighttpd
    mosquitto=mosquitto
    mosquitto_pub=mosquitto-clients
    mosquitto_sub=mosquitto-clients
    wrk=wrk
    curl=curl
    gcc=gcc
    pkg-config=pkg-config
    openssl=openssl
    strace=strace
    gdb=gdb
    valgrind=valgrind
    perl=perl
    prove=perl
    shellcheck=shellcheck
    /usr/bin/python3=python3
    faketime=faketime
)

# pkg-config's name=package
LIBRARIES=(
    libevent=libevent-dev
    libuv=libuv1-dev
)

missing=()
for need in "${NEEDS[@]}"; do
    command -v "${need%=*}" >/dev/null || missing+=("${need#*=}")
done
for need in "${LIBRARIES[@]}"; do
    pkg-config --exists "${need%=*}" 2>/dev/null || missing+=("${need#*=}")
done
# CPython's own tests, of the distribution's own Python. Debian has them as a package for each version.
if ! /usr/bin/python3 -c 'import test.test_epoll' 2>/dev/null; then
    version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null ||
        apt-cache depends python3 2>/dev/null | sed -n 's/.*Depends: python\(3\.[0-9]*\)$/\1/p')
    [[ -z $version ]] || missing+=("libpython$version-testsuite")
fi
if [[ ${#missing[@]} == 0 ]]; then
    echo 'nothing is missing'
    exit 0
fi
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
echo "missing: ${missing[*]}"
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo 'not root, or no apt-get: install these yourself; the tests that need them are skipped'
    exit 0
fi

# The packages' servers must not be started: the tests start their own. A policy of our own for as long as this takes,
# unless the machine has one; RUNLEVEL does the same where the policy is not asked.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -q
# One by one: a distribution may lack one of them, whose tests are then skipped.
for package in "${missing[@]}"; do
    apt-get install -q -y --no-install-recommends "$package" || echo "$package cannot be installed: the tests that need it are skipped"
done
