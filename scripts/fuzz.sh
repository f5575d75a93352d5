#!/usr/bin/env bash
# Builds the fuzz targets and runs them, two at a time, each for so many seconds: `scripts/fuzz.sh [SECONDS] [TARGET]...`
# (60 seconds, and all of them). A line for each tells how often it ran, how much of the code it reached, and what it
# found. A finding is an input that panics, that takes more than a minute, or more than a gigabyte; the exit code is then
# 1, and the input is shown. To run it again:
# `KEYWARD_FUZZ=TARGET target/debug/keyward-fuzz FILE`.
#
# The same seed tries the same inputs again, from fuzz/corpus on: what one run finds, the next one finds too. KEYWARD_SEED
# sets another, to go elsewhere; what such runs learn is kept in target/fuzz, and the next of them begins with it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PATH=$PATH:${CARGO_HOME:-~/.cargo}/bin

fail() {
    echo "scripts/fuzz.sh: $*" >&2
    exit 1
}

seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] || fail "$seconds is no number of seconds"
shift $(( $# > 0 ))
targets=("$@")
((${#targets[@]} > 0)) || for corpus in fuzz/corpus/*/; do targets+=("$(basename "$corpus")"); done
for target in "${targets[@]}"; do
    [[ -d fuzz/corpus/$target ]] || fail "$target is no target: fuzz/corpus has them all"
done

# libFuzzer is written in C++.
if ! command -v c++ >/dev/null; then
    echo "installing g++ (apt)"
    as_root=()
    [[ $EUID -eq 0 ]] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq >/dev/null &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends g++ >/dev/null ||
        fail "please install a C++ compiler (g++)"
fi

# The tests' target directory: most of the dependencies are built there already.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
if ! said=$(cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml 2>&1 >/dev/null); then
    [[ $said != *--locked* ]] || said="fuzz/Cargo.lock is not in step with Cargo.toml; bring it there:
cp Cargo.lock fuzz/Cargo.lock && cargo metadata --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null"
    fail "$said"
fi
RUSTC_WRAPPER=$PWD/fuzz/instrument.sh cargo build --locked --manifest-path fuzz/Cargo.toml || fail "the targets do not build"
program=$CARGO_TARGET_DIR/debug/keyward-fuzz
work=$CARGO_TARGET_DIR/fuzz
mkdir -p "$work" || exit 1

run() {
    local target=$1 dir=$work/$1 found status line
    [[ -n ${KEYWARD_SEED:-} ]] || rm -rf "$dir/corpus"
    mkdir -p "$dir/corpus"
    rm -f "$dir"/finding-*
    KEYWARD_FUZZ=$target timeout --kill-after=10 $((seconds + 300)) "$program" \
        -seed="${KEYWARD_SEED:-1}" -max_total_time="$seconds" -max_len=4096 -timeout=60 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$dir/finding-" "$dir/corpus" "fuzz/corpus/$target" >"$dir/log" 2>&1 </dev/null
    status=$?
    local runs reached
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/log")
    reached=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$dir/log" | tail -n 1)
    # A slow unit within its minute is no finding.
    found=$(find "$dir" -name 'finding-*' ! -name '*slow-unit-*')
    line="fuzz $target: ${runs:-0} executions, ${reached:-0} edges reached,"
    # Without a count of what was reached, chance was blind.
    if ((status == 0)) && [[ -z $found && ${runs:-0} -gt 0 && ${reached:-0} -gt 100 ]]; then
        echo "$line no finding"
        return 0
    fi
    echo "$line $(wc -w <<<"$found") findings (exit code $status)"
    grep -aE -A 3 '^(thread .* panicked|==[0-9]+==ERROR|SUMMARY)' "$dir/log" | head -n 20
    for file in $found; do
        echo "$file"
        od -A x -t x1z "$file" | head -n 64
    done
    [[ -n $found ]] || tail -n 5 "$dir/log"
    return 1
}

failed=0 running=0
for target in "${targets[@]}"; do
    if ((running == 2)); then
        wait -n || failed=1
        running=1
    fi
    run "$target" &
    running=$((running + 1))
done
while ((running > 0)); do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed
