# shellcheck shell=bash
# For the scripts that install what tests need: finds what the machine lacks, and installs it as root, with apt-get.
# Otherwise it only tells what is missing, and the tests concerned skip themselves.

PATH+=:/usr/sbin:/sbin

# Packages.
missing=()

# needs_programs PROGRAM=PACKAGE...
needs_programs() {
    local need
    for need; do
        command -v "${need%=*}" >/dev/null || missing+=("${need#*=}")
    done
}

# needs_headers NAME=PACKAGE...: libraries to build with, as pkg-config knows them.
needs_headers() {
    local need
    for need; do
        pkg-config --exists "${need%=*}" 2>/dev/null || missing+=("${need#*=}")
    done
}

# needs_libraries NAME=PACKAGE...: libraries to load, as the loader knows them.
needs_libraries() {
    local need known
    known=$(ldconfig -p)
    for need; do
        grep -qF "${need%=*} (" <<<"$known" || missing+=("${need#*=}")
    done
}

install_missing() {
    if [[ ${#missing[@]} == 0 ]]; then
        echo 'nothing is missing'
        return
    fi
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    echo "missing: ${missing[*]}"
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        echo 'not root, or no apt-get: install these yourself; the tests that need them are skipped'
        return
    fi
    # The packages' servers must not be started: the tests start their own. A policy of our own for as long as this takes,
    # unless the machine has one; RUNLEVEL does the same where the policy is not asked.
    local policy=/usr/sbin/policy-rc.d package
    if [[ ! -e $policy ]]; then
        # shellcheck disable=SC2064 # the name is known now
        trap "rm -f $policy" EXIT
        trap 'exit 130' INT TERM HUP
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get update -q
    # One by one: a distribution may lack one of them, whose tests are then skipped.
    for package in "${missing[@]}"; do
        apt-get -o DPkg::Lock::Timeout=120 install -q -y --no-install-recommends "$package" ||
            echo "$package cannot be installed: the tests that need it are skipped"
    done
}
