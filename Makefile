# The door of the project: build, run, test, lint, bench, install.

PREFIX ?= /usr/local
DESTDIR ?=
# A program for `make run`, instead of the demo.
CMD ?=
# How long `make difftest` compares the library with the kernel.
DIFFTEST_SECONDS ?= 60

# Always the same scripts in `make test`, so that it says something of the change; `make soak` takes new ones.
DIFFTEST_SEED ?= 81000000
DIFFTEST_SCRIPTS ?= 4000
# What `make test` runs of scripts/apps/.
SHORT_APPS ?= nginx redis cpython memcached lighttpd mosquitto libevent libuv node java manners
# What it runs of them with few faults of each kind, and only under the library.
FAULT_APPS ?= nginx-faults redis-faults
# By how many pairs of measurements, of a second each, `make apps` compares throughput with the native one.
APP_PAIRS ?= 3
# How long `make soak` does.
SOAK_SECONDS ?= 3600
# How many schedules `make models` tries of each race; `make test` tries fewer.
MODEL_SCHEDULES ?= 20000
SHORT_MODEL_SCHEDULES ?= 100

# How long `make fuzz` runs each of its targets.
TIME ?= 60

# Everything is built in one place, whatever the environment says: scripts look for it there.
export CARGO_TARGET_DIR := $(CURDIR)/target
unexport CARGO_BUILD_TARGET
# For `make apps` only, and there in one of the two ways.
unexport APP_PAIRS
RELEASE := target/release
DIST := target/dist
UEPOLL := $(RELEASE)/uepoll

# $(call need,TOOL,HOW TO GET IT)
need = command -v $(1) >/dev/null || { echo "make: $(1) is missing: $(2)" >&2; exit 1; }
# $(call component,NAME): a component of nightly Rust, added where that can be done
component = rustup component list --installed --toolchain nightly 2>/dev/null | grep -q '^$(1)' || rustup component add $(1) --toolchain nightly || \
	{ echo 'make: $(1) of nightly Rust is missing (rustup toolchain install nightly --component $(1))' >&2; exit 1; }
RUST = Rust 1.95 or newer, with cargo (https://rustup.rs)
C = apt-get install gcc make

# In the order in which prerequisites are written, also with -j: the tests measure time.
.NOTPARALLEL:
.PHONY: help build run test test-deps rust-tests models models-short c-tests faults symbols apps apps-short strace-demo difftest soak budget budget-renew fuzz miri sanitize deny lint bench bench-quick stress stress-short dist install clean

help:
	@echo 'make build        the command and the library, in $(RELEASE)'
	@echo 'make run          the demo: an edge-triggered echo server and its client, without the epoll of the kernel'
	@echo 'make run CMD=...  that program instead of the demo, as in: make run CMD="redis-server --port 7777"'
	@echo 'make test         all tests (installs what they need, where that is possible)'
	@echo 'make models       the races of the engine, under a scheduler that tries their orders'
	@echo 'make faults       memory, descriptors, threads and polls refused, at each point in turn'
	@echo 'make difftest     random calls, compared with the kernel, for DIFFTEST_SECONDS=$(DIFFTEST_SECONDS)'
	@echo 'make apps         real programs: installs them all, and runs their tests (twenty-five minutes)'
	@echo 'make stress       64 threads, connections, forks, stops, killed threads, clocks that jump (five minutes); stress-short: 20 seconds'
	@echo 'make soak         random calls of all kinds, traces, threads and connections, for SOAK_SECONDS=$(SOAK_SECONDS)'
	@echo 'make budget       instructions of the library for single calls, against bench/baseline.json (budget-renew writes it)'
	@echo 'make fuzz         the engine and all decoders on random input, each for TIME=$(TIME) seconds (needs nightly Rust)'
	@echo 'make miri         the pure core under Miri (needs nightly Rust)'
	@echo 'make sanitize     C tests and threads under ThreadSanitizer and AddressSanitizer, C tests under memcheck (needs nightly Rust)'
	@echo 'make deny         licences and sources of the dependencies'
	@echo 'make lint         formatter, linters, documentation, dependencies'
	@echo 'make bench        side by side with the kernel, ten minutes; make bench-quick for a look, one minute'
	@echo 'make install      into DESTDIR and PREFIX=$(PREFIX)'
	@echo 'make clean'

build:
	@$(call need,cargo,$(RUST))
	@$(call need,cc,$(C))
	cargo build --release --workspace

run: build
ifeq ($(strip $(CMD)),)
	demo/run.sh
else
	$(UEPOLL) run --deny-kernel-epoll -v -- $(CMD)
endif

test: test-deps rust-tests models-short c-tests faults symbols budget difftest stress-short apps-short strace-demo

# First: a compiler may be among what is missing.
test-deps:
	scripts/install-test-deps.sh

rust-tests: build
	cargo test --release --workspace

# The engine's own code on a kernel of the models' (tests/models), built in a place of its own.
MODELS := CARGO_TARGET_DIR=target/models RUSTFLAGS='--cfg shuttle' cargo test --profile models -p uepoll --test models

# Each model in a process of its own: an engine is never freed, and a schedule makes one.
models:
	@$(call need,cargo,$(RUST))
	$(MODELS) --no-run
	@status=0; for model in $$($(MODELS) --quiet -- --list --format terse | sed -n 's/: test$$//p'); do \
		MODEL_SCHEDULES=$(MODEL_SCHEDULES) $(MODELS) --quiet -- --exact $$model >target/models/out 2>&1 && \
			echo "$$model: nothing found in $(MODEL_SCHEDULES) schedules" || { cat target/models/out; status=1; }; \
	done; exit $$status

models-short:
	@$(call need,cargo,$(RUST))
	MODEL_SCHEDULES=$(SHORT_MODEL_SCHEDULES) $(MODELS) -- --quiet

c-tests: build
	@$(call need,prove,apt-get install perl)
	c-tests/run.sh both

# Another library, with the feature `faults`, in a place of its own: what is built in $(RELEASE), tested and installed never
# has it, which `make symbols` sees to.
faults:
	@$(call need,cargo,$(RUST))
	@$(call need,cc,$(C))
	cargo build --quiet --profile faults -p uepoll-shim --features uepoll-shim/faults
	@$(MAKE) --silent -C c-tests BUILD=../target/c-tests ../target/c-tests/a4_scarcity
	LD_PRELOAD=target/faults/libuepoll.so target/c-tests/a4_scarcity

symbols: build
	scripts/check-symbols.sh

# All of scripts/apps/, with the programs installed where that can be done. A test whose program is missing says so and is
# skipped. Twice: by `uepoll run` with the kernel's epoll denied, and throughput compared; then by LD_PRELOAD alone, one
# variant of each test.
apps: build
	@$(call need,prove,apt-get install perl)
	scripts/install-app-deps.sh
	@status=0; \
	echo 'by uepoll run --deny-kernel-epoll'; \
	APP_PAIRS=$(APP_PAIRS) scripts/apps/run.sh || status=1; \
	echo 'by LD_PRELOAD alone, one variant of each test'; \
	APP_SHORT=yes APP_RUN=preload scripts/apps/run.sh || status=1; \
	exit $$status

# In `make test`: those that take some seconds and little space.
apps-short: build
	@$(call need,prove,apt-get install perl)
	scripts/apps/run.sh $(SHORT_APPS)
	APP_SHORT=yes scripts/apps/run.sh -j2 $(FAULT_APPS)

strace-demo: build
	scripts/strace-demo.sh

# What is compared in every `make test`: the scripts that once differed, and random ones of everything; then traces of a
# native and of a preloaded process, and threads, for a few seconds each.
DIFFTEST := $(UEPOLL) run -- $(RELEASE)/uepoll-difftest --regressions difftest/regressions

difftest: build
	$(DIFFTEST) --seconds $(DIFFTEST_SECONDS) --seed $(DIFFTEST_SEED) --scripts $(DIFFTEST_SCRIPTS)
	$(RELEASE)/uepoll-difftest --twice --scripts 1000000 --seed $(DIFFTEST_SEED) --seconds 10
	$(DIFFTEST) --threads --scripts 1000000 --seed $(DIFFTEST_SEED) --seconds 10

# Each part natively as well, which proves its checks.
stress: build
	scripts/install-test-deps.sh
	scripts/stress.sh full

# Part of `make test`.
stress-short: build
	scripts/stress.sh short

# Connections that come and go for the whole time; beside them eight tenths of it for scripts of everything, one each for
# traces of a native and of a preloaded process, and for threads.
# Seeds count up from the first: runs that start in different seconds must not meet.
soak: build
	@seed=$$(date +%s)0000; echo "make soak: seed $$seed, $(SOAK_SECONDS) s"; status=0; \
	tenth=$$(( ($(SOAK_SECONDS) + 9) / 10 )); \
	STRESS_SEED=$$seed scripts/stress.sh connections $(SOAK_SECONDS) & connections=$$!; \
	$(DIFFTEST) --scripts 1000000 --seed $$seed --seconds $$((8 * tenth)) --keep-going --stats || status=1; \
	$(RELEASE)/uepoll-difftest --twice --scripts 1000000 --seed $$seed --seconds $$tenth --keep-going || status=1; \
	$(DIFFTEST) --threads --scripts 1000000 --seed $$seed --seconds $$tenth --keep-going || status=1; \
	wait $$connections || status=1; \
	exit $$status

# Part of `make test`: no clock is read, so a busy machine changes nothing.
budget: build
	@$(call need,valgrind,apt-get install valgrind)
	$(RELEASE)/uepoll-budget

budget-renew: build
	@$(call need,valgrind,apt-get install valgrind)
	$(RELEASE)/uepoll-budget --renew

# Apart from `make test`, for it needs nightly Rust and takes minutes to build.
fuzz:
	@$(call need,cargo,$(RUST))
	@$(call need,c++,apt-get install g++)
	fuzz/run.sh $(TIME)

# The unit tests that make no system call. The others are about the kernel, which Miri has not.
PURE := decimal:: edge:: events:: fdtable:: habit:: interest:: notice:: patience:: sign:: slab:: word::

# A place of its own: Miri's builds are none that others can use.
miri:
	@$(call need,cargo,$(RUST))
	@$(call component,miri)
	@$(call component,rust-src)
	CARGO_TARGET_DIR=$(CURDIR)/target/miri cargo +nightly miri test --lib -- $(PURE)

# Apart from `make test`, for it needs nightly Rust and takes many minutes. One of them: make sanitize ONLY=thread
ONLY ?= thread address memcheck
sanitize: build
	@$(call need,cargo,$(RUST))
	@$(call need,cc,$(C))
	@$(call need,objcopy,apt-get install binutils)
	@$(call need,prove,apt-get install perl)
	@$(call need,valgrind,apt-get install valgrind)
	@$(call component,rust-src)
	scripts/sanitize.sh $(ONLY)

deny:
	@$(call need,cargo,$(RUST))
	scripts/deny.sh

lint: deny
	@$(call need,cargo,$(RUST))
	@cargo fmt --version >/dev/null 2>&1 || { echo 'make: rustfmt is missing: rustup component add rustfmt' >&2; exit 1; }
	@cargo clippy --version >/dev/null 2>&1 || { echo 'make: clippy is missing: rustup component add clippy' >&2; exit 1; }
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p uepoll-shim --features uepoll-shim/faults -- -D warnings
	CARGO_TARGET_DIR=target/models RUSTFLAGS='--cfg shuttle' cargo clippy --profile models -p uepoll --test models -- -D warnings
	@# Else nobody sees that they no longer build, until `make fuzz`.
	@if command -v c++ >/dev/null; then \
		CARGO_TARGET_DIR=target/fuzz-lint cargo clippy --manifest-path fuzz/Cargo.toml --bins -- -D warnings; \
	else \
		echo 'c++ is not installed (apt-get install g++): SKIPPED, the fuzz targets were not checked'; \
	fi
	@# One after the other: three of them are called uepoll, and cargo puts their pages in the same place. Private items are
	@# documented, so links to them hold.
	@set -e; for package in $$(cargo metadata --no-deps --format-version 1 | grep -o '"name":"[^"]*","version"' | cut -d '"' -f 4); do \
		echo "rustdoc of $$package"; \
		RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --quiet --no-deps --document-private-items -p "$$package"; \
	done
	@if command -v shellcheck >/dev/null; then \
		echo 'shellcheck of all scripts'; \
		shellcheck -x .ci/run c-tests/run.sh demo/run.sh fuzz/run.sh scripts/*.sh scripts/apps/*.sh scripts/sanitize/*.sh; \
	else \
		echo 'shellcheck is not installed (apt-get install shellcheck): SKIPPED, the scripts were not checked'; \
	fi

# Ten minutes, and the table of docs/PERFORMANCE.md; the quick one is a look and leaves the table alone.
bench: build
	$(RELEASE)/uepoll-bench --table docs/PERFORMANCE.md

bench-quick: build
	$(RELEASE)/uepoll-bench --quick

# As root cargo is often out of reach: then what `make dist` built before is installed.
dist:
	@if command -v cargo >/dev/null; then \
		cargo build --profile dist -p uepoll-cli -p uepoll-shim; \
	elif [ -x $(DIST)/uepoll ] && [ -e $(DIST)/libuepoll.so ]; then \
		echo 'make: cargo is not on PATH: using what is in $(DIST)'; \
	else \
		echo 'make: cargo is not on PATH: run `make dist` as the user that has it, then `make install`' >&2; exit 1; \
	fi

install: dist
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib/uepoll' '$(DESTDIR)$(PREFIX)/share/man/man1'
	install -m 755 $(DIST)/uepoll '$(DESTDIR)$(PREFIX)/bin/uepoll'
	install -m 644 $(DIST)/libuepoll.so '$(DESTDIR)$(PREFIX)/lib/uepoll/libuepoll.so'
	install -m 644 docs/man/uepoll.1 '$(DESTDIR)$(PREFIX)/share/man/man1/uepoll.1'

clean:
	rm -rf target
