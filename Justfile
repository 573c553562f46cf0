# What a contributor does, each in one line. `just` alone lists them.

default:
    @just --list

# Run the report's five servers until Ctrl-C.
run:
    cargo run --release -- --herd

# A minute of a real Prometheus that scrapes a server each second.
scrape seconds="60":
    HERD_MIO_SCRAPE_SECONDS={{seconds}} cargo test --test with_tools prometheus

# Read the configuration and draw the herd.
check *options:
    cargo run --release -- --check {{options}}

test:
    cargo test

lint:
    cargo clippy --all-targets -- -D warnings

fmt:
    cargo fmt

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

bench:
    cargo bench --bench latency --bench https

# Instructions of the hot functions, the same on a busy machine; a word picks some (needs valgrind).
instructions *word:
    cargo bench --bench instructions -- --compare release {{word}}

# Write benches/instructions.toml anew, after a change that is meant to change them (two builds).
instructions-write:
    cargo bench --bench instructions -- --write release && .ci/instructions --write quick

# The same job on several runtimes, measured side by side: `just versus --help`.
versus *options:
    cargo bench --bench versus -- {{options}}

# A member against a bare client of the same NATS server, as ratios: `just engine-figures --nodes 3`.
engine-figures *options:
    cargo bench --bench engine -- {{options}}

# A flame graph of 20 seconds of one server's work, into target/flame.svg (perf, and cargo install inferno).
profile pid:
    perf record -F 997 --call-graph dwarf,16384 -p {{pid}} -o target/perf.data -- sleep 20 && perf script -i target/perf.data | inferno-collapse-perf | inferno-flamegraph > target/flame.svg

# What takes a minute, and cargo test leaves out: such as logrotate each second at 50,000 records a second.
long *test:
    cargo test --release --test with_tools -- --ignored --nocapture {{test}}

# The engine's long checks, with faults in clusters of real NATS servers, and its figures: some 15 minutes.
engine *test:
    cargo test --release --test with_tools -- --ignored --nocapture --test-threads=1 engine::{{test}}

# A server that answers after the disk is killed a hundred times under four writers: with one loop, and with two.
kills:
    cargo test --release --test state_kills -- --ignored --nocapture

# 10,000 clients of one server, which drains for half a minute.
drain:
    cargo test --release --test drain -- --ignored --nocapture

# The page of the admin listener open in Chromium for an hour while clients move: its heap must not grow.
page seconds="3600":
    HERD_MIO_PAGE_SECONDS={{seconds}} cargo test --test with_tools page::the_heap_stays_flat_for_an_hour -- --ignored --nocapture

# All that a reviewer would run.
ci:
    .ci/run

# Build the image of contrib/image by docker, podman or buildah. It pulls a base image and a compiler.
image tool="docker" tag="herd-mio":
    {{tool}} build -t {{tag}} -f contrib/image/Dockerfile .

# Build the Debian package into target/debian (needs cargo-deb: cargo install cargo-deb --locked).
deb *options:
    contrib/debian/build {{options}}

# Check the manual pages, and show both.
manual:
    mandoc -T lint -W warning contrib/man/*
    man -l contrib/man/*

# Copy the event loop into a package of its own, and run the echo there.
lift:
    .ci/lift

# Let the fuzzer look for bytes that break a claim of tests/fuzz/checks.rs (needs cargo-fuzz).
fuzz target seconds="600":
    mkdir -p tests/fuzz/corpus/{{target}} && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz {{target}} tests/fuzz/corpus/{{target}} tests/fuzz/seeds/{{target}} -- -max_total_time={{seconds}} -max_len=4096

# One connection tells new ids as fast as it can for a minute, into a table of a million.
crowd:
    cargo test --release --test crowd -- --ignored --nocapture

# Let the simulator look for a schedule that parts a herd.
simulate schedules="100000":
    cargo run --release --example simulate -- --schedules {{schedules}} && cargo run --release --example simulate_engine -- --schedules {{schedules}}

# Break the core and the loop in each of the known ways, and see the simulator, or a test, catch it.
mutations:
    tests/simulation/mutations.sh && tests/simulation/mutations.sh 20000 "" engine_core && tests/mutations.sh

# Change each expression of a layer in turn, and see a test fail (needs cargo-mutants; half an hour).
mutants folder="herd":
    PROPTEST_FAILURE_PERSISTENCE=off cargo mutants --baseline skip --timeout 60 -f 'src/{{folder}}/**' -o target -C=--lib -C=--test=laws -C=--test=link_core -C=--test=core -C=--test=borders -C=--test=places -C=--test=http
