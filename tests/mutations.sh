#!/usr/bin/env bash
# A test that can't fail is worth nothing. Applies each of tests/loop/mutations/*.patch, which breaks one line of the
# loop each, to a copy of the sources, builds the one test file that its header names, and runs the one test that it
# names, which must fail:
#
#     Test: <file in tests/, or lib> <name of the test>
#
# A patch that does not apply any more, does not build, or is not noticed is a failure, and named at the end.
# Usage: tests/mutations.sh [beginning of a name]
set -uo pipefail
cd "$(dirname "$0")/.."
which=${1:-}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
# With their times, so that what is not changed is not built again.
git ls-files -z --cached --others --exclude-standard | xargs -0 cp -p --parents -t "$copy"
export CARGO_TARGET_DIR="$PWD/target/mutations-loop"
export HERD_TEST_SOON=1
failures=()
for patch in tests/loop/mutations/"$which"*.patch; do
    name=$(basename "$patch" .patch)
    read -r file test < <(sed -n 's/^Test: //p' "$patch")
    target=(--test "$file")
    if [ "$file" = lib ]; then target=(--lib); fi
    said="$copy/said"
    if ! patch -s -p1 -d "$copy" <"$patch" >"$said" 2>&1; then
        failures+=("$name: does not apply")
        cat "$said"
        find "$copy" -name '*.rej' -o -name '*.orig' | xargs -r rm
        git ls-files -z src | xargs -0 cp -p --parents -t "$copy"
        continue
    fi
    if ! cargo test -q --no-run --manifest-path "$copy/Cargo.toml" "${target[@]}" >"$said" 2>&1; then
        failures+=("$name: does not build")
        tail -20 "$said"
    elif cargo test --manifest-path "$copy/Cargo.toml" "${target[@]}" -- --exact "$test" >"$said" 2>&1 </dev/null; then
        failures+=("$name: $test passes all the same")
    elif ! grep -q "^test $test .*FAILED" "$said"; then
        failures+=("$name: $test did not run to its end")
        tail -20 "$said"
    else
        echo "$name: $test fails, as it must"
    fi
    patch -s -R -p1 -d "$copy" <"$patch"
    # Newer than what was built of it, so that it is built again.
    sed -n 's/^+++ b\///p' "$patch" | (cd "$copy" && xargs touch)
done
for failure in "${failures[@]}"; do echo "FAILED: $failure"; done
exit $((${#failures[@]} > 0))
