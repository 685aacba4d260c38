#!/bin/bash
# Installs what the tests of run-time systems and of preloading (scripts/apps/) need and the machine lacks: as root, with
# apt-get. Otherwise it only tells what is missing, and the tests concerned skip themselves.

set -euo pipefail
PATH+=:/usr/sbin:/sbin

# program=package; a name with a dot is a library's, as the loader knows it.
NEEDS=(
    node=nodejs
    javac=default-jdk-headless
    erl=erlang-base
    openssl=openssl
    setpriv=util-linux
    strace=strace
    valgrind=valgrind
    redis-server=redis-server
    libjemalloc.so.2=libjemalloc2
    libmimalloc.so.2=libmimalloc2.0
    libtcmalloc_minimal.so.4=libtcmalloc-minimal4
)

libraries=$(ldconfig -p)

# The programs of python.sh live in an environment of their own, which needs pip.
missing=()
for need in "${NEEDS[@]}"; do
    name=${need%=*}
    case $name in
    *.so.*) grep -qF "$name (" <<<"$libraries" || missing+=("${need#*=}") ;;
    *) command -v "$name" >/dev/null || missing+=("${need#*=}") ;;
    esac
done
/usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if [[ ${#missing[@]} == 0 ]]; then
    echo 'nothing is missing'
    exit 0
fi
echo "missing: ${missing[*]}"
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo 'not root, or no apt-get: install these yourself; the tests that need them are skipped'
    exit 0
fi

# Servers of the packages must not be started: see install-test-deps.sh.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
lock=(-o DPkg::Lock::Timeout=120)
apt-get update -q
# One by one: a distribution may lack one of them, whose tests are then skipped.
for package in "${missing[@]}"; do
    apt-get "${lock[@]}" install -q -y --no-install-recommends "$package" ||
        echo "$package cannot be installed: the tests that need it are skipped"
done
