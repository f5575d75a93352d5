"""Instructions that one request costs Keyward, counted by valgrind's callgrind. `scripts/instructions.sh` prepares this.

Times change with the machine and what else it does; instructions hardly do, so that a record of them can be compared on
any machine. They are no times: a system call counts for nothing, and valgrind has neither SHA nor AVX-512 instructions.
Counted are the worker that serves the request and the thread that writes usage records.
"""

import argparse
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import checks
from machine import Failure, PROXY_CORE, LOAD_CORE, Process, run
from peers import keyward
from work import Work

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benches" / "compare" / "instructions.json"

# A figure that differs by more is another one. Two runs of one build differ by less than a tenth of that.
TOLERANCE = 0.05

# Under valgrind a start takes seconds, and one with thousands of routes a minute.
PATIENCE = 300

# The worker, and the writer of usage records, by what only they do. All else is not on account of requests: the store,
# for one, is looked at ten times a second.
THREADS = [re.compile(r"keyward::pipeline::"), re.compile(r"keyward::observe::usage::Writer")]

# What is counted of one process: its name, path, body, how the load is made, and how many at a time.
KINDS = {
    "GET": ("/ai/history", None, "sequence", 200),
    "POST 2 KB": ("/ai/chat", "chat", "sequence", 200),
    "SSE event": ("/ai/stepped-stream", "stream", "stepped", 4),
}

# How much more a request may cost when there is much more of something: the goals of the project.
GROWTH = {
    "10 to 5,000 routes": 0.05,
    "10 to 100,000 keys": 0.10,
    "3 to 100 rules": 0.25,
}


class Counted:
    """A Keyward under callgrind."""

    def __init__(self, work, binary, name, change=lambda configuration: None):
        self.work = work
        self.peer = keyward.peer(work, binary, work.store, "usage record", name, "html")
        config = Path(self.peer.command[-1])
        configuration = json.loads(config.read_text())
        change(configuration)
        config.write_text(json.dumps(configuration, separators=(",", ":")))
        self.out = config.parent / "callgrind"
        self.peer.command = [
            "valgrind", "--quiet", "--tool=callgrind", "--separate-threads=yes", "--instr-atstart=no",
            f"--callgrind-out-file={self.out}", *self.peer.command,
        ]
        self.peer.process = Process(self.peer.command, {PROXY_CORE, LOAD_CORE}, self.peer.log)

    def __enter__(self):
        try:
            checks.wait_until_ready(self.peer, self.work, PATIENCE)
            self.control("--instr=on")
        except BaseException:
            self.peer.process.stop()
            raise
        return self

    def __exit__(self, *_):
        self.peer.process.stop()

    def control(self, *arguments):
        return run(["callgrind_control", *arguments, self.peer.process.child.pid], timeout=PATIENCE)

    def load(self, path, body, how, count):
        command = [
            self.work.load_tool, how, "--to", self.peer.port("plain"), "--path", path, "--count", count,
            "--keys", self.work.one_key_file, "--steps", self.work.steps,
        ]
        if body:
            command += ["--body", self.work.bodies[body]]
        seen = json.loads(run(command, timeout=PATIENCE))
        if seen.get("refused"):
            raise Failure(f"requests were refused: {seen}")
        return seen.get("events") or seen["requests"]

    def count(self, kind):
        """Instructions for each request or event. The first ones fill caches and are not counted."""
        path, body, how, number = KINDS[kind]
        self.load(path, body, how, number)
        self.control("--zero")
        units = self.load(path, body, how, number)
        for old in glob.glob(f"{self.out}*"):
            os.remove(old)
        self.control(f"--dump={kind}")
        dumps = [Path(dump).read_text() for dump in glob.glob(f"{self.out}*-[0-9]*")]
        counts = [total(next(filter(theirs.search, dumps), "")) for theirs in THREADS]
        return round(sum(counts) / units)


def total(dump):
    found = re.search(r"^totals: (\d+)", dump, re.MULTILINE)
    if not found:
        raise Failure("a thread that serves requests is missing in what callgrind counted")
    return int(found[1])


def base(work, binary):
    with Counted(work, binary, "base") as counted:
        return {kind: counted.count(kind) for kind in KINDS}


