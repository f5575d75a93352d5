"""The life of rendered Pods, with the real image and a real Python service: start, probes, keys, reload, end."""

import json
import os
import re
import signal
import socket
import sqlite3
import threading
import unittest

from cluster import PODMAN, WORK, Load, Service, ask, is_served, metric, overlay, until
from kubelet import Pod, Refused

# Ten seconds are for real clusters; here everybody hears of the end sooner.
SHORT = """
  - target: {kind: Deployment}
    patch: |
      - {op: replace, path: /spec/template/spec/containers/0/lifecycle/preStop/sleep/seconds, value: 2}
      - {op: replace, path: /spec/template/spec/terminationGracePeriodSeconds, value: 20}
"""
# No limit gets into the way of a load.
UNLIMITED = ("ai: {requests: 50, per: 15m, by: key}", "ai: {requests: 1000000, per: 1s, by: key}")


class PodTest(unittest.TestCase):
    def pod(self, patches="", change=lambda text: text, fill=None):
        objects = overlay("sqlite", SHORT + patches)
        for thing in objects:
            if thing["kind"] == "ConfigMap":
                thing["data"]["proxy.yaml"] = change(thing["data"]["proxy.yaml"].replace(*UNLIMITED))
        pod = Pod(PODMAN, WORK, objects, "assistant", fill=fill)
        self.addCleanup(pod.remove)
        pod.start()
        return pod

    def key(self, pod):
        made = pod.container("keyward").exec(
            "/keyward", "keys", "create", "--config", "/etc/keyward/proxy.yaml",
            "--name", "Customer", "--org-code", "org_customer", "--json",
        )  # fmt: skip
        return json.loads(made)["key"]

    def config(self, pod):
        return pod.find("ConfigMap", "keyward")["data"]["proxy.yaml"]


