#!/usr/bin/env bash
# Breaks the scanner on purpose, once for every entry of tests/mutants/list.txt, and demands that its tests notice:
# `scripts/mutants.sh [words]` tries all of them, or those whose names have one of the words in them.
#
# An entry is a line `## file: name`, lines of the file, a line `=>`, and what stands in place of them. The old lines must
# stand in the file exactly once, so that an entry that no longer applies fails loudly; what changes must be whole
# statements, or one line with one expression in it that changes, because both ways are built into one program, which
# does as KEYWARD_BROKEN says. The tree is copied to target/mutants with nothing in the library but the scanner; nothing of
# the working tree is touched.
#
# KEYWARD_CASES (here 500) is how many cases each property is tried with. What is told of a dead one is the test that
# noticed first.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PATH=$PATH:${CARGO_HOME:-~/.cargo}/bin
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} KEYWARD_CASES=${KEYWARD_CASES:-500}
# What is tried is no figure of what the scanner is tried with.
unset KEYWARD_FIGURES

tree=$PWD/target/mutants
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

new=$scratch/tree
mkdir "$new" && cp -r Cargo.lock src "$new" || exit 1
# The package without its other targets. Its dependencies stay as they are, because the tests have built them already.
awk '
    /^\[/ { section = $0 }
    section ~ /^\[\[(bin|test|bench)\]\]$/ { next }
    { print }
' Cargo.toml >"$new/Cargo.toml"
# The scanner names no other module. Of both ways of an entry there is much to warn about.
{
    echo '#![allow(warnings, clippy::all)]'
    grep '^pub mod scan;' src/lib.rs
} >"$new/src/lib.rs"
python3 scripts/mutants.py tests/mutants/list.txt "$new" >"$scratch/names" || exit 1
# What is the same need not be built again.
if ! diff -rq "$new" "$tree" >/dev/null 2>&1; then
    rm -rf "$tree" && mkdir -p target && mv "$new" "$tree" || exit 1
fi

program=$(
    (cd "$tree" && cargo test --lib --no-run --message-format=json 2>"$scratch/build") |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
)
if [[ -z $program ]]; then
    tail -n 40 "$scratch/build"
    echo "the tests do not build"
    exit 1
fi

# Runs the tests that have this in their names, up to the first that fails. One that has no end, or takes all memory,
# has noticed too: what it may take is counted in its own time, not in that of a machine that does other things.
passes() {
    local log=$1 filter=$2 pid
    : >"$log"
    timeout --kill-after=5 30m "$program" "${@:3}" "$filter" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        if grep -aq '\.\.\. FAILED$' "$log"; then
            kill "$pid" 2>/dev/null
            break
        fi
        sleep 0.1
    done
    wait "$pid"
}

# The tests that notice first: those of src/scan/stream/frames/messages.rs are looked for in scan::stream::frames::messages
# and in what is around it, then among the properties, then anywhere.
try() {
    local number=$1 name=$2 log=$scratch/$1 module filter noticed filters=()
    module=${name%%.rs: *}
    module=${module#src/}
    while [[ $module == */* ]]; do
        filters+=("${module//\//::}::tests::")
        module=${module%/*}
    done
    for filter in "${filters[@]}" scan::proof:: scan::; do
        if ! (ulimit -v 8000000 -t 200 && KEYWARD_BROKEN=$number passes "$log" "$filter" --test-threads=1); then
            noticed=$(grep -am 1 '\.\.\. FAILED$' "$log" | cut -d ' ' -f 2)
            echo "died: $name (${noticed:-no end, or no memory, in $(tail -n 1 "$log" | cut -d ' ' -f 2)})"
            return
        fi
    done
    echo "ALIVE: $name"
}

if ! passes "$scratch/whole" scan::; then
    tail -n 40 "$scratch/whole"
    echo "the scanner's tests fail even before anything is broken"
    exit 1
fi

at_once=$(nproc)
while IFS=$'\t' read -r number name; do
    wanted=
    for word in "$@"; do [[ $name == *"$word"* ]] && wanted=yes; done
    (($# == 0)) || [[ -n $wanted ]] || continue
    while (($(jobs -rp | wc -l) >= at_once)); do wait -n; done
    try "$number" "$name" >>"$scratch/verdicts" &
done <"$scratch/names"
wait

cat "$scratch/verdicts"
died=$(grep -c '^died: ' "$scratch/verdicts")
alive=$(grep -c '^ALIVE: ' "$scratch/verdicts")
echo "$died died, $alive did not"
((alive == 0 && died > 0))
