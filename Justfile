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
