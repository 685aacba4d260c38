#!/bin/bash
# Installs what the tests in scripts/apps/ need beside that of `make test`: programs, run-time systems and allocators that are
# too large or too slow for it (see packages.sh).

set -euo pipefail
"$(dirname "$0")/install-test-deps.sh"

# shellcheck source=scripts/packages.sh
source "$(dirname "$0")/packages.sh"
for directory in /usr/lib/postgresql/*/bin; do PATH+=:$directory; done

needs_programs \
    haproxy=haproxy \
    postgres=postgresql \
    pgbench=postgresql \
    psql=postgresql \
    h2load=nghttp2-client \
    node=nodejs \
    javac=default-jdk-headless \
    erl=erlang-base \
    setpriv=util-linux
needs_headers libcurl=libcurl4-openssl-dev
needs_libraries \
    libjemalloc.so.2=libjemalloc2 \
    libmimalloc.so.2=libmimalloc2.0 \
    libtcmalloc_minimal.so.4=libtcmalloc-minimal4
# The programs of python.sh live in an environment of their own, which needs pip.
/usr/bin/python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
install_missing
