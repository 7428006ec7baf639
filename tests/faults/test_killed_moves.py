"""kill -9 of a daemon that has moved a file aside: the next daemon of the store gives it its name back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from policyfs.store.store_record import accept_store
from tests.attack.guards_writing import Stops
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import COMMAND, Mount, policyfs
from tests.support.mount.stores import WEAKENED, Mounts

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: killed-moves}}
apps:
  camera: {{uid: {CAMERA}, gid: {CAMERA}}}
  gallery: {{uid: {GALLERY}, gid: {GALLERY}}}
rules:
  - {{id: look, allow: [see, read, write, create], who: {{app: any}}, paths: "/**"}}
  - {{id: own, allow: [delete], who: {{app: any}}, paths: "/**", when: {{owner: self}}}}
"""
WAYS: Final[dict[str, Callable[[Path], None]]] = {
    "unlink": lambda where: (where / "some/a").unlink(),
    "rename": lambda where: os.rename(where / "some/a", where / "more/b"),
    "move": lambda where: os.rename(where / "some/a", where / "more/c"),
}
BOTH: Final = {"a": "bytes of a", "b": "bytes of b"}
KILLED: Final = [(way, step, BOTH) for way in ("unlink", "move") for step in (1, 2, 3)] + [
    ("rename", step, BOTH if step < 4 else {"b": "bytes of a"}) for step in range(1, 6)
]
"""A way, the call before which the daemon is killed, and the files that the next daemon shows."""


def _write(where: Path) -> None:
    for name in ("some/a", "more/b"):
        (where / name).parent.mkdir()
        (where / name).write_text(BOTH[name[-1]])


def _asides(store: Path) -> list[Path]:
    return list(store.rglob("policyfs-aside-*"))


def _read(where: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in where.rglob("*") if path.is_file()}


def _emptied(where: Path) -> list[str]:
    """Remove all directories with their files. Returns the names that are left."""
    for directory in where.iterdir():
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    return os.listdir(where)


class Stopping:
    """A daemon that stops right before each of its calls for a name aside, while the camera removes a file or
    replaces one.
    """

    def __init__(self, mounts: Mounts, store: Path, way: str) -> None:
        (store / "Own").mkdir()
        (store / "Own").chmod(0o777)
        self.mount = mounts.prepare(POLICY, store)
        self.mount.program = (WEAKENED, "stops-while-aside")
        self.stops = Stops(self.mount.environment, store.parent)
        self.mount.start()
        call_as(CAMERA, _write, self.mount / "Own")
        self.app = start_as(CAMERA, _go, way, self.mount / "Own")

    def reach(self, step: int) -> None:
        """Let the daemon go on until it stands before that step, the first is 1."""
        for each in range(step):
            if each:
                self.stops.go_on(1)
            wait_for(self.stops.stopped, f"the daemon stands before step {each + 1}")

    def go_on(self) -> str:
        """Let the daemon finish. Returns how the camera's call ended."""
        self.stops.go_on()
        return str(self.app.result())


def _go(channel: object, way: str, where: Path) -> str:
    del channel
    return code_of(WAYS[way], where)


def killed(mounts: Mounts, store: Path, way: str, step: int) -> Mount:
    """A mount whose daemon was killed before a step. Its next daemon is an ordinary one."""
    stopping = Stopping(mounts, store, way)
    stopping.reach(step)
    mount, dead = stopping.mount, stopping.mount.process
    os.kill(mount.pid, signal.SIGKILL)
    # The kernel may hold a thread of it, which waits for the camera, until then (docs/faults.md).
    mount.abort()
    assert stopping.app.result() in {"ECONNABORTED", "ENOTCONN"}
    assert dead is not None
    assert dead.wait(20) == -signal.SIGKILL
    mount.program = (COMMAND,)
    return mount