class Life(PodTest):
    def test_a_pod_starts_serves_and_ends_in_order(self):
        pod = self.pod()
        self.assertLess(pod.at("keyward has started up"), pod.at("assistant started"), "the sidecar comes first")
        pod.await_ready()

        # Without a key nothing, with one the service, which learns who asks.
        self.assertEqual(ask(pod, "/healthz"), (200, '{"status":"ok"}'))
        self.assertEqual(ask(pod, "/ai/chat", body="{}")[0], 401)
        key = self.key(pod)
        status, body = ask(pod, "/ai/chat", key, body="{}")
        self.assertEqual((status, json.loads(body)), (200, {"org": "org_customer", "length": 2}))

        # Past the proxy there is no way in.
        with self.assertRaises(ConnectionRefusedError):
            ask(pod, "/ai/chat", port=8000)
        self.assertEqual(metric(pod, 'keyward_upstream_exposed{upstream="ai"}'), 0)
        # Who reaches the Pod cannot take it out of service, and sees no key.
        for path in ["/drain", "/quitquitquit", "/cache/purge", "/jwks.json"]:
            self.assertEqual(ask(pod, path, port=9902)[0], 404)

        # The root is read-only, and nobody is root.
        status = open(f"/proc/{pod.container('keyward').pid}/status").read()
        self.assertEqual(re.search(r"Uid:\s+(.*)", status)[1].split(), ["65532"] * 4)
        self.assertEqual(re.search(r"CapEff:\s+(.*)", status)[1].strip("0"), "")
        self.assertIn("NoNewPrivs:\t1", status)

        pod.delete()
        for earlier, later in [
            ("deleted", "preStop of keyward is over"),
            ("preStop of keyward is over", "assistant gets SIGTERM"),
            ("preStop of assistant is over", "assistant gets SIGTERM"),
            ("assistant ended", "keyward gets SIGTERM"),
            ("keyward gets SIGTERM", "keyward ended"),
        ]:
            self.assertLess(pod.at(earlier), pod.at(later), pod.events)
        self.assertNotIn("SIGKILL", str(pod.events))
        self.assertNotIn("failed", str(pod.events))
        self.assertEqual([found.code() for found in pod.sidecars + pod.apps], [0, 0])

    def test_a_rollout_under_load_loses_nothing(self):
        old = self.pod()
        old.await_ready()
        key, service = self.key(old), Service()
        service.add(old)

        def with_the_same_keys(data):
            # Every Pod of this overlay has a store of its own.
            store = data / "keyward.db"
            with sqlite3.connect(old.volume("keyward-data") / "keyward.db") as source:
                source.backup(sqlite3.connect(store))
            store.chmod(0o600)
            os.chown(store, 65532, 65532)

        with Load(service, key, is_served) as load:
            until(lambda: load.counts.get("/ai/stream", 0) > 4, 30)
            new = self.pod(fill={"keyward-data": with_the_same_keys})
            new.await_ready()
            service.add(new)
            ending = threading.Thread(target=old.delete)
            ending.start()
            service.remove(old)
            ending.join()
            after = dict(load.counts)
            until(lambda: load.counts["/ai/stream"] > after["/ai/stream"] + 4, 30)
        print(f"  a rollout under load: {load.counts}, {len(load.failures)} failed")
        self.assertEqual(load.failures, [])
        self.assertEqual([found.code() for found in old.sidecars + old.apps], [0, 0])
        self.assertLess(old.at("gone") - old.at("deleted"), 20)

    def test_a_changed_configuration_is_in_force_within_five_seconds(self):
        pod = self.pod()
        pod.await_ready()
        service, key, was = Service(), self.key(pod), pod.container("keyward").pid
        service.add(pod)
        changed = self.config(pod).replace("- {id: all, path: /**}", "- {id: all, path: /**}\n  - {id: new, path: /new, public: true}")
        with Load(service, key, is_served) as load:
            until(lambda: load.counts.get("/ai/chat", 0) > 20, 30)
            self.assertEqual(ask(pod, "/new", body="{}")[0], 401)
            pod.swap("keyward-config", {"proxy.yaml": changed})
            took = until(lambda: ask(pod, "/new", body="{}")[0] == 200, 5)
            self.assertEqual(metric(pod, "keyward_config_generation"), 2)
            pod.swap("keyward-config", {"proxy.yaml": changed.replace("memory:", "memmory:")})
            until(lambda: metric(pod, "keyward_config_last_reload_success") == 0, 5)
            self.assertEqual(ask(pod, "/new", body="{}")[0], 200)
            after = load.counts["/ai/chat"]
            until(lambda: load.counts["/ai/chat"] > after + 20, 30)
        print(f"  a changed ConfigMap was in force after {took:.2f} s; {load.counts}, {len(load.failures)} failed")
        self.assertEqual(load.failures, [])
        self.assertEqual(pod.container("keyward").pid, was, "it was not restarted")
        self.assertIn("did you mean `memory`?", pod.container("keyward").logs())
        self.assertTrue(pod.ready(), "a bad file takes no Pod out of service")

    def test_a_service_that_does_not_end_is_killed_and_keyward_ends_in_time(self):
        stubborn = """
  - target: {kind: Deployment}
    patch: |
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: --stubborn}
      - {op: replace, path: /spec/template/spec/terminationGracePeriodSeconds, value: 4}
"""
        pod = self.pod(stubborn)
        pod.await_ready()
        pod.delete()
        self.assertEqual(pod.container("assistant").code(), 137)
        self.assertLess(pod.at("gone") - pod.at("deleted"), 10)

    def test_a_service_that_is_not_up_yet_or_gone_is_told_as_such(self):
        pod = self.pod()
        pod.await_ready()
        pod.apps[0].signal(signal.SIGKILL)
        pod.apps[0].ended.wait(10)
        connection = socket.create_connection((pod.ip, 8080), timeout=5)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
        self.assertTrue(answer.startswith(b"HTTP/1.1 503"), answer)
        self.assertIn(b"retry-after: 1", answer.lower())

    def test_a_service_that_listens_everywhere_is_told_of(self):
        everywhere = """
  - target: {kind: Deployment}
    patch: |
      - {op: replace, path: /spec/template/spec/containers/0/args/1, value: 0.0.0.0}
"""
        pod = self.pod(everywhere)
        until(lambda: metric(pod, 'keyward_upstream_exposed{upstream="ai"}') == 1, 30)
        until(lambda: json.loads(ask(pod, "/readyz", port=9902)[1])["detail"].get("exposed") == ["ai"])
        self.assertIn("the service answers there too", pod.container("keyward").logs())
        pod.await_ready()

        strict = self.pod(everywhere, lambda text: text.replace("0.0.0.0:9902", "0.0.0.0:9902\n  exposed: refuse"))
        until(lambda: ask(strict, "/readyz", port=9902)[0] == 503, 30)
        until(lambda: not strict.ready())

    def test_without_its_secret_a_pod_does_not_start(self):
        objects = [thing for thing in overlay("kinde", SHORT) if thing["kind"] != "Secret"]
        pod = Pod(PODMAN, WORK, objects, "assistant")
        self.addCleanup(pod.remove)
        with self.assertRaisesRegex(Refused, "there is no Secret keyward"):
            pod.start()
