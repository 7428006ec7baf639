"""Two machines that share a store, policyfs over each: nothing is lost, doubled or shown raw."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from policyfs.linux.libc import RENAME_EXCHANGE, RENAME_NOREPLACE, rename2
from policyfs.store.locking.ofd import WRLCK, Asked, Owner, set_lock
from policyfs.store.spans import LAST_BYTE
from policyfs.store.store_record import MARKER
from tests.support.machine.counts import SOAK, count
from tests.support.machine.processes import call_as
from tests.support.mount.juicefs import JUICEFS, juicefs
from tests.support.mount.stores import Mounts
from tests.support.mount.untrue import untrue
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: ["/***"]}}
  - {{id: no-location, require: {{redact: location}}, who: {{not: {{app: camera}}}}, paths: "/**"}}
"""
CHANGES, READS, LOOKS = count(60, 50_000), count(60, 20_000), count(1, 20)
"""Changes by each machine, reads, and looks for a new name."""
DEADLINE_S = 7200 if SOAK else 60
SLOTS = 12
_FINE = frozenset({errno.EEXIST, errno.ENOENT, errno.ESTALE, errno.EBUSY})
"""How a change of a name can end if another machine was first."""


class Machines(NamedTuple):
    """stores, mounts: the store and the mount of policyfs of each machine."""

    stores: list[Path]
    mounts: list[Path]


@pytest.fixture(params=["double", pytest.param("juicefs", marks=JUICEFS)])
def machines(arena: Path, request: pytest.FixtureRequest) -> Iterator[Machines]:
    mounts = Mounts(arena)
    shared = untrue(arena, "unnamed", machines=2) if request.param == "double" else juicefs(arena)
    with shared as stores:
        (stores[0] / "D").mkdir()
        (stores[0] / "D").chmod(0o777)
        try:
            started = [Path(mounts.start(POLICY, store).mountpoint) for store in stores]
            yield Machines(stores, started)
        finally:
            wrong = mounts.stop_all()
    assert wrong == []


def change(place: Path, seed: int, count: int) -> list[str]:
    """Make, move, exchange and put away files with a token each. Return the tokens. (Nobody asks which one is
    moved: for a second the kernel can take a name for the file that another machine has moved away.)"""
    chance, made = random.Random(seed), list[str]()
    at = os.open(place, os.O_PATH)

    def slot() -> bytes:
        return b"slot-%d" % chance.randrange(SLOTS)

    for number in range(count):
        token = f"{seed}.{number}"
        try:
            match chance.randrange(4):
                case 0:
                    (place / token).write_text(token)
                    made.append(token)
                    rename2(at, token.encode(), at, slot(), RENAME_NOREPLACE)
                case 1:
                    rename2(at, slot(), at, slot(), RENAME_NOREPLACE)
                case 2:
                    rename2(at, slot(), at, slot(), RENAME_EXCHANGE)
                case _:
                    rename2(at, slot(), at, b"away-%s" % token.encode(), RENAME_NOREPLACE)
        except OSError as error:
            if error.errno not in _FINE:
                raise
    os.close(at)
    return made


def contents(place: Path) -> list[str]:
    return sorted(path.read_text() for path in place.iterdir())


@pytest.mark.timeout(DEADLINE_S)
def test_what_two_machines_make_and_move_is_there_once(machines: Machines) -> None:
    made: list[str] = []

    def run(number: int) -> None:
        place = machines.mounts[number] / "D"
        made.extend(call_as(CAMERA, change, place, number, CHANGES, deadline_s=DEADLINE_S))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(1.1)  # the kernel of each machine has forgotten what the other has changed
    for store in machines.stores:
        assert contents(store / "D") == sorted(made), store
    for mount in machines.mounts:
        found = call_as(CAMERA, contents, mount / "D", deadline_s=DEADLINE_S)
        assert found == sorted(made), mount
    assert len(made) > CHANGES // 4


def seen_after(path: Path, uid: int, state: str) -> float:
    """Ask as a user for a file until it is in a state. Return the time of the answer, by time.monotonic()."""
    until = time.monotonic() + DEADLINE_S
    while not call_as(uid, _is_in, path, state):
        assert time.monotonic() < until, f"{path} is not {state}"
        time.sleep(0.02)
    return time.monotonic()


def _is_in(path: Path, state: str) -> bool:
    try:
        size = path.stat().st_size
    except OSError as error:
        if error.errno not in _FINE:
            raise
        size = -1
    return size == {"absent": -1, "made": 3, "grown": 6}[state]


