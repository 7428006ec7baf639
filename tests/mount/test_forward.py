"""`audit forward` beside a real mount: what apps do and what befalls the mount is delivered at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.processes import tool_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

CAMERA, GALLERY = 10010, 10011
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: forward}
apps: {camera: {uid: 10010}, gallery: {uid: 10011}}
rules:
  - {id: all, allow: [all], who: {app: camera}, paths: "/**"}
  - {id: look, allow: [see, read], who: {app: gallery}, paths: "/**"}
  - {id: no-place, require: {redact: [location]}, who: {app: gallery}, paths: "/**"}
  - {id: private, deny: [read], who: {app: gallery}, paths: "/private/**"}
"""
CONFIG = """\
apiVersion: policyfs/v1
kind: Forward
user: nobody
state: {0}/state
sinks:
  - {{id: all, file: "{0}/out/all"}}
alerts:
  - {{id: guard, on: rule, rules: private, file: "{0}/out/guard"}}
  - {{id: unclean, on: unredactable, file: "{0}/out/unclean"}}
  - {{id: policy, on: policy, file: "{0}/out/policy"}}
"""


@pytest.fixture
def place() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="policyfs-forward-"))
    root.chmod(0o711)
    (root / "out").mkdir()
    shutil.chown(root / "out", "nobody")
    yield root
    shutil.rmtree(root)


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_each_class_of_a_mount_is_told(mounts: Mounts, store: Path, place: Path) -> None:
    (store / "private").mkdir()
    (store / "private/a.txt").write_text("x")
    (store / "odd.bin").write_bytes(os.urandom(300))
    mount: Mount = mounts.start(POLICY, store)
    (place / "f.yaml").write_text(CONFIG.format(place))
    program = [
        sys.executable,
        "-m",
        "policyfs.cli.main",
        "audit",
        "forward",
        "--config",
        str(place / "f.yaml"),
    ]
    environment = os.environ | mount.environment
    command = [*program, "--trail", str(mount.trail_dir.parent)]
    forward = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: lines(place / "out/all"), "the first lines")
        assert tool_as(GALLERY, "cat", mount / "private/a.txt").returncode
        assert tool_as(GALLERY, "cat", mount / "odd.bin").returncode
        mount.policy.write_text("broken")
        assert mount.reload().returncode
        for name, text in (
            ("guard", "gallery open /private/a.txt: deny EACCES private"),
            ("unclean", "gallery open /odd.bin: deny EACCES no-place"),
            ("policy", "refused"),
        ):
            wait_for(lambda name=name: lines(place / f"out/{name}"), f"the alert {name}")
            assert text in str(lines(place / f"out/{name}")[0]["text"])
    finally:
        forward.terminate()
        forward.wait(20)
    assert forward.returncode == 0
