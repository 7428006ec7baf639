"""A limit on the files that an app changes: each way to change an existing file counts, nothing else does."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from policyfs.cli.running.health import problems
from tests.mount.test_raw_tree import refusal
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts

ONE = 10061
TWO = ONE + 1
CHANGES = 5
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: brake}}
apps:
  one: {{uid: "{ONE}-{ONE}", gid: {ONE}}}
  two: {{uid: {TWO}, gid: {TWO}}}
defaults: {{audit: best_effort}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}}}
  - {{id: brake, limit: {{changes: {CHANGES}, within: 10m}}, who: {{app: one}}}}
"""
CHECKED = POLICY + '  - {id: texts, require: {content: ["text/plain", "inode/x-empty"]}, who: {app: one}}\n'
OLD = b"old bytes"
_EXCHANGE = 2


def exchange(one: str, other: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, one.encode(), -100, other.encode(), _EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


def new(path: str) -> str:
    Path(path + ".new").write_bytes(b"new bytes")
    return path + ".new"


def opened(path: str, flags: int) -> None:
    os.close(os.open(path, flags))


def mapped(path: str) -> None:
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[:3] = b"NEW"


def allocated(path: str) -> None:
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, len(OLD))


def copied(path: str) -> None:
    with open(new(path), "rb") as source, open(path, "r+b") as file:
        os.copy_file_range(source.fileno(), file.fileno(), 3)


WAYS: dict[str, Callable[[str], object]] = {
    "unlink": os.unlink,
    "rename": lambda path: os.rename(path, path + ".moved"),
    "replace": lambda path: os.replace(new(path), path),
    "exchange": lambda path: exchange(new(path), path),
    "exchange back": lambda path: exchange(path, new(path)),
    "truncate": lambda path: os.truncate(path, len(OLD) - 1),
    "truncate to 0": lambda path: os.truncate(path, 0),
    "O_TRUNC": lambda path: opened(path, os.O_WRONLY | os.O_TRUNC),
    "O_RDONLY|O_TRUNC": lambda path: opened(path, os.O_RDONLY | os.O_TRUNC),
    "O_CREAT|O_TRUNC": lambda path: opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    "O_APPEND": lambda path: opened(path, os.O_WRONLY | os.O_APPEND),
    "O_RDWR": lambda path: opened(path, os.O_RDWR),
    "mapping": mapped,
    "fallocate": allocated,
    "copy_file_range": copied,
}
FREE: dict[str, Callable[[str], object]] = {
    "read": lambda path: Path(path).read_bytes(),
    "chmod": lambda path: os.chmod(path, 0o666),
    "utime": lambda path: os.utime(path, ns=(1, 1)),
    "link": lambda path: os.link(path, path + ".link"),
    "create": new,
    "own": lambda path: os.unlink(new(path)),
    "mkdir": lambda path: os.mkdir(path + ".d"),
    "rmdir": lambda path: os.rmdir(path + ".d"),
    "symlink": lambda path: os.symlink(path, path + ".s"),
    "own symlink": lambda path: os.unlink(path + ".s"),
}


@pytest.fixture
def store(empty_store: Path) -> Path:
    empty_store.chmod(0o777)
    return empty_store


def fill(store: Path, name: str, count: int = CHANGES + 2) -> list[str]:
    directory = store / name
    directory.mkdir()
    directory.chmod(0o777)
    for number in range(count):
        file = directory / f"f{number}"
        file.write_bytes(OLD)
        os.chown(file, ONE, ONE)
        file.chmod(0o666)
    return [f"{name}/f{number}" for number in range(count)]


def attempts(mountpoint: str, names: list[str], change: Callable[[str], object]) -> list[int | None]:
    return [refusal(lambda name=name: change(f"{mountpoint}/{name}")) for name in names]


def brake(mount: Mount, *words: str) -> tuple[int, str]:
    with mount.as_environment():
        said = policyfs("brake", *words)
    return said.returncode, said.stdout + said.stderr


def release(mount: Mount, app: str = "one") -> None:
    code, told = brake(mount, str(mount.mountpoint), "--release", app)
    assert code == 0, told


@pytest.mark.parametrize(
    ("policy", "options"),
    [(POLICY, ("--app", "one")), (POLICY, ("--no-passthrough",)), (POLICY, ("--posix",)), (CHECKED, ())],
    ids=["app", "mediated", "posix", "checked"],
)
def test_each_way_to_change_a_file_counts(
    mounts: Mounts, store: Path, policy: str, options: tuple[str, ...]
) -> None:
    mount = mounts.prepare(policy, store, *options)
    mount.expected_mediated = True
    mount.start()
    allowed, refused = [None] * CHANGES, [errno.EDQUOT] * 2
    for way, change in WAYS.items():
        names = fill(store, way.replace(" ", "-").replace("|", "-"))
        assert call_as(ONE, attempts, str(mount.mountpoint), names, change) == allowed + refused, way
        assert [(store / name).read_bytes() for name in names[CHANGES:]] == [OLD] * 2, way
        again = call_as(ONE, attempts, str(mount.mountpoint), names[CHANGES:], os.unlink)
        assert again == refused, way
        release(mount)
    names = fill(store, "free")
    for way, do in FREE.items():
        assert call_as(ONE, attempts, str(mount.mountpoint), names, do) == [None] * len(names), way
    code, told = brake(mount, str(mount.mountpoint))
    assert (code, told.count("\n")) == (0, 1), told


def first_refused(mountpoint: str, names: list[str], change: Callable[[str], object] = os.unlink) -> int:
    """How many files can be changed before the brake is on."""
    return attempts(mountpoint, names, change).index(errno.EDQUOT)


