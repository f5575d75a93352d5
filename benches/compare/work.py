"""The work that every peer is given: keys, routes, bodies, and the services behind.

One place says what it is; each peer's module says how that peer is told to do it.
"""

import hashlib
import json
import secrets
import subprocess
from pathlib import Path

from machine import Failure, LOAD_CORE, Process, free_port, run

KEYS = 1000
ROUTES = 100
SCOPE = "write:ai_chat"

# So large that nobody under load is ever refused; `TIGHT` proves that limits are counted at all.
LIMIT_PER_SECOND = 1_000_000
TIGHT_REQUESTS = 2

# A pattern that all peers are to refuse, in the case that one who compares bytes would miss.
HARMFUL = "<SCRIPT src=x>alert(1)</script>"

# The three patterns of the preset `seed`, as engines with Perl's syntax write them; case is ignored.
PATTERNS = [r"<script\b.*?</script>", r"javascript:", r"on\w+\s*="]

PROSE = (
    "Please tell me about the harbour in winter, how many boats came in yesterday, and what the keeper wrote about "
    "the weather in his small blue book before the storm began. "
)


def document(size):
    """A chat request of exactly so many bytes, clean under every rule."""
    def body(text):
        return json.dumps({"model": "house", "messages": [{"role": "user", "content": text}]})
    text = PROSE * (size // len(PROSE) + 1)
    return body(text[: size - len(body(""))])


def answer(size):
    """A chat answer of exactly so many bytes."""
    def body(text):
        return json.dumps({"id": "a1", "choices": [{"message": {"role": "assistant", "content": text}}]})
    text = PROSE * (size // len(PROSE) + 1)
    return body(text[: size - len(body(""))])


class Work:
    """Everything that the peers share in one run, in one directory."""

    def __init__(self, directory, load_tool, nginx):
        self.directory = Path(directory)
        self.load_tool = load_tool
        self.nginx = nginx
        # Not from Keyward's own space of keys, so that it imports them as others take them.
        self.keys = [f"bench-{secrets.token_hex(16)}" for _ in range(KEYS)]
        # The last one is asked with by nobody but the checks.
        self.spare_key = self.keys[-1]
        # Of all Keywards.
        self.store = self.directory / "keyward" / "keys.db"
        self.keys_file = self.write("keys", "\n".join(self.keys[:-1]))
        self.one_key_file = self.write("one-key", self.keys[0])
        self.bodies = {
            "chat": self.write("chat.json", document(2048)),
            "large": self.write("large.json", document(64 << 10)),
            "stream": self.write("stream.json", document(200)),
            "harmful": self.write("harmful.json", json.dumps({"messages": [{"role": "user", "content": HARMFUL}]})),
        }
        self.cert, self.cert_key = self.certificate()
        # (path, method, which service): one that is asked for stands in the middle of those that are not.
        asked = [
            ("/ai/history", "GET", "fast"), ("/ai/echo", "GET", "fast"), ("/ai/chat", "POST", "fast"),
            ("/ai/large", "POST", "service"), ("/ai/stream", "POST", "service"), ("/ai/limited", "POST", "fast"),
            ("/ai/harmful", "POST", "fast"), ("/ai/harmful-stream", "POST", "service"),
            ("/ai/stepped-stream", "POST", "service"),
        ]
        rest = [(f"/ai/other/{n:02}", "POST", "fast") for n in range(ROUTES - len(asked))]
        half = len(rest) // 2
        self.routes = rest[:half] + asked + rest[half:]
        self.upstreams = {}
        self.processes = []

    def org(self, n):
        return f"org_{n:04}"

    def user(self, n):
        return f"kp_{n:04}"

    def write(self, name, text):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def certificate(self):
        cert, key = self.directory / "cert.pem", self.directory / "cert.key"
        run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2",
            "-keyout", key, "-out", cert,
        ])
        return cert, key

    def key_list(self, number=KEYS):
        """What `keyward keys import` reads: so many keys, among them the first ones of ours."""
        lines = ["sha256,name,org_code,user_id,scopes"]
        more = (f"bench-more-{n:020}" for n in range(number - KEYS))
        for n, key in enumerate([*self.keys[: min(number, KEYS) - 1], self.spare_key, *more]):
            digest = hashlib.sha256(key.encode()).hexdigest()
            lines.append(f"{digest},bench {n},{self.org(n)},{self.user(n)},{SCOPE}")
        return "\n".join(lines) + "\n"

    def start_services(self):
        """`fast` answers at once from memory, `service` reads what it is sent, and streams."""
        port = free_port()
        chat, harmful = answer(2048), answer(2048)
        harmful = harmful[:1000] + HARMFUL + harmful[1000 + len(HARMFUL):]
        echo = '{"org":"$http_x_org_code","user":"$http_x_user_id","key":"$http_x_api_key"}'
        config = self.write("fast.conf", f"""
            daemon off; pid {self.directory}/fast.pid; error_log {self.directory}/fast.log crit; worker_processes 1;
            worker_rlimit_nofile 20000;
            events {{ worker_connections 8192; }}
            http {{
                access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; default_type application/json;
                client_body_temp_path {self.directory}/fast-body;
                server {{
                    listen 127.0.0.1:{port} backlog=4096;
                    location = /ai/history {{ return 200 '{{}}'; }}
                    location = /ai/echo {{ return 200 '{echo}'; }}
                    location = /ai/harmful {{ return 200 '{harmful}'; }}
                    location / {{ return 200 '{chat}'; }}
                }}
            }}
        """)
        self.processes.append(Process([self.nginx, "-c", config, "-e", "stderr"], {LOAD_CORE}, self.directory / "fast.out"))
        self.upstreams["fast"] = port
        service = Process(
            [self.load_tool, "service"], {LOAD_CORE}, self.directory / "service.out",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        self.processes.append(service)
        first_line = service.child.stdout.readline()
        if not first_line.strip():
            raise Failure("the service behind the proxies did not start")
        self.upstreams["service"], self.steps = map(int, first_line.split())

    def stop(self):
        for process in self.processes:
            process.stop()
