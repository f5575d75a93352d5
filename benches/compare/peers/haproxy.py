"""HAProxy: alone, with keys, limit and stamps, and with its buffers searched."""

from machine import free_port
from peers import Peer
from work import LIMIT_PER_SECOND, PATTERNS, TIGHT_REQUESTS

# What it holds of a body to search it. Larger ones would be searched in their first part only.
BUFFER = 32 << 10


def peers(work, binary):
    return [peer(work, binary, level) for level in ("plain", "auth", "scan")]


def peer(work, binary, level):
    ports = {protocol: free_port() for protocol in ("plain", "h2", "tls")}
    stream_port = free_port()
    home = f"haproxy-{level}"
    config = work.write(f"{home}/haproxy.cfg", configuration(work, home, ports, stream_port, level))
    done = {
        "plain": set(),
        "auth": {"auth", "limit"},
        "scan": {"auth", "limit", "scan request", "scan response"},
    }
    cannot = {}
    if level == "scan":
        cannot["post64"] = f"searches no more of a body than its buffer, here {BUFFER >> 10} KB"
        cannot["stream"] = "would hold a stream until its buffer is full"
    return Peer(
        name=f"HAProxy {level}", work=done[level], command=[binary, "-db", "-f", str(config)], ports=ports,
        log=str(work.directory / home / "out"), binary=binary, cannot=cannot, stream_port=stream_port,
    )


def configuration(work, home, ports, stream_port, level):
    guarded = level != "plain"
    routes = "".join(f"{path} {upstream}\n" for path, _, upstream in work.routes)
    routes = work.write(f"{home}/routes.map", routes)
    pem = work.write(f"{home}/cert.pem", work.cert.read_text() + work.cert_key.read_text())
    lines = [
        "global",
        "    nbthread 1",
        "    maxconn 8000",
        "    tune.ssl.default-dh-param 2048",
        f"    tune.bufsize {BUFFER}" if level == "scan" else "",
        "defaults",
        "    mode http",
        "    timeout connect 5s",
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout http-keep-alive 60s",
        "    http-reuse always",
        "    default-server pool-max-conn 4096",
    ]
    for name in ("main", "streams"):
        lines += [f"frontend {name}"]
        if name == "main":
            lines += [
                f"    bind 127.0.0.1:{ports['plain']} backlog 4096",
                f"    bind 127.0.0.1:{ports['h2']} proto h2",
                f"    bind 127.0.0.1:{ports['tls']} ssl crt {pem} alpn h2,http/1.1 ssl-min-ver TLSv1.3",
            ]
        else:
            # Without it events wait for up to 80 ms for each other; with it answers cost more.
            lines += [f"    bind 127.0.0.1:{stream_port}", "    option http-no-delay"]
        lines += [
            f"    http-request set-var(txn.upstream) path,map_str({routes})",
            "    http-request deny deny_status 404 unless { var(txn.upstream) -m found }",
        ]
        if guarded:
            lines += guard(work, home, name)
        if level == "scan" and name == "main":
            lines += scan()
        lines.append(f"    use_backend %[var(txn.upstream)]-{name}")
    if guarded:
        lines += ["backend tight", "    stick-table type string len 64 size 1k expire 1h store http_req_rate(1h)"]
    for name, port in work.upstreams.items():
        for frontend in ("main", "streams"):
            lines += [f"backend {name}-{frontend}", "    option http-no-delay" if frontend == "streams" else ""]
            lines.append(f"    server one 127.0.0.1:{port}")
    return "\n".join(line for line in lines if line) + "\n"


def guard(work, home, frontend):
    orgs = work.write(f"{home}/orgs.map", "".join(f"{key} {work.org(n)}\n" for n, key in enumerate(work.keys)))
    users = work.write(f"{home}/users.map", "".join(f"{key} {work.user(n)}\n" for n, key in enumerate(work.keys)))
    return [
        "    stick-table type string len 64 size 100k expire 1h store http_req_rate(1h)",
        f"    http-request set-var(txn.org) req.hdr(x-api-key),map_str({orgs})",
        "    http-request deny deny_status 401 unless { var(txn.org) -m found }",
        "    http-request track-sc0 req.hdr(x-api-key)",
        "    http-request track-sc1 req.hdr(x-api-key) table tight if { path /ai/limited }",
        f"    http-request deny deny_status 429 if {{ sc_http_req_rate(1) gt {TIGHT_REQUESTS} }}",
        f"    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {LIMIT_PER_SECOND * 1000} }}",
        "    http-request set-header x-org-code %[var(txn.org)]",
        f"    http-request set-header x-user-id %[req.hdr(x-api-key),map_str({users})]",
        "    http-request del-header x-api-key",
    ]


def scan():
    quoted = [pattern.replace("\\", "\\\\").replace(" ", "\\ ") for pattern in PATTERNS]
    return [
        "    http-request wait-for-body time 5s at-least 1g",
        *(f"    http-request deny deny_status 403 if {{ req.body -m reg -i (?s){pattern} }}" for pattern in quoted),
        "    http-response wait-for-body time 5s at-least 1g",
        *(f"    http-response deny deny_status 502 if {{ res.body -m reg -i (?s){pattern} }}" for pattern in quoted),
    ]
