"""The image: small, of nothing but Keyward, and with its bill of materials."""

import gzip
import json
import subprocess
import unittest

import images
from cluster import OVERLAYS, PODMAN, REPOSITORY, WORK

IMAGE = REPOSITORY / "target" / "image"
MOST = 15 << 20


class Image(unittest.TestCase):
    def test_it_is_small_and_holds_nothing_else(self):
        archive = WORK / "image.tar"
        archive.unlink(missing_ok=True)
        PODMAN("save", "--output", archive, images.KEYWARD)
        size = len(gzip.compress(archive.read_bytes(), 6))
        print(f"  image: {size / 2**20:.2f} MiB compressed, binary {(IMAGE / 'keyward').stat().st_size / 2**20:.2f} MiB")
        self.assertLess(size, MOST)
        config = json.loads(PODMAN("image", "inspect", images.KEYWARD))[0]["Config"]
        self.assertEqual((config["User"], config["Entrypoint"]), ("65532:65532", ["/keyward"]))
        self.assertEqual(archive.unlink(), None)

    def test_the_binary_needs_no_library_and_names_no_place(self):
        headers = subprocess.run(["readelf", "-ld", IMAGE / "keyward"], capture_output=True, text=True, check=True).stdout
        self.assertNotIn("NEEDED", headers)
        self.assertNotIn("interpreter", headers)
        binary = (IMAGE / "keyward").read_bytes()
        for place in [str(REPOSITORY), "/.cargo/registry", "/.rustup/"]:
            self.assertNotIn(place.encode(), binary)

    def test_the_bill_of_materials_names_what_is_linked_and_nothing_else(self):
        bill = json.loads((IMAGE / "keyward.cdx.json").read_text())
        names = {component["name"] for component in bill["components"]}
        self.assertLessEqual({"hyper", "tokio", "rusqlite", "libsqlite3-sys", "zstd-sys", "ring", "serde"}, names)
        # For tests, for builds, and macros.
        self.assertFalse({"proptest", "rcgen", "cc", "serde_derive", "syn"} & names)
        locked = (REPOSITORY / "Cargo.lock").read_text()
        for component in bill["components"]:
            self.assertIn(f'name = "{component["name"]}"\nversion = "{component["version"]}"', locked)
            self.assertTrue(component["licenses"], component)
        refs = {component["bom-ref"] for component in [*bill["components"], bill["metadata"]["component"]]}
        self.assertEqual({entry["ref"] for entry in bill["dependencies"]}, refs)

    def test_the_configurations_of_the_overlays_are_good(self):
        for name in ["component", "overlays/kinde", "overlays/key-service", "key-service"]:
            with self.subTest(name):
                place = WORK / "check"
                subprocess.run(["rm", "-rf", place], check=True)
                (place / "etc").mkdir(parents=True)
                (place / "secrets").mkdir()
                config = OVERLAYS.parent / name / "proxy.yaml"
                (place / "etc" / "proxy.yaml").write_text(config.read_text())
                key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=keyward-keys"]
                names = ["-addext", "subjectAltName=DNS:keyward-keys", "-keyout", place / "secrets/tls.key", "-out"]
                subprocess.run([*key, *names, place / "secrets/tls.crt"], check=True, capture_output=True)
                (place / "secrets" / "tls.key").chmod(0o644)
                for file, text in {
                    "kinde-client-secret": "s" * 40,
                    "sidecar-token": "a" * 40,
                    "admin-token": "b" * 40,
                    "store-url": "postgres://keyward:password@db.example.com/keyward",
                    "ca.crt": (place / "secrets/tls.crt").read_text(),
                }.items():
                    (place / "secrets" / file).write_text(text)
                volumes = [f"--volume={place}/etc:/etc/keyward:ro"]
                volumes += [f"--volume={place}/secrets:/etc/{folder}:ro" for folder in ["keyward-secrets", "keyward-tls"]]
                command = ["run", "--rm", "--network=none", *volumes, images.KEYWARD, "check", "--config", "/etc/keyward/proxy.yaml"]
                done = PODMAN(*command, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
