# shellcheck shell=bash
# Sourced by scripts that measure: installs what they need, and builds what is measured as it is released.

fail() {
    echo "$0: $*" >&2
    exit 1
}

# Runs a command and shows what it said only if it failed.
quietly() {
    local said
    said=$("$@" 2>&1) || fail "failed: $*"$'\n'"$said"
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# need PACKAGE WHAT: notes a package whose command or file is not there.
missing=()
need() {
    [[ -e $2 ]] || command -v "$2" >/dev/null || missing+=("$1")
}

# Installs what is missing, without starting what it brings: nginx and HAProxy would take ports of this machine.
install_needed() (
    ((${#missing[@]} > 0)) || return 0
    command -v apt-get >/dev/null || fail "please install ${missing[*]}: there is no apt-get to do it with"
    [[ $EUID -eq 0 ]] || command -v sudo >/dev/null || fail "please install ${missing[*]}: it takes root or sudo"
    echo "installing ${missing[*]} (apt)"
    quietly as_root apt-get update
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
    fi
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${missing[@]}"
)

# Sets `keyward` and `load`, the programs.
build_release() {
    echo "building the load, and Keyward unless KEYWARD_BENCH_BINARY names one"
    cargo build --release --quiet --manifest-path benches/compare/load/Cargo.toml --target-dir target/load
    load=$PWD/target/load/release/keyward-load
    keyward=${KEYWARD_BENCH_BINARY:-$PWD/target/release/keyward}
    [[ -n ${KEYWARD_BENCH_BINARY:-} ]] || cargo build --release --quiet --bin keyward
}

# rustup puts cargo here, and not every shell has it on the path; nor has it the place of servers.
PATH=$PATH:${CARGO_HOME:-~/.cargo}/bin:/usr/sbin
command -v cargo >/dev/null || fail "cargo is missing. Get Rust from https://rustup.rs, then run this again."
