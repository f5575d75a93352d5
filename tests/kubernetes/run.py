"""Runs the tests of what deploy/ has for Kubernetes: `run.py [NAME]...`; scripts/kubernetes.sh installs what they need.

Pods and their clients live in a network namespace of their own, so this program starts itself again in one, when it has
built what has to come from elsewhere.
"""

import os
import subprocess
import sys
import unittest

import images
from cluster import PODMAN, WORK


def main():
    if os.environ.get("KEYWARD_INSIDE") != "yes":
        images.build(PODMAN, WORK)
        os.environ["KEYWARD_INSIDE"] = "yes"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    names = sys.argv[1:] or ["test_manifests", "test_image", "test_pods", "test_load"]
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromNames(names))
    failed = len(result.failures) + len(result.errors)
    # In the words of cargo, so that whoever counts counts these too.
    print(f"test result: {'FAILED' if failed else 'ok'}. {result.testsRun - failed} passed; {failed} failed;")
    sys.exit(bool(failed) or not result.testsRun)


if __name__ == "__main__":
    main()
