"""Reloads and the end under load, and a Pod with little memory: what docs/kubernetes.md promises, with its figures."""

import asyncio
import http.client
import json
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

from cluster import REPOSITORY, WORK, Load, Service, is_served, metric, until
from test_pods import PodTest

# How long configurations change under load.
RELOADING = 30


def generation(text, name):
    """The configuration `text`, whose effect is two headers that always belong together."""
    headers = f"headers: {{set: {{X-Generation-One: {name}, X-Generation-Two: {name}}}}}"
    return text.replace("endpoints: [http://127.0.0.1:8000]", f"endpoints: [http://127.0.0.1:8000]\n    {headers}")


class UnderLoad(PodTest):
    def test_every_answer_is_of_one_generation(self):
        pod = self.pod()
        pod.await_ready()
        texts = [generation(self.config(pod), name) for name in ("first", "second")]
        seen = {}

        def judge(path, status, body):
            if path != "/ai/generation":
                return is_served(path, status, body)
            if status != 200:
                return f"{status} {body}"
            told = json.loads(body)
            seen[told["one"]] = seen.get(told["one"], 0) + 1
            return None if told["one"] == told["two"] else f"of two generations: {body}"

        service, keyward, changes = Service(), pod.container("keyward"), 0
        service.add(pod)
        with Load(service, self.key(pod), judge, path="/ai/generation") as load:
            end = time.monotonic() + RELOADING
            while time.monotonic() < end:
                changes += 1
                pod.swap("keyward-config", {"proxy.yaml": texts[changes % 2]})
                os.kill(keyward.pid, signal.SIGHUP)
                time.sleep(0.1)
        generations = metric(pod, "keyward_config_generation")
        print(f"  {changes} changes, {generations:.0f} generations in force, {load.counts}, {len(load.failures)} failed; {seen}")
        self.assertEqual(load.failures, [])
        self.assertGreater(generations, 20)
        self.assertGreater(min(seen["first"], seen["second"]), 50)

    def test_a_stop_cuts_no_answer(self):
        # Not as a sidecar: its service goes on.
        pod = self.pod(change=lambda text: text.replace("shutdown: {", "shutdown: {delay: 1s, "))
        pod.await_ready()
        service, keyward = Service(), pod.container("keyward")
        service.add(pod)
        with Load(service, self.key(pod), is_served) as load:
            until(lambda: load.counts.get("/ai/stream", 0) > 4, 30)
            keyward.signal(signal.SIGTERM)
            self.assertTrue(keyward.ended.wait(40))
        took = pod.at("keyward ended") - pod.at("keyward gets SIGTERM")
        # There is no other Pod to go to: who comes later finds nobody. And whoever was told nothing of the end, because the
        # head of its stream had left before, may find its connection closed between two requests, as any may be.
        late = ("ConnectionRefusedError", "RemoteDisconnected of a connection used before")
        lost = [failure for failure in load.failures if not failure[2].startswith(late)]
        closed = [failure for failure in load.failures if failure[2].startswith(late[1])]
        print(f"  SIGTERM under load: {load.counts}, ended after {took:.2f} s, {len(closed)} found their connection closed")
        self.assertEqual(lost, [])
        self.assertLessEqual(len(closed), 4, "no more than there are streams")
        self.assertEqual(keyward.code(), 0)

    def test_64_mib_are_enough_for_256_connections_with_bodies_of_1_mib(self):
        little = """
  - target: {kind: Deployment}
    patch: |
      - {op: replace, path: /spec/template/spec/initContainers/0/resources/limits/memory, value: 64Mi}
      - {op: replace, path: /spec/template/spec/initContainers/0/resources/requests/memory, value: 64Mi}
"""

        def for_little(text):
            text = text.replace("memory: 32MiB", "memory: 8MiB").replace("observe}", "block, max_body: 2MiB}")
            return text.replace("address: 0.0.0.0:8080", "address: 0.0.0.0:8080\n  max_header_bytes: 16KiB")

        pod = self.pod(little, for_little)
        pod.await_ready()
        key, keyward = self.key(pod), pod.container("keyward")
        idle = resident(keyward.pid, "VmRSS")
        body = json.dumps({"message": "nothing to see here, " * 50_000}).encode()
        self.assertGreater(len(body), 1 << 20)
        head = (
            f"POST /ai/chat HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        counts = {}

        async def client():
            for _ in range(3):
                try:
                    reader, writer = await asyncio.open_connection(pod.ip, 8080)
                    writer.write(head + body)
                    status = int((await asyncio.wait_for(reader.readline(), 60)).split()[1])
                except (OSError, IndexError) as error:
                    status = type(error).__name__
                else:
                    writer.close()
                counts[status] = counts.get(status, 0) + 1

        async def all_clients():
            await asyncio.gather(*[client() for _ in range(256)])

        begun = time.monotonic()
        asyncio.run(all_clients())
        took = time.monotonic() - begun
        self.assertTrue(keyward.running(), f"{counts} {keyward.logs()[-2000:]}")
        peak = resident(keyward.pid, "VmHWM")
        until(lambda: metric(pod, "keyward_held_bytes") == 0)
        print(
            f"  64 MiB, 256 connections, 1 MiB bodies: {counts} in {took:.1f} s; resident {idle:.1f} MiB idle, "
            f"{peak:.1f} MiB at most, {resident(keyward.pid, 'VmRSS'):.1f} MiB after"
        )
        self.assertLessEqual(set(counts), {200, 503}, counts)
        self.assertGreater(counts[200], 0)


class Figures(PodTest):
    def test_start_and_idle(self):
        place = WORK / "figures"
        subprocess.run(["rm", "-rf", place], check=True)
        place.mkdir()
        text = (REPOSITORY / "deploy/kustomize/component/proxy.yaml").read_text()
        (place / "proxy.yaml").write_text(text.replace("/var/lib/keyward/", f"{place}/"))
        times, memory = [], []
        for _ in range(5):
            begun = time.monotonic()
            process = subprocess.Popen(
                [REPOSITORY / "target/image/keyward", "run", "--config", place / "proxy.yaml"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self.addCleanup(process.kill)
            until(lambda: ready_here())
            times.append(time.monotonic() - begun)
            time.sleep(0.5)
            memory.append(resident(process.pid, "VmRSS"))
            process.terminate()
            self.assertEqual(process.wait(10), 0)
        print(
            f"  start to ready: {1000 * statistics.median(times):.0f} ms ({1000 * min(times):.0f} to {1000 * max(times):.0f}); "
            f"idle: {statistics.median(memory):.1f} MiB resident"
        )
        self.assertLess(statistics.median(memory), 64)


def ready_here():
    connection = http.client.HTTPConnection("127.0.0.1", 9902, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def resident(pid, field):
    """A line of /proc/PID/status, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)
