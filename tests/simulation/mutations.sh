#!/usr/bin/env bash
# A simulator that finds nothing in broken code is worth nothing. Applies each of mutations/*.patch to a
# copy of the sources, builds the simulator and runs schedules until one fails; says after how many.
# Usage: mutations.sh [schedules [beginning of a name]]
set -euo pipefail
cd "$(dirname "$0")/../.."
schedules=${1:-20000}
which=${2:-}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$copy"
export CARGO_TARGET_DIR="$PWD/target/mutations"
survivors=0
for patch in tests/simulation/mutations/"$which"*.patch; do
    name=$(basename "$patch" .patch)
    patch -s -p1 -d "$copy" <"$patch"
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo build -q --release --example simulate --manifest-path "$copy/Cargo.toml" 2>/dev/null
    said=$(timeout 120 "$CARGO_TARGET_DIR/release/examples/simulate" --schedules "$schedules" --as-it-is 2>/dev/null || true)
    caught=$(sed -n 's/^caught after \([0-9]*\) schedules: .*/\1/p' <<<"$said")
    if [ -z "$caught" ]; then
        survivors=$((survivors + 1))
        echo "$name: not caught in $schedules schedules"
    else
        echo "$name: caught after $caught"
    fi
    patch -s -R -p1 -d "$copy" <"$patch"
done
exit $((survivors > 0))
