#!/usr/bin/env bash
# A simulator that finds nothing in broken code is worth nothing. Applies each of mutations/*.patch to a
# copy of the sources, builds the simulator and runs schedules until one fails; says after how many. A
# patch that no schedule catches fails, and so does one that no longer applies or does not build.
# Usage: mutations.sh [schedules [beginning of a name [simulation or engine_core]]]
set -euo pipefail
cd "$(dirname "$0")/../.."
schedules=${1:-20000}
which=${2:-}
of=${3:-simulation}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$copy"
rm "$copy/build.rs" # The core needs nothing of it.
# The core and what it stands on are all that the simulator needs, and are built in a tenth of the time.
printf 'pub mod addresses;\npub mod application;\npub mod clock;\npub mod herd;\npub mod limits;\npub mod nats;\npub mod protocol;\n' >"$copy/src/lib.rs"
{
    sed -n '/^\[package\]/,/^\[dependencies\]/p' Cargo.toml
    grep -E '^(data-encoding|getrandom|hashbrown|jiff|memchr|pico-args|ring|serde|serde_json|siphasher|slab) = ' Cargo.toml
    printf '[[example]]\nname = "simulate"\npath = "tests/%s/simulate.rs"\n' "$of"
    printf '[profile.release]\ncodegen-units = 16\n'
} >"$copy/Cargo.toml"
# Each patch changes one file, so most of what was compiled for the last one is used again.
export CARGO_INCREMENTAL=1
export CARGO_TARGET_DIR="$PWD/target/mutations-core"
failures=0
fail() {
    failures=$((failures + 1))
    echo "$1"
}
for patch in tests/"$of"/mutations/"$which"*.patch; do
    name=$(basename "$patch" .patch)
    if ! patch -s -F0 --dry-run -p1 -d "$copy" <"$patch" >/dev/null; then
        fail "$name: does not apply"
        continue
    fi
    patch -s -F0 -p1 -d "$copy" <"$patch"
    if cargo build -q --release --example simulate --manifest-path "$copy/Cargo.toml" 2>"$copy/said"; then
        said=$(timeout 120 "$CARGO_TARGET_DIR/release/examples/simulate" --schedules "$schedules" --as-it-is 2>/dev/null || true)
        caught=$(sed -n 's/^caught after \([0-9]*\) schedules: \(.*\)/\1: \2/p' <<<"$said")
        if [ -z "$caught" ]; then
            fail "$name: not caught in $schedules schedules"
        else
            echo "$name: caught after ${caught:0:120}"
        fi
    else
        fail "$name: does not build: $(grep -m 1 '^error' "$copy/said")"
    fi
    sed -n 's|^+++ b/||p' "$patch" | xargs cp --parents -t "$copy"
done
exit $((failures > 0))
