"""Checks that a request came through Keyward, unchanged and not twice: one file to copy beside a WSGI or ASGI app.

    from keyward_identity import KeywardWSGI, Verifier
    app.wsgi_app = KeywardWSGI(app.wsgi_app, Verifier("jwks.json", audience="ai"))    # Flask; ASGI: KeywardASGI

Whatever lacks a valid assertion gets 401. What passes has X-Org-Code and the like from the assertion itself, and its
claims in environ["keyward"] or scope["keyward"]. Needs PyJWT and cryptography.
"""

import base64
import hashlib
import hmac
import io
import json
import os
import threading
import time
import urllib.request
from urllib.parse import unquote_to_bytes

import jwt

CLAIMS = ["iss", "aud", "iat", "exp", "jti", "key_id", "scopes", "route", "method", "path", "request_id"]
IDENTITY = {"x-org-code": "org_code", "x-user-id": "user_id", "x-key-id": "key_id", "x-key-scopes": "scopes"}


class Refused(Exception):
    """The request is not what Keyward sent. The text is for the log, not for the client."""


class Verifier:
    """Knows the keys, and every assertion of the last minutes.

    jwks: Keyward's /jwks.json, as a file that is read again when it changes, or as a URL with the admin token.
    secrets: {key_id: secret} for HS256. audience: the upstream's name in proxy.yaml, unless it says another.
    allow_streamed: accept a body whose digest was not known when it was sent on (a route without inspection).
    """

    def __init__(self, jwks=None, *, audience, secrets=None, token=None, issuer="keyward", header="X-Key-Assertion",
                 allow_streamed=False, max_body=10 << 20, leeway=5, max_seen=100_000, refresh=60):
        self.jwks, self.token, self.refresh = jwks, token, refresh
        self.audience, self.issuer, self.leeway = audience, issuer, leeway
        self.header, self.max_body, self.allow_streamed = header.lower(), max_body, allow_streamed
        self.shared = {kid: ("HS256", secret) for kid, secret in (secrets or {}).items()}
        self.keys, self.version, self.asked = {}, None, float("-inf")
        # Of this process: with several workers, each one would accept the same assertion once.
        self.seen, self.max_seen, self.lock = {}, max_seen, threading.Lock()

    def key(self, kid):
        """The key of this name with the only algorithm that it is for: a token cannot choose another."""
        if self.jwks:
            try:
                self.renew(kid not in self.keys and kid not in self.shared)
            except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError):
                pass  # Away or half written: the keys that are known stay.
        found = self.shared.get(kid) or self.keys.get(kid)
        if not found:
            raise Refused("unknown key")
        return found

    def renew(self, unknown):
        """Reads a file when it has changed; asks a URL now and then, and sooner, but not for every junk, for a new key."""
        if not self.jwks.startswith(("http://", "https://")):
            version = os.stat(self.jwks).st_mtime_ns
            if version != self.version:
                self.load(False)
                self.version = version
            return
        now = time.monotonic()
        if now - self.asked >= (min(5, self.refresh) if unknown else self.refresh):
            self.asked = now
            self.load(True)

    def load(self, is_url):
        if is_url:
            request = urllib.request.Request(self.jwks, headers={"Authorization": f"Bearer {self.token}"})
            with urllib.request.urlopen(request, timeout=2) as answer:
                text = answer.read(1 << 20)
        else:
            with open(self.jwks, "rb") as file:
                text = file.read(1 << 20)
        usable = [key for key in json.loads(text)["keys"] if key["kty"] == "OKP" and key["crv"] == "Ed25519"]
        self.keys = {key["kid"]: ("EdDSA", jwt.PyJWK(key, algorithm="EdDSA").key) for key in usable}

    def claims(self, tokens, method, path, query):
        """The claims of the only token there is, if they are about this method, path and query."""
        if len(tokens) != 1:
            raise Refused("no assertion, or several")
        try:
            kid = jwt.get_unverified_header(tokens[0]).get("kid")
            algorithm, key = self.key(kid)
            claims = jwt.decode(tokens[0], key, algorithms=[algorithm], audience=self.audience, issuer=self.issuer,
                                leeway=self.leeway, options={"require": CLAIMS})
        except jwt.PyJWTError as error:
            raise Refused(str(error)) from error
        said_path, _, said_query = claims["path"].partition("?")
        if (claims["method"], said_path, said_query) != (method, path, query):
            raise Refused("the assertion is about another request")
        return claims

    def check_body(self, claims, body):
        said = claims.get("body_sha256")
        if said is None:
            if not self.allow_streamed:
                raise Refused("the assertion does not name the body")
            return
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        if not hmac.compare_digest(said, digest):
            raise Refused("the body is another one")

    def once(self, claims):
        """Remembers an assertion until it has expired. A full memory refuses: it must not forget early."""
        now = time.time()
        with self.lock:
            if len(self.seen) >= self.max_seen:
                self.seen = {jti: until for jti, until in self.seen.items() if until > now}
            if claims["jti"] in self.seen or len(self.seen) >= self.max_seen:
                raise Refused("a replay")
            self.seen[claims["jti"]] = claims["exp"] + self.leeway + 1

    def identity(self, claims):
        """The headers as Keyward stamps them, from what it signed."""
        values = {name: claims.get(claim) for name, claim in IDENTITY.items()}
        values["x-key-scopes"] = " ".join(claims["scopes"]) if claims else None
        return {name: value for name, value in values.items() if value}


