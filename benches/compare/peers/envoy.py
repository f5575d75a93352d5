"""Envoy: alone, with keys, limit and stamps, and with a Lua filter that searches bodies."""

import json

from machine import free_port
from peers import Peer
from work import LIMIT_PER_SECOND, TIGHT_REQUESTS

V3 = "type.googleapis.com/envoy"
HTTP = f"{V3}.extensions.filters.http"

# Lua's own patterns have no alternatives and no case to ignore: the text is lowered, and each pattern searched for.
SCAN = """
local function harmful(text)
  text = string.lower(text)
  local at = string.find(text, "<script%f[^%w_].-</script>")
  return at or string.find(text, "javascript:", 1, true) or string.find(text, "on[%w_]+%s*=")
end

function envoy_on_request(handle)
  local body = handle:body()
  if body and harmful(body:getBytes(0, body:length())) then
    handle:respond({[":status"] = "403"}, "harmful")
  end
end

function envoy_on_response(handle)
  local kind = handle:headers():get("content-type") or ""
  if string.find(kind, "text/event-stream", 1, true) then
    for chunk in handle:bodyChunks() do
      if harmful(chunk:getBytes(0, chunk:length())) then
        chunk:setBytes("")
      end
    end
    return
  end
  local body = handle:body()
  if body and harmful(body:getBytes(0, body:length())) then
    handle:headers():replace(":status", "502")
    handle:headers():replace("content-length", "0")
    body:setBytes("")
  end
end
"""


def peers(work, binary):
    return [peer(work, binary, level) for level in ("plain", "auth", "Lua")]


def peer(work, binary, level):
    # It knows the protocol by the first bytes, so that clear HTTP/1.1 and HTTP/2 share a port.
    plain = free_port()
    ports = {"plain": plain, "h2": plain, "tls": free_port()}
    home = f"envoy-{level}"
    config = work.write(f"{home}/envoy.json", json.dumps(configuration(work, ports, level), indent=1))
    done = {
        "plain": set(),
        "auth": {"auth", "limit"},
        "Lua": {"auth", "limit", "scan request", "scan response"},
    }
    cannot = {"stream": "searches each piece alone, and misses what is spread over two"} if level == "Lua" else {}
    command = [
        binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--use-dynamic-base-id",
        "--log-level", "error",
    ]
    return Peer(
        name=f"Envoy {level}" if level != "Lua" else "Envoy + Lua", work=done[level], command=command, ports=ports,
        log=str(work.directory / home / "out"), binary=binary, cannot=cannot,
    )


def configuration(work, ports, level):
    tls = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{V3}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{
                    "certificate_chain": {"filename": str(work.cert)}, "private_key": {"filename": str(work.cert_key)},
                }],
                "alpn_protocols": ["h2", "http/1.1"],
            },
        },
    }
    listeners = []
    for name, port in (("plain", ports["plain"]), ("tls", ports["tls"])):
        chain = {"filters": [manager(work, level)]}
        if name == "tls":
            chain["transport_socket"] = tls
        listeners.append({"name": name, "address": address(port), "filter_chains": [chain]})
    clusters = [{
        "name": name, "connect_timeout": "5s", "type": "STATIC",
        "circuit_breakers": {"thresholds": [{"max_connections": 8192, "max_requests": 8192,
                                             "max_pending_requests": 8192}]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
    } for name, port in work.upstreams.items()]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def manager(work, level):
    guarded = level != "plain"
    routes = []
    for path, _, upstream in work.routes:
        # The path alone, whatever its query.
        route = {"match": {"path": path}, "route": {"cluster": upstream, "timeout": "60s"}}
        if path == "/ai/limited" and guarded:
            route["typed_per_filter_config"] = {"envoy.filters.http.local_ratelimit": limit("tight", TIGHT_REQUESTS, "3600s")}
        if guarded:
            # The filter for keys stamps one header; the second one is made of it.
            route["request_headers_to_add"] = [{
                "header": {"key": "x-user-id", "value": "%REQ(X-ORG-CODE)%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }]
        routes.append(route)
    filters = []
    if guarded:
        filters += [
            {
                "name": "envoy.filters.http.api_key_auth",
                "typed_config": {
                    "@type": f"{HTTP}.api_key_auth.v3.ApiKeyAuth",
                    "credentials": [{"key": key, "client": work.org(n)} for n, key in enumerate(work.keys)],
                    "key_sources": [{"header": "x-api-key"}],
                    "forwarding": {"header": "x-org-code", "hide_credentials": True},
                },
            },
            {
                "name": "envoy.filters.http.local_ratelimit",
                "typed_config": limit("keys", LIMIT_PER_SECOND * 1000, "1s"),
            },
        ]
    if level == "Lua":
        filters.append({
            "name": "envoy.filters.http.lua",
            "typed_config": {"@type": f"{HTTP}.lua.v3.Lua", "default_source_code": {"inline_string": SCAN}},
        })
    filters.append({"name": "envoy.filters.http.router", "typed_config": {"@type": f"{HTTP}.router.v3.Router"}})
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{V3}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            "http_filters": filters,
        },
    }


def limit(name, tokens, interval):
    """A bucket for each client, as the filter for keys named it, of which the first ten thousand are remembered."""
    bucket = {"max_tokens": min(tokens, 2**32 - 1), "tokens_per_fill": min(tokens, 2**32 - 1), "fill_interval": interval}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "@type": f"{HTTP}.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": name,
        "token_bucket": {**bucket, "max_tokens": 2**32 - 1, "tokens_per_fill": 2**32 - 1, "fill_interval": "1s"},
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limits": [{
            "actions": [{"request_headers": {"header_name": "x-org-code", "descriptor_key": "client"}}],
        }],
        "descriptors": [{"entries": [{"key": "client"}], "token_bucket": bucket}],
        "max_dynamic_descriptors": 10000,
    }
