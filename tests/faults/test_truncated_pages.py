"""A page of a mapping is written back just when another mount of the store cuts the file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

import pytest

from tests.attack.guards_writing import STOPS, WAITS
from tests.support.machine.processes import code_of, start_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

WRITER, CUTTER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}, gid: {WRITER}}}
  cutter: {{uid: {CUTTER}, gid: {CUTTER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
"""
SECRET: Final = b"secret!!" * 500
FAR_S: Final = 20.0


def _store_through_a_mapping(channel: Connection, path: Path) -> str:
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, len(SECRET)) as pages:
        pages[:6] = b"public"
        channel.send("changed")
        return code_of(pages.flush)


def _cut(channel: Connection, path: Path) -> str:
    said = code_of(os.truncate, path, 5)
    channel.send("cut")
    return said


@pytest.fixture
def cut_meanwhile(mounts: Mounts, arena: Path, empty_store: Path) -> Iterator[Callable[..., bytes]]:
    """`cut_meanwhile(*guards)`: one app's page is half on its way into the store when another app, in another
    mount without these guards, cuts the file to 5 bytes. What the file has in the end."""
    fifos = [arena / name for name in ("says", "hears", "waits")]
    for fifo in fifos:
        os.mkfifo(fifo)
    says, hears, waits = fds = [os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in fifos]
    words = empty_store / "words"
    words.write_bytes(SECRET)
    words.chmod(0o666)

    def mount(*guards: str) -> Mount:
        made = mounts.prepare(POLICY, empty_store, "--no-passthrough")
        made.program = ("tests.attack.weakened", ",".join(guards))
        made.environment |= {STOPS: f"{fifos[0]}:{fifos[1]}", WAITS: str(fifos[2])}
        made.expected_mediated = True
        return made.start()

    def run(store_guard: str, *guards: str) -> bytes:
        here, there = mount(store_guard, "stops-in-a-page"), mount("says-that-it-waits", *guards)
        writer = start_as(WRITER, _store_through_a_mapping, here / "words")
        assert writer.receive() == "changed"
        assert wait([says], FAR_S), "the page does not come so far"
        cutter = start_as(CUTTER, _cut, there / "words")
        assert wait([cutter.channel, waits], FAR_S), "neither cut nor waiting"
        os.write(hears, b".")
        assert (writer.result(), cutter.result()) == ("", "")
        return words.read_bytes()

    yield run
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("store", ["local", "remote"])
def test_no_cut_byte_comes_back(cut_meanwhile: Callable[..., bytes], store: str) -> None:
    """Fault store.20: Another app, in another view or mount, cuts a file at the moment when the kernel
    writes a page of the file back
    App: no error. The truncation waits for the page, or the page for the truncation. If the page hangs
    in the store, a truncation in another mount gets EBUSY after 5 s
    Store: the cut file: bytes behind the cut do not come back
    Trail: as usual
    Also: ::test_cut_bytes_come_back_where_mounts_do_not_wait (without the wait),
    tests/unit/test_fs_data_write_paths_pages.py::test_no_truncation_comes_between_a_pages_look_at_the_size_and_its_write
    """
    assert cut_meanwhile(f"store-is-{store}") == b"publi"


@pytest.mark.parametrize("store", ["local", "remote"])
def test_cut_bytes_come_back_where_mounts_do_not_wait(
    cut_meanwhile: Callable[..., bytes], store: str
) -> None:
    assert cut_meanwhile(f"store-is-{store}", "latches-open") == b"public" + SECRET[6:]
