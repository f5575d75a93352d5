#!/usr/bin/env bash
# Judges the TLS that Keyward ships by Mozilla's configuration "intermediate". `scripts/sslyze.sh` starts a proxy of its
# own; `scripts/sslyze.sh HOST:PORT [CA.pem]` looks at one that runs.
#
# Run by hand: sslyze needs another version of the package `cryptography` than what the tests install, so it has an
# environment of its own in target/sslyze (60 MB).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=target/sslyze
if [[ ! -x $venv/bin/sslyze ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet "sslyze==6.3.1"
fi

judge() {
    "$venv/bin/sslyze" --mozilla_config=intermediate ${2:+--certinfo_ca_file="$2"} "$1"
}

if [[ $# -gt 0 ]]; then
    judge "$@"
    exit
fi

dir=$(mktemp -d)
trap 'kill ${proxy:+"$proxy"} 2>/dev/null || true; rm -rf "$dir"' EXIT
# Mozilla has an opinion on certificates too: this one is as it recommends.
{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "/CN=Its own authority" \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$dir/ca.key" -out "$dir/ca.crt"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
        -keyout "$dir/tls.key" -out "$dir/tls.csr"
    printf '%s\n' subjectAltName=DNS:localhost basicConstraints=critical,CA:FALSE extendedKeyUsage=serverAuth \
        keyUsage=critical,digitalSignature subjectKeyIdentifier=hash authorityKeyIdentifier=keyid >"$dir/extensions"
    openssl x509 -req -in "$dir/tls.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days 90 \
        -extfile "$dir/extensions" -out "$dir/tls.crt"
} 2>"$dir/openssl.log" || { cat "$dir/openssl.log" >&2; exit 1; }
cat >"$dir/proxy.yaml" <<'YAML'
listen: {address: "127.0.0.1:0", tls: {cert: {file: tls.crt}, key: {file: tls.key}}}
usage: off
upstreams: {ai: {endpoints: ["http://127.0.0.1:9"]}}
routes: [{id: all, path: /**, public: true, request: {rules: []}, response: {rules: []}}]
YAML
cargo build --quiet --bin keyward
target/debug/keyward run --config "$dir/proxy.yaml" 2>"$dir/log" &
proxy=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*proxy=\[127\.0\.0\.1:\([0-9]*\)\].*/\1/p' "$dir/log")
    [[ -n $port ]] && break
    sleep 0.1
done
[[ -n $port ]] || { cat "$dir/log" >&2; exit 1; }
judge "localhost:$port" "$dir/ca.crt"
