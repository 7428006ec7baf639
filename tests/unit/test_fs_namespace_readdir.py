"""Listings without a kernel in front: a snapshot holds until the directory is rewound."""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

import pytest
import trio

from policyfs.fs.access.facts import FactFinder
from policyfs.fs.kernel_cache.attributes import shown_version
from policyfs.fs.namespace.readdir import DirectoryListings
from policyfs.fs.namespace.snapshots import Snapshots
from policyfs.fs.sharing.shares import Shares
from policyfs.kernel.bridge import FH_KEEP_CACHE, DirectoryEntries, pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import PHOTO, errno_of

GALLERY = 10011
ANYTHING = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""


class Told:
    """What READDIR answers: names by position."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._shown: list[bytes] = []
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)

    def _reply(self, _token, name, _entry, _position) -> bool:
        self._shown.append(bytes(name))
        return True

    async def names(self, listings, index: int, start: int) -> set[bytes]:
        self._shown.clear()
        await listings.readdir(index, start, None)
        return set(self._shown) - {b".", b".."}


@on_trio
async def test_a_rewound_listing_is_taken_anew(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "DCIM").mkdir()
    (tmp_path / "DCIM/old").touch()
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        told, listings = Told(monkeypatch), made.listings
        directory = await made.walk("/DCIM", GALLERY)
        index = await listings.opendir(directory, made.caller(GALLERY)) & 0xFFFFFF
        assert await told.names(listings, index, 0) == {b"old"}
        (tmp_path / "DCIM/new").touch()
        (tmp_path / "DCIM/old").unlink()
        assert await told.names(listings, index, 2) == {b"old"}, "positions hold until it is rewound"
        assert await told.names(listings, index, 0) == {b"new"}
        (tmp_path / "DCIM/new").unlink()
        assert await told.names(listings, index, 0) == set()
        await listings.releasedir(index)
        assert not len(listings)


@on_trio
async def test_a_position_leads_to_the_same_names_in_every_listing(tmp_path: Path) -> None:
    """Also in one that was opened since, after names came and went before it."""
    names = {f"name-{number:03}".encode() for number in range(300)}
    inside = tmp_path / "DCIM"
    inside.mkdir()
    for name in names:
        (inside / os.fsdecode(name)).touch()
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        directory = await made.walk("/DCIM", GALLERY)
        caller, listings = made.caller(GALLERY), made.listings
        first = await listings.opendir(directory, caller) & 0xFFFFFF
        begin = _entries(await listings.names(first, 0, 4096))
        assert 50 < len(begin) < 200
        for name, _ in begin[2:-1]:
            (inside / os.fsdecode(name)).unlink()
        (inside / "came").touch()
        second = await listings.opendir(directory, caller) & 0xFFFFFF
        rest, position = [], begin[-1][1]
        while part := _entries(await listings.names(second, position, 4096)):
            rest += [name for name, _ in part]
            position = part[-1][1]
        assert sorted({*rest} - {b"came"}) == sorted(names - {name for name, _ in begin})
        assert len(rest) == len({*rest})


def _entries(reply: bytes) -> list[tuple[bytes, int]]:
    """Names in a reply to READDIR, each with the position after it."""
    found, at = [], 0
    while at < len(reply):
        _, position, length, _ = struct.unpack_from("=QQII", reply, at)
        found.append((reply[at + 24 : at + 24 + length], position))
        at += 24 + length + -length % 8
    return found


@on_trio
async def test_a_listing_rewound_after_a_failed_answer_is_taken_anew(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "DCIM").mkdir()
    (tmp_path / "DCIM/old").touch()

    def broken(*_) -> bool:
        raise OSError(5, "no answer")

    with parts(tmp_path, engine_of(ANYTHING)) as made:
        directory = await made.walk("/DCIM", GALLERY)
        index = await made.listings.opendir(directory, made.caller(GALLERY)) & 0xFFFFFF
        monkeypatch.setattr(pyfuse3, "readdir_reply", broken)
        with pytest.raises(OSError, match="no answer"):
            await made.listings.readdir(index, 0, None)
        (tmp_path / "DCIM/old").rename(tmp_path / "DCIM/new")
        assert await Told(monkeypatch).names(made.listings, index, 0) == {b"new"}
        await made.listings.releasedir(index)


@on_trio
async def test_a_listing_without_nodes_has_the_same_names_in_parts(tmp_path: Path) -> None:
    names = {f"name-{number}".encode() for number in range(20)}
    for name in names:
        (tmp_path / name.decode()).touch()
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        known = len(made.nodes)
        index = await made.listings.opendir(made.root, made.caller(GALLERY)) & 0xFFFFFF
        found: list[bytes] = []
        position = 0
        while data := await made.listings.names(index, position, 200):
            at = 0
            while at < len(data):
                ino, position, size, kind = struct.unpack_from("=QQII", data, at)
                name = data[at + 24 : at + 24 + size]
                found.append(name)
                at += 24 + size + -size % 8
                assert kind == (4 if name in {b".", b".."} else 8)
                assert ino == (tmp_path / name.decode()).stat().st_ino or name == b".."
            assert at == len(data) <= 200
        assert sorted(found) == sorted(names | {b".", b".."})
        assert len(made.nodes) == known
        await made.listings.releasedir(index)


@on_trio
async def test_names_without_nodes_have_the_types_of_the_store(tmp_path: Path, monkeypatch) -> None:
    """In READDIRPLUS too. The kernel keeps no name here, as callers see different names."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    types = {b"directory": stat.S_IFDIR, b"file": stat.S_IFREG, b"link": stat.S_IFLNK}
    found: dict[bytes, int] = {}

    def reply(_token, name, entry, _position) -> bool:
        assert not entry.st_ino, "a name with its node"
        found[bytes(name)] = stat.S_IFMT(entry.st_mode)
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        index = await made.listings.opendir(made.root, made.caller(GALLERY)) & 0xFFFFFF
        await made.listings.readdir(index, 0, None)
        assert found == types | {b".": stat.S_IFDIR, b"..": stat.S_IFDIR}
        await made.listings.releasedir(index)


