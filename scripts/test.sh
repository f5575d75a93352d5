#!/usr/bin/env bash
# Runs every test: `scripts/test.sh [arguments of cargo test]`.
#
# From a fresh clone on Debian, as root or with sudo, it first installs what is missing: a C compiler (SQLite is built
# from source), curl, openssl, PostgreSQL (the tests start servers of their own and never use the one of the package),
# Python with venv (the examples run under real gunicorn and uvicorn), and Node with npm (the official SDKs, and the
# vectors of the source document's rules). It says so in a line each; the next run finds everything in place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "scripts/test.sh: $*" >&2
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

apt_install() {
    command -v apt-get >/dev/null || fail "please install $*: there is no apt-get to do it with"
    [[ $EUID -eq 0 ]] || command -v sudo >/dev/null || fail "please install $*: it takes root or sudo"
    echo "installing $* (apt)"
    [[ -n ${apt_updated:-} ]] || quietly as_root apt-get update
    apt_updated=yes
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# A Python that the pinned packages support and that can make a virtual environment with pip in it.
usable_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# rustup puts cargo here, and not every shell has it on the path.
PATH=$PATH:${CARGO_HOME:-~/.cargo}/bin
command -v cargo >/dev/null || fail "cargo is missing. Get Rust from https://rustup.rs, then run this again."

command -v cc >/dev/null || apt_install gcc libc6-dev
command -v curl >/dev/null || apt_install curl
command -v openssl >/dev/null || apt_install openssl
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || apt_install postgresql

python=python3
usable_python "$python" || python=/usr/bin/python3
usable_python "$python" || apt_install python3 python3-venv
usable_python "$python" || fail "Python 3.11 or newer with venv is needed, and $python is not that"

# The stamp is written last, so an interrupted installation is begun again. It holds the place too, because a virtual
# environment cannot be moved.
venv=$PWD/.venv
stamp=$(echo "$venv"; sha256sum tests/requirements.txt tests/constraints.txt examples/*/requirements.txt)
if ! "$venv/bin/python" -c '' 2>/dev/null || [[ $stamp != "$(cat "$venv/stamp" 2>/dev/null)" ]]; then
    echo "installing the Python packages of tests/requirements.txt (.venv)"
    quietly "$python" -m venv --clear "$venv"
    quietly "$venv/bin/python" -m pip install -q --disable-pip-version-check -r tests/requirements.txt
    echo "$stamp" >"$venv/stamp"
fi

# Node 18 or newer and npm, for the official SDKs of tests/package.json.
usable_node() {
    command -v node >/dev/null && command -v npm >/dev/null &&
        node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'
}
usable_node || apt_install nodejs npm
usable_node || fail "Node 18 or newer with npm is needed"
packages=$PWD/.node
stamp=$(sha256sum tests/package.json tests/package-lock.json)
if [[ $stamp != "$(cat "$packages/stamp" 2>/dev/null)" ]]; then
    echo "installing the npm packages of tests/package.json (.node)"
    rm -rf "$packages"
    mkdir "$packages"
    cp tests/package.json tests/package-lock.json "$packages"
    quietly npm ci --prefix "$packages" --ignore-scripts --no-audit --no-fund --omit=optional
    echo "$stamp" >"$packages/stamp"
fi

export KEYWARD_TEST_NODE=$packages
export KEYWARD_TEST_PYTHON=$venv/bin/python
exec cargo test "$@"
