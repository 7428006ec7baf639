"""Second looks, step by step: what is compared with what, whose copy is shared, who waits for whom."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
from collections.abc import Hashable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.domain import Decision, Patch, Principal
from policyfs.fs.access.facts import version_key
from policyfs.fs.redacted import patching
from policyfs.fs.redacted import second_look_queue as waiting_looks
from policyfs.fs.redacted import second_looks as module
from policyfs.fs.redacted.copies import Redacted, Redactor, Refused
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.fs.redacted.second_looks import Fingerprint, Said, SecondLooks
from policyfs.fs.sharing import pauses
from policyfs.redact.plan import Outcome, Plan
from policyfs.store.copies import CopyCache
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.tree import Tree
from tests.support.mount.file_system import on_trio

pytestmark = pytest.mark.alone  # a lease keeper comes before all threads, also of who runs tests side by side

PLACE = b"47.8 13.0"
HIDDEN = frozenset({"location"})


def worked(*patches: Patch) -> Plan:
    """A plan as it comes from a worker."""
    outcome = Outcome.PATCH if patches else Outcome.CLEAN
    return Plan(outcome, patches, digest=hashlib.sha256(repr(patches).encode()).digest())


HONEST = worked(Patch(4, zeros=len(PLACE)))
LIE = worked()
CAMERA, GALLERY = Principal(1, "camera", 10010), Principal(2, "gallery", 10011)


class Source:
    """Workers of apps say what stands in *says*, one answer after the other; fresh ones are honest, and wait
    at *gate*.
    """

    def __init__(self) -> None:
        self.says: list[tuple[str, Plan]] = []
        self.gate = trio.Event()
        self.reached = trio.Event()
        self.fresh: list[int] = []
        self.honest = HONEST
        self.discarded: list[Hashable] = []

    async def kind_of_fd(self, fd: int, *, lane: Hashable = None) -> str | None:
        return "image/jpeg"

    async def index(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None,
        first: bool = False,
    ) -> tuple[str | None, Plan]:  # fmt: skip
        return self.says.pop(0)

    async def look_afresh(self, fd: int, what: frozenset[str] | None) -> tuple[str, Plan | None]:
        self.fresh.append(os.fstat(fd).st_ino)
        self.reached.set()
        await self.gate.wait()
        return "image/jpeg", self.honest

    async def when_idle(self) -> None:
        await trio.lowlevel.checkpoint()

    def discard(self, lane: Hashable) -> None:
        self.discarded.append(lane)


class Place:
    """A photo in a store, its redactor, and the second looks behind that."""

    def __init__(self, store: Path, keeper: LeaseKeeper) -> None:
        self.photo = store / "a.jpg"
        self.photo.write_bytes(b"jpg " + PLACE)
        os.utime(self.photo, ns=(0, 0))
        self.tree = Tree.open(str(store))
        keeper.root_dev = store.stat().st_dev
        self.source = Source()
        self.second = SecondLooks(self.tree, self.source, keeper, lambda *_: None)
        self.copies = CopyCache(1 << 20)
        self.redactor = Redactor(
            self.tree, PlanFinder(self.source, None, self.second), keeper, self.copies,
            reflink=False, size_cap=1 << 20, places=None,
        )  # fmt: skip

    def close(self) -> None:
        self.second.close()
        self.copies.close()
        self.tree.close()

    def judge(self, kind: str | None) -> Decision:
        return Decision(True, 0, redact=HIDDEN)

    async def shown(self, who: Principal, says: Plan | None = None) -> bytes | Refused:
        """What an app reads when it opens the photo. says: what its worker answers if it is asked."""
        if says is not None:
            self.source.says.append(("image/jpeg", says))
        fd = os.open(self.photo, os.O_RDONLY)
        try:
            made = await self.redactor.redacted(fd, 1, HIDDEN, self.judge, who)
        finally:
            os.close(fd)
        if not isinstance(made, Redacted):
            return made
        made.copy.unpin(self.redactor.payer(who))
        return os.pread(made.copy.frozen.fd, 100, 0)

    def evict(self) -> None:
        """What happens to all copies where others need the room."""
        for key in list(self.copies._copies):
            self.copies.drop(key)

    async def looked(self) -> None:
        """All second looks have been taken."""
        self.source.gate.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.second.run)
            await trio.testing.wait_all_tasks_blocked()
            assert self.second.stats().waiting == 0
            nursery.cancel_scope.cancel()


@pytest.fixture
def place(tmp_path: Path, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(module.KindKey, "is_racy", lambda self, now_ns: False)
    made = Place(tmp_path, keeper)
    yield made
    made.close()


@on_trio
async def test_a_plan_that_two_found_is_shown_to_others(place: Place) -> None:
    assert PLACE not in await place.shown(CAMERA, HONEST)
    await place.looked()
    assert PLACE not in await place.shown(GALLERY)  # nobody is asked again
    assert place.second.stats().confirmed == 1
    assert place.source.discarded == []


@on_trio
@pytest.mark.parametrize("compared", ["with the app's next answer", "with the second look"])
async def test_a_write_without_a_new_time_is_no_lie(place: Place, monkeypatch, compared: str) -> None:
    """Within one clock tick a file can have two contents and one version: both answers were right."""
    monkeypatch.setattr(module.KindKey, "is_racy", lambda self, now_ns: True)
    await place.shown(CAMERA, LIE)
    monkeypatch.setattr(module.KindKey, "is_racy", lambda self, now_ns: False)
    if compared == "with the second look":
        await place.looked()
    else:
        place.evict()
        await place.shown(CAMERA, HONEST)
    assert (place.source.discarded, place.second.stats().differed) == ([], 0)
    assert place.second.stats().dropped == 1
    assert PLACE not in await place.shown(GALLERY, HONEST), "the first answer serves nobody else"


def _patches_alive() -> int:
    gc.collect()
    return sum(isinstance(each, Patch) for each in gc.get_objects())


@on_trio
async def test_on_a_tmpfs_within_the_store_nothing_is_remembered(place: Place, monkeypatch) -> None:
    """There a write through a mapping changes no time, so the same stat can be of other bytes."""
    monkeypatch.setattr(LeaseKeeper, "is_silent", lambda self, dev: True)
    await place.shown(CAMERA, HONEST)
    await place.looked()
    assert (place.second.stats().confirmed, place.second.stats().dropped) == (0, 1)


@on_trio
async def test_no_patches_are_kept_while_looks_wait_and_copies_live(place: Place) -> None:
    """16,384 waiting looks, and as many copies, are to take some MB, and a plan can take 40."""
    before = _patches_alive()
    assert PLACE not in await place.shown(CAMERA, worked(*(Patch(4 + number, b"x") for number in range(9))))
    assert place.second.stats().waiting == 1
    assert place.copies.count == 1
    assert _patches_alive() == before


@on_trio
async def test_a_lie_that_follows_an_honest_answer_is_not_shared_in_its_place(place: Place) -> None:
    """The first copy goes, its second look still waits, and then the worker is taken over."""
    await place.shown(CAMERA, HONEST)
    place.evict()
    assert PLACE in await place.shown(CAMERA, LIE), "a lie serves its own app"
    assert place.source.discarded == ["camera"], "two answers for one version: one of them is a lie"
    await place.looked()
    assert PLACE not in await place.shown(GALLERY, HONEST)
    assert PLACE not in await place.shown(CAMERA, HONEST), "the liar's copy has gone"
    assert place.second.stats().differed == 2


@on_trio
async def test_nor_while_the_look_at_the_honest_answer_is_under_way(place: Place) -> None:
    await place.shown(CAMERA, HONEST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.second.run)
        await place.source.reached.wait()
        place.evict()
        assert PLACE in await place.shown(CAMERA, LIE)
        place.source.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert PLACE not in await place.shown(GALLERY, HONEST)
    assert (place.second.stats().confirmed, place.second.stats().differed) == (1, 1)
    assert place.source.discarded == ["camera"]
    assert PLACE not in await place.shown(CAMERA, HONEST), "the liar's copy has gone"


async def looked_meanwhile(place: Place, monkeypatch: pytest.MonkeyPatch, says: Plan) -> bytes | Refused:
    """What the camera reads from a copy with many patches, whose second look ends before the last of them."""
    monkeypatch.setattr(patching, "AT_ONCE", 1)
    monkeypatch.setattr(pauses, "SLICE_S", 0.0)
    place.source.gate.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.second.run)
        shown = await place.shown(CAMERA, says)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return shown


@on_trio
async def test_a_copy_that_is_not_finished_when_its_plan_is_denied_goes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A liar could make its patches so many that the second look always ends first."""
    lie = worked(*(Patch(0, b"J"),) * 500)
    assert PLACE in await looked_meanwhile(place, monkeypatch, lie), "a lie serves its own app"
    assert place.second.stats().differed == 1
    assert PLACE not in await place.shown(CAMERA, HONEST), "the liar's copy has gone"


