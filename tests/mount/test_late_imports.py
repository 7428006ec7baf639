"""Nothing is imported by a process that has given up rights: it may be unable to open the module.

Each command and daemon that confines itself runs here in an interpreter of its own, over every sort of file
that it may meet, and notes what it imports after that (late_imports.py).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files.compression import compress
from policyfs.journal.sealing.keys import KeyStore
from tests.fuzz.seeds import KINDS, seeds_of
from tests.mount.test_follow import POLICY as FOLLOWED
from tests.support.machine.late_imports import new_notes, noted
from tests.support.machine.processes import call_as, tool_as, wait_for
from tests.support.mount.daemons import policyfs
from tests.support.mount.stores import Mounts
from tests.support.mount.trail import MOUNT_ID, a_denial, a_journal, an_event, segments

pytestmark = pytest.mark.mount

PROGRAM = "tests.support.machine.late_imports"
USER = "nobody"
CAMERA, GALLERY = 10010, 10011


@pytest.fixture
def place() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="policyfs-late-"))
    root.chmod(0o711)
    (root / "out").mkdir()
    os.chown(root / "out", pwd.getpwnam(USER).pw_uid, -1)
    yield root
    shutil.rmtree(root)


def compressed_trail(root: Path) -> list[Path]:
    """Make a trail, in `plain` too. Return its two segments that are compressed."""
    with a_journal(root / "trail", segment_bytes=20_000, keys=KeyStore(root / "keys")) as journal:
        for number in range(240):
            event = a_denial(b"/Private/%d" % number) if number % 3 else an_event(b"/DCIM/%d" % number)
            journal.record(event, Audit.REQUIRED)
    directory = root / "trail" / MOUNT_ID
    shutil.copytree(root / "trail", root / "plain")
    place = os.open(directory, os.O_RDONLY)
    for file in segments(directory)[:2]:
        assert compress(place, file.name, 0)
    os.close(place)
    assert len(segments(directory)) > 3
    return segments(directory)[:2]


def test_the_readers_answer_alike_over_compressed_segments(place: Path, monkeypatch) -> None:
    compressed_trail(place)
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(place / "keys"))
    for words in (
        ["verify"],
        ["search", "decision:deny"],
        ["summary"],
        ["report", "--html", str(place / "page")],
    ):
        told = [
            policyfs("audit", words[0], "--trail", str(root), *words[1:])
            for root in (place / "trail", place / "plain")
        ]
        assert told[0].returncode == told[1].returncode == 0, told[0]
        assert told[0].stdout == told[1].stdout
        assert words[0] != "search" or "/Private/1" in told[0].stdout


def test_follow_imports_nothing_once_confined(place: Path) -> None:
    """As root: one process that may only read the trail, one that may not read it. Then with a full disk."""
    _, cut = compressed_trail(place)
    cut.write_bytes(cut.read_bytes()[:-100])
    for target in (Path("/dev/full"), place / "out/all"):
        notes = new_notes(place / "notes")
        with target.open("wb") as out:
            follow = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, str(notes), "audit", "follow", "--user", USER,
                 "--trail", str(place / "trail"), "--cursor", str(place / "state/cursor"), "decision:deny"],
                stdout=out, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                if target != Path("/dev/full"):
                    wait_for(lambda target=target: b'"close"' in target.read_bytes(), "the lines")
                    follow.terminate()
                assert follow.wait(20) == (target == Path("/dev/full"))
            finally:
                follow.kill()
                follow.wait()
        assert noted(notes) == (2, [])
    assert b'"hole"' in (place / "out/all").read_bytes()


POLICY = (
    FOLLOWED + '  - {id: photos, require: {content: [image/jpeg]}, who: {app: camera}, paths: "/photos/**"}\n'
)


def test_a_daemon_and_its_workers_import_nothing_once_confined(
    store: Path, mounts: Mounts, arena: Path
) -> None:
    notes = new_notes(arena / "notes")
    for name in ("private", "photos", "kinds"):
        (store / name).mkdir(mode=0o777)
        (store / name).chmod(0o777)
    for kind in KINDS:
        for number, data in enumerate(seeds_of(kind)[:3]):
            file = store / "kinds" / f"{kind.replace('/', '-')}-{number}"
            file.write_bytes(data)
            file.chmod(0o644)
    (store / "kinds/odd").write_bytes(os.urandom(300))
    mount = mounts.prepare(POLICY, store, "--trail-segment", "64K", "--trail-keep", "10")
    mount.program, mount.executed, mount.proved = (PROGRAM, str(notes)), True, True
    mount.start()
    assert call_as(GALLERY, _read_all, mount.mountpoint / "kinds") > 50
    for number in range(150):
        (store / f"private/{number}").write_text("x")
    assert not call_as(GALLERY, _read_all, mount.mountpoint / "private")
    assert tool_as(CAMERA, "cp", mount / "kinds/image-jpeg-0", mount / "photos/a.jpg").returncode == 0
    assert tool_as(CAMERA, "cp", mount / "kinds/odd", mount / "photos/b.jpg").returncode
    assert tool_as(CAMERA, "mv", mount / "photos/a.jpg", mount / "kinds").returncode == 0
    assert mount.reload().returncode == 0
    mount.policy.write_text("broken")
    assert mount.reload().returncode
    mount.expected_log.append("policy-refused")
    mount.status()
    wait_for(lambda: list(mount.trail_dir.glob("*.seal")), "a seal")
    assert mount.stop() == []
    steps, late = noted(notes)
    assert late == []
    assert steps > 2


def _read_all(directory: Path) -> int:
    """Return the number of files that could be read."""
    count = 0
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            (directory / name).read_bytes()
            count += 1
    return count
