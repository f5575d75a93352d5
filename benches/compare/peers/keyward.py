"""Keyward, one stage more at a time."""

import json
import os

from machine import free_port, run
from peers import Peer
from work import LIMIT_PER_SECOND, SCOPE, TIGHT_REQUESTS

# In the order of the request; each stage keeps those before it.
STAGES = ["proxy", "key", "scope", "limit", "request scan", "response scan", "usage record"]

TITLES = {
    "proxy": "Keyward, proxy alone",
    "key": "+ key verified, identity stamped",
    "scope": "+ scope",
    "limit": "+ limit",
    "request scan": "+ request scanned (`html`)",
    "response scan": "+ response scanned (`html`)",
    "usage record": "Keyward, all stages (`html`)",
}

ALL = TITLES["usage record"]
ALL_SEED = "Keyward, all stages (`seed`)"


def store(work, binary):
    """A store with all keys, for every Keyward of a run."""
    listed = work.write("keyward/keys.csv", work.key_list())
    made = json.dumps(configuration(work, "usage record", work.store, {"plain": 0}, "html"))
    run([binary, "keys", "import", "--config", work.write("keyward/make.yaml", made), listed])


def peers(work, binary):
    store(work, binary)
    all_of_them = [peer(work, binary, work.store, stage, TITLES[stage], "html") for stage in STAGES]
    all_of_them.append(peer(work, binary, work.store, "usage record", ALL_SEED, "seed"))
    # TLS is for all of a process's listeners, so it needs processes of its own.
    for twin, stage in ((TITLES["proxy"], "proxy"), (ALL, "usage record")):
        all_of_them.append(peer(work, binary, work.store, stage, twin, "html", tls=True))
    return all_of_them


def peer(work, binary, store, stage, name, preset, tls=False, workers=None):
    port = free_port()
    ports = {"tls": port} if tls else {"plain": port, "h2": port}
    home = work.directory / f"keyward-{port}"
    config = work.write(f"{home.name}/proxy.yaml", json.dumps(configuration(work, stage, store, ports, preset), indent=1))
    at = STAGES.index(stage)
    done = set()
    for needed, what in (("key", "auth"), ("limit", "limit"), ("request scan", "scan request")):
        if at >= STAGES.index(needed):
            done.add(what)
    if at >= STAGES.index("response scan"):
        done |= {"scan response", "scan stream"}
    command = [binary, "run", "--config", str(config)]
    if workers:
        command += ["--workers", str(workers)]
    return Peer(
        name=name, work=done, command=command, ports=ports, log=str(home / "out"), binary=binary,
        grows=str(home / "usage.jsonl") if stage == "usage record" else "",
    )


def knows_workers(binary):
    return "--workers" in run([binary, "run", "--help"])


def configuration(work, stage, store, ports, preset):
    at = STAGES.index(stage)

    def on(name):
        return at >= STAGES.index(name)

    listen = {"address": f"127.0.0.1:{next(iter(ports.values()))}"}
    if "tls" in ports:
        listen["tls"] = {"cert": {"file": str(work.cert)}, "key": {"file": str(work.cert_key)}}
    routes = []
    for path, method, upstream in work.routes:
        route = {"id": path.strip("/").replace("/", "."), "path": path, "methods": [method], "upstream": upstream}
        if not on("key"):
            route["public"] = True
        elif on("scope"):
            route["scopes"] = [SCOPE]
        if path == "/ai/limited" and on("limit"):
            route["limits"] = ["tight"]
        routes.append(route)
    return {
        "listen": listen,
        "usage": {"file": "usage.jsonl"} if on("usage record") else "off",
        "upstreams": {
            # Longer than the default, because these services keep connections for longer than gunicorn does.
            name: {"endpoints": [f"http://127.0.0.1:{port}"], "keepalive": "30s"}
            for name, port in work.upstreams.items()
        },
        "keys": {"credentials": ["x-api-key"], "store": {"url": f"sqlite://{os.path.abspath(store)}"}},
        "limits": {
            "keys": {"requests": LIMIT_PER_SECOND, "per": "1s", "by": "key"},
            "tight": {"requests": TIGHT_REQUESTS, "per": "1h", "by": "key"},
        },
        "defaults": {
            "limits": ["keys"] if on("limit") else [],
            "request": {"rules": [preset] if on("request scan") else []},
            "response": {"rules": [preset] if on("response scan") else []},
        },
        "routes": routes,
    }
