#!/bin/bash
# Installs the programs of all tests in scripts/apps/ that the machine lacks, also those that are too large or too slow for
# `make test`: as root, with apt-get. Otherwise it only tells what is missing, and the tests concerned skip themselves.

set -euo pipefail
PATH+=:/usr/sbin:/sbin
for directory in /usr/lib/postgresql/*/bin; do PATH+=:$directory; done

# program=package
NEEDS=(
    haproxy=haproxy
    postgres=postgresql
    pgbench=postgresql
    psql=postgresql
    h2load=nghttp2-client
)
# pkg-config's name=package
LIBRARIES=(
    libcurl=libcurl4-openssl-dev
)

"$(dirname "$0")/install-test-deps.sh"

missing=()
for need in "${NEEDS[@]}"; do
    command -v "${need%=*}" >/dev/null || missing+=("${need#*=}")
done
for need in "${LIBRARIES[@]}"; do
    pkg-config --exists "${need%=*}" 2>/dev/null || missing+=("${need#*=}")
done
if [[ ${#missing[@]} == 0 ]]; then
    echo 'nothing is missing for the other programs'
    exit 0
fi
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
echo "missing: ${missing[*]}"
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo 'not root, or no apt-get: install these yourself; the tests that need them are skipped'
    exit 0
fi

# The packages' servers must not be started: see install-test-deps.sh.
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
    apt-get install -q -y --no-install-recommends "$package" ||
        echo "$package cannot be installed: the tests that need it are skipped"
done
