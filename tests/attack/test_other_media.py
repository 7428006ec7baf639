"""A3, A5, A6, C1 and C3 for HEIC, MP4 and PNG: what other tests here show for JPEG.

A1 and A2 are in test_races_of_kinds.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.attack.parsers_broken import BUGS, marked
from tests.attack.test_content_refused import CAMERA, WAYS, Script, settled
from tests.attack.test_later_a_photo import POLICY as LATER
from tests.attack.test_later_a_photo import keeps, placed
from tests.attack.test_parsers import OTHER, read, read_at_once
from tests.attack.test_parsers import POLICY as PARSERS
from tests.attack.test_places_gone import FAMILY, GALLERY, MAPS, fill
from tests.support.machine.counts import SOAK, first
from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs, movies, pngs
from tests.support.samples.carriers import CARRIERS, PICTURE_BYTES, Carrier
from tests.support.samples.hidden_elsewhere import CUT, corpus, said
from tests.support.samples.jpegs import leaks

ROADS: Final = {"a copy": (), "a lease": ("--copy-max", "1K"), "mediated": ("--no-passthrough",)}


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest) -> Carrier:
    return CARRIERS[request.param]


# -- A3 ----------------------------------------------------------------------------------------------


def test_what_becomes_another_medium_shows_no_place(mounts, empty_store: Path, carrier: Carrier) -> None:
    """A file is harmless when it is opened, and is rewritten in place: in the mount and in the store.

    Attack A3.4: The same with HEIC, MP4 and PNG
    Guard: policyfs/fs/redacted/copies.py::Redactor.redacted
    Without: tests/attack/test_later_a_photo.py::test_the_place_is_read_where_what_is_harmless_is_no_copy
    """
    empty_store.chmod(0o700)
    data = carrier.placed()
    harmless = carrier.assemble((), (len(data) - len(carrier.plain()) + 64,))
    assert len(harmless) == len(data)
    path = empty_store / "file"
    mount = mounts.start(LATER, empty_store)

    def rewrite(file: Path) -> None:
        fd = os.open(file, os.O_RDWR)
        os.pwrite(fd, data, 0)
        os.close(fd)

    for uid, writer in ((MAPS, mount / "file"), (0, path)):
        path.write_bytes(harmless)
        path.chmod(0o666)
        watcher = start_as(GALLERY, keeps, mount / "file", True)
        watcher.receive()
        call_as(uid, rewrite, writer)
        watcher.send("look")
        shown = watcher.receive()
        watcher.send(None)
        watcher.result()
        assert not placed(shown)
        assert shown[2][-PICTURE_BYTES:] == data[-PICTURE_BYTES:]
    assert call_as(MAPS, (mount / "file").read_bytes) == data


# -- A5 ----------------------------------------------------------------------------------------------


def seen(mount: Mount, uid: int, names: list[str]) -> dict[str, bytes | str]:
    return call_as(uid, lambda: {name: read(mount / "DCIM" / name) for name in names})


@pytest.mark.parametrize("road", first(2, zip(ROADS)))
def test_places_of_other_media_where_a_lazy_parser_does_not_look(mounts, empty_store, road) -> None:
    """Attack A5.2: The same in HEIC, MP4 and PNG: cut off, broken, under other names, with an archive or a
    film appended
    Guard: policyfs/redact/plan.py::locate
    Also: ::test_what_is_cut_off_or_broken_shows_no_place
    Without: ::test_places_of_other_media_are_read_where_the_parser_is_lazy
    """
    files = corpus()
    assert [name for name, data in files.items() if not leaks(said(data))] == []
    fill(empty_store, files)
    mount: Mount = mounts.start(FAMILY, empty_store, *ROADS[road])
    shown = seen(mount, GALLERY, list(files))
    assert seen(mount, MAPS, list(files)) == files
    for name, data in shown.items():
        assert isinstance(data, bytes), (name, data)
        assert len(data) == len(files[name]), name
        assert leaks(said(data)) == [], name


def test_places_of_other_media_are_read_where_the_parser_is_lazy(without, empty_store: Path) -> None:
    files = corpus()
    fill(empty_store, files)
    mount = without("lazy-parser", FAMILY, empty_store)
    shown = seen(mount, GALLERY, list(files))
    told = [name for name, data in shown.items() if isinstance(data, bytes) and leaks(said(data))]
    assert len(told) > len(files) // 4


@pytest.mark.parametrize("road", first(2, zip(ROADS)))
def test_what_is_cut_off_or_broken_shows_no_place(mounts, empty_store: Path, road: str) -> None:
    files = {name: make() for name, make in CUT.items()}
    assert all(leaks(said(data)) for data in files.values())
    fill(empty_store, files)
    mount = mounts.start(FAMILY, empty_store, *ROADS[road])
    for name, data in seen(mount, GALLERY, list(files)).items():
        assert data == "EACCES" or leaks(said(data)) == [], name
    assert seen(mount, MAPS, list(files)) == files


# -- A6 ----------------------------------------------------------------------------------------------


def with_word(carrier: Carrier, word: bytes) -> bytes:
    """A file that sets a bug of the parser off."""
    text = marked(word)
    wrapped = {
        "heic": movies.box(b"free", text),
        "mp4": movies.box(b"free", text),
        "png": pngs.chunk(b"tEXt", b"Comment\0" + text),
    }[carrier.suffix]
    if carrier.suffix == "png":
        return carrier.assemble((wrapped, *carrier.blocks), (9,) * (len(carrier.blocks) + 2))
    return carrier.placed() + wrapped


def test_other_media_that_a_parser_stumbles_over_are_refused(without, empty_store, carrier: Carrier) -> None:
    """Each medium by another third of the bugs, but in `make soak`; test_parsers.py has all of them.

    Attack A6.2: The same with HEIC, MP4 and PNG
    Guard: policyfs/content/sniffer.py::Sniffer.locate
    Without: tests/attack/test_parsers.py::test_it_is_read_where_a_failure_means_that_there_is_nothing
    """
    words = [word for word in BUGS if word != b"hang"]
    words = words if SOAK else words[list(CARRIERS.values()).index(carrier) :: len(CARRIERS)]
    (empty_store / "hostile").mkdir()
    for word in words:
        (empty_store / "hostile" / word.decode()).write_bytes(with_word(carrier, word))
    (empty_store / "honest").write_bytes(carrier.placed())
    mount = without("broken-parser", PARSERS, empty_store)
    hostile = call_as(GALLERY, read_at_once, [mount / "hostile" / word.decode() for word in words])
    assert hostile == {word.decode(): "EACCES" for word in words}
    honest = call_as(OTHER, read, mount / "honest")
    assert isinstance(honest, bytes)
    assert not leaks(honest)
    assert honest[-PICTURE_BYTES:] == carrier.placed()[-PICTURE_BYTES:]
    assert mount.status()["bugs"] == 0


# -- C1 and C3 ---------------------------------------------------------------------------------------

KINDS: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  reader: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: look, allow: [see, read], who: {{app: reader}}, paths: "/**"}}
"""