def growth(work, binary):
    """The same requests with little and with much of something."""
    def routes(number):
        def change(configuration):
            kept = [route for route in configuration["routes"] if route["path"] == "/ai/history"]
            # Short ones: a configuration has at most 1 MiB.
            kept += [{"id": f"r{n}", "path": f"/ai/r/{n}", "upstream": "fast"} for n in range(number - len(kept))]
            configuration["routes"] = kept
        return change

    def rules(number):
        def change(configuration):
            # Names of things, as an operator would list them.
            configuration["rules"] = [
                {"id": f"name-{n}", "literals": [f"project-{word(n)}"], "ignore_case": True} for n in range(number)
            ]
            for direction in ("request", "response"):
                configuration["defaults"][direction]["rules"] = [rule["id"] for rule in configuration["rules"]]
        return change

    def keys(number):
        def change(configuration):
            store = work.directory / f"{number}.db"
            configuration["keys"]["store"]["url"] = f"sqlite://{store}"
            config = work.write(f"keys-{number}.json", json.dumps(configuration))
            listed = work.write(f"keys-{number}.csv", work.key_list(number))
            run([binary, "keys", "import", "--config", config, listed], timeout=PATIENCE)
        return change

    found = {}
    for name, kind, make, few, many in (
        ("10 to 5,000 routes", "GET", routes, 10, 5_000),
        ("3 to 100 rules", "POST 2 KB", rules, 3, 100),
        ("10 to 100,000 keys", "GET", keys, 10, 100_000),
    ):
        counts = []
        for number in (few, many):
            with Counted(work, binary, f"{name}: {number}", make(number)) as counted:
                counts.append(counted.count(kind))
        found[name] = counts
        print(f"{name}: {counts[0]:,} to {counts[1]:,} instructions a request", file=sys.stderr, flush=True)
    return found


def word(number):
    """A name without meaning, another for each number."""
    letters = "bcdfghjklmnprstvwz"
    vowels = "aeiou"
    text = ""
    for _ in range(3):
        number, letter = divmod(number, len(letters))
        text += letters[letter] + vowels[(number + letter) % len(vowels)]
    return text


def compare(recorded, counted):
    """What is more than it was, and what is less, in words."""
    more, less = [], []
    for kind, now in counted.items():
        before = recorded.get(kind)
        if before is None or now > before * (1 + TOLERANCE):
            more.append(f"{kind}: {now:,} instructions, {before or 0:,} are recorded")
        elif now < before * (1 - TOLERANCE):
            less.append(f"{kind}: {now:,} instructions, {before:,} are recorded")
    return more, less


def main():
    parser = argparse.ArgumentParser(prog="scripts/instructions.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="keep the counts in benches/compare/instructions.json")
    parser.add_argument("--check", action="store_true", help=f"fail if a count is more than {TOLERANCE:.0%} above that")
    parser.add_argument("--growth", action="store_true", help="also with many routes, rules and keys; takes minutes")
    parser.add_argument("--keyward", help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--nginx", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    with tempfile.TemporaryDirectory(prefix="keyward-instructions-") as directory:
        os.chmod(directory, 0o755)
        work = Work(directory, chosen.load, chosen.nginx)
        try:
            work.start_services()
            keyward.store(work, chosen.keyward)
            counted = base(work, chosen.keyward)
            for kind, count in counted.items():
                print(f"{kind}: {count:,} instructions")
            grown = growth(work, chosen.keyward) if chosen.growth else {}
        finally:
            work.stop()
    if chosen.record:
        record = {"instructions": counted, "growth": grown or recorded.get("growth", {}), "rustc": rustc()}
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    failed = []
    for name, (few, many) in grown.items():
        print(f"{name}: {few:,} to {many:,}, {many / few - 1:+.1%} (goal: {GROWTH[name]:+.0%})")
        if many > few * (1 + GROWTH[name]):
            failed.append(f"{name}: a request costs {many / few - 1:+.1%}, more than {GROWTH[name]:+.0%}")
    if chosen.check:
        more, less = compare(recorded.get("instructions", {}), counted)
        if less:
            print("less than recorded, which scripts/instructions.sh --record would keep:", *less, sep="\n  ")
        failed += more
        if more and recorded.get("rustc") != rustc():
            failed.append(f"the record was made with {recorded.get('rustc')}, this build with {rustc()}")
    if failed:
        raise Failure("\n  ".join(["more than it may be:", *failed]))


def rustc():
    return subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"scripts/instructions.sh: {failure}")
