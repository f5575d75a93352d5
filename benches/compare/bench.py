"""Compares Keyward with other proxies that are given the same work. `scripts/bench.sh` prepares what this needs.

Proxies have one core, the load and the services behind them another. All peers are alive at once; a round measures each
of them in turn, and only figures of one round are compared, because the machine's clock changes from one to the next.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import checks
import tables
from load import Load
from machine import Failure, LOAD_CORE, PROXY_CORE, Process, describe, memory, run
from peers import envoy, haproxy, keyward, nginx
from rows import BASE, COMPARED, LATENCY_RATE, OTHERS, ROWS
from work import Work

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benches" / "compare" / "results.json"
PAGE = ROOT / "docs" / "performance.md"

IDLE_CONNECTIONS = 5000
ACTIVE = (64, 1000)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each peer is measured (default 7)")
    parser.add_argument("--seconds", type=int, default=1, help="how long each load lasts (default 1)")
    parser.add_argument("--quick", action="store_true", help="two rounds: whether it works, not how fast it is")
    parser.add_argument("--rows", help=f"some of {','.join([*ROWS, *OTHERS])} (default all)")
    parser.add_argument("--peers", help="only peers whose names contain one of these words, besides nginx plain")
    parser.add_argument("--record", action="store_true", help="keep the run as the one that docs/performance.md tells of")
    parser.add_argument("--check", action="store_true", help="only whether docs/performance.md is what the run says")
    parser.add_argument("--keyward", help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--envoy", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.rows = chosen.rows.split(",") if chosen.rows else [*ROWS, *OTHERS]
    unknown = [row for row in chosen.rows if row not in ROWS and row not in OTHERS]
    if unknown:
        parser.error(f"unknown rows: {', '.join(unknown)}")
    if chosen.quick:
        chosen.rounds = min(chosen.rounds, 2)
    if chosen.record and (chosen.peers or set(chosen.rows) != {*ROWS, *OTHERS}):
        parser.error("--record keeps whole runs only: leave out --rows and --peers")
    return chosen


class Comparison:
    def __init__(self, chosen, directory):
        self.chosen = chosen
        self.work = Work(directory, chosen.load, shutil.which("nginx") or "/usr/sbin/nginx")
        self.load = Load(self.work, chosen.load, chosen.seconds)
        self.peers = []
        self.begun = time.monotonic()

    def say(self, text):
        print(f"[{time.monotonic() - self.begun:5.0f} s] {text}", file=sys.stderr, flush=True)

    def prepare(self):
        """Starts and checks every peer."""
        self.work.start_services()
        haproxy_binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
        everybody = [
            *nginx.peers(self.work, self.work.nginx),
            *haproxy.peers(self.work, haproxy_binary),
            *(envoy.peers(self.work, self.chosen.envoy) if self.chosen.envoy else []),
            *keyward.peers(self.work, self.chosen.keyward),
        ]
        wanted = self.chosen.peers.split(",") if self.chosen.peers else [""]
        self.peers = [
            peer for peer in everybody
            if peer.name == BASE or any(word.lower() in peer.name.lower() for word in wanted)
        ]
        seen = {}
        for peer in self.peers:
            self.start(peer)
            seen[peer.name] = checks.check(peer, self.work)
            self.say(f"{peer.name}: {', '.join(what for what, did in seen[peer.name].items() if did) or 'forwards'}")
        return seen

    def start(self, peer, cores=frozenset({PROXY_CORE})):
        peer.process = Process(peer.command, cores, peer.log)
        return checks.wait_until_ready(peer, self.work)

    def find(self, name, protocol="plain"):
        return next((peer for peer in self.peers if peer.name == name and peer.port(protocol)), None)

    def rows(self):
        """The CPU time of each peer in each row, round by round."""
        chosen = [row for row in ROWS if row in self.chosen.rows]
        measured = {row: {} for row in chosen}
        cannot = {row: {} for row in chosen}
        for number in range(self.chosen.rounds):
            for row in chosen:
                _, _, names, make = ROWS[row]
                # Whoever was last in a round is not last in the next.
                for name in names[number % len(names):] + names[: number % len(names)]:
                    peer = self.find(name, row if row in ("h2", "tls") else "plain")
                    if peer is None:
                        if not self.chosen.peers:
                            cannot[row].setdefault(name, "not installed")
                    elif row in peer.cannot:
                        cannot[row][name] = peer.cannot[row]
                    else:
                        self.load.warm(peer)
                        measured[row].setdefault(name, []).append(make(self.load, peer))
            self.say(f"round {number + 1} of {self.chosen.rounds}")
        return {
            row: {"measured": measured[row], "cannot": cannot[row]} for row in chosen
        }

    def latency(self):
        """What each peer adds to latencies at a fixed rate, in each round."""
        direct = keyless = None
        found = {}
        for _ in range(min(self.chosen.rounds, 3)):
            direct = self.load.rate(self.direct(), LATENCY_RATE, 2)
            found.setdefault("", []).append(direct)
            for name in COMPARED:
                peer = self.find(name)
                if peer:
                    self.load.warm(peer)
                    found.setdefault(name, []).append(self.load.rate(peer, LATENCY_RATE, 2))
        self.say("latency")
        return found

    def direct(self):
        """The service itself, as if it were a peer."""
        from peers import Peer

        return Peer("", set(), [], {"plain": self.work.upstreams["fast"]}, "")

    def memory(self):
        """Memory of fresh processes, one at a time: nothing of the loads before is left in them, and no twin shares
        their program."""
        found = {}
        for peer in self.peers:
            peer.process.stop()
        for name in COMPARED:
            known = self.find(name)
            if not known:
                continue
            figures = {"connections": IDLE_CONNECTIONS}
            self.start(known)
            figures["idle"] = memory(known.process.pids())
            for connections in ACTIVE:
                figures[str(connections)] = self.load.memory_under_load(known, connections)
            known.process.stop()
            self.start(known)
            self.load.warm(known)
            figures["warm"] = memory(known.process.pids())
            figures["held"] = self.load.memory_of_idle(known, IDLE_CONNECTIONS)
            known.process.stop()
            found[name] = figures
        self.say("memory")
        return found

    def starts(self):
        """Milliseconds from the start of the process to its first answer."""
        found = {}
        for _ in range(self.chosen.rounds):
            for name in COMPARED:
                peer = self.find(name)
                if peer:
                    peer.process.stop()
                    found.setdefault(name, []).append(self.start(peer) * 1e3)
        self.say("start to ready")
        return found

    def workers(self):
        """CPU time for each request with one worker and with two, both free to use both cores."""
        binary = self.chosen.keyward
        if not keyward.knows_workers(binary):
            return {"cannot": "this build has no option for the number of workers"}
        found = {}
        cores = {PROXY_CORE, LOAD_CORE} if os.cpu_count() < 4 else {PROXY_CORE, 2}
        twins = [
            (count, keyward.peer(self.work, binary, self.work.store, "usage record", f"{count} workers", "html", workers=count))
            for count in (1, 2)
        ]
        for count, peer in twins:
            self.start(peer, cores)
            self.peers.append(peer)
        for _ in range(self.chosen.rounds):
            for count, peer in twins:
                self.load.warm(peer)
                found.setdefault(str(count), []).append(self.load.closed(peer, "/ai/chat", "chat"))
        self.say("workers")
        return {"measured": found, "shared core": os.cpu_count() < 4}

    def sizes(self):
        """Bytes of each program on disk, without the libraries that it shares with others."""
        return {peer.name: os.path.getsize(peer.binary) for peer in self.peers if peer.name in COMPARED}

    def stop(self):
        for peer in self.peers:
            if peer.process:
                peer.process.stop()
        self.work.stop()

    def run(self):
        chosen = self.chosen
        result = {
            "begun": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": describe(),
            "versions": versions(chosen, self.work.nginx),
            "rounds": chosen.rounds,
            "seconds": chosen.seconds,
            # Of whatever else the machine does: nothing was started yet.
            "load_before": os.getloadavg()[0],
        }
        result["checks"] = self.prepare()
        result["rows"] = self.rows()
        for name, measure in (
            ("latency", self.latency), ("memory", self.memory), ("start", self.starts), ("workers", self.workers),
        ):
            if name in chosen.rows:
                result[name] = measure()
        result["sizes"] = self.sizes()
        result["minutes"] = round((time.monotonic() - self.begun) / 60, 1)
        return result


def versions(chosen, nginx_binary):
    def first_line(command, pattern=None):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        return next((line for line in lines if not pattern or pattern in line), "unknown")

    def package(name):
        return first_line(["dpkg-query", "-W", "-f", "${Version}", name])

    said = first_line([chosen.envoy, "--version"], "version:") if chosen.envoy else ""
    envoy_version = re.search(r"/(\d+\.\d+\.\d+)/", said)
    return {
        "Keyward": first_line([chosen.keyward, "--version"]),
        "commit": first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]),
        "nginx": first_line([nginx_binary, "-v"]).partition("/")[2],
        "ModSecurity": package("libmodsecurity3"),
        "HAProxy": first_line([shutil.which("haproxy") or "/usr/sbin/haproxy", "-v"]).split()[2],
        "Envoy": envoy_version[1] if envoy_version else "not installed",
        "wrk": package("wrk"),
        "h2load": package("nghttp2-client"),
    }


def main():
    chosen = arguments()
    if chosen.check:
        problem = tables.check(PAGE, RECORD)
        if problem:
            raise Failure(problem)
        print("docs/performance.md tells what benches/compare/results.json says")
        return
    if len(os.sched_getaffinity(0)) < 2:
        raise Failure("two cores are needed: one for the proxy, one for the load")
    with tempfile.TemporaryDirectory(prefix="keyward-bench-") as directory:
        # nginx starts as root and works as nobody, who is to read this.
        os.chmod(directory, 0o755)
        comparison = Comparison(chosen, directory)
        try:
            result = comparison.run()
        finally:
            comparison.stop()
    print(tables.text(result))
    if chosen.record:
        RECORD.write_text(json.dumps(result, indent=1) + "\n")
        tables.write(PAGE, result)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"scripts/bench.sh: {failure}")
