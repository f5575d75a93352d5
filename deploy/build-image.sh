#!/usr/bin/env bash
# Builds the static binary, its bill of materials, and the image: `deploy/build-image.sh [TAG]` (keyward:VERSION).
#
# It needs Rust with the target x86_64-unknown-linux-musl (or aarch64-unknown-linux-musl) and musl-gcc (Debian:
# musl-tools), and podman or docker for the image; CONTAINER_TOOL names another, `none` makes no image. The results are
# in target/image: keyward, keyward.cdx.json (CycloneDX), SHA256SUMS, and what the image is made of.
#
# The binary depends on the sources, Cargo.lock and the compilers, not on where or when it is built:
# `deploy/build-image.sh --check` builds a second time, elsewhere, and compares.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "deploy/build-image.sh: $*" >&2
    exit 1
}

PATH=$PATH:${CARGO_HOME:-~/.cargo}/bin
target=$(uname -m)-unknown-linux-musl
out=$PWD/target/image
# The year that SQLite, zstd and their like would print, if they printed one.
export SOURCE_DATE_EPOCH=0

# What differs between machines is the paths: of this tree, of the registry's sources and of the toolchain. Cargo does not
# pass the flags on to C, which has flags of its own.
build() { # SOURCE-DIRECTORY TARGET-DIRECTORY
    local home=${CARGO_HOME:-$HOME/.cargo}
    local maps=("$1=/keyward" "$2=/target" "$home=/cargo" "$(rustc --print sysroot)=/rust")
    local flags="" cflags=""
    for map in "${maps[@]}"; do
        flags+=" --remap-path-prefix=$map"
        cflags+=" -ffile-prefix-map=$map"
    done
    CARGO_TARGET_DIR=$2 CARGO_INCREMENTAL=0 RUSTFLAGS="$flags" CFLAGS="$cflags" \
        cargo build --quiet --locked --release --target "$target" --bin keyward --manifest-path "$1/Cargo.toml"
}

command -v cargo >/dev/null || fail "cargo is missing. Get Rust from https://rustup.rs"
command -v musl-gcc >/dev/null || fail "musl-gcc is missing (Debian: apt-get install musl-tools)"
rustc --print target-libdir --target "$target" 2>/dev/null | xargs test -d ||
    fail "Rust's standard library for $target is missing: rustup target add $target"

if [[ ${1:-} == --check ]]; then
    elsewhere=$(mktemp -d)
    trap 'rm -rf "$elsewhere"' EXIT
    mkdir "$elsewhere/source"
    git ls-files -z | grep -zv '^tests/' | xargs -0 cp --parents -t "$elsewhere/source"
    # Cargo wants to find the targets that the manifest names.
    mkdir -p "$elsewhere/source/tests/it"
    touch "$elsewhere/source/tests/it/main.rs"
    build "$PWD" "$PWD/target"
    build "$elsewhere/source" "$elsewhere/target"
    sha256sum "target/$target/release/keyward" "$elsewhere/target/$target/release/keyward"
    cmp "target/$target/release/keyward" "$elsewhere/target/$target/release/keyward" || fail "the builds differ"
    echo "the builds are the same"
    exit
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
tag=${1:-keyward:$version}

build "$PWD" "$PWD/target"
mkdir -p "$out"
cp "target/$target/release/keyward" deploy/Containerfile "$out"
cp /etc/ssl/certs/ca-certificates.crt "$out" 2>/dev/null ||
    fail "this machine has no /etc/ssl/certs/ca-certificates.crt (Debian: apt-get install ca-certificates)"
cargo metadata --locked --format-version 1 --filter-platform "$target" |
    python3 deploy/sbom.py >"$out/keyward.cdx.json"
(cd "$out" && sha256sum keyward keyward.cdx.json >SHA256SUMS)

tool=${CONTAINER_TOOL:-$(command -v podman || command -v docker || true)}
[[ -n $tool ]] || fail "neither podman nor docker is here; CONTAINER_TOOL=none leaves the image out"
if [[ $tool != none ]]; then
    # Files in an image carry times; these are the same in every build.
    find "$out" -type f -exec touch --date=@$SOURCE_DATE_EPOCH {} +
    stamp=()
    [[ $("$tool" build --help) != *--timestamp* ]] || stamp=(--timestamp "$SOURCE_DATE_EPOCH")
    "$tool" build --quiet "${stamp[@]}" --tag "$tag" --file "$out/Containerfile" "$out" >/dev/null
    echo "image $tag"
fi
echo "binary $(stat -c %s "$out/keyward") bytes, $(gzip -9 <"$out/keyward" | wc -c) compressed," \
    "sha256 $(cut -d' ' -f1 "$out/SHA256SUMS" | head -1)"