@on_trio
async def test_a_copy_that_is_not_finished_when_its_plan_is_confirmed_is_shared(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.source.honest = Plan(Outcome.PATCH, HONEST.patches * 500)
    assert PLACE not in await looked_meanwhile(place, monkeypatch, place.source.honest)
    assert place.second.stats().confirmed == 1
    assert PLACE not in await place.shown(GALLERY), "nobody is asked again"


@on_trio
async def test_the_lie_is_shared_where_its_key_is_enough(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the guard: what waits is not compared with what is said, nor a copy with what was confirmed."""
    ask = SecondLooks.ask

    def once(self: SecondLooks, fd: int, said: Said, verdict: module.Verdict) -> None:
        if self._jobs.get(*said.place) is None:
            ask(self, fd, said, verdict)

    def by_key(said: Said) -> None:
        *_, held = place.redactor._unshared.pop((said.version, said.what, said.lane))
        place.copies.rename(held.key, held.key._replace(lane=None))

    monkeypatch.setattr(SecondLooks, "ask", once)
    place.redactor._plans.on_confirmed = by_key
    await place.shown(CAMERA, HONEST)
    place.evict()
    await place.shown(CAMERA, LIE)
    await place.looked()
    assert PLACE in await place.shown(GALLERY)


@on_trio
async def test_an_honest_answer_that_follows_a_lie_is_compared_in_its_place(place: Place) -> None:
    assert PLACE in await place.shown(CAMERA, LIE)
    place.evict()
    assert PLACE not in await place.shown(CAMERA, HONEST)
    assert place.source.discarded == ["camera"]
    await place.looked()
    assert PLACE not in await place.shown(GALLERY)
    assert (place.second.stats().confirmed, place.second.stats().differed) == (1, 1)


@on_trio
async def test_a_copy_is_shared_only_if_it_is_the_one_that_the_plan_was_for(place: Place) -> None:
    """Of a file that has a writer no lease proves what it is, and nothing is compared."""
    await place.shown(CAMERA, HONEST)
    place.evict()
    writer = os.open(place.photo, os.O_RDWR)
    assert PLACE in await place.shown(CAMERA, LIE)
    os.close(writer)
    await place.looked()
    assert place.second.stats().confirmed == 1
    assert PLACE not in await place.shown(GALLERY, HONEST)


@on_trio
async def test_what_is_hidden_is_what_the_plan_was_made_for(place: Place) -> None:
    """A worker that tells two kinds in turn gets no plan for the one taken for the other's."""
    place.source.says = [("text/plain", HONEST), ("image/jpeg", LIE), ("image/jpeg", HONEST)]
    place.judge = lambda kind: Decision(
        True, 0, redact=HIDDEN if kind == "image/jpeg" else frozenset({"author"})
    )
    assert PLACE not in await place.shown(CAMERA)
    assert place.source.says == []


@on_trio
async def test_a_worker_that_never_stays_with_a_kind_gets_nothing(place: Place) -> None:
    place.source.says = [("text/plain", LIE), ("image/jpeg", LIE)] * 20
    place.judge = lambda kind: Decision(
        True, 0, redact=HIDDEN if kind == "image/jpeg" else frozenset({"author"})
    )
    assert isinstance(await place.shown(CAMERA), Refused)
    assert place.copies.stats().copies == 0


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
@on_trio
async def test_a_look_that_cannot_be_opened_is_counted_and_the_next_is_taken(
    number: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.shown(CAMERA, HONEST)
    await place.shown(GALLERY, HONEST)
    opened = module.libc.open_handle
    failures = [number]

    def open_handle(*arguments) -> int:
        if failures:
            raise OSError(failures.pop(), "no")
        return opened(*arguments)

    monkeypatch.setattr(module.libc, "open_handle", open_handle)
    await place.looked()
    assert (place.second.stats().dropped, place.second.stats().confirmed) == (1, 1)


class Looks:
    """Many files that several apps looked into."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.said: list[Said] = []

    def confirmed(self, said: Said, plan: Plan | None) -> None:
        self.said.append(said)

    def denied(self, said: Said) -> None:
        raise AssertionError(said)

    def ask(self, lane: Hashable, number: int) -> None:
        path = self._place.photo.with_name(f"{lane}{number}")
        path.write_bytes(b"jpg " + PLACE)
        fd = os.open(path, os.O_RDONLY)
        try:
            version = version_key(self._place.tree.fstat(fd))
            said = Said(version, HIDDEN, lane, "image/jpeg", Fingerprint.of(HONEST), racy=False)
            self._place.second.ask(fd, said, self)
        finally:
            os.close(fd)


@on_trio
async def test_apps_take_turns(place: Place) -> None:
    looks = Looks(place)
    for number in range(6):
        looks.ask("many", number)
    for number in range(2):
        looks.ask("few", number)
    await place.looked()
    assert [said.lane for said in looks.said] == ["many", "few", "many", "few", *["many"] * 4]


@on_trio
async def test_an_app_has_no_more_turns_and_places_by_its_uids(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If rules tell its uids apart, each has a lane, and results of its own."""
    monkeypatch.setattr(waiting_looks, "WAITING_MAX", 16)
    looks = Looks(place)
    for uid in range(20):
        looks.ask(("many", uid), 0)
    kept = place.second.stats().waiting
    assert kept == 9
    for number in range(2):
        looks.ask("few", number)
    await place.looked()
    asked = ["few" if said.lane == "few" else "many" for said in looks.said]
    assert asked == ["many", "few", "many", "few", *["many"] * (kept - 2)]
    assert len({said.lane for said in looks.said}) == kept + 1


@on_trio
async def test_one_app_goes_first_where_all_wait_in_one_line(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the guard: a lane of its own for none of them."""
    put = waiting_looks.WaitingLooks.put
    monkeypatch.setattr(
        waiting_looks.WaitingLooks, "put", lambda self, lane, key, look: put(self, None, key, look)
    )
    looks = Looks(place)
    for number in range(6):
        looks.ask("many", number)
    looks.ask("few", 0)
    await place.looked()
    assert [said.lane for said in looks.said] == [*["many"] * 6, "few"]


@on_trio
async def test_no_app_has_all_places_where_looks_wait(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_looks, "WAITING_MAX", 16)
    looks = Looks(place)
    for number in range(20):
        looks.ask("many", number)
    stats = place.second.stats()
    kept = stats.waiting
    assert (kept, stats.dropped) == (9, 11), "it has no more than what is left, when it comes"
    looks.ask("few", 0)
    assert place.second.stats().waiting == kept + 1
    await place.looked()
    assert place.second.stats().confirmed == kept + 1


@on_trio
async def test_all_copies_by_a_denied_plan_are_taken_back(place: Place) -> None:
    """One lane has two: of two nodes of the file, opened at once."""
    assert PLACE in await place.shown(CAMERA, LIE)
    [first] = [each.copy for of in place.redactor._unshared.values() for each in of]
    place.evict()
    assert PLACE in await place.shown(CAMERA, LIE)
    copies = [each.copy for of in place.redactor._unshared.values() for each in of]
    assert len(copies) == 2
    name, lie = next(iter(place.redactor._unshared)), Fingerprint.of(LIE)
    place.redactor._take_back(Said(*name, "image/jpeg", lie, False))
    assert first in copies
    assert all(copy.denied for copy in copies)