@on_trio
@pytest.mark.parametrize("fits", [True, False])
async def test_an_entry_that_does_not_fit_tells_the_kernel_nothing(
    tmp_path: Path, monkeypatch, *, fits: bool
) -> None:
    """Else it would not be told of a change that these attributes show."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda _token, name, *_: fits or name != b"file")
    with parts(tmp_path, engine_of("- {id: all, allow: [all]}\n")) as made:
        node, listings = await made.walk("/file", GALLERY), made.listings
        version = shown_version(node, made.lookup.stat(node))
        node.tell(version)
        index = await listings.opendir(made.root, made.caller(GALLERY)) & 0xFFFFFF
        await listings.readdir(index, 2, None)
        assert node.was_told(version) == fits
        await listings.releasedir(index)


HIDING = ANYTHING + '- {id: hide, deny: [all], paths: ["/DCIM/secret", "/DCIM/.trash/**"], errno: ENOENT}\n'
BY_PATTERN = ANYTHING + '- {id: hide, deny: [all], paths: "/DCIM/secret*", errno: ENOENT}\n'


@on_trio
@pytest.mark.parametrize(("policy", "one_by_one"), [(HIDING, 0), (BY_PATTERN, 4)], ids=["names", "pattern"])
async def test_hidden_names_cost_as_much_as_shown_ones(
    tmp_path: Path, monkeypatch, policy: str, one_by_one: int
) -> None:
    """All names of a directory are decided at once, or all of them one by one, whatever is hidden in it."""
    (tmp_path / "DCIM").mkdir()
    for name in ("a", "b", "c", "secret"):
        (tmp_path / "DCIM" / name).touch()
    decided: list[bytes] = []
    is_shown = Snapshots._is_shown

    async def counted(self, entry, *rest) -> bool:
        decided.append(entry[0])
        return await is_shown(self, entry, *rest)

    monkeypatch.setattr(Snapshots, "_is_shown", counted)
    with parts(tmp_path, engine_of(policy)) as made:
        directory = await made.walk("/DCIM", GALLERY)
        index = await made.listings.opendir(directory, made.caller(GALLERY)) & 0xFFFFFF
        names = {name for name, _ in _entries(await made.listings.names(index, 0, 4096))}
        assert names == {b".", b"..", b"a", b"b", b"c"}
        assert len(decided) == one_by_one
        await made.listings.releasedir(index)
        assert made.listings.open.shares.used == 0


@on_trio
@pytest.mark.parametrize("vectors", [True, False])
async def test_files_have_nodes_where_names_are_looked_up(tmp_path: Path, monkeypatch, vectors: bool) -> None:
    """The kernel asks for nodes beyond the beginning only then. After them it gets few names without."""
    names = {f"name-{number:03}".encode() for number in range(200)}
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    (tmp_path / "inside").mkdir()
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        told, noted = Told(monkeypatch), []
        monkeypatch.setattr(made.nodes.vectors, "of_names", vectors)
        monkeypatch.setattr(made.repeats, "listed", lambda node, caller: noted.append(node.name))
        index = await made.listings.opendir(made.root, made.caller(GALLERY)) & 0xFFFFFF
        await told.names(made.listings, index, 0)
        assert len(made.nodes) == 1
        assert len(await made.listings.names(index, 0, 4096)) > 3000
        assert await told.names(made.listings, index, 2) == names | {b"inside"}
        assert len(made.nodes) == (1 + len(names) if vectors else 1)
        assert set(noted) == (names if vectors else set())
        assert {node.lookups for node in made.nodes} == {1}
        assert 500 < len(await made.listings.names(index, 2, 4096)) <= 1024
        assert len(await made.listings.names(index, 2, 4096)) > 3000


@on_trio
async def test_an_old_directory_is_not_read_where_callers_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would show the names to others. A directory opened since is read: it keeps nothing."""
    (tmp_path / "DCIM").mkdir()
    (tmp_path / "DCIM/name").touch()
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        told, directory = Told(monkeypatch), await made.walk("/DCIM", GALLERY)
        alike = True
        monkeypatch.setattr("policyfs.fs.kernel_cache.attributes.Timeouts.listing", lambda *_: alike)
        old = await made.listings.opendir(directory, made.caller(GALLERY))
        assert await told.names(made.listings, old, 0) == {b"name"}
        alike = False
        new = await made.listings.opendir(directory, made.caller(GALLERY))
        for start in (0, 2):
            with pytest.raises(OSError, match="opened again") as refused:
                await told.names(made.listings, old, start)
            assert refused.value.errno == errno.ESTALE
        assert await told.names(made.listings, new, 0) == {b"name"}
        alike = True
        assert await told.names(made.listings, old, 0) == {b"name"}