def is_identity(name):
    name = name.lower().replace("_", "-")
    return name in IDENTITY or name.startswith(("x-key-", "x-keyward-"))


class KeywardWSGI:
    """public: exact paths that need no assertion, such as a health check. They get no identity headers."""

    def __init__(self, app, verifier, public=(), script_name=""):
        self.app, self.verifier, self.public, self.script_name = app, verifier, set(public), script_name

    def __call__(self, environ, start_response):
        try:
            claims = None if environ.get("PATH_INFO") in self.public else self.verify(environ)
        except Refused as why:
            print(f"keyward: refused: {why}", file=environ["wsgi.errors"])
            start_response("401 Unauthorized", [("Content-Type", "application/json")])
            return [b'{"error": "This service is reached through Keyward only"}']
        for name in [name for name in environ if name.startswith("HTTP_") and is_identity(name[5:])]:
            del environ[name]
        if claims:
            for name, value in self.verifier.identity(claims).items():
                environ["HTTP_" + name.upper().replace("-", "_")] = value
            environ["keyward"] = claims
        return self.app(environ, start_response)

    def verify(self, environ):
        # The target as it came: PATH_INFO is decoded, and two paths can decode to the same one.
        target = environ.get("RAW_URI") or environ.get("REQUEST_URI")
        if target is None:
            raise Refused("this server does not tell the target as it came (RAW_URI or REQUEST_URI)")
        path, _, query = target.partition("?")
        decoded = self.script_name.encode() + environ.get("PATH_INFO", "").encode("latin-1")
        if environ.get("SCRIPT_NAME", "") != self.script_name or unquote_to_bytes(path) != decoded:
            raise Refused("the application sees another path")
        token = environ.get("HTTP_" + self.verifier.header.upper().replace("-", "_"))
        claims = self.verifier.claims([token] if token else [], environ["REQUEST_METHOD"], path, query)
        if claims.get("body_sha256") is not None or not self.verifier.allow_streamed:
            body = self.read(environ)
            self.verifier.check_body(claims, body)
            # From here on there is no other body than the one that was checked.
            environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        self.verifier.once(claims)
        return claims

    def read(self, environ):
        most = self.verifier.max_body
        length = environ.get("CONTENT_LENGTH") or "0"
        if "HTTP_TRANSFER_ENCODING" in environ:
            if not environ.get("wsgi.input_terminated"):
                raise Refused("this server cannot read a chunked body")
            body = environ["wsgi.input"].read(most + 1)
        elif not (length.isascii() and length.isdigit() and len(length) < 20) or int(length) > most:
            raise Refused("the body is too large")
        else:
            body = environ["wsgi.input"].read(int(length))
        if len(body) > most:
            raise Refused("the body is too large")
        return body


class KeywardASGI:
    """public: exact paths that need no assertion, such as a health check. They get no identity headers."""

    def __init__(self, app, verifier, public=()):
        self.app, self.verifier, self.public = app, verifier, set(public)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        try:
            if scope["type"] != "http":
                raise Refused("not an HTTP request")
            claims = None
            if scope["path"] not in self.public:
                claims, receive = await self.verify(scope, receive)
        except Refused as why:
            print(f"keyward: refused: {why}", flush=True)
            return await self.refuse(scope, send)
        headers = [pair for pair in scope["headers"] if not is_identity(pair[0].decode("latin-1"))]
        if claims:
            headers += [(name.encode(), value.encode()) for name, value in self.verifier.identity(claims).items()]
        return await self.app({**scope, "headers": headers, "keyward": claims}, receive, send)

    async def verify(self, scope, receive):
        path = scope.get("raw_path")
        if path is None or scope.get("root_path") or unquote_to_bytes(path) != scope["path"].encode():
            raise Refused("the application sees another path")
        tokens = [value.decode("latin-1") for name, value in scope["headers"] if name.decode() == self.verifier.header]
        query = scope["query_string"].decode("latin-1")
        claims = self.verifier.claims(tokens, scope["method"], path.decode("latin-1"), query)
        if claims.get("body_sha256") is None and self.verifier.allow_streamed:
            self.verifier.once(claims)
            return claims, receive
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Refused("the client is gone")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.verifier.max_body:
                raise Refused("the body is too large")
        self.verifier.check_body(claims, body)
        self.verifier.once(claims)
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay():
            return pending.pop() if pending else await receive()

        return claims, replay

    async def refuse(self, scope, send):
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        body = b'{"error": "This service is reached through Keyward only"}'
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})