@pytest.mark.timeout(DEADLINE_S)
def test_a_change_is_seen_a_second_later_than_without_policyfs_at_most(machines: Machines) -> None:
    """Each state is known on the second machine, in the store and in the mount, before the next."""
    lags: list[float] = []
    for number in range(LOOKS):
        name, moved = f"D/{number}", f"D/{number}.moved"
        first, second = machines.mounts[0], ((machines.stores[1], 0), (machines.mounts[1], CAMERA))
        steps: list[tuple[Callable[[], object], str, str]] = [
            (lambda path=first / name: path.write_text("new"), name, "made"),
            (lambda path=first / name: path.open("a").write("two"), name, "grown"),
            (lambda old=first / name, new=first / moved: old.rename(new), moved, "grown"),
            (lambda path=first / moved: path.unlink(), moved, "absent"),
        ]
        for change_it, path, state in steps:
            assert not any(call_as(uid, _is_in, place / path, state) for place, uid in second)
            call_as(CAMERA, change_it)
            with ThreadPoolExecutor(2) as pool:
                asked = [pool.submit(seen_after, place / path, uid, state) for place, uid in second]
            without, with_policyfs = (one.result() for one in asked)
            lags.append(with_policyfs - without)
    print(f"later than without policyfs: median {sorted(lags)[len(lags) // 2]:.2f} s, most {max(lags):.2f} s")
    assert max(lags) < 1.5, "a timeout of a second, and half a second for a busy machine"


def variants() -> tuple[bytes, bytes]:
    """Two photos of one length whose coordinates lie at different places."""
    photo = jpegs.photo_with(jpegs.exif())
    comment, at = jpegs.segment(0xFE, bytes(396)), photo.index(b"\xff\xdb")
    return photo[:2] + comment + photo[2:], photo[:at] + comment + photo[at:]


def leaking_reads(path: Path, count: int) -> tuple[int, int]:
    """Read a photo so often. Return how many reads showed anything, and how many of them the place."""
    shown = leaking = 0
    for _ in range(count):
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            shown += 1
            leaking += bool(jpegs.leaks(data))
    return shown, leaking


@pytest.mark.timeout(DEADLINE_S)
@pytest.mark.parametrize("times", ["kept", "changing"])
def test_a_photo_that_another_machine_rewrites_is_never_shown_raw(machines: Machines, times: str) -> None:
    photos, ended, rewritten = variants(), threading.Event(), 0
    assert all(map(jpegs.leaks, photos))
    assert len(photos[0]) == len(photos[1])
    photo = machines.stores[0] / "D/photo.jpg"
    photo.write_bytes(photos[0])
    photo.chmod(0o666)

    def rewrite() -> None:
        nonlocal rewritten
        fd = os.open(machines.stores[1] / "D/photo.jpg", os.O_WRONLY)
        while not ended.wait(0.002):
            rewritten += 1
            os.pwrite(fd, photos[rewritten % 2], 0)
            if times == "kept":
                os.utime(fd, ns=(0, 0))
        os.close(fd)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        path = machines.mounts[0] / "D/photo.jpg"
        shown, leaking = call_as(GALLERY, leaking_reads, path, READS, deadline_s=DEADLINE_S)
    finally:
        ended.set()
        writer.join()
    assert leaking == 0
    assert shown > READS // 2
    assert rewritten > 5


def test_a_lock_of_one_machine_excludes_the_other(machines: Machines) -> None:
    paths = [mount / "D/file" for mount in machines.mounts]
    call_as(CAMERA, paths[0].write_text, "content")
    call_as(CAMERA, wait_until_seen, paths[1])

    def locks(path: Path) -> bool:
        with path.open("r+") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def held(path: Path, other: Path) -> tuple[bool, bool]:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            during = locks(other)
            fcntl.flock(file, fcntl.LOCK_UN)
        return during, locks(other)

    assert call_as(CAMERA, held, *paths) == (False, True)


def wait_until_seen(path: Path) -> None:
    while not path.exists():
        time.sleep(0.05)


def changes_of_names(place: Path) -> list[str]:
    """Change names of a file, and return what became of each."""
    answers = []
    for change_it in (lambda: (place / "kept").rename(place / "moved"), (place / "kept").unlink):
        begin = time.monotonic()
        try:
            change_it()
            answers.append("done")
        except OSError as error:
            assert time.monotonic() - begin < 10
            answers.append(errno.errorcode[error.errno or 0])
    return answers


def test_a_machine_that_hangs_in_a_change_of_a_name_makes_others_busy(machines: Machines) -> None:
    """It has the lock of the name, as a daemon that was frozen (SIGSTOP, a paused container) in between."""
    (marker,) = machines.stores[0].glob(f"{MARKER}*")
    kept = machines.stores[1] / "D/kept"
    kept.write_text("content")
    kept.chmod(0o666)
    place = machines.mounts[1] / "D"
    with marker.open("r+b") as hung:
        assert set_lock(hung.fileno(), Owner(1, flock=False), Asked(0, LAST_BYTE, WRLCK, 0))
        assert call_as(CAMERA, changes_of_names, place, deadline_s=DEADLINE_S) == ["EBUSY"] * 2
        assert call_as(CAMERA, (place / "kept").read_text) == "content"
        call_as(CAMERA, (place / "kept").write_text, "other")
    assert kept.read_text() == "other"
    assert call_as(CAMERA, changes_of_names, place)[0] == "done"
