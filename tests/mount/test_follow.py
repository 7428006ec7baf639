"""`audit follow` beside a real mount: each line comes at least once, also through a kill of each side."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.processes import tool_as, wait_for
from tests.support.mount.stores import Mounts

CAMERA, GALLERY = 10010, 10011
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: follow}
apps: {camera: {uid: 10010}, gallery: {uid: 10011}}
rules:
  - {id: all, allow: [all], who: {app: camera}, paths: "/**"}
  - {id: look, allow: [see, read], who: {app: gallery}, paths: "/**"}
  - {id: no-place, require: {redact: [location]}, who: {app: gallery}, paths: "/**"}
  - {id: private, deny: [read], who: {app: gallery}, paths: "/private/**"}
"""


@pytest.fixture
def place() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="policyfs-follow-"))
    root.chmod(0o711)
    yield root
    shutil.rmtree(root)


def is_locked(directory: Path) -> bool:
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_no_line_of_a_mount_is_missing_after_kills_of_each_side(
    mounts: Mounts, store: Path, place: Path
) -> None:
    (store / "private").mkdir()
    (store / "private/a.txt").write_text("x")
    mount = mounts.start(POLICY, store)
    program = [sys.executable, "-m", "policyfs.cli.main", "audit"]
    trail = ["--trail", str(mount.trail_dir.parent)]
    command = [*program, "follow", *trail, "--cursor", f"{place}/state/cursor", "--user", "nobody"]
    out = place / "out"

    def denials() -> int:
        return out.read_text().count('"path":"/private/a.txt"')

    def start() -> subprocess.Popen[bytes]:
        with out.open("ab") as file:
            return subprocess.Popen(command, stdout=file, env=os.environ | mount.environment)

    follow = start()
    try:
        for number in range(1, 4):
            before = denials()
            assert tool_as(GALLERY, "cat", mount / "private/a.txt").returncode
            wait_for(lambda before=before: denials() > before, "the line of a request")
            if number == 1:
                follow.kill()
                follow.wait()
                wait_for(lambda: not is_locked(place / "state"), "the end of its other process")
                follow = start()
            elif number == 2:
                mount.start_after_kill()
        mount.stop()
        wait_for(lambda: '"type":"close"' in out.read_text(), "the end")
        follow.send_signal(signal.SIGTERM)
        assert follow.wait(20) == 0
    finally:
        follow.kill()
        follow.wait()
    search = [*program, "search", "--json", *trail]
    listed = subprocess.run(search, capture_output=True, text=True, check=False)
    expected = [json.dumps(json.loads(line) | {"id": ""}) for line in listed.stdout.splitlines()]
    found = [json.dumps(json.loads(line) | {"id": ""}) for line in out.read_text().splitlines()]
    assert list(dict.fromkeys(found)) == expected
