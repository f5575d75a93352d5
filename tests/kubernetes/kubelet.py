"""A small kubelet: runs the Pod of a rendered Deployment on podman, as Kubernetes would.

It does what a Pod's life depends on: the sandbox with an address of its own, ConfigMaps and Secrets as volumes that are
swapped by renaming `..data`, limits and security contexts, init containers and native sidecars (the next container
starts when the startup probe has succeeded), probes from outside, and the end: all preStop hooks at once, SIGTERM to
the containers, then to the sidecars in reverse order, SIGKILL when the grace period is over.

What it does not know it refuses, so that nothing of a Pod is silently left out. It restarts nothing.

The caller lives in a network namespace of its own, which stands for the node. A Pod's namespace is connected to it by a
pair of virtual interfaces; no packet leaves the two.
"""

import base64
import http.client
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path


class Refused(Exception):
    """What kubelet would refuse, or this one cannot do."""


def only(mapping, known, what):
    unknown = set(mapping) - set(known)
    if unknown:
        raise Refused(f"{what}: {', '.join(sorted(unknown))}")


LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
# Enough for a container, and allowed wherever this was tried.
MOST = 20000


class Podman:
    """podman with storage of its own."""

    def __init__(self, work):
        work.mkdir(parents=True, exist_ok=True)
        hard = {name: resource.getrlimit(number)[1] for name, number in LIMITS.items()}
        limits = {name: min(limit, MOST) if limit > 0 else MOST for name, limit in hard.items()}
        ulimits = json.dumps([f"{name}={limit}:{limit}" for name, limit in limits.items()])
        config = work / "containers.conf"
        config.write_text(
            "[containers]\n"
            # Without CAP_SYS_RESOURCE a higher limit than one's own cannot be set.
            f"default_ulimits = {ulimits}\n"
            "[engine]\n"
            # crun cannot do with hybrid cgroups, and there may be no systemd.
            'runtime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        )
        # Where a container is killed for its memory, a file is left in the working directory.
        self.place = work
        self.environment = os.environ | {"CONTAINERS_CONF": str(config)}
        self.arguments = ["podman", "--root", str(work / "storage"), "--runroot", str(work / "run")]

    def __call__(self, *arguments, check=True, timeout=120):
        done = subprocess.run(
            [*self.arguments, *map(str, arguments)],
            env=self.environment, cwd=self.place, capture_output=True, text=True, timeout=timeout,
        )
        if check and done.returncode:
            raise Refused(f"podman {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout.strip() if check else done


def quantity(text):
    """Bytes or cores."""
    text = str(text)
    for suffix, factor in {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9}.items():
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * factor
    return float(text)


class Volume:
    """A directory that is swapped as kubelet's AtomicWriter does."""

    def __init__(self, path):
        self.path, self.version = path, 0
        path.mkdir(parents=True)

    def write(self, files):
        self.version += 1
        new = self.path / f"..{self.version}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
            (new / name).chmod(0o644)
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(Path("..data") / name)
        (self.path / "..data_tmp").symlink_to(new.name)
        old = os.readlink(self.path / "..data") if (self.path / "..data").is_symlink() else None
        os.rename(self.path / "..data_tmp", self.path / "..data")
        if old:
            shutil.rmtree(self.path / old)


class Container:
    def __init__(self, pod, spec, is_sidecar):
        only(
            spec,
            "name image command args ports startupProbe readinessProbe livenessProbe lifecycle resources securityContext "
            "volumeMounts restartPolicy env".split(),
            f"container {spec['name']}",
        )
        self.pod, self.spec, self.is_sidecar = pod, spec, is_sidecar
        self.name = f"{pod.name}-{spec['name']}"
        self.ready, self.pid, self.exit_code = False, None, None
        self.ended = threading.Event()

    def start(self):
        spec, pod = self.spec, self.pod
        arguments = ["--pod", pod.name, "--name", self.name, *self.security(), *self.limits(), *self.environment()]
        arguments += ["--volume", f"{pod.hosts}:/etc/hosts:ro"]
        for mount in spec.get("volumeMounts", []):
            only(mount, ["name", "mountPath", "readOnly"], "volumeMount")
            mode = ":ro" if mount.get("readOnly") else ""
            arguments += ["--volume", f"{pod.volume(mount['name'])}:{mount['mountPath']}{mode}"]
        if "command" in spec:
            arguments += ["--entrypoint", json.dumps(spec["command"])]
        pod.podman("create", *arguments, spec["image"], *spec.get("args", []))
        pod.podman("start", self.name)
        self.pid = int(pod.podman("inspect", "--format", "{{.State.Pid}}", self.name))
        if self.pid:
            threading.Thread(target=self.watch, daemon=True).start()
        pod.note(f"{spec['name']} started")

    def security(self):
        context = self.spec.get("securityContext", {})
        only(
            context,
            "runAsNonRoot runAsUser runAsGroup readOnlyRootFilesystem allowPrivilegeEscalation capabilities "
            "seccompProfile".split(),
            "securityContext",
        )
        image_user = self.pod.podman("image", "inspect", "--format", "{{.Config.User}}", self.spec["image"])
        user = str(context.get("runAsUser", image_user.split(":")[0] or "0"))
        if context.get("runAsNonRoot") and (not user.isdigit() or int(user) == 0):
            raise Refused(f"{self.name} would run as the user {user!r}, who may be root")
        arguments = ["--user", f"{user}:{context.get('runAsGroup', 0)}"]
        if context.get("readOnlyRootFilesystem"):
            arguments += ["--read-only", "--read-only-tmpfs=false"]
        if context.get("allowPrivilegeEscalation") is False:
            arguments += ["--security-opt", "no-new-privileges"]
        for capability in context.get("capabilities", {}).get("drop", []):
            arguments += ["--cap-drop", capability]
        return arguments

    def limits(self):
        limits = self.spec.get("resources", {}).get("limits", {})
        arguments = []
        if "memory" in limits:
            memory = int(quantity(limits["memory"]))
            arguments += ["--memory", memory, "--memory-swap", memory]
        if "cpu" in limits:
            arguments += ["--cpus", quantity(limits["cpu"])]
        return arguments

    def environment(self):
        arguments = []
        for entry in self.spec.get("env", []):
            source = entry.get("valueFrom", {})
            fields = {"metadata.name": self.pod.name, "status.podIP": self.pod.ip}
            if "fieldRef" in source:
                value = fields[source["fieldRef"]["fieldPath"]]
            elif source:
                raise Refused(f"valueFrom: {', '.join(source)}")
            else:
                value = entry.get("value", "")
            arguments += ["--env", f"{entry['name']}={value}"]
        return arguments

    def watch(self):
        # Its parent reaps it as soon as it has ended.
        while Path(f"/proc/{self.pid}").exists():
            time.sleep(0.01)
        self.ready = False
        self.pod.note(f"{self.spec['name']} ended")
        self.ended.set()

    def running(self):
        return self.pid and not self.ended.is_set()

    def code(self):
        """How it ended."""
        for _ in range(100):
            state = json.loads(self.pod.podman("inspect", "--format", "{{json .State}}", self.name))
            if state["Status"] == "exited":
                return state["ExitCode"]
            time.sleep(0.05)
        raise Refused(f"{self.name} has not ended")

    def logs(self):
        done = self.pod.podman("logs", self.name, check=False)
        return done.stdout + done.stderr

    def exec(self, *command, check=True):
        return self.pod.podman("exec", self.name, *command, check=check)

    def port(self, wanted):
        for port in self.spec.get("ports", []):
            if port.get("name") == wanted:
                return port["containerPort"]
        if isinstance(wanted, int):
            return wanted
        raise Refused(f"{self.name} has no port {wanted}")

    def probe(self, probe):
        """One probe, from outside, as kubelet counts it."""
        only(probe, "httpGet periodSeconds failureThreshold successThreshold timeoutSeconds initialDelaySeconds".split(), "probe")
        only(probe["httpGet"], ["path", "port"], "httpGet")
        address = (self.pod.ip, self.port(probe["httpGet"]["port"]))
        connection = http.client.HTTPConnection(*address, timeout=probe.get("timeoutSeconds", 1))
        try:
            connection.request("GET", probe["httpGet"]["path"])
            return 200 <= connection.getresponse().status < 400
        except OSError:
            return False
        finally:
            connection.close()

    def await_started(self):
        probe = self.spec.get("startupProbe")
        if not probe:
            return
        for _ in range(probe.get("failureThreshold", 3)):
            if self.probe(probe):
                self.pod.note(f"{self.spec['name']} has started up")
                return
            if not self.running():
                break
            # Kubelet would wait the whole period; what is waited for is the same.
            time.sleep(min(probe.get("periodSeconds", 10), 0.1))
        raise Refused(f"{self.name} did not start up: {self.logs()}")

    def keep_probing(self):
        probe = self.spec.get("readinessProbe")
        if not probe:
            self.ready = self.running()
            return
        failures = 0
        while self.running():
            if self.probe(probe):
                failures = 0
                if not self.ready:
                    self.pod.note(f"{self.spec['name']} is ready")
                self.ready = self.running()
            else:
                failures += 1
                if self.ready and failures >= probe.get("failureThreshold", 3):
                    self.pod.note(f"{self.spec['name']} is not ready")
                    self.ready = False
            # The first success is waited for with less patience than kubelet has.
            self.ended.wait(probe.get("periodSeconds", 10) if self.ready else 0.1)

    def pre_stop(self):
        hook = self.spec.get("lifecycle", {}).get("preStop")
        if not hook or not self.running():
            return
        only(hook, ["sleep", "exec"], "preStop")
        if "sleep" in hook:
            self.ended.wait(hook["sleep"]["seconds"])
        else:
            done = self.exec(*hook["exec"]["command"], check=False)
            if done.returncode:
                self.pod.note(f"preStop of {self.spec['name']} failed: {done.stderr}")
        self.pod.note(f"preStop of {self.spec['name']} is over")

    def signal(self, number):
        if self.running():
            self.pod.note(f"{self.spec['name']} gets {number.name}")
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


class Pod:
    """The Pod of the Deployment `name` among the rendered `objects`. `secrets` are those that the cluster has besides;
    `fill` are functions by the name of a volume, which put something into it before the Pod starts."""

    numbers = iter(range(1, 250))

    def __init__(self, podman, work, objects, name, secrets=None, fill=None):
        self.fill = fill or {}
        self.podman, self.objects = podman, objects
        self.number = next(self.numbers)
        self.name = f"{name}-{os.getpid()}-{self.number}"
        # Addresses for tests between hosts (RFC 2544).
        self.node_ip, self.ip = f"198.18.{self.number}.1", f"198.18.{self.number}.2"
        self.spec = self.find("Deployment", name)["spec"]["template"]["spec"]
        only(
            self.spec,
            "containers initContainers volumes terminationGracePeriodSeconds automountServiceAccountToken "
            "topologySpreadConstraints".split(),
            "Pod",
        )
        self.events, self.begun = [], time.monotonic()
        self.place = work / self.name
        self.volumes, self.secrets = {}, secrets or {}
        self.hosts = self.place / "hosts"
        containers = self.spec.get("initContainers", [])
        sidecars = [container for container in containers if container.get("restartPolicy") == "Always"]
        if len(sidecars) != len(containers):
            raise Refused("an init container that is no sidecar")
        self.sidecars = [Container(self, container, True) for container in sidecars]
        self.apps = [Container(self, container, False) for container in self.spec["containers"]]

    def find(self, kind, name):
        for found in self.objects:
            if (found["kind"], found["metadata"]["name"]) == (kind, name):
                return found
        raise KeyError(f"{kind} {name}")

    def note(self, what):
        self.events.append((time.monotonic() - self.begun, what))

    def at(self, what):
        """When something was noted first."""
        for when, noted in self.events:
            if noted == what:
                return when
        raise KeyError(f"{what} is not among {self.events}")

    def container(self, name):
        return next(found for found in self.sidecars + self.apps if found.spec["name"] == name)

    def volume(self, name):
        volume = self.volumes[name]
        return volume.path if isinstance(volume, Volume) else volume

    def make_volume(self, spec):
        only(spec, ["name", "configMap", "secret", "emptyDir"], "volume")
        path = self.place / "volumes" / spec["name"]
        if "emptyDir" in spec:
            path.mkdir(parents=True)
            path.chmod(0o777)
            return path
        volume = Volume(path)
        if "configMap" in spec:
            data = self.find("ConfigMap", spec["configMap"]["name"])["data"]
            volume.write({name: text.encode() for name, text in data.items()})
            return volume
        name = spec["secret"]["secretName"]
        try:
            data = self.find("Secret", name)["data"]
        except KeyError:
            data = self.secrets.get(name)
        if data is None and not spec["secret"].get("optional"):
            raise Refused(f"there is no Secret {name}")
        volume.write({key: base64.b64decode(text) for key, text in (data or {}).items()})
        return volume

    def swap(self, volume, files):
        """Changes a ConfigMap or a Secret, when kubelet has come to it."""
        self.volumes[volume].write({name: text.encode() for name, text in files.items()})
        self.note(f"{volume} swapped")

    def start(self):
        self.place.mkdir(parents=True)
        self.hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{self.ip} {self.name}\n")
        for spec in self.spec.get("volumes", []):
            self.volumes[spec["name"]] = self.make_volume(spec)
        for name, fill in self.fill.items():
            fill(self.volume(name))
        self.podman("pod", "create", "--name", self.name, "--network", "none", "--share", "net,ipc,uts")
        self.podman("pod", "start", self.name)
        infra = self.podman("pod", "inspect", "--format", "{{.InfraContainerID}}", self.name)
        self.connect(self.podman("inspect", "--format", "{{.State.Pid}}", infra))
        for sidecar in self.sidecars:
            sidecar.start()
            sidecar.await_started()
        for app in self.apps:
            app.start()
        for container in self.sidecars + self.apps:
            threading.Thread(target=container.keep_probing, daemon=True).start()

    def connect(self, sandbox):
        device, inside = f"pod{self.number}", ["nsenter", "--target", sandbox, "--net", "ip"]
        for command in [
            ["ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", sandbox],
            ["ip", "address", "add", f"{self.node_ip}/30", "dev", device],
            ["ip", "link", "set", device, "up"],
            [*inside, "address", "add", f"{self.ip}/30", "dev", "eth0"],
            [*inside, "link", "set", "eth0", "up"],
            [*inside, "link", "set", "lo", "up"],
        ]:
            subprocess.run(command, check=True)

    def ready(self):
        return all(container.ready for container in self.sidecars + self.apps)

    def await_ready(self, seconds=60):
        until = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() > until or not all(container.running() for container in self.sidecars + self.apps):
                raise Refused(f"the Pod is not ready: {self.events} {[found.logs() for found in self.sidecars + self.apps]}")
            time.sleep(0.05)
        self.note("ready")

    def delete(self):
        """Ends the Pod, and returns when the last container has ended."""
        grace = self.spec.get("terminationGracePeriodSeconds", 30)
        until = time.monotonic() + grace
        self.note("deleted")
        everybody = self.sidecars + self.apps

        def kill():
            for container in everybody:
                container.signal(signal.SIGKILL)

        killer = threading.Timer(grace, kill)
        killer.start()
        hooks = {}
        for container in everybody:
            hooks[container] = threading.Thread(target=container.pre_stop, daemon=True)
            hooks[container].start()

        def end(container):
            hooks[container].join(max(0, until - time.monotonic()))
            container.signal(signal.SIGTERM)
            container.ended.wait()

        ends = [threading.Thread(target=end, args=[app]) for app in self.apps]
        for thread in ends:
            thread.start()
        for thread in ends:
            thread.join()
        for sidecar in reversed(self.sidecars):
            end(sidecar)
        killer.cancel()
        self.note("gone")

    def remove(self):
        """Removes every trace, whatever state it is in."""
        for container in self.sidecars + self.apps:
            container.signal(signal.SIGKILL)
        self.podman("pod", "rm", "--force", "--time", "0", self.name, check=False)
        shutil.rmtree(self.place, ignore_errors=True)
