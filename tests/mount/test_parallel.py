"""Eight processes of four uids do everything at once; afterwards every byte is accounted for.

Each process works in a directory of its own that it models exactly (tests/support/programs/worker.py), in
one that all share (tests/support/programs/crowd.py), and in its photo album, while others look into that
under redaction. Then the store must hold what the models say, and the daemon must hold nothing:
no handle, node, backing id, lease or descriptor, no bug in its log, and no more memory.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.machine.images import file_system
from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.models.model import Model, check_tree
from tests.support.mount.daemons import Mount
from tests.support.mount.holdings import anonymous_memory, settled
from tests.support.mount.stores import Mounts
from tests.support.programs import crowd
from tests.support.programs.worker import Worker

UIDS = (10091, 10092, 10093, 10094)
MEMBERS = 8
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {UIDS[0]}}}
  two: {{uid: {UIDS[1]}}}
  three: {{uid: {UIDS[2]}}}
  four: {{uid: {UIDS[3]}, grants: [media.location]}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: ["/Work/**", "/Own/**", "/Shared/**", "/DCIM/**"]}}
  - {{id: free, allow: [all], paths: ["/Free/**"]}}
  - id: own
    require: {{redact: location}}
    paths: ["/Own/**"]
    unless: {{owner: self}}
  - id: places
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: ["/DCIM/**"]
    unless: {{owner: self}}
  - {{id: kinds, require: {{content: ["image/*"]}}, paths: ["/DCIM/**"]}}
"""
AREAS = ("Work", "Free", "Own", "Work", "Free", "Own", "Work", "Free")
"""Of each member: what the policy decides by uid, what it does not, and what is mediated."""

PHOTOS = ("photo_with_place.jpg", "photo_without_place.jpg")
RSS_SLACK_BYTES = 24 << 20
END_S = 60.0
STEPS = 150
"""What each member does at least, however long it takes on a busy machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one member is to do. others: members whose photos it sees redacted.

    refusals: what opening such a photo may end in: it is gone, or it is half written, so that
    nothing in it can be redacted, or (where it is too large to copy) somebody writes it.
    """

    mountpoint: Path
    member: int
    seconds: float
    seed: int
    pictures: Sequence[crowd.Picture]
    others: tuple[int, ...]
    sees_places: bool
    refusals: frozenset[int]


@dataclass(frozen=True, slots=True)
class Account:
    """What a member left behind, by its own account."""

    model: Model
    album: dict[bytes, int]
    logged: int
    done: Counter[str]


def member(_channel: object, plan: Plan) -> Account:
    """The life of one member of the crowd."""
    top = os.fsencode(plan.mountpoint)
    done: Counter[str] = Counter()
    me = plan.member
    worker = Worker(top + b"/%s/p%d" % (AREAS[me].encode(), me), plan.seed + me)
    together = crowd.Member(top + b"/Shared", me, plan.seed + me, done)
    albums = [top + b"/DCIM/p%d" % number for number in range(MEMBERS)]
    kept = [top + b"/DCIM/kept/" + name.encode() for name in PHOTOS]
    photographer = crowd.Photographer(
        albums, me, plan.others, plan.pictures, kept, plan.sees_places, plan.refusals,
        plan.seed + me, done,
    )  # fmt: skip
    end, steps = time.monotonic() + plan.seconds, 0
    step: object = None
    try:
        while time.monotonic() < end or steps < STEPS:
            steps += 1
            step = worker.chance.choices((worker, together, photographer), (12, 4, 3))[0]
            step.step()
    except BaseException as error:
        error.add_note(f"member {me} in {AREAS[me]}, seed {plan.seed}, {type(step).__name__}, after {done}")
        error.add_note("\n".join(worker.trace))
        raise
    model = worker.finish()
    return Account(model, photographer.album, together.logged, done + worker.done)


