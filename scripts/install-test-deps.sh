#!/bin/bash
# Installs what `make test` needs and the machine lacks (see packages.sh). Without valgrind `make budget` fails; all other tests
# skip themselves.

set -euo pipefail
# shellcheck source=scripts/packages.sh
source "$(dirname "$0")/packages.sh"

needs_programs \
    nginx=nginx \
    redis-server=redis-server \
    redis-cli=redis-tools \
    redis-benchmark=redis-tools \
    memcached=memcached \
    lighttpd=lighttpd \
    mosquitto=mosquitto \
    mosquitto_pub=mosquitto-clients \
    mosquitto_sub=mosquitto-clients \
    wrk=wrk \
    curl=curl \
    gcc=gcc \
    pkg-config=pkg-config \
    openssl=openssl \
    strace=strace \
    gdb=gdb \
    valgrind=valgrind \
    perl=perl \
    prove=perl \
    shellcheck=shellcheck \
    /usr/bin/python3=python3 \
    faketime=faketime
needs_headers libevent=libevent-dev libuv=libuv1-dev

# CPython's own tests, of the distribution's own Python. Debian has them as a package for each version.
if ! /usr/bin/python3 -c 'import test.test_epoll' 2>/dev/null; then
    version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null ||
        apt-cache depends python3 2>/dev/null | sed -n 's/.*Depends: python\(3\.[0-9]*\)$/\1/p')
    [[ -z $version ]] || missing+=("libpython$version-testsuite")
fi
install_missing
