#!/usr/bin/env bash
# Counts the instructions that a request costs: `scripts/instructions.sh [--check] [--record] [--growth]`, see --help.
#
# `--check` compares with benches/compare/instructions.json. Whoever changes a count on
# purpose runs `--record`, which also tells the next reader of the history what it was.
#
# From a fresh clone on Debian, as root or with sudo, it first installs what is missing: a C compiler, openssl, valgrind,
# and nginx, which stands behind Keyward.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/install.sh

need gcc cc
need libc6-dev /usr/include/stdio.h
need python3 python3
need openssl openssl
need valgrind valgrind
need nginx-light nginx
install_needed

build_release
exec python3 benches/compare/instructions.py --keyward "$keyward" --load "$load" --nginx "$(command -v nginx)" "$@"