@pytest.fixture(params=["ext4", "xfs"])
def crowded_store(request: pytest.FixtureRequest, arena: Path, media: dict[str, Path]) -> Iterator[Path]:
    """A directory for each member in each area, the shared one, and photos that nobody owns."""
    with file_system(request.param, arena) as top:
        store = top / "store"
        store.mkdir(mode=0o700)
        crowd.furnish(store / "Shared")
        (store / "DCIM" / "kept").mkdir(parents=True)
        for name in PHOTOS:
            (store / "DCIM" / "kept" / name).write_bytes(media[name].read_bytes())
        for number in range(MEMBERS):
            for area in (AREAS[number], "DCIM"):
                directory = store / area / f"p{number}"
                directory.mkdir(parents=True)
                os.chown(directory, UIDS[number % 4], UIDS[number % 4])
        yield store


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of mount. alone: everyone in it is one app."""

    seconds: int
    options: tuple[str, ...] = ()
    alone: bool = False
    refusals: frozenset[int] = frozenset({errno.ENOENT, errno.EACCES})


SHARED = Sort(count(1, 600))
CLONING = Sort(count(2, 300))
APP = Sort(count(2, 300), ("--app", "one", "--any-uid"), alone=True)
MEDIATED = Sort(count(2, 300), ("--no-passthrough",))
LEASED = Sort(count(1, 300), ("--copy-max", "16K"), refusals=SHARED.refusals | {errno.EBUSY})


@pytest.mark.parametrize(
    ("sort", "crowded_store"),
    [
        pytest.param(SHARED, "ext4", id="shared"),
        pytest.param(CLONING, "xfs", id="cloned copies", marks=pytest.mark.soak),
        pytest.param(APP, "ext4", id="app", marks=pytest.mark.soak),
        pytest.param(MEDIATED, "ext4", id="mediated", marks=pytest.mark.soak),
        pytest.param(LEASED, "ext4", id="leased", marks=pytest.mark.night),
    ],
    indirect=["crowded_store"],
)
@pytest.mark.timeout(1200)
def test_a_crowd_at_work(crowded_store: Path, mounts: Mounts, sort: Sort) -> None:
    mount = mounts.start(POLICY, crowded_store, *sort.options)
    pictures = look_at_photos(mount, crowded_store)
    before = settled(mount)
    seconds = sort.seconds
    plans = [plan_of(number, mount, sort, pictures) for number in range(MEMBERS)]
    crew = [start_as(UIDS[plan.member % 4], member, plan) for plan in plans]
    try:
        accounts, memory = wait_for_all(crew, mount, seconds)
    finally:
        for child in crew:
            child.kill()
    done = sum((account.done for account in accounts), Counter[str]())
    check_store(crowded_store, accounts, pictures)
    check_activity(done, seconds, alone=sort.alone)
    settled(mount, before)
    assert memory[-1] - memory[0] < RSS_SLACK_BYTES, f"anonymous memory in bytes: {memory}"


def look_at_photos(mount: Mount, store: Path) -> list[crowd.Picture]:
    """Each photo as it is and as it is redacted; these two must differ where there is a place."""
    pictures = []
    for name in PHOTOS:
        redacted = call_as(UIDS[0], Path.read_bytes, mount / f"DCIM/kept/{name}")
        pictures.append(crowd.Picture((store / "DCIM" / "kept" / name).read_bytes(), redacted))
    assert len(crowd.secrets_of(pictures)) > 10
    return pictures


def plan_of(number: int, mount: Mount, sort: Sort, pictures: list[crowd.Picture]) -> Plan:
    """In an app mount everyone is the app, and so everything but the kept photos is its own."""
    sees_places = number % 4 == 3 and not sort.alone
    others = () if sort.alone or sees_places else tuple(n for n in range(MEMBERS) if n % 4 != number % 4)
    seed = int.from_bytes(os.urandom(4), "little")
    mountpoint, seconds = mount.mountpoint, sort.seconds
    return Plan(mountpoint, number, seconds, seed, pictures, others, sees_places, sort.refusals)


def wait_for_all(crew: list[Child], mount: Mount, seconds: float) -> tuple[list[Account], list[int]]:
    """What the members say, and the daemon's memory in bytes from a third of the time on."""
    memory: list[int] = []
    start = time.monotonic()
    for part in (1 / 3, 2 / 3):
        wait_for(lambda part=part: time.monotonic() > start + seconds * part, "time", seconds + END_S)
        memory.append(anonymous_memory(mount.pid))
    accounts = [child.result(seconds + END_S) for child in crew]
    memory.append(anonymous_memory(mount.pid))
    return accounts, memory


def check_store(store: Path, accounts: list[Account], pictures: list[crowd.Picture]) -> None:
    """The store, read by root and not through the mount, holds what the members say."""
    for number, account in enumerate(accounts):
        check_tree(os.fsencode(store / AREAS[number] / f"p{number}"), account.model)
        album = {os.fsencode(path.name): path.read_bytes() for path in (store / f"DCIM/p{number}").iterdir()}
        assert album == {name: pictures[photo].raw for name, photo in account.album.items()}
    crowd.check_shared(store / "Shared", [account.logged for account in accounts])


def check_activity(done: Counter[str], seconds: float, *, alone: bool) -> None:
    """The members did what they were there for, and not only the easy part of it."""
    wanted = ["carried", "token read", "tied", "locked", "visited", "take", "retake", "replace", "old"]
    wanted += ["map_write", "exchange", "use_held", "xattr", "rename", "rewrite"]
    wanted += [] if alone else ["foreign whole"]
    assert {name for name in wanted if done[name] < seconds / 2} == set(), done
