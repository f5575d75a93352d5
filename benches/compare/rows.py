"""What is measured: the rows, and which peers are in them."""

from peers.keyward import ALL, ALL_SEED, STAGES, TITLES

BASE = "nginx plain"
PLAIN = [BASE, "HAProxy plain", "Envoy plain", TITLES["proxy"]]
GUARDED = ["nginx auth", "HAProxy auth", "Envoy auth"]
SCANNING = ["nginx + ModSecurity", "HAProxy scan", "Envoy + Lua", ALL_SEED, ALL]
HEADER_STAGES = [TITLES[stage] for stage in STAGES[1:4]]
BODY_STAGES = [TITLES[stage] for stage in STAGES[4:6]]

# name: (title, what one unit is, peers, how the load is made)
ROWS = {
    "get": (
        "GET", "request", [*PLAIN, *GUARDED, "nginx + ModSecurity", *HEADER_STAGES, ALL],
        lambda load, peer: load.closed(peer, "/ai/history"),
    ),
    "post": (
        "POST 2 KB", "request", [*PLAIN, *GUARDED, *HEADER_STAGES, *BODY_STAGES, *SCANNING],
        lambda load, peer: load.closed(peer, "/ai/chat", "chat"),
    ),
    "post64": (
        "POST 64 KB", "request", [*PLAIN, *SCANNING],
        lambda load, peer: load.closed(peer, "/ai/large", "large"),
    ),
    "stream": (
        "SSE", "event", [*PLAIN, *SCANNING],
        lambda load, peer: load.streams(peer),
    ),
    "h2": (
        "GET, HTTP/2", "request", [*PLAIN, *GUARDED, ALL],
        lambda load, peer: load.http2(peer, "/ai/history"),
    ),
    "tls": (
        "GET, TLS 1.3", "request", [*PLAIN, *GUARDED, ALL],
        lambda load, peer: load.closed(peer, "/ai/history", protocol="tls"),
    ),
}

# Beside the rows, each with its own kind of figures.
OTHERS = ["latency", "memory", "start", "workers"]

# Who is in those: what costs least and what does most, of each.
COMPARED = [BASE, "nginx + ModSecurity", "HAProxy plain", "HAProxy scan", "Envoy plain", "Envoy + Lua", ALL]

LATENCY_RATE = 1000
