"""What the binary is made of: CycloneDX 1.6 from `cargo metadata`.

Standard input is the output of `cargo metadata --locked --format-version 1 --filter-platform TARGET`, standard output
the document. Only what is linked into the binary is in it: packages that are reached without a dependency for tests or
build scripts, and no macros. The same input gives the same document.
"""

import json
import re
import sys
import uuid


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package):
    found = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package.get("license"):
        # "MIT/Apache-2.0" is the old way to write it; SPDX has only "OR".
        found["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
    if package.get("repository"):
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def linked(metadata):
    """The packages in the binary, and which of them each one needs."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    macros = {
        package["id"]
        for package in metadata["packages"]
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }
    root, needs = metadata["resolve"]["root"], {}
    waiting = [root]
    while waiting:
        package = waiting.pop()
        if package in needs:
            continue
        normal = [
            dependency["pkg"]
            for dependency in nodes[package]["deps"]
            if dependency["pkg"] not in macros and any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]
        needs[package] = normal
        waiting.extend(normal)
    return root, needs


def document(metadata):
    packages = {package["id"]: package for package in metadata["packages"]}
    root, needs = linked(metadata)
    main = component(packages[root]) | {"type": "application"}
    libraries = sorted((packages[package] for package in needs if package != root), key=purl)
    refs = {package: purl(packages[package]) for package in needs}
    dependencies = [
        {"ref": refs[package], "dependsOn": sorted(refs[need] for need in needs[package])} for package in needs
    ]
    name = "\n".join(sorted(refs.values()))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}",
        "version": 1,
        "metadata": {"component": main},
        "components": [component(package) for package in libraries],
        "dependencies": sorted(dependencies, key=lambda entry: entry["ref"]),
    }


if __name__ == "__main__":
    json.dump(document(json.load(sys.stdin)), sys.stdout, indent=1)
    print()
