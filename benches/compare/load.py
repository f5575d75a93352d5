"""Load on one peer, and what it cost the peer.

Leaves a measurement: CPU time for each request or event, and how many there were. A load that was refused or broke off
measures nothing, and fails.
"""

import json
import os
import re
import subprocess

from machine import Failure, LOAD_CORE, Process, cpu_ns, memory, run

CONNECTIONS = 64
STREAMS = 100
EVENTS = 200
H2_CONNECTIONS = 8
H2_STREAMS = 8


def last_line(printed):
    return json.loads(printed.strip().splitlines()[-1])


class Load:
    def __init__(self, work, load_tool, seconds):
        self.work = work
        self.load_tool = load_tool
        self.seconds = seconds

    def tool(self, command, peer, path, body=None, **options):
        port = peer.stream_port if "stream" in path and peer.stream_port else peer.port("plain")
        arguments = [self.load_tool, command, "--to", port, "--path", path, "--keys", self.work.keys_file]
        if body:
            arguments += ["--body", self.work.bodies[body]]
        for name, value in options.items():
            arguments += [f"--{name}", value]
        return [str(argument) for argument in arguments]

    def warm(self, peer):
        """Each key once, so that what is remembered of keys is there; over TLS wrk does it."""
        if peer.grows and os.path.exists(peer.grows):
            os.truncate(peer.grows, 0)
        if not peer.port("plain"):
            return
        seen = last_line(run(self.tool("sequence", peer, "/ai/history")))
        if seen["refused"]:
            raise Failure(f"{peer.name} refused {seen['refused']} of {seen['requests']} requests with good keys")

    def measured(self, peer, count, load):
        """CPU time that the peer takes while `load` runs, by what `count` finds in what it printed."""
        pids = peer.process.pids()
        before = cpu_ns(pids)
        seen = load()
        spent = cpu_ns(pids) - before
        if seen.get("refused") or seen.get("broken"):
            raise Failure(f"{peer.name} refused or broke off requests: {seen}")
        if not seen[count]:
            raise Failure(f"{peer.name} answered nothing")
        return {"us": spent / 1e3 / seen[count], "count": seen[count], **{
            name: seen[name] for name in ("first_p50_us", "first_p99_us", "slowest_ms") if name in seen
        }}

    def closed(self, peer, path, body=None, protocol="plain", connections=CONNECTIONS):
        """As many requests as the peer answers, each connection waiting for its answer."""
        scheme = "https" if protocol == "tls" else "http"
        command = [
            "wrk", "-t", "1", "-c", str(connections), "-d", f"{self.seconds}s", "-s",
            os.path.join(os.path.dirname(__file__), "wrk.lua"),
            f"{scheme}://127.0.0.1:{peer.port(protocol)}{path}", "--", str(self.work.keys_file), path,
        ]
        if body:
            command.append(str(self.work.bodies[body]))
        return self.measured(peer, "requests", lambda: last_line(run(command)))

    def http2(self, peer, path):
        """The same over HTTP/2. `h2load` sends the same headers each time, so all requests have one key."""
        command = [
            "h2load", "-t", "1", "-c", str(H2_CONNECTIONS), "-m", str(H2_STREAMS), "-D", str(self.seconds),
            "-H", f"x-api-key: {self.work.keys[0]}", f"http://127.0.0.1:{peer.port('h2')}{path}",
        ]

        def load():
            printed = run(command)
            found = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", printed)
            if not found:
                raise Failure(f"h2load said nothing of status codes:\n{printed[-2000:]}")
            good, *bad = map(int, found.groups())
            return {"requests": good, "refused": sum(bad)}

        return self.measured(peer, "requests", load)

    def streams(self, peer):
        """100 streams at once, 200 events each, one every 10 ms."""
        command = self.tool("streams", peer, "/ai/stream", "stream", connections=STREAMS)
        seen = self.measured(peer, "events", lambda: last_line(run(command)))
        if seen["count"] != STREAMS * EVENTS:
            raise Failure(f"{peer.name} delivered {seen['count']} events of {STREAMS * EVENTS}")
        return seen

    def rate(self, peer, rate, seconds):
        """Latencies at a fixed rate, whatever the answers take. `None` asks the service itself."""
        options = {"rate": rate, "seconds": seconds, "connections": CONNECTIONS}
        return last_line(run(self.tool("rate", peer, "/ai/chat", "chat", **options)))

    def memory_under_load(self, peer, connections):
        """Memory in the middle of a load; the load's end would have freed some."""
        command = [
            "wrk", "-t", "1", "-c", str(connections), "-d", "2s", "-s",
            os.path.join(os.path.dirname(__file__), "wrk.lua"),
            f"http://127.0.0.1:{peer.port('plain')}/ai/chat", "--", str(self.work.keys_file), "/ai/chat",
            str(self.work.bodies["chat"]),
        ]
        load = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE})
        )
        try:
            load.wait(1.5)
            raise Failure(f"wrk ended early on {peer.name}")
        except subprocess.TimeoutExpired:
            held = memory(peer.process.pids())
        printed, _ = load.communicate(timeout=30)
        seen = last_line(printed)
        if seen["refused"] or seen["broken"]:
            raise Failure(f"{peer.name} refused or broke off requests: {seen}")
        return held

    def memory_of_idle(self, peer, connections):
        """Memory while so many connections are open that had one answer each."""
        command = self.tool("hold", peer, "/ai/history", connections=connections)
        holder = Process(
            command, {LOAD_CORE}, self.work.directory / "hold.out", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            printed = holder.child.stdout.readline()
            if not printed:
                raise Failure(f"{peer.name} did not take {connections} connections: {holder.log.read_text()[-500:]}")
            seen = json.loads(printed)
            if seen["refused"]:
                raise Failure(f"{peer.name} refused requests on idle connections: {seen}")
            return memory(peer.process.pids())
        finally:
            holder.child.stdin.close()
            holder.child.wait(30)
