"""The images of the Pod tests: Keyward's from target/image, and a Python service from Debian's packages."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
KEYWARD, SERVICE = "localhost/keyward:test", "localhost/assistant:test"


def build(podman, work):
    """Builds both, unless they are what they would become."""
    image = REPOSITORY / "target" / "image"
    build_from(podman, KEYWARD, image, ["keyward", "ca-certificates.crt", "Containerfile"])
    debian, context = work / "python.tar", work / "service"
    if not debian.exists():
        part = debian.with_suffix(".part.tar")
        run("mmdebstrap", "--quiet", "--variant=extract", "--include=python3,libc6", "bookworm", part)
        part.rename(debian)
    if podman("image", "exists", "localhost/python:debian", check=False).returncode:
        podman("import", debian, "localhost/python:debian", timeout=300)
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    shutil.copy(HERE / "service.py", context)
    packages = work / "packages"
    wanted = (HERE / "service-requirements.txt").read_text() + (HERE.parent / "constraints.txt").read_text()
    stamp = packages / "stamp"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(packages, ignore_errors=True)
        run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", packages,
            "--python-version", "3.11", "--only-binary=:all:", "--requirement", HERE / "service-requirements.txt",
        )  # fmt: skip
        stamp.write_text(wanted)
    shutil.copytree(packages, context / "packages")
    (context / "Containerfile").write_text(
        "FROM localhost/python:debian\n"
        "COPY packages /app\nCOPY service.py /app/service.py\n"
        "ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1\nUSER 10001:10001\n"
        'ENTRYPOINT ["/usr/bin/python3", "-u", "/app/service.py"]\n'
    )
    build_from(podman, SERVICE, context, ["packages/stamp", "service.py", "Containerfile"])


def build_from(podman, tag, context, files):
    """`files` decide whether the image is the one that would be built."""
    digest = hashlib.sha256(b"".join((context / file).read_bytes() for file in files)).hexdigest()
    label = podman("image", "inspect", "--format", '{{index .Labels "content"}}', tag, check=False)
    if label.returncode or label.stdout.strip() != digest:
        podman("build", "--quiet", "--network", "none", "--label", f"content={digest}", "--tag", tag, context, timeout=300)


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr}")