def only(carrier: Carrier) -> str:
    return KINDS + f'  - {{id: kind, require: {{content: ["{carrier.kind}"]}}, paths: "/DCIM/**"}}\n'


def test_only_the_one_medium_gets_in(mounts, empty_store: Path, carrier: Carrier) -> None:
    """By every way to write, each of the others in its place is refused and leaves nothing. (Each medium by
    another sixth of the ways, but in `make soak`.)

    Attack C1.2: The same if the policy admits only HEIC, only MP4 or only PNG
    Guard: policyfs/fs/checked/head_writes.py::Checker.write
    Without: tests/attack/test_content_unguarded.py::test_it_is_in_where_nothing_is_judged
    """
    for name in ("DCIM", "private"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    mount = mounts.start(only(carrier), empty_store)
    right = carrier.placed()
    others = [other.placed() for other in CARRIERS.values() if other is not carrier] + [jpegs.plain(1, 200)]

    def write(way: Callable[[Script, bytes], None], data: bytes, name: str) -> list[str]:
        script = Script(mount / "DCIM" / name)
        way(script, data)
        return script.failed

    turn = list(CARRIERS.values()).index(carrier)
    for number, way in enumerate(WAYS if SOAK else [*WAYS][turn :: 2 * len(CARRIERS)]):
        name = f"{way.__name__}.{carrier.suffix}"
        wrong = others[number % len(others)]
        assert call_as(CAMERA, write, way, wrong, f"wrong {name}"), way.__name__
        assert settled(empty_store / "DCIM" / f"wrong {name}") in {None, b""}, way.__name__
        assert call_as(CAMERA, write, way, right, name) == [], way.__name__
        assert (empty_store / "DCIM" / name).read_bytes() == right, way.__name__


def test_no_medium_is_emptied_by_what_is_refused(mounts, empty_store: Path, carrier: Carrier) -> None:
    """Attack C3.2: The same with HEIC, MP4 and PNG
    Guard: policyfs/fs/opening/write_access.py::WriteAccess.empty
    Without: tests/attack/test_content_unguarded.py::test_it_is_empty_where_that_is_done_first
    """
    (empty_store / "DCIM").mkdir()
    (empty_store / "DCIM").chmod(0o777)
    path, data = empty_store / "DCIM/a", carrier.placed()
    path.write_bytes(data)
    path.chmod(0o666)
    mount = mounts.start(only(carrier), empty_store)
    file = mount / "DCIM/a"

    def tries() -> list[str]:
        fd = os.open(file, os.O_RDONLY)
        return [
            code_of(os.open, file, os.O_WRONLY | os.O_TRUNC),
            code_of(os.open, file, os.O_RDONLY | os.O_TRUNC),
            code_of(os.truncate, file, 0),
            code_of(os.ftruncate, fd, 0),
            code_of(os.posix_fallocate, fd, 0, 100),
            code_of(os.rename, file, mount / "DCIM/b"),
            code_of(os.unlink, file),
        ]

    said_no = call_as(OTHER, tries)
    assert set(said_no) <= {"EACCES", "EPERM", "EINVAL", "EBADF"}, said_no
    assert path.read_bytes() == data

    def spoil() -> list[str]:
        """Who may write it may not make it something else."""
        fd = os.open(file, os.O_RDWR)
        tried = [code_of(os.pwrite, fd, jpegs.plain(1, 64), 0), code_of(os.pwrite, fd, b"words", 0)]
        os.close(fd)
        return [*tried, code_of(os.truncate, file, 3)]

    assert call_as(CAMERA, spoil) == ["EPERM"] * 3
    assert path.read_bytes() == data