@on_trio
async def test_an_open_that_fails_leaves_no_open_directory(tmp_path: Path, monkeypatch) -> None:
    """Its number never reaches the kernel, so nobody would release it."""

    def failing(*_) -> int:
        raise OSError(errno.EIO, "no answer")

    with parts(tmp_path, engine_of(ANYTHING)) as made:
        monkeypatch.setattr("policyfs.fs.kernel_cache.attributes.Timeouts.listing", lambda *_: True)
        monkeypatch.setattr(DirectoryListings, "_cached", failing)
        with pytest.raises(OSError, match="no answer"):
            await made.listings.opendir(made.root, made.caller(GALLERY))
        assert (len(made.listings), made.listings.open.shares.used) == (0, 0)


BY_KIND = ANYTHING + '- {id: text, deny: [see], paths: "/**", when: {type: "text/*"}}\n'


@on_trio
async def test_a_file_that_becomes_a_symlink_meanwhile_does_not_end_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one app could keep all others from listing a directory in which it may make symlinks."""
    for name in ("changes", "stays"):
        (tmp_path / name).touch()
    searches = {name: getattr(FactFinder, name) for name in ("find", "behind")}

    def late(name: str):
        async def search(*arguments, **options):
            (tmp_path / "changes").unlink(missing_ok=True)
            (tmp_path / "changes").symlink_to("stays")
            return await searches[name](*arguments, **options)

        return search

    for name in searches:
        monkeypatch.setattr(FactFinder, name, late(name))
    with parts(tmp_path, engine_of(BY_KIND)) as made:
        told, listings = Told(monkeypatch), made.listings
        index = await listings.opendir(made.root, made.caller(GALLERY)) & 0xFFFFFF
        assert await told.names(listings, index, 0) == {b"changes", b"stays"}


@on_trio
async def test_listings_count_in_the_share_of_their_app_while_they_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one app begins a hundred listings of a large directory at once, and the daemon keeps them all."""
    for number in range(1200):
        (tmp_path / f"name-{number:04}").touch()
    alive, peak, collect = list[DirectoryEntries](), [0], Snapshots._collect

    async def collecting(self, records, listing, entries, pauses) -> None:
        if entries not in alive:
            alive.append(entries)
        await collect(self, records, listing, entries, pauses)
        peak[0] = max(peak[0], sum(map(len, alive)))
        await trio.lowlevel.checkpoint()

    with parts(tmp_path, engine_of(ANYTHING)) as made:
        told, listings, caller = Told(monkeypatch), made.listings, made.caller(GALLERY)
        listings.open.shares = Shares(1000, "listed names")
        monkeypatch.setattr(Snapshots, "_collect", collecting)
        indexes = [await listings.opendir(made.root, caller) & 0xFFFFFF for _ in range(20)]
        codes: list[int] = []

        async def read(index: int) -> None:
            codes.append(await errno_of(listings.readdir(index, 0, None)))

        async with trio.open_nursery() as nursery:
            for index in indexes:
                nursery.start_soon(read, index)
        assert errno.EMFILE in codes
        assert peak[0] < 1000 + 20 * 512
        for index in indexes:
            await listings.releasedir(index)
        assert (listings.open.shares.used, listings.open.shares.held("gallery")) == (0, 0)
        monkeypatch.setattr(Snapshots, "_collect", collect)
        index = await listings.opendir(made.root, caller) & 0xFFFFFF
        assert len(await told.names(listings, index, 0)) == 1200, "one listing may be longer than the limit"
        await listings.releasedir(index)
        assert listings.open.shares.used == 0


