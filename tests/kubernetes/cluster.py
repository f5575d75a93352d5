"""What the tests of Pods share: rendering, a Service before Pods, and clients that count what they lose."""

import http.client
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import yaml

import images
from kubelet import Podman

REPOSITORY = Path(__file__).resolve().parent.parent.parent
WORK = REPOSITORY / "target" / "kubernetes"
OVERLAYS = REPOSITORY / "deploy" / "kustomize" / "overlays"
PODMAN = Podman(WORK / "podman")


def render(directory):
    """The objects of a kustomization."""
    command = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    done = subprocess.run([*command, str(directory)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def overlay(name, patches=""):
    """An overlay as a user would adapt it: with images that are here, and `patches`, a list in YAML."""
    place = WORK / "rendered" / f"{name}-{os.getpid()}-{threading.get_ident()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "kustomization.yaml").write_text(
        f"resources: [{os.path.relpath(OVERLAYS / name, place)}]\n"
        "images:\n"
        f"  - {{name: keyward, newName: {images.KEYWARD.split(':')[0]}, newTag: test}}\n"
        f"  - {{name: assistant, newName: {images.SERVICE.split(':')[0]}, newTag: test}}\n"
        f"patches:\n{patches or '  []'}\n"
    )
    try:
        return render(place)
    finally:
        shutil.rmtree(place)


class Service:
    """Sends new connections to the Pods that are ready, and hears of a change a little later, as kube-proxy does."""

    LATE = 0.3

    def __init__(self, port=8080):
        self.port, self.lock, self.addresses, self.turn = port, threading.Lock(), [], 0

    def add(self, pod):
        with self.lock:
            self.addresses.append(pod.ip)

    def remove(self, pod):
        def later():
            time.sleep(self.LATE)
            with self.lock:
                self.addresses.remove(pod.ip)

        threading.Thread(target=later, daemon=True).start()

    def connect(self):
        with self.lock:
            self.turn += 1
            address = self.addresses[self.turn % len(self.addresses)]
        return http.client.HTTPConnection(address, self.port, timeout=20)


class Load:
    """Clients that keep their connections for as long as they may, until told to stop. Nothing is tried again."""

    def __init__(self, service, key, judge, plain=6, streams=4, path="/ai/chat"):
        self.service, self.judge, self.ended = service, judge, threading.Event()
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.lock, self.counts, self.failures = threading.Lock(), {}, []
        self.threads = [threading.Thread(target=self.client, args=[path], daemon=True) for _ in range(plain)]
        self.threads += [threading.Thread(target=self.client, args=["/ai/stream"], daemon=True) for _ in range(streams)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def client(self, path):
        connection = None
        while not self.ended.is_set():
            reused = connection is not None
            connection = connection or self.service.connect()
            try:
                connection.request("POST", path, json.dumps({"message": "hello"}), self.headers)
                answer = connection.getresponse()
                closes = answer.will_close or answer.getheader("Connection") == "close"
                told = self.judge(path, answer.status, answer.read().decode())
            except (OSError, http.client.HTTPException) as error:
                told, closes = f"{type(error).__name__}{' of a connection used before' * reused}: {error}", True
            if closes:
                connection.close()
                connection = None
            with self.lock:
                if told is None:
                    self.counts[path] = self.counts.get(path, 0) + 1
                else:
                    self.failures.append((round(time.monotonic(), 2), path, told))
            time.sleep(0.005)


def is_served(path, status, body):
    """`None` for an answer that is whole, or what is wrong with it."""
    if status != 200:
        return f"{status} {body}"
    if path == "/ai/stream":
        events = body.split("\n\n")
        return None if len(events) == 22 and events[-2] == "data: [DONE]" else f"cut: {body[-60:]!r}"
    return None if json.loads(body)["length"] == 20 else body


def ask(pod, path, key=None, port=8080, body=None, timeout=5):
    """One request from outside: its status and body."""
    connection = http.client.HTTPConnection(pod.ip, port, timeout=timeout)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        connection.request("POST" if body is not None else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def metric(pod, line):
    """The value of one line of /metrics, or 0."""
    for found in ask(pod, "/metrics", port=9902)[1].splitlines():
        if found.startswith(line + " "):
            return float(found.rsplit(" ", 1)[1])
    return 0.0


def until(condition, seconds=10):
    """Waits for something that has to come; how long it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - begun
