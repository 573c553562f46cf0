#!/usr/bin/env bash
# A test that can't fail is worth nothing. Applies each of tests/loop/mutations/*.patch, which breaks one line of the
# program each, to a copy of the sources, builds the one test file that its header names, and runs the one test that it
# names, which must fail:
#
#     Trap: <heading of docs/the-loop.md, or - and what is broken elsewhere>
#     Test: <file in tests/, or lib> <name of the test>
#
# A patch that does not apply any more, does not build, or is not noticed is a failure, and named at the end. So is one
# whose test is ignored, where something is missing that it needs, if HERD_MIO_REQUIRE_TOOLS is set.
# Usage: tests/mutations.sh [beginning of a name]
set -uo pipefail
cd "$(dirname "$0")/.."
which=${1:-}
# Two at a time: a build uses one core for most of its time, and a test that fails mostly waits. Each worker has a
# folder of its own, always the same, so that the next run finds what this one has built. Not `target` itself: tests
# run the binary that lies there, and would run a broken one.
workers=2
built="${CARGO_TARGET_DIR:-$PWD/target}/debug"
folder="$PWD/target/mutations-loop"
original="$folder/original" # the sources may change during a run
rm -rf "$original"
mkdir -p "$original"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp -p --parents -t "$original"
export HERD_TEST_SOON=1

# prepare: the worker's copy of the sources, and what `cargo test` has built of others' crates.
prepare() {
    rm -rf "$copy"
    mkdir -p "$CARGO_TARGET_DIR/debug/deps"
    cp -rp "$original" "$copy"
    # What was built last time may be of a broken copy.
    touch "$copy"/src/{lib,main}.rs
    if [ -d "$built/.fingerprint" ] && [ ! -d "$CARGO_TARGET_DIR/debug/.fingerprint" ]; then
        cp -rp "$built"/{build,.fingerprint} "$CARGO_TARGET_DIR/debug"
        find "$built/deps" -name '*-*' ! -name '*herd_mio*' \( -name 'lib*' -o -name '*.d' \) \
            -exec cp -lpt "$CARGO_TARGET_DIR/debug/deps" {} +
        rm -rf "$CARGO_TARGET_DIR"/debug/{build,.fingerprint}/herd-mio-*
    fi
}

# Whether the test passes three times: where the fault shows only if two processes meet, one pass says little.
survives() {
    for _ in 1 2 3; do
        cargo test "${options[@]}" "${target[@]}" -- --exact "$test" >"$said" 2>&1 </dev/null || return
    done
}

# try NAME FILE TEST: builds and runs the test, and notes what it should not have done.
try() {
    local name=$1 file=$2 test=$3 target=(--test "$2")
    if [ "$file" = lib ]; then target=(--lib); fi
    if ! cargo test -q --no-run "${options[@]}" "${target[@]}" >"$said" 2>&1; then
        note "FAILED: $name: does not build"
        tail -20 "$said"
    elif survives; then
        if grep -q "^test $test .*ignored" "$said" && [ -z "${HERD_MIO_REQUIRE_TOOLS:-}" ]; then
            note "IGNORED: $name: $test needs what is missing here"
        else
            note "FAILED: $name: $test passes all the same, or was ignored"
        fi
    elif ! grep -q "^test $test .*FAILED" "$said"; then
        note "FAILED: $name: $test did not run to its end"
        tail -20 "$said"
    else
        note "caught: $name"
        echo "$name: $test fails, as it must ($SECONDS s)"
    fi
}

# work NUMBER: tries each patch whose turn it is.
work() {
    local number=$1 turn=0 patch name file test broken
    export CARGO_TARGET_DIR="$folder/$number"
    # Each patch changes one line, so most of what was compiled for the last one is used again.
    export CARGO_INCREMENTAL=1
    local copy="$CARGO_TARGET_DIR/copy" said="$CARGO_TARGET_DIR/said"
    # What nobody will debug is linked in half the time without what a debugger needs.
    local options=(--manifest-path "$copy/Cargo.toml" --config 'profile.dev.package.herd-mio.debug=0')
    prepare
    cd "$original"
    for patch in tests/loop/mutations/"$which"*.patch; do
        if [ $((turn++ % workers)) != "$number" ]; then continue; fi
        name=$(basename "$patch" .patch)
        read -r file test < <(sed -n 's/^Test: //p' "$patch")
        mapfile -t broken < <(sed -n 's/^+++ b\///p' "$patch")
        if patch -s -F0 -p1 -d "$copy" <"$patch" >"$said" 2>&1; then
            try "$name" "$file" "$test"
        else
            note "FAILED: $name: does not apply"
            cat "$said"
        fi
        # Newer than what was built of the broken copy, so that it is built again.
        cp --parents -t "$copy" "${broken[@]}"
    done
}

notes="$folder/notes"
: >"$notes"
note() {
    echo "$1" >>"$notes"
}
for ((number = 0; number < workers; number++)); do work "$number" & done
wait
grep -v '^caught' "$notes"
# Each patch has its line, also if a worker was killed.
patches=("$original"/tests/loop/mutations/"$which"*.patch)
! grep -q '^FAILED' "$notes" && [ "$(wc -l <"$notes")" = ${#patches[@]} ]
