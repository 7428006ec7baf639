"""Facts for decisions: which are asked for, and when a remembered kind counts."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Hashable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from policyfs.content.cache import RACY_NS, KindCache, KindKey
from policyfs.domain import KIND_DIRECTORY, KIND_EMPTY, KIND_SYMLINK, NO_FACTS, OWNER_NONE, Facts, Need
from policyfs.fs.access.facts import FactFinder, SteadyOwner, version_key
from policyfs.fs.access.kind_proof import KindEvidence, UnprovenKindError
from policyfs.linux.statx import Stat
from policyfs.store.tree import Tree

BOTH = Need.KIND | Need.OWNER


class Sniffer:
    """Says a kind for every file, and notes the descriptors and lanes it was asked with."""

    def __init__(self) -> None:
        self.kind: str | None = "image/jpeg"
        self.asked: list[tuple[int, Hashable]] = []
        self.modes: list[int] = []
        self.meanwhile = lambda: None

    async def kind_of_fd(
        self, fd: int, *, lane: Hashable = None, first: bool = False, must: bool = False
    ) -> str | None:
        self.asked.append((fd, lane))
        self.modes.append(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE)
        self.meanwhile()
        return self.kind


class Owners:
    def get(self, fd: int, stat: Stat) -> str:
        assert os.fstat(fd).st_ino == stat.ino
        return "gallery"

    def set(self, fd: int, stat: Stat, owner: str) -> None:
        raise AssertionError("nothing is recorded here")


class Lease:
    def __init__(self) -> None:
        self.good, self.held = True, True

    def holds(self) -> bool:
        return self.good

    def release(self) -> None:
        self.held = False


class Keeper:
    """Grants leases, or refuses them."""

    def __init__(self) -> None:
        self.refuses = False
        self.given: list[Lease] = []
        self.leased: list[int] = []
        self.void = self.silent = False

    def is_silent(self, dev: int) -> bool:
        return self.silent and dev > 0

    def is_void(self, dev: int) -> bool:
        return self.void and dev > 0

    def grant(self, fd: int) -> Lease | None:
        assert os.fstat(fd)
        if self.refuses or self.void:
            return None
        self.leased.append(fd)
        self.given.append(Lease())
        return self.given[-1]


class Beneath:
    """The kinds that an earlier daemon has found, and those that are to last."""

    def __init__(self) -> None:
        self.meanwhile = lambda: None
        self.known: str | None = None
        self.stored: list[tuple[Hashable, str]] = []

    async def kind(self, key: KindKey, lane: Hashable) -> str | None:
        self.meanwhile()
        return self.known if lane == "gallery" else None

    def put_kind(self, key: KindKey, lane: Hashable, kind: str) -> None:
        self.stored.append((lane, kind))


class Place:
    """A store with one photo, and what finds facts in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "a").write_bytes(b"photo")
        (path / "empty").write_bytes(b"")
        (path / "directory").mkdir()
        (path / "link").symlink_to("a")
        long_ago = (RACY_NS + 3_600_000_000_000) // 1_000_000_000
        self.tree = Tree.open(str(path))
        self.sniffer, self.keeper = Sniffer(), Keeper()
        now = os.stat(path / "a").st_ctime_ns + long_ago * 1_000_000_000
        self.beneath = Beneath()
        self.kinds = KindCache(clock_ns=lambda: now, beneath=self.beneath)

    def finder(self, *, leases: bool = True, times_tell: bool = True) -> FactFinder:
        keeper = self.keeper if leases else None
        return FactFinder(
            self.tree, Owners(), self.sniffer, self.kinds, keeper,  # type: ignore[arg-type]
            times_tell=times_tell,
        )  # fmt: skip

    def find(self, finder: FactFinder, need: Need, name: bytes = b"a", **options) -> Facts:
        root = self.tree.root_fd
        stat = self.tree.stat(root, name)
        return trio.run(lambda: finder.find(need, root, name, stat, "gallery", **options))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    yield made
    assert set(os.listdir("/proc/self/fd")) == before, "a descriptor is left over"
    made.tree.close()


