# What a contributor does, each in one line. `just` alone lists them.

default:
    @just --list

# Run the report's five servers until Ctrl-C.
run:
    cargo run --release -- --herd

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

# All that a reviewer would run.
ci:
    .ci/run

# Let the fuzzer look for bytes that break a claim of tests/fuzz/checks.rs (needs cargo-fuzz).
fuzz target seconds="600":
    mkdir -p tests/fuzz/corpus/{{target}} && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz {{target}} tests/fuzz/corpus/{{target}} tests/fuzz/seeds/{{target}} -- -max_total_time={{seconds}} -max_len=4096
