"""Real requests that show what each peer does, before anything is measured."""

import http.client
import json
import time

from machine import Failure
from work import HARMFUL, TIGHT_REQUESTS

PATIENCE = 10


def wait_until_ready(peer, work, patience=30):
    """Seconds from now until the first answer."""
    begun = time.monotonic()
    protocol = "plain" if peer.port("plain") else "tls"
    while time.monotonic() - begun < patience:
        peer.process.check_alive()
        try:
            status, _ = ask(peer, "GET", "/ai/history", work.spare_key, protocol=protocol)
        except (OSError, http.client.HTTPException):
            time.sleep(0.001)
            continue
        if status == 200:
            return time.monotonic() - begun
        raise Failure(f"{peer.name} answers {status} to a good request")
    raise Failure(f"{peer.name} does not answer")


def ask(peer, method, path, key=None, body=None, headers=None, protocol="plain"):
    """Status and body. A body that breaks off is what came of it."""
    headers = dict(headers or {})
    if key:
        headers["X-Api-Key"] = key
    if body is not None:
        headers["Content-Type"] = "application/json"
    port = peer.stream_port if "stream" in path and peer.stream_port else peer.port(protocol)
    if protocol == "tls":
        import ssl

        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        try:
            return response.status, response.read()
        except http.client.IncompleteRead as broken:
            return response.status, broken.partial
        except (http.client.HTTPException, OSError):
            return response.status, b""
    finally:
        connection.close()


def check(peer, work):
    """What the peer was seen to do; fails where it does not do what it is configured for."""
    protocol = "plain" if peer.port("plain") else "tls"
    seen = {}

    def tell(what, did):
        seen[what] = did
        if did != (what in peer.work):
            verb = "does not do" if what in peer.work else "was not told to, and does"
            raise Failure(f"{peer.name} {verb}: {what}")

    def status(method, path, key, body=None):
        return ask(peer, method, path, key, body, protocol=protocol)[0]

    chat = work.bodies["chat"].read_text()
    for what, got in (
        ("a GET", status("GET", "/ai/history", work.spare_key)),
        ("a POST", status("POST", "/ai/chat", work.spare_key, chat)),
        ("a POST of 64 KiB", status("POST", "/ai/large", work.spare_key, work.bodies["large"].read_text())),
    ):
        if got != 200 and not (what == "a POST of 64 KiB" and "post64" in peer.cannot):
            raise Failure(f"{peer.name} answers {got} to {what}")
    if status("GET", "/ai/unknown", work.spare_key) != 404:
        raise Failure(f"{peer.name} knows a route that there is not")

    refused = [status("GET", "/ai/history", key) for key in (None, "bench-of-nobody-at-all")]
    if refused not in ([401, 401], [200, 200]):
        raise Failure(f"{peer.name} answers {refused} without a good key")
    forged = {"X-Org-Code": "forged", "X-User-Id": "forged"}
    _, echoed = ask(peer, "GET", "/ai/echo", work.spare_key, headers=forged, protocol=protocol)
    echoed = json.loads(echoed)
    number = work.keys.index(work.spare_key)
    stamped = echoed["org"] == work.org(number) and echoed["user"] in (work.user(number), work.org(number))
    tell("auth", refused == [401, 401] and stamped and not echoed["key"])

    answers = [status("POST", "/ai/limited", work.spare_key, chat) for _ in range(TIGHT_REQUESTS + 3)]
    if answers[:TIGHT_REQUESTS] != [200] * TIGHT_REQUESTS:
        raise Failure(f"{peer.name} limits too soon: {answers}")
    tell("limit", answers[-1] == 429)

    harmful = work.bodies["harmful"].read_text()
    tell("scan request", status("POST", "/ai/chat", work.spare_key, harmful) in (400, 403))
    status_of_answer, body = ask(peer, "POST", "/ai/harmful", work.spare_key, chat, protocol=protocol)
    tell("scan response", status_of_answer != 200 and HARMFUL.encode() not in body)
    short = work.bodies["stream"].read_text()
    _, events = ask(peer, "POST", "/ai/harmful-stream", work.spare_key, short, protocol=protocol)
    # Spread over events, a character each.
    text = "".join(
        json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
        for line in events.decode(errors="replace").splitlines()
        if line.startswith('data: {"id"')
    )
    tell("scan stream", HARMFUL not in text)
    return seen