MOVED = ANYTHING + '- {id: secret, deny: [all], paths: "/closed/**/secret"}\n'


@on_trio
async def test_after_a_move_above_the_kernel_gets_no_node_and_keeps_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store moves a directory above the open one to a path where a listed name is hidden."""
    nodes: dict[bytes, int] = {}

    def reply(_token: object, name: bytes, entry: pyfuse3.EntryAttributes, _position: int) -> bool:
        nodes[bytes(name)] = entry.st_ino
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    (tmp_path / "open/d").mkdir(parents=True)
    (tmp_path / "open/d/secret").touch()
    with parts(tmp_path, engine_of(MOVED), app="gallery") as made:
        made.timeouts.watched = True
        caller, listings = made.caller(GALLERY), made.listings
        node = await made.walk("/open/d", GALLERY)
        handles = [await listings.opendir(node, caller) for _ in range(2)]
        assert [bool(handle & FH_KEEP_CACHE << 56) for handle in handles] == [False, True]
        index = handles[0] & 0xFFFFFF
        await listings.readdir(index, 0, None)
        assert nodes.pop(b"secret") != 0
        (tmp_path / "open").rename(tmp_path / "closed")
        await made.walk("/closed", GALLERY)
        assert node.path() == b"/closed/d"
        made.notes.pages.clear()
        await listings.readdir(index, 2, None)
        assert nodes == {b".": 0, b"..": 0, b"secret": 0}
        assert made.notes.pages == []
        await listings.names(index, 2**62, 4096)
        assert made.notes.pages == [node.nodeid]
        assert not await listings.opendir(node, caller) & FH_KEEP_CACHE << 56


PHOTOS = """\
- {id: photos, allow: [see, read], paths: "/**", when: {type: [image/jpeg, inode/directory]}}
"""


@on_trio
async def test_a_listing_that_lacks_a_file_because_its_sniff_failed_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.jpg").write_bytes(PHOTO)
    with parts(tmp_path, engine_of(PHOTOS), app="gallery") as made:
        made.timeouts.watched = True
        caller, listings = made.caller(GALLERY), made.listings
        node = await made.walk("/d", GALLERY)

        async def fail(_fd: int, **_: object) -> None:
            """No worker is left."""

        async def listed() -> tuple[bool, bool]:
            """Whether the kernel uses the listing that it has, and whether a new one has the file."""
            handle = await listings.opendir(node, caller)
            index = handle & 0xFFFFFF
            names = await listings.names(index, 0, 4096)
            await listings.names(index, 2**62, 4096)
            await listings.releasedir(index)
            return bool(handle & FH_KEEP_CACHE << 56), b"a.jpg" in names

        with monkeypatch.context() as patch:
            patch.setattr(made.sniffed, "kind_of_fd", fail)
            assert await listed() == (False, False)
        assert set(made.notes.pages) == {node.nodeid}
        made.notes.pages.clear()
        assert await listed() == (False, True)
        assert made.notes.pages == []
        assert await listed() == (True, True)
