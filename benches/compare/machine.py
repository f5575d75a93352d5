"""Processes on a core, what they took of it, and what they hold.

Enters: a command and a core. Leaves: CPU time in nanoseconds, memory in bytes. Nothing here knows what a proxy is.
"""

import os
import platform
import socket
import subprocess
import time
from pathlib import Path

PROXY_CORE = 0
LOAD_CORE = 1


class Failure(Exception):
    """What went wrong, in words for whoever runs the comparison."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(command, core=LOAD_CORE, timeout=120, **options):
    """Runs a command on a core to its end; what it printed."""
    command = [str(argument) for argument in command]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        check=False, **options,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise Failure(f"{' '.join(command)}: exit code {done.returncode}\n{said[-4000:]}")
    return done.stdout


class Process:
    """A process and its children, pinned to cores."""

    def __init__(self, command, cores, log, stdin=subprocess.DEVNULL, stdout=None):
        self.log = Path(log)
        with self.log.open("ab") as file:
            self.child = subprocess.Popen(
                command, stdin=stdin, stdout=stdout or file, stderr=file,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def pids(self):
        """This process and all below it."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
        pids, rest = [], [self.child.pid]
        while rest:
            pid = rest.pop()
            pids.append(pid)
            rest += parents.get(pid, [])
        return pids

    def check_alive(self):
        if self.child.poll() is not None:
            raise Failure(f"{self.child.args[0]} ended with {self.child.returncode}: {tail(self.log)}")

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def tail(log):
    return log.read_text(errors="replace").strip()[-2000:] if log.exists() else "it said nothing"


def cpu_ns(pids):
    """CPU time of all threads, those that have ended too.

    The kernel's clock of another process (clock_getcpuclockid(3)): what /proc/PID/stat tells, in nanoseconds instead of
    hundredths of a second.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def memory(pids):
    """(PSS, RSS) in bytes. Of a page that processes share, each one's PSS has its part."""
    pss = rss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "Pss":
                pss += int(rest.split()[0]) * 1024
            elif name == "Rss":
                rss += int(rest.split()[0]) * 1024
    return pss, rss


def describe():
    """What a reader of the figures has to know of the machine."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    system = "unknown"
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            system = line.partition("=")[2].strip('"')
    return {"cpu": model, "cores": os.cpu_count(), "system": system, "kernel": platform.release()}
