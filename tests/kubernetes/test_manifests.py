"""Every overlay renders, is what Kubernetes' own schemas allow, and means something; and the lint finds what it is for."""

import copy
import subprocess
import sys
import unittest
from pathlib import Path

import yaml
from kubernetes_validate.utils import latest_version

from cluster import OVERLAYS, REPOSITORY, WORK, render
from lint import problems

# What the comments of the overlays say is made elsewhere.
EXTERNAL = {"key-service": ["Secret/keyward", "Secret/keyward-keys", "Secret/keyward-keys-tls"]}


class Manifests(unittest.TestCase):
    def test_overlays_are_valid_and_linted(self):
        overlays = sorted(path.name for path in OVERLAYS.iterdir())
        self.assertEqual(overlays, ["key-service", "kinde", "sqlite"])
        for overlay in overlays:
            with self.subTest(overlay):
                objects = render(OVERLAYS / overlay)
                self.assertEqual(problems(objects, EXTERNAL.get(overlay, [])), [])
                place = WORK / f"{overlay}.yaml"
                place.write_text(yaml.safe_dump_all(objects))
                for version in ["1.29.0", latest_version()]:
                    command = [Path(sys.executable).parent / "kubernetes-validate", "--strict", "-k", version, place]
                    done = subprocess.run(command, capture_output=True, text=True)
                    self.assertEqual(done.returncode, 0, f"{version}: {done.stdout}{done.stderr}")

    def test_the_component_is_one_line(self):
        base, guarded = render(REPOSITORY / "deploy/kustomize/base"), render(OVERLAYS / "sqlite")
        text = (OVERLAYS / "sqlite/kustomization.yaml").read_text().splitlines()
        lines = [line for line in text if line and not line.startswith(("#", "apiVersion", "kind"))]
        self.assertEqual(lines, ["resources: [../../base]", "components: [../../component]"])
        before, after = ({thing["kind"]: thing for thing in objects} for objects in (base, guarded))
        self.assertNotIn("initContainers", before["Deployment"]["spec"]["template"]["spec"])
        self.assertEqual(after["Deployment"]["spec"]["template"]["spec"]["initContainers"][0]["name"], "keyward")
        self.assertEqual(after["Service"]["spec"]["ports"][0]["targetPort"], "keyward")
        # Its ConfigMap keeps its name, or nothing would be reloaded.
        self.assertEqual(after["ConfigMap"]["metadata"]["name"], "keyward")

    def test_the_lint_finds_what_it_is_for(self):
        good = render(OVERLAYS / "kinde")
        place = {thing["kind"]: index for index, thing in enumerate(good)}

        def pod(objects):
            return objects[place["Deployment"]]["spec"]["template"]["spec"]

        def sidecar(objects):
            return pod(objects)["initContainers"][0]

        def app(objects):
            return pod(objects)["containers"][0]

        def without(mapping, key):
            del mapping[key]

        for expected, broken in [
            ("selector does not match", lambda o: o[place["Deployment"]]["spec"]["selector"]["matchLabels"].update(app="x")),
            ("no valid name", lambda o: o[place["Service"]]["metadata"].update(name="Web_1")),
            ("is no quantity", lambda o: sidecar(o)["resources"]["limits"].update(memory="64Mib")),
            ("and is limited to", lambda o: sidecar(o)["resources"]["requests"].update(memory="1Gi")),
            ("has no port", lambda o: sidecar(o)["readinessProbe"]["httpGet"].update(port="health")),
            ("restartPolicy Alwayz", lambda o: sidecar(o).update(restartPolicy="Alwayz")),
            ("there is no ConfigMap/keyward", lambda o: o.pop(place["ConfigMap"])),
            ("there is no Secret/keyward", lambda o: o.pop(place["Secret"])),
            ("there is no volume", lambda o: sidecar(o)["volumeMounts"][0].update(name="x")),
            ("selects no Pod", lambda o: o[place["Service"]]["spec"]["selector"].update(app="x")),
            ("no container has the port", lambda o: o[place["Service"]]["spec"]["ports"][0].update(targetPort="x")),
            ("NetworkPolicy keyward: no container", lambda o: sidecar(o)["ports"].pop()),
            ("two containers have the port", lambda o: app(o).update(ports=[{"containerPort": 8080}])),
            ("two containers are called", lambda o: app(o).update(name="keyward")),
            ("may run as root", lambda o: without(sidecar(o)["securityContext"], "runAsNonRoot")),
            ("may run as root", lambda o: app(o)["securityContext"].update(runAsUser=0)),
            ("may gain privileges", lambda o: without(app(o)["securityContext"], "allowPrivilegeEscalation")),
            ("keeps capabilities", lambda o: without(sidecar(o)["securityContext"], "capabilities")),
            ("no seccomp profile", lambda o: without(sidecar(o)["securityContext"], "seccompProfile")),
            ("is not restricted", lambda o: pod(o)["volumes"].append({"name": "h", "hostPath": {"path": "/"}})),
            ("no limit of memory", lambda o: without(app(o), "resources")),
            ("longer than the grace", lambda o: app(o)["lifecycle"]["preStop"]["sleep"].update(seconds=60)),
        ]:
            objects = copy.deepcopy(good)
            broken(objects)
            found = problems(objects)
            self.assertTrue(any(expected in problem for problem in found), f"{expected}: {found}")
