"""What the schemas of Kubernetes do not check, in rendered objects: names that nobody has, quantities that are none, ports
that no container has, and the Pod security standard "restricted".

`problems(objects, external)` lists what is wrong; `external` are `Kind/name` of objects that are made elsewhere.
"""

import re

QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
FACTORS = {
    "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip


def amount(text):
    match = QUANTITY.fullmatch(str(text))
    return float(str(text)[: len(str(text)) - len(match[2] or "")]) * FACTORS[match[2] or ""] if match else None


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def problems(objects, external=()):
    found = []
    known = {f"{thing['kind']}/{thing['metadata']['name']}" for thing in objects} | set(external)
    pods = [
        (thing["metadata"]["name"], thing["spec"]["template"], thing["spec"]["selector"]["matchLabels"])
        for thing in objects
        if thing["kind"] == "Deployment"
    ]
    for thing in objects:
        if not NAME.fullmatch(thing["metadata"]["name"]):
            found.append(f"{thing['kind']} {thing['metadata']['name']}: no valid name")
    for name, template, selector in pods:
        labels = template["metadata"].get("labels", {})
        if not matches(selector, labels):
            found.append(f"{name}: the selector does not match the Pod's own labels")
        found += [f"{name}: {problem}" for problem in pod_problems(template["spec"], known)]
    for thing in objects:
        kind, name, spec = thing["kind"], thing["metadata"]["name"], thing.get("spec", {})
        if kind == "Service":
            chosen = [template for _, template, _ in pods if matches(spec["selector"], template["metadata"]["labels"])]
            if not chosen:
                found.append(f"Service {name}: selects no Pod")
            for template in chosen:
                ports = ports_of(template["spec"])
                for port in spec["ports"]:
                    target = port.get("targetPort", port["port"])
                    if target not in ports and target not in ports.values():
                        found.append(f"Service {name}: no container has the port {target}")
        if kind in ("NetworkPolicy", "PodDisruptionBudget"):
            wanted = (spec.get("podSelector") or spec.get("selector"))["matchLabels"]
            chosen = [template for _, template, _ in pods if matches(wanted, template["metadata"]["labels"])]
            if not chosen:
                found.append(f"{kind} {name}: selects no Pod")
            named = [port["port"] for rule in spec.get("ingress", []) for port in rule.get("ports", [])]
            for template in chosen:
                ports = ports_of(template["spec"])
                found += [
                    f"{kind} {name}: no container has the port {port}"
                    for port in named
                    if port not in ports and port not in ports.values()
                ]
    return found


def ports_of(spec):
    """Ports by name; those without one by their number."""
    containers = spec.get("initContainers", []) + spec["containers"]
    ports = [port for container in containers for port in container.get("ports", [])]
    return {port.get("name", port["containerPort"]): port["containerPort"] for port in ports}


def pod_problems(spec, known):
    containers = spec.get("initContainers", []) + spec["containers"]
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for volume in volumes.values():
        source = next(key for key in volume if key != "name")
        if source not in RESTRICTED_VOLUMES:
            yield f"volume {volume['name']}: {source} is not restricted"
        wanted = {"configMap": ("ConfigMap", "name"), "secret": ("Secret", "secretName")}.get(source)
        if wanted and not volume[source].get("optional"):
            reference = f"{wanted[0]}/{volume[source][wanted[1]]}"
            if reference not in known:
                yield f"volume {volume['name']}: there is no {reference}"
    names = [container["name"] for container in containers]
    for name in {name for name in names if names.count(name) > 1}:
        yield f"two containers are called {name}"
    ports = [port["containerPort"] for container in containers for port in container.get("ports", [])]
    for port in {port for port in ports if ports.count(port) > 1}:
        yield f"two containers have the port {port}"
    for container in containers:
        for problem in container_problems(container, volumes, spec):
            yield f"{container['name']}: {problem}"
    sleeps = [
        container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) for container in containers
    ]
    if max(sleeps) >= spec.get("terminationGracePeriodSeconds", 30):
        yield "preStop sleeps for longer than the grace period"


def container_problems(container, volumes, spec):
    is_init = container in spec.get("initContainers", [])
    if container.get("restartPolicy") not in ((None, "Always") if is_init else (None,)):
        yield f"restartPolicy {container['restartPolicy']}"
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"there is no volume {mount['name']}"
    named = {port.get("name") for port in container.get("ports", [])}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        port = container.get(probe, {}).get("httpGet", {}).get("port")
        if isinstance(port, str) and port not in named:
            yield f"{probe}: the container has no port {port}"
        if is_init and probe == "startupProbe" and container.get("restartPolicy") != "Always":
            yield "startupProbe of an init container that is no sidecar"
    resources = container.get("resources", {})
    if "memory" not in resources.get("limits", {}):
        yield "no limit of memory"
    for kind in ("requests", "limits"):
        for name, value in resources.get(kind, {}).items():
            if amount(value) is None:
                yield f"{kind}.{name}: {value} is no quantity"
    for name, value in resources.get("requests", {}).items():
        limit = resources.get("limits", {}).get(name)
        if limit and amount(value) and amount(limit) and amount(value) > amount(limit):
            yield f"requests {value} of {name}, and is limited to {limit}"
    context = spec.get("securityContext", {}) | container.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield "may run as root"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if "ALL" not in context.get("capabilities", {}).get("drop", []):
        yield "keeps capabilities"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
