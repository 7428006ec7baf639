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

from tests.support.machine.counts import daily
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, wait_until_closed
from tests.support.samples import jpegs

pytestmark = pytest.mark.load

GREEDY, HONEST = 10010, 10011
FILES: Final = 220
"""More than an app gets where descriptors are shared out."""
DESCRIPTORS: Final = 600
"""What the daemon is given: more than an app holds elsewhere."""
ALL_FILES: Final = DESCRIPTORS + 100
"""More than the daemon has descriptors."""
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
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
    """How the greedy app makes the daemon hold descriptors. twice: it opens each file twice, takes away the
    name, and closes the first of the two; each: descriptors of one open file; options: of the mount."""

    policy: str = POLICY
    flags: int = os.O_RDWR
    unlink: bool = False
    twice: bool = False
    written: bytes = b""
    each: int = 1
    options: tuple[str, ...] = ()
    stored: bytes = b"0123456789"


def _hold(channel, directory: Path, way: Way) -> tuple[int, set[str]]:
    """Opens as many as it gets, writes, and keeps them until it is told."""
    held, said = [], set()
    for number in sorted(map(int, os.listdir(directory))):
        try:
            before = [os.open(directory / str(number), way.flags)] if way.twice else []
            held.append(os.open(directory / str(number), way.flags))
            if way.twice:
                os.unlink(directory / str(number))
            for fd in before:
                os.close(fd)
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
    "unlinked twice": Way(flags=os.O_RDONLY, twice=True),
    "drafts": Way(DRAFTS, written=b"0", each=2),
    "leases": Way(
        LEASED, os.O_RDONLY, each=2, options=("--copy-max", "64"), stored=jpegs.photo_with(jpegs.exif())
    ),
}
"""As a writer; by taking away the last name of an open file; the same while another open file goes on; by
bytes that wait for their check; by reads of redacted files that are too large to copy."""


@pytest.fixture
def greedy(furnished: Path) -> Iterator[list]:
    children: list = []
    yield children
    for child in children:
        child.kill()


def beside(greedy: list, mount: Mount, way: str) -> tuple[int, set[str], int, list[str]]:
    """What the greedy app got and heard, how many descriptors the daemon has then, and what went wrong for
    the honest one meanwhile."""
    child = start_as(GREEDY, _hold, mount / "greedy", WAYS[way])
    greedy.append(child)
    got, said = child.receive(60)
    if WAYS[way].twice:
        wait_for(lambda: mount.status()["handles"]["open"] == got, "what was closed is released")
    held = mount.descriptors()
    wrong = call_as(HONEST, _work, mount / "honest")
    child.send("enough")
    child.result()
    wait_until_closed(mount)
    return got, said, held, wrong


@pytest.mark.parametrize("way", daily(WAYS, "unlinked twice", "drafts", "leases"))
def test_who_takes_all_leaves_as_much_for_others(mounts: Mounts, furnished: Path, greedy, way: str) -> None:
    """Attack B6.2: Use up descriptors or handles: as a writer, by unlinking open files (also opened twice),
    by drafts, reads under leases, or long listings that stay open
    Guard: policyfs/fs/sharing/shares.py::Shares.check,
    policyfs/fs/inodes/handles.py::SharedDescriptors.take
    Also:
    tests/unit/test_fs_sharing_shares.py::test_listings_that_one_app_keeps_open_leave_room_for_another,
    tests/unit/test_fs_namespace_readdir.py::test_listings_count_in_the_share_of_their_app_while_they_are_taken
    Without: ::test_the_neighbour_gets_nothing_where_nobody_shares
    """
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
    for number in range(FILES, ALL_FILES):
        (furnished / "greedy" / str(number)).write_bytes(b"0123456789")
    mount = without("no-shares", POLICY, furnished, descriptors=DESCRIPTORS)
    *_, wrong = beside(greedy, mount, way)
    assert any("Too many open files" in line for line in wrong)


COMMON = """\
  - {id: common, allow: [all], who: {app: any}, paths: "/greedy/***"}
"""


def _keep(channel, directory: Path) -> set[str]:
    """Opens each file that it is told to open, and keeps it. Returns the errors."""
    held, said = [], set()
    while (number := channel.recv()) is not None:
        try:
            held.append(os.open(directory / str(number), os.O_RDWR))
        except OSError as error:
            said.add(os.strerror(error.errno or 0))
        channel.send(None)
    for fd in held:
        os.close(fd)
    return said


def _write_each(directory: Path, neighbour) -> list[str]:
    """Opens each file, writes, waits until its neighbour has the file open, too, and closes it."""
    for number in range(FILES):
        try:
            fd = os.open(directory / str(number), os.O_RDWR)
            os.write(fd, b"0")
        except OSError as error:
            return [f"{number}: {error.strerror}"]
        neighbour.send(number)
        neighbour.recv()
        os.close(fd)
    return []


def kept_open(greedy: list, mount: Mount) -> tuple[set[str], list[str]]:
    """What an app hears that opens every file that its neighbour writes, and what the neighbour hears."""
    child = start_as(GREEDY, _keep, mount / "greedy")
    greedy.append(child)
    wrong = call_as(HONEST, _write_each, mount / "greedy", child.channel)
    child.send(None)
    said = child.result()
    wait_until_closed(mount)
    return said, wrong


@pytest.fixture
def common(furnished: Path) -> Path:
    """The store, in which both apps may write the same files."""
    for path in ((furnished / "greedy"), *(furnished / "greedy").iterdir()):
        path.chmod(0o777)
    return furnished


def test_who_keeps_open_what_others_write_pays_for_their_drafts(mounts: Mounts, common: Path, greedy) -> None:
    """Attack B6.3: Keep open all files that another app writes, so that their drafts use up that app's
    share of descriptors
    Guard: policyfs/fs/inodes/handles.py::SharedDescriptors.hand_on
    Without: ::test_the_writer_pays_where_drafts_count_for_who_began_them
    """
    mount = mounts.prepare(DRAFTS + COMMON, common)
    mount.most_descriptors = DESCRIPTORS
    mount.start()
    assert kept_open(greedy, mount) == ({"Too many open files"}, [])


def test_the_writer_pays_where_drafts_count_for_who_began_them(without, common: Path, greedy) -> None:
    mount = without("charges-stay", DRAFTS + COMMON, common, descriptors=DESCRIPTORS)
    said, wrong = kept_open(greedy, mount)
    assert any("Too many open files" in line for line in wrong), (said, wrong)
