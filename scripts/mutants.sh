#!/usr/bin/env bash
# Breaks the scanner on purpose, once for every entry of tests/mutants/list.txt, and demands that its tests notice:
# `scripts/mutants.sh [words]` tries all of them, or those whose names have one of the words in them.
#
# An entry is a line `## file: name`, the lines of it that are replaced, a line `=>`, and the lines that replace them.
# The old lines must stand in the file exactly once, so that an entry that no longer applies fails loudly. The tree is
# copied to target/mutants with nothing in the library but the scanner and what it depends on, so that its tests are
# built in seconds; nothing of the working tree is touched. KEYWARD_CASES (here 1000) is how many cases each property is tried with.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PATH=$PATH:${CARGO_HOME:-~/.cargo}/bin
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} KEYWARD_CASES=${KEYWARD_CASES:-1000}

tree=$PWD/target/mutants
dependencies="memchr encoding_rs regex-automata regex-syntax unicode-normalization flate2 brotli-decompressor zstd-safe"
dependencies+=" crc32fast bytes serde_json proptest regex brotli"
list=$PWD/tests/mutants/list.txt
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

copy() {
    rm -rf "$tree" && mkdir -p "$tree" && cp -r Cargo.lock src "$tree" || exit 1
    # The package without its other targets, and of its dependencies those that the scanner names.
    awk -v names="$dependencies" '
        /^\[/ { section = $0 }
        section ~ /^\[\[(bin|test|bench)\]\]$/ { next }
        section ~ /dependencies\]$/ && /^[a-z]/ && !index(" " names " ", " " $1 " ") { next }
        { print }
    ' Cargo.toml >"$tree/Cargo.toml"
    # Which names no other module.
    grep '^pub mod scan;' src/lib.rs >"$tree/src/lib.rs"
}

within() {
    (cd "$tree" && timeout --kill-after=10 900 cargo test --lib "$@") >"$log" 2>&1 </dev/null
}

# Fails as the tests do; no mutant may survive for want of a build. Most die of the tests beside them, which are quick.
attempt() {
    within --no-run || return 2
    within "$1" && within scan::
}

# The tests beside src/scan/view/origin.rs are those of scan::view.
beside() {
    local module=${1#src/scan/}
    echo "scan::$(sed 's/[./].*//' <<<"$module")::"
}

apply() {
    python3 - "$list" "$1" "$tree" <<'EOF'
import pathlib, sys

path, wanted, tree = sys.argv[1:]
for entry in pathlib.Path(path).read_text().split("\n## ")[1:]:
    head, body = entry.split("\n", 1)
    if head != wanted:
        continue
    file = pathlib.Path(tree, head.split(": ", 1)[0])
    old, new = body.split("\n=>\n")
    new = new.rstrip("\n")
    text = file.read_text()
    if text.count(old) != 1:
        sys.exit(f"{head}: the lines to replace stand {text.count(old)} times in {file.name}. Bring the list up to date.")
    file.write_text(text.replace(old, new))
EOF
}

copy
if ! attempt scan::proof::; then
    tail -n 40 "$log"
    echo "the scanner's tests fail even before anything is broken"
    exit 1
fi

died=0 failed=()
while IFS= read -r name; do
    if (($# > 0)); then
        wanted=
        for word in "$@"; do [[ $name == *"$word"* ]] && wanted=yes; done
        [[ -n $wanted ]] || continue
    fi
    file=$tree/${name%%: *}
    cp "$file" "$file.whole"
    if ! apply "$name"; then
        failed+=("$name (does not apply)")
    else
        attempt "$(beside "${name%%: *}")"
        status=$?
        if ((status == 0)); then
            failed+=("$name (survived)")
        elif ((status == 2)); then
            failed+=("$name (does not build)")
            tail -n 20 "$log"
        else
            died=$((died + 1))
            # A test that ran out of time has noticed too.
            echo "died: $name ($(grep -c '\.\.\. FAILED$' "$log") tests)"
        fi
    fi
    mv "$file.whole" "$file"
done < <(sed -n 's/^## //p' "$list")

((${#failed[@]} == 0)) || printf 'ALIVE: %s\n' "${failed[@]}"
echo "$died died, ${#failed[@]} did not"
((${#failed[@]} == 0 && died > 0))