def test_only_what_is_needed_is_asked_for(place: Place) -> None:
    finder = place.finder()
    assert place.find(finder, Need.NOTHING) == NO_FACTS
    assert place.find(finder, Need.OWNER) == Facts(None, "gallery")
    assert not place.sniffer.asked
    assert place.find(finder, Need.KIND) == Facts("image/jpeg", None)
    assert place.find(finder, BOTH) == Facts("image/jpeg", "gallery")
    assert {lane for _, lane in place.sniffer.asked} == {"gallery"}


@pytest.mark.parametrize(
    ("name", "kind"), [(b"directory", KIND_DIRECTORY), (b"link", KIND_SYMLINK), (b"empty", KIND_EMPTY)]
)
def test_some_kinds_need_no_worker(place: Place, name: bytes, kind: str) -> None:
    assert place.find(place.finder(), BOTH, name) == Facts(kind, "gallery")
    assert not place.sniffer.asked


@pytest.mark.parametrize("without", ["void", "silent"], ids=["no leases", "tmpfs"])
def test_where_leases_prove_nothing_within_the_store_a_kind_is_remembered_for_see_only(
    place: Place, without: str
) -> None:
    finder = place.finder()
    setattr(place.keeper, without, True)
    assert place.find(finder, Need.KIND, seeing=True).kind == "image/jpeg"
    place.sniffer.kind = "text/plain"
    assert place.find(finder, Need.KIND, seeing=True).kind == "image/jpeg"
    assert place.find(finder, Need.KIND).kind == "text/plain"
    assert not place.beneath.stored


def test_a_kind_is_remembered_under_a_lease_and_used_under_a_lease_only(place: Place) -> None:
    finder = place.finder()
    assert place.find(finder, Need.KIND).kind == "image/jpeg"
    assert place.beneath.stored == [("gallery", "image/jpeg")]
    place.sniffer.kind = "text/plain"
    assert place.find(finder, Need.KIND).kind == "image/jpeg"
    place.keeper.refuses = True
    assert place.find(finder, Need.KIND).kind == "text/plain"
    assert place.find(finder, Need.KIND, seeing=True).kind == "text/plain"
    assert len(place.sniffer.asked) == 3
    assert not any(lease.held for lease in place.keeper.given)


def test_a_kind_whose_lease_was_broken_meanwhile_is_not_remembered(place: Place) -> None:
    def writer_comes() -> None:
        place.keeper.given[-1].good = False

    finder = place.finder()
    place.sniffer.meanwhile = writer_comes
    assert place.find(finder, Need.KIND).kind == "image/jpeg"
    place.sniffer.kind = "text/plain"
    assert place.find(finder, Need.KIND).kind == "text/plain"
    assert not place.beneath.stored


def test_a_kind_of_an_earlier_daemon_counts_under_a_lease_that_still_holds(place: Place) -> None:
    beneath = place.beneath
    beneath.known = "image/png"
    beneath.meanwhile = lambda: setattr(place.keeper.given[-1], "good", False)
    assert place.find(place.finder(), Need.KIND).kind == "image/jpeg", "a writer came while the disk was read"
    place.kinds = KindCache(beneath=beneath)
    beneath.meanwhile = lambda: None
    assert place.find(place.finder(), Need.KIND).kind == "image/png"
    place.kinds = KindCache(beneath=beneath)
    place.keeper.refuses = True
    assert place.find(place.finder(), Need.KIND).kind == "image/jpeg"
    assert len(place.sniffer.asked) == 2


@pytest.mark.parametrize("options", [{"leases": False}, {"times_tell": False}])
def test_where_leases_prove_nothing_stat_is_enough_to_see_and_only_to_see(place: Place, options) -> None:
    finder = place.finder(**options)
    assert place.find(finder, Need.KIND, seeing=True).kind == "image/jpeg"
    place.sniffer.kind = "text/plain"
    assert place.find(finder, Need.KIND, seeing=True).kind == "image/jpeg"
    assert place.find(finder, Need.KIND).kind == "text/plain"
    assert place.find(finder, Need.KIND, seeing=True).kind == "image/jpeg", "the other look is not kept"
    with open(place.path / "a", "ab") as file:
        file.write(b"more")
    assert place.find(finder, Need.KIND, seeing=True).kind == "text/plain"


