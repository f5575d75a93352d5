"""nginx: alone, with keys, limit and stamps, and with ModSecurity."""

from machine import free_port
from peers import Peer
from work import LIMIT_PER_SECOND, PATTERNS, TIGHT_REQUESTS

MODSECURITY = "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so"


def peers(work, binary):
    return [peer(work, binary, level) for level in ("plain", "auth", "ModSecurity")]


def peer(work, binary, level):
    ports = {protocol: free_port() for protocol in ("plain", "h2", "tls")}
    home = work.directory / f"nginx-{level}"
    config = work.write(f"nginx-{level}/nginx.conf", configuration(work, home, ports, level))
    done = {
        "plain": set(),
        "auth": {"auth", "limit"},
        "ModSecurity": {"auth", "limit", "scan request"},
    }
    cannot = {}
    if level == "ModSecurity":
        cannot["response"] = "the head and what came before have left when a rule says no"
        cannot["stream"] = "an event has left when a rule says no"
    return Peer(
        name=f"nginx {level}" if level != "ModSecurity" else "nginx + ModSecurity",
        work=done[level], command=[binary, "-c", str(config), "-e", "stderr"], ports=ports,
        log=str(home / "out"), binary=binary, cannot=cannot,
    )


def configuration(work, home, ports, level):
    guarded = level != "plain"
    lines = [
        f"daemon off; pid {home}/pid; error_log {home}/error.log crit; worker_processes 1;",
        "worker_rlimit_nofile 20000;",
        f"load_module {MODSECURITY};" if level == "ModSecurity" else "",
        "events { worker_connections 8192; }",
        "http {",
        "access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; default_type application/json;",
        # Bodies of 64 KiB stay in memory, both ways.
        "client_max_body_size 10m; client_body_buffer_size 128k; proxy_buffers 16 8k;",
        *(f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")),
    ]
    for name, port in work.upstreams.items():
        lines.append(f"upstream {name} {{ server 127.0.0.1:{port}; keepalive 1024; keepalive_requests 1000000000; }}")
    if guarded:
        lines += [
            "map_hash_max_size 8192; map_hash_bucket_size 128;",
            'map $http_x_api_key $org { default "";',
            *(f"{key} {work.org(n)};" for n, key in enumerate(work.keys)),
            "}",
            'map $http_x_api_key $user { default "";',
            *(f"{key} {work.user(n)};" for n, key in enumerate(work.keys)),
            "}",
            f"limit_req_zone $http_x_api_key zone=keys:10m rate={LIMIT_PER_SECOND}r/s;",
            "limit_req_zone $http_x_api_key zone=tight:1m rate=1r/m;",
            "limit_req_status 429;",
        ]
    if level == "ModSecurity":
        lines.append(f"modsecurity on; modsecurity_rules_file {work.write('nginx-ModSecurity/rules', rules())};")
    lines += [
        "server {",
        f"listen 127.0.0.1:{ports['plain']} backlog=4096; listen 127.0.0.1:{ports['h2']} http2;",
        f"listen 127.0.0.1:{ports['tls']} ssl http2;",
        f"ssl_certificate {work.cert}; ssl_certificate_key {work.cert_key}; ssl_protocols TLSv1.3;",
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;',
    ]
    if guarded:
        lines += [
            'if ($org = "") { return 401; }',
            "proxy_set_header X-Org-Code $org; proxy_set_header X-User-Id $user; proxy_set_header X-Api-Key \"\";",
            f"limit_req zone=keys burst={LIMIT_PER_SECOND} nodelay;",
        ]
    for path, _, upstream in work.routes:
        extra = "proxy_buffering off;" if "stream" in path else ""
        if path == "/ai/limited" and guarded:
            extra = f"limit_req zone=tight burst={TIGHT_REQUESTS - 1} nodelay;"
        lines.append(f"location = {path} {{ {extra} proxy_pass http://{upstream}; }}")
    lines += ["location / { return 404; }", "} }"]
    return "\n".join(line for line in lines if line) + "\n"


def rules():
    lines = [
        "SecRuleEngine On",
        "SecAuditEngine Off",
        "SecRequestBodyAccess On",
        "SecRequestBodyLimit 10485760",
        "SecRequestBodyNoFilesLimit 10485760",
        "SecResponseBodyAccess On",
        "SecResponseBodyLimit 10485760",
        "SecResponseBodyMimeType application/json text/event-stream text/plain",
    ]
    for phase, variable in ((2, "REQUEST_BODY"), (4, "RESPONSE_BODY")):
        for n, pattern in enumerate(PATTERNS):
            lines.append(f'SecRule {variable} "@rx (?is){pattern}" "id:{phase}0{n},phase:{phase},deny,status:403,t:none"')
    return "\n".join(lines) + "\n"