@pytest.mark.parametrize(("way", "step", "shown"), KILLED, ids=[f"{way}-{step}" for way, step, _ in KILLED])
def test_the_next_daemon_of_the_store_finishes_what_was_begun(
    mounts: Mounts, empty_store: Path, way: str, step: int, shown: dict[str, str]
) -> None:
    mount = killed(mounts, empty_store, way, step)
    assert len(_asides(empty_store)) == (step > 1)
    other = mounts.start(POLICY, empty_store, "--app", "camera")
    assert call_as(CAMERA, _read, other / "Own") == shown
    assert _asides(empty_store) == []
    assert ("was killed while it removed, replaced or renamed this file" in other.log.read_text()) == (
        step > 1
    )
    mount.start()  # in the place of the dead one
    assert call_as(CAMERA, _read, mount / "Own") == shown
    assert call_as(CAMERA, _emptied, mount / "Own") == []
    assert [one.status()["bugs"] for one in (mount, other)] == [0, 0]


def test_both_files_stay_where_another_has_taken_the_name_by_then(mounts: Mounts, empty_store: Path) -> None:
    mount = killed(mounts, empty_store, "unlink", 2)
    (empty_store / "Own/some/a").write_text("another program's")
    mount.start()
    assert call_as(CAMERA, _read, mount / "Own") == {"a": "another program's", "b": BOTH["b"]}
    [left] = _asides(empty_store)
    assert left.read_text() == BOTH["a"]
    assert left.name in mount.log.read_text()
    with mount.as_environment():
        said = policyfs("doctor", str(empty_store)).stdout
    assert f"Own/some/{left.name}" in said


def test_a_directory_that_was_moved_is_named_and_its_file_stays(mounts: Mounts, empty_store: Path) -> None:
    mount = killed(mounts, empty_store, "unlink", 2)
    (empty_store / "Own/some").rename(empty_store / "Own/moved")
    mount.start()
    [left] = _asides(empty_store / "Own/moved")
    assert left.read_text() == BOTH["a"]
    assert left.name in mount.log.read_text()


def test_a_file_that_a_live_daemon_has_moved_is_left_alone(mounts: Mounts, empty_store: Path) -> None:
    stopping = Stopping(mounts, empty_store, "unlink")
    stopping.reach(3)
    [aside] = _asides(empty_store)
    other = mounts.start(POLICY, empty_store)
    assert _asides(empty_store) == [aside]
    assert stopping.go_on() == ""
    assert call_as(CAMERA, _read, other / "Own") == {"b": BOTH["b"]}
    assert _asides(empty_store) == []


def test_a_mount_that_only_reads_leaves_it_to_the_next(mounts: Mounts, empty_store: Path) -> None:
    mount = killed(mounts, empty_store, "unlink", 2)
    reading = mounts.start(POLICY, empty_store, "--read-only")
    assert call_as(CAMERA, _read, reading / "Own") == {"b": BOTH["b"]}
    mount.start()
    wait_for(lambda: call_as(CAMERA, _read, reading / "Own") == BOTH, "it is shown there, too")
    assert call_as(CAMERA, _read, mount / "Own") == BOTH


def test_the_next_daemon_starts_while_a_file_system_in_the_store_does_not_answer(
    mounts: Mounts, empty_store: Path
) -> None:
    """It may have been the reason for which somebody killed the daemon."""
    mount = killed(mounts, empty_store, "unlink", 2)
    with silent(empty_store / "Own/some"):
        mount.start()
        [told] = [line for line in mount.log.read_text().splitlines() if "policyfs-aside-" in line]
        assert "Own/some/a" in told
        assert mount.stop() == []
    accept_store(str(empty_store))  # nothing is mounted below it any more
    mount.start()
    assert call_as(CAMERA, _read, mount / "Own") == BOTH
    assert _asides(empty_store) == []


@contextlib.contextmanager
def silent(where: Path) -> Iterator[None]:
    """A mount of a FUSE file system that answers no request."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    try:
        assert libc.mount(b"silent", bytes(where), b"fuse.silent", 0, options) == 0, ctypes.get_errno()
        yield
    finally:
        os.close(fd)
        assert libc.umount2(bytes(where), 2) == 0