def test_a_file_that_changes_while_it_is_sniffed_is_not_remembered_for_seeing(place: Place) -> None:
    finder = place.finder(leases=False)
    place.sniffer.meanwhile = lambda: os.truncate(place.path / "a", len(place.sniffer.asked))
    before = version_key(place.tree.stat(place.tree.root_fd, b"a"))
    assert place.find(finder, Need.KIND, seeing=True).kind == "image/jpeg"
    assert place.kinds.get(before, "gallery") is None
    place.sniffer.kind = "text/plain"
    assert place.find(finder, Need.KIND, seeing=True).kind == "text/plain"


def test_an_unknown_kind_is_none_and_not_remembered(place: Place) -> None:
    finder = place.finder()
    place.sniffer.kind = None
    assert place.find(finder, BOTH) == Facts(None, "gallery")
    place.sniffer.kind = "image/jpeg"
    assert place.find(finder, Need.KIND).kind == "image/jpeg"


def test_evidence_keeps_the_lease_until_the_request_has_its_effect(place: Place) -> None:
    evidence = KindEvidence()
    with evidence:
        assert place.find(place.finder(), BOTH, evidence=evidence) == Facts("image/jpeg", "gallery")
        assert (evidence.owner, evidence.asked, evidence.holds()) == ("gallery", True, True)
        assert place.keeper.given[-1].held
    assert not place.keeper.given[-1].held


@pytest.mark.parametrize("expects", [True, False])
def test_a_file_that_has_just_taken_the_name_is_not_one_without_an_owner(
    place: Place, monkeypatch: pytest.MonkeyPatch, expects: bool
) -> None:
    """Where the owner decides on a request for one file: the app would get a wrong EACCES."""
    (place.path / "b").write_bytes(b"another")
    finder, root = place.finder(), place.tree.root_fd
    monkeypatch.setattr(finder.owners, "get", lambda fd, stat: OWNER_NONE)
    before = place.tree.stat(root, b"b")
    with KindEvidence(before if expects else None) as evidence:
        look = partial(finder.find, Need.OWNER, root, b"a", before, evidence=evidence)
        if not expects:
            assert trio.run(look).owner == OWNER_NONE
            return
        with pytest.raises(OSError, match="another file") as caught:
            trio.run(look)
    assert caught.value.errno == errno.ESTALE


def test_no_worker_gets_a_descriptor_that_holds_a_lease_or_can_write(place: Place) -> None:
    """It may outlive the daemon, and would keep the lease."""

    async def ask(finder: FactFinder) -> None:
        fd = place.tree.open_file(place.tree.root_fd, b"a", os.O_RDWR)
        try:
            await finder.kind_of(fd)
        finally:
            os.close(fd)

    trio.run(ask, place.finder())
    assert place.sniffer.asked[-1][0] not in place.keeper.leased
    trio.run(ask, place.finder(leases=False))
    assert place.sniffer.modes == [os.O_RDONLY, os.O_RDONLY]


def test_another_file_than_the_expected_one_is_stale(place: Place) -> None:
    (place.path / "b").write_bytes(b"another")
    evidence = KindEvidence()
    evidence.expected = place.tree.stat(place.tree.root_fd, b"b")
    with evidence, pytest.raises(OSError, match="another file") as caught:
        place.find(place.finder(), Need.KIND, evidence=evidence)
    assert caught.value.errno == errno.ESTALE
    assert not place.sniffer.asked
    assert not place.keeper.given[-1].held


def test_a_demanded_proof_that_is_not_there_is_told(place: Place) -> None:
    place.keeper.refuses = True
    evidence = KindEvidence()
    evidence.proven_only = True
    with evidence, pytest.raises(UnprovenKindError):
        place.find(place.finder(), Need.KIND, evidence=evidence)
    assert not place.sniffer.asked


def test_an_owner_that_changes_while_bytes_are_copied_does_not_count() -> None:
    found = ["gallery"]
    steady = SteadyOwner(lambda: found[-1])
    assert steady.now() == "gallery"
    found.append("none")
    assert steady.now() == OWNER_NONE
    later = SteadyOwner(lambda: found[-1])
    found.append("gallery")
    assert later.now() == OWNER_NONE, "the bytes can be those of before"
    assert SteadyOwner(lambda: None).now() is None
