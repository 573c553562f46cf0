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
# Always the same folder, so that the next run finds what this one has built. Not `target` itself: tests run the binary
# that lies there, and would run a broken one.
export CARGO_TARGET_DIR="$PWD/target/mutations-loop"
original="$CARGO_TARGET_DIR/original" # the sources may change during a run
copy="$CARGO_TARGET_DIR/copy"
said="$CARGO_TARGET_DIR/said"
rm -rf "$original" "$copy"
mkdir -p "$original"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp -p --parents -t "$original"
cp -rp "$original" "$copy"
# What was built last time may be of a broken copy.
touch "$copy"/src/{lib,main}.rs
export HERD_TEST_SOON=1
# What nobody will debug is linked in half the time without what a debugger needs.
options=(--manifest-path "$copy/Cargo.toml" --config 'profile.dev.package.herd-mio.debug=0')
failures=()
ignored=()

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
        failures+=("$name: does not build")
        tail -20 "$said"
    elif survives; then
        if grep -q "^test $test .*ignored" "$said" && [ -z "${HERD_MIO_REQUIRE_TOOLS:-}" ]; then
            ignored+=("$name: $test needs what is missing here")
        else
            failures+=("$name: $test passes all the same, or was ignored")
        fi
    elif ! grep -q "^test $test .*FAILED" "$said"; then
        failures+=("$name: $test did not run to its end")
        tail -20 "$said"
    else
        echo "$name: $test fails, as it must ($SECONDS s)"
    fi
}

cd "$original"
for patch in tests/loop/mutations/"$which"*.patch; do
    name=$(basename "$patch" .patch)
    read -r file test < <(sed -n 's/^Test: //p' "$patch")
    mapfile -t broken < <(sed -n 's/^+++ b\///p' "$patch")
    if patch -s -F0 -p1 -d "$copy" <"$patch" >"$said" 2>&1; then
        try "$name" "$file" "$test"
    else
        failures+=("$name: does not apply")
        cat "$said"
    fi
    # Newer than what was built of the broken copy, so that it is built again.
    cp --parents -t "$copy" "${broken[@]}"
done
for name in "${ignored[@]}"; do echo "IGNORED: $name"; done
for failure in "${failures[@]}"; do echo "FAILED: $failure"; done
exit $((${#failures[@]} > 0))
