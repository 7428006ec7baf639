"""B6: one app takes all it can get, and its neighbour works on undisturbed.

The daemon has few descriptors here, so that what one app can take of them shows soon.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, wait_until_closed
from tests.support.samples import jpegs

pytestmark = pytest.mark.load

GREEDY, HONEST = 10010, 10011
FILES: Final = 700
DESCRIPTORS: Final = 600
"""What the daemon is given: more than an app holds elsewhere, less than there are files."""
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: exhaustion}}
apps:
  greedy: {{uid: {GREEDY}}}
  honest: {{uid: {HONEST}}}
rules:
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/{{app}}/***"}}
"""
LEASED = POLICY + '  - {id: redact, require: {redact: location}, paths: "/greedy/**"}\n'
DRAFTS = POLICY + '  - {id: no, require: {no: location}, paths: "/greedy/**", raw_types: text/plain}\n'


@pytest.fixture
def furnished(empty_store: Path) -> Path:
    for name, uid in (("greedy", GREEDY), ("honest", HONEST)):
        (empty_store / name).mkdir()
        os.chown(empty_store / name, uid, uid)
        for number in range(FILES if uid == GREEDY else 60):
            (empty_store / name / str(number)).write_bytes(b"0123456789")
    return empty_store


class Way(NamedTuple):
    """How the greedy app makes the daemon hold descriptors. each: of one open file; options: of the mount."""

    policy: str = POLICY
    flags: int = os.O_RDWR
    unlink: bool = False
    written: bytes = b""
    each: int = 1
    options: tuple[str, ...] = ()
    stored: bytes = b"0123456789"


def _hold(channel, directory: Path, way: Way) -> tuple[int, set[str]]:
    """Opens as many as it gets, writes, and keeps them until it is told."""
    held, said = [], set()
    for number in range(FILES):
        try:
            held.append(os.open(directory / str(number), way.flags))
            if way.written:
                os.write(held[-1], way.written)
        except OSError as error:
            said.add(os.strerror(error.errno or 0))
    for number in range(len(held) if way.unlink else 0):
        with contextlib.suppress(OSError):
            os.unlink(directory / str(number))
    channel.send((len(held), said))
    channel.recv()
    assert all(os.pread(fd, 10, 0) == way.stored[:10] for fd in held)
    for fd in held:
        os.close(fd)
    return len(held), said


def _work(directory: Path) -> list[str]:
    """What an honest app does, all at once: 60 files open for writing, a listing, new files."""
    wrong = []
    fds = []
    for number in range(60):
        try:
            fds.append(os.open(directory / str(number), os.O_RDWR))
            os.pwrite(fds[-1], b"mine", 0)
            os.fstat(fds[-1])
        except OSError as error:
            wrong.append(f"{number}: {error.strerror}")
    for fd in fds:
        os.close(fd)
    for call in (
        lambda: os.listdir(directory),
        lambda: (directory / "new").write_bytes(b"new"),
        (directory / "new").unlink,
    ):
        try:
            call()
        except OSError as error:
            wrong.append(str(error.strerror))
    return wrong


WAYS: Final = {
    "writers": Way(),
    "unlinked": Way(flags=os.O_RDONLY, unlink=True),
    "drafts": Way(DRAFTS, written=b"0", each=2),
    "leases": Way(
        LEASED, os.O_RDONLY, each=2, options=("--copy-max", "64"), stored=jpegs.photo_with(jpegs.exif())
    ),
}
"""As a writer; by taking away the last name of an open file; by bytes that wait for their check; by reads of
redacted files that are too large to copy.
"""


@pytest.fixture
def greedy(furnished: Path) -> Iterator[list]:
    children: list = []
    yield children
    for child in children:
        child.kill()


def beside(greedy: list, mount: Mount, way: str) -> tuple[int, set[str], int, list[str]]:
    """What the greedy app got and heard, how many descriptors the daemon has then, and what went wrong for
    the honest one meanwhile.
    """
    child = start_as(GREEDY, _hold, mount / "greedy", WAYS[way])
    greedy.append(child)
    got, said = child.receive(60)
    held = mount.descriptors()
    wrong = call_as(HONEST, _work, mount / "honest")
    child.send("enough")
    child.result()
    wait_until_closed(mount)
    return got, said, held, wrong


@pytest.mark.parametrize("way", WAYS)
def test_who_takes_all_leaves_as_much_for_others(mounts: Mounts, furnished: Path, greedy, way: str) -> None:
    for photo in (furnished / "greedy").iterdir():
        photo.write_bytes(WAYS[way].stored)
    mount = mounts.prepare(WAYS[way].policy, furnished, *WAYS[way].options)
    mount.most_descriptors = DESCRIPTORS
    mount.start()
    call_as(GREEDY, (mount / "greedy/0").read_bytes)  # a first look at content starts workers
    before = mount.descriptors()
    got, said, held, wrong = beside(greedy, mount, way)
    assert wrong == []
    assert DESCRIPTORS // 5 < held - before < DESCRIPTORS // 3
    if way != "unlinked":
        assert DESCRIPTORS // 5 < WAYS[way].each * got < DESCRIPTORS // 3
        assert said == {"Too many open files"}
    else:
        assert (got, said) == (FILES, set())
    wait_for(lambda: mount.descriptors() <= before + 8, "the daemon's descriptors are given back")
    *_, wrong = beside(greedy, mount, "writers")
    assert wrong == []


@pytest.mark.parametrize("way", ["writers", "unlinked"])
def test_the_neighbour_gets_nothing_where_nobody_shares(without, furnished: Path, greedy, way: str) -> None:
    mount = without("no-shares", POLICY, furnished, descriptors=DESCRIPTORS)
    *_, wrong = beside(greedy, mount, way)
    assert any("Too many open files" in line for line in wrong)