@pytest.mark.parametrize("options", [(), ("--keeper",)], ids=["restart", "take-over"])
def test_a_brake_outlives_the_daemon_and_a_reload(
    mounts: Mounts, store: Path, options: tuple[str, ...]
) -> None:
    mount = mounts.start(POLICY, store, "--app", "one", *options)
    names = fill(store, "d", 30)
    assert call_as(ONE, first_refused, str(mount.mountpoint), names) == CHANGES
    mount.policy.write_text(POLICY.replace("changes: 5", "changes: 50").replace("id: brake", "id: slow"))
    assert mount.reload().returncode == 0
    assert call_as(ONE, first_refused, str(mount.mountpoint), names[CHANGES:]) == 0
    if options:
        kill(mount)
    else:
        mount.start_after_kill()
    assert call_as(ONE, first_refused, str(mount.mountpoint), names[CHANGES:]) == 0
    code, told = brake(mount, str(mount.mountpoint))
    assert code == 1
    assert f"policyfs brake {mount.mountpoint} --release one" in told
    assert "the brake of one is on" in " ".join(mount_problems(mount))
    release(mount)
    assert brake(mount, str(mount.mountpoint))[0] == 0
    assert call_as(ONE, attempts, str(mount.mountpoint), names[CHANGES:], os.unlink) == [None] * 25
    events = wait_for(  # announcements reach the trail a moment after the command's answer
        lambda: (found := mount.events(type="brake"))[1:] and found, "both ends of the brake are on the trail"
    )
    assert [(one["done"], one["app"], one["rule"]) for one in events] == [
        ("on", "one", "brake"), ("release", "one", "brake"),
    ]  # fmt: skip
    assert mount.events(operation="unlink", decision="deny")[0]["errno"] == "EDQUOT"
    mount.policy.write_text(POLICY[: POLICY.index("  - {id: brake")])
    assert mount.reload().returncode == 0
    assert mount.status()["brakes"] == {"on": {}, "counts": []}


def kill(mount: Mount) -> None:
    """Kill the daemon, and wait until the next one answers."""
    before = mount.status()["pid"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: _pid(mount) not in {0, before}, "another daemon answers", 20.0)


def _pid(mount: Mount) -> int:
    try:
        return int(mount.status()["pid"])
    except (AssertionError, OSError):
        return 0


def mount_problems(mount: Mount) -> list[str]:
    with mount.as_environment():
        return list(problems(mount.status()))


def test_one_app_cannot_stop_another(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    names = fill(store, "d", 40)
    assert call_as(TWO, attempts, str(mount.mountpoint), names[:20], os.unlink) == [None] * 20
    assert call_as(ONE, first_refused, str(mount.mountpoint), names[20:30]) == CHANGES
    assert call_as(TWO, attempts, str(mount.mountpoint), names[30:], os.unlink) == [None] * 10


def test_files_of_the_app_itself_are_free_until_another_writes_to_them(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    names = [f"n{number}" for number in range(20)]
    create = partial(attempts, str(mount.mountpoint), names, lambda path: Path(path).write_bytes(OLD))
    assert call_as(ONE, create) == [None] * 20
    assert call_as(ONE, create) == [None] * 20  # an editor saves again
    Path(store, names[0]).chmod(0o666)
    call_as(TWO, opened, str(mount / names[0]), os.O_WRONLY)
    assert call_as(ONE, attempts, str(mount.mountpoint), names, os.unlink) == [None] * 20
    assert [count["counted"] for count in mount.status()["brakes"]["counts"]] == [1]


def test_a_file_counts_once_by_all_its_names_and_a_directory_as_one(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    names = fill(store, "d", 3)
    for number in range(10):
        os.link(store / names[0], store / "d" / f"link{number}")
    links = [f"d/link{number}" for number in range(10)]
    top = str(mount.mountpoint)
    assert call_as(ONE, attempts, top, [*links, names[0]], os.unlink) == [None] * 11
    assert call_as(ONE, attempts, top, names[1:2], lambda path: os.rename(path, path + "x")) == [None]
    assert call_as(ONE, attempts, top, ["d/f1x"], os.unlink) == [None]
    assert call_as(ONE, attempts, top, ["d"], lambda path: os.rename(path, path + "2")) == [None]
    assert [count["counted"] for count in mount.status()["brakes"]["counts"]] == [3]


def hammer(channel: Connection, mountpoint: str, names: list[str], change: Callable[[str], object]) -> int:
    channel.recv()
    return attempts(mountpoint, names, change).count(None)


def test_many_at_once_change_no_more_than_one(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY.replace(f"{ONE}-{ONE}", f"{ONE}-{ONE + 20}").replace(str(TWO), "9999"), store)
    parts = [fill(store, f"d{number}", 10) for number in range(4)]
    ways = [os.unlink, WAYS["O_TRUNC"], WAYS["replace"], WAYS["truncate"]]
    workers = [
        start_as(ONE + number, hammer, str(mount.mountpoint), part, way)
        for number, (part, way) in enumerate(zip(parts, ways, strict=True))
    ]
    for worker in workers:
        worker.send(None)
    assert sum(worker.result() for worker in workers) == CHANGES
    left = [store / name for part in parts for name in part if (store / name).exists()]
    assert [file.read_bytes() for file in left].count(OLD) == 40 - CHANGES
    assert len(mount.events(type="brake")) == 1


def test_a_handle_from_before_the_brake_goes_on(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--app", "one")
    names = fill(store, "d", 8)

    def work() -> tuple[int, int]:
        with open(mount / names[0], "r+b", buffering=0) as file:
            refused = first_refused(str(mount.mountpoint), names[1:])
            file.truncate(0)
            return refused, file.write(b"more")

    assert call_as(ONE, work) == (CHANGES - 1, 4)
