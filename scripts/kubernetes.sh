#!/usr/bin/env bash
# Tests what deploy/ has for Kubernetes: `scripts/kubernetes.sh [test_manifests|test_image|test_pods]...`.
#
# It builds the image, renders every overlay, holds it against the schemas of Kubernetes, and runs the rendered Pods on
# podman with a small kubelet (tests/kubernetes), load and all. From a fresh clone on Debian 12, as root, it first
# installs what is missing: podman with runc, the C compiler and the standard library for a static binary, mmdebstrap
# for the image of a Python service, and the schemas. kubectl (or kustomize) is not in Debian 12 in a version that
# knows components; if there is none, the manifests and Pods cannot be tested, and it says so and fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "scripts/kubernetes.sh: $*" >&2
    exit 1
}

# Runs a command and shows what it said only if it failed.
quietly() {
    local said
    said=$("$@" 2>&1) || fail "failed: $*"$'\n'"$said"
}

PATH=$PATH:${CARGO_HOME:-~/.cargo}/bin
[[ $EUID -eq 0 ]] || fail "Pods and their networks take root"
command -v kubectl >/dev/null || command -v kustomize >/dev/null ||
    fail "please install kubectl: https://kubernetes.io/docs/tasks/tools/"

missing=()
need() { # COMMAND PACKAGE...
    command -v "$1" >/dev/null || missing+=("${@:2}")
}
need podman podman
need runc runc
need catatonit catatonit
need musl-gcc musl-tools
need mmdebstrap mmdebstrap
need ip iproute2
need nsenter util-linux
need readelf binutils
need openssl openssl
need python3 python3 python3-venv
[[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
if ((${#missing[@]})); then
    command -v apt-get >/dev/null || fail "please install ${missing[*]}: there is no apt-get to do it with"
    echo "installing ${missing[*]} (apt)"
    quietly apt-get update
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
fi

target=$(uname -m)-unknown-linux-musl
if ! [[ -d $(rustc --print target-libdir --target "$target") ]]; then
    echo "installing the standard library of $target (rustup)"
    quietly rustup target add "$target"
fi

work=$PWD/target/kubernetes
stamp=$(echo "$work"; cat tests/kubernetes/requirements.txt)
if [[ $stamp != "$(cat "$work/venv/stamp" 2>/dev/null)" ]]; then
    echo "installing the Python packages of tests/kubernetes/requirements.txt"
    quietly python3 -m venv --clear "$work/venv"
    quietly "$work/venv/bin/python" -m pip install -q --disable-pip-version-check -r tests/kubernetes/requirements.txt
    echo "$stamp" >"$work/venv/stamp"
fi

echo "building the static binary"
CONTAINER_TOOL=none deploy/build-image.sh
exec env PYTHONDONTWRITEBYTECODE=1 "$work/venv/bin/python" tests/kubernetes/run.py "$@"
