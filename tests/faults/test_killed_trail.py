"""kill -9 of a daemon at any moment, while apps of several uids work: the trail is whole, has all that any of
them was allowed under `audit: required`, and tells of each crash."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import Popen
from typing import Final, NamedTuple

import pytest

from policyfs.trail.chain.restarts import KILLED, UNENDED
from tests.support.machine.counts import count
from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts
from tests.support.mount.trail import read_all, segments

KILLS: Final = count(2, 200)
EACH: Final = 20
"""Most kills of one trail. `verify` names a hundred things at most."""
UIDS: Final = (10010, 10011, 10012)
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  one: {{uid: {UIDS[0]}}}
  two: {{uid: {UIDS[1]}}}
  three: {{uid: {UIDS[2]}}}
rules:
  - {{id: look, allow: [see, read], who: {{app: any}}, paths: "/***", audit: best_effort}}
  - {{id: strict, allow: [all], who: {{app: [one, two, three]}}, paths: "/strict/***", audit: required}}
  - {{id: best, allow: [all], who: {{app: [one, two, three]}}, paths: "/best/***", audit: best_effort}}
"""

Access = tuple[int, str, str]
"""uid, operation and path."""


class Batch(NamedTuple):
    """Kills of one trail. segment: size of its segments: small ones are sealed all the time, larger ones are
    compressed, too."""

    number: int
    kills: int
    segment: str


BATCHES: Final = [
    Batch(number, min(EACH, KILLS - first), ("24K", "1M", "256K")[number % 3])
    for number, first in enumerate(range(0, KILLS, EACH))
]


def _work(channel: Connection, root: Path) -> list[Access]:
    """Make, open, move and remove, and go on whatever becomes of the daemon; what was seen to succeed."""
    uid, number, done = os.getuid(), 0, []
    own = root / f"strict/{uid}"

    def has(operation: str, path: Path) -> None:
        done.append((uid, operation, f"/{path.relative_to(root)}"))

    while not channel.poll():
        number += 1
        try:
            file, moved, made = own / f"file-{number}", own / f"moved-{number}", own / f"directory-{number}"
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            has("create", file)
            os.close(os.open(root / "strict/common", os.O_RDONLY))
            has("open", root / "strict/common")
            os.rename(file, moved)
            has("rename", file)
            os.mkdir(made)
            has("mkdir", made)
            os.close(os.open(root / "best/common", os.O_RDONLY))
            os.unlink(moved)
            has("unlink", moved)
        except OSError:
            time.sleep(0.002)
    return done


def furnish(store: Path) -> None:
    for place in ("strict", "best", *(f"strict/{uid}" for uid in UIDS)):
        (store / place).mkdir()
        (store / place).chmod(0o777)
    for place in ("strict", "best"):
        (store / place / "common").write_text("text\n")
        (store / place / "common").chmod(0o644)


@pytest.fixture
def busy(
    mounts: Mounts, empty_store: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Mount, list[Child]]]:
    """A mount, and an app of each uid at work in it."""
    furnish(empty_store)
    segment = request.param.segment
    mount = mounts.prepare(POLICY, empty_store, "--trail-segment", segment)
    mount.start()
    crowd = [start_as(uid, _work, mount.mountpoint) for uid in UIDS]
    try:
        yield mount, crowd
    finally:
        for child in crowd:
            child.kill()


def _kill(mount: Mount, rng: random.Random) -> Popen[bytes]:
    """Kill the daemon at a random moment, most often while apps work, and mount again; return the dead."""
    if rng.random() < 0.2:
        time.sleep(rng.random() / 4)  # it may still be about to begin
    else:
        _answered(mount)
        time.sleep(rng.random() / 2)
    dead = mount.process
    assert dead is not None
    os.kill(mount.pid, signal.SIGKILL)
    mount.launch()  # at once, since the kernel may hold a thread of the dead one until its mount has gone
    return dead


def _answered(mount: Mount) -> None:
    """Wait until the daemon that was launched last answers an app."""
    wait_for(mount._answers, "it is mounted", 20)
    call_as(UIDS[0], _until_opened, mount / "strict/common")


def _until_opened(path: Path) -> None:
    def opens() -> bool:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))
            return True
        return False

    wait_for(opens, "an app is answered", 20)


@pytest.mark.timeout(120 if KILLS < EACH else 600)
@pytest.mark.parametrize(("busy", "batch"), [(one, one) for one in BATCHES], indirect=["busy"])
def test_what_an_app_was_allowed_is_on_the_trail_of_a_killed_daemon(busy, batch: Batch) -> None:
    mount, crowd = busy
    rng = random.Random(batch.number)
    checkpoints, dead = mount.log.with_suffix(".checkpoints"), []
    for _ in range(batch.kills):
        with mount.as_environment():
            policyfs("audit", "key", "checkpoint", "--append", checkpoints)
        dead.append(_kill(mount, rng))
    _answered(mount)
    for child in crowd:
        child.send("enough")
    seen = Counter(access for child in crowd for access in child.result(30))
    assert len({operation for _, operation, _ in seen}) == 5
    assert [one.wait(20) for one in dead] == [-signal.SIGKILL] * batch.kills
    assert mount.stop() == []

    records = [one for chain in _chains(mount) for one in read_all(chain)]  # each whole line is a record
    events = [record.event for record in records if record.event is not None]
    recorded = Counter(
        (event.uid, event.operation, event.path.decode()) for event in events if event.decision == "allow"
    )
    assert seen - recorded == Counter()
    # What is made is on record before it is there. Of the kill between the two, only a new file tells: it is
    # made first, empty, and no app has heard of it.
    made = [path for uid in UIDS for path in (mount.store / f"strict/{uid}").iterdir()]
    named = {event.path for event in events} | {event.new_path for event in events}
    unnamed = [path for path in made if b"/" + bytes(path.relative_to(mount.store)) not in named]
    assert len(unnamed) <= batch.kills * len(UIDS)
    assert [path for path in unnamed if not path.is_file() or path.stat().st_size] == []
    _verified(mount, batch, checkpoints)


def _chains(mount: Mount) -> list[Path]:
    """The chains of a mount: a daemon that begins before the dead one has gone has one of its own."""
    return [path for path in mount.trail.iterdir() if path.is_dir() and segments(path)]


def _verified(mount: Mount, batch: Batch, checkpoints: Path) -> None:
    """The trail holds, also against a checkpoint from before the last kill; each crash is named."""
    with mount.as_environment():
        said = policyfs("audit", "verify", "--checkpoint", checkpoints)
    assert said.returncode == 0, said
    begun = sum(record.kind == "mount" for chain in _chains(mount) for record in read_all(chain))
    crashes = said.stdout.count(KILLED) + said.stdout.count(UNENDED)
    # A daemon that was killed before it recorded anything leaves no trace.
    assert begun - 1 <= crashes <= batch.kills, said.stdout
    ended = [chain for chain in _chains(mount) if read_all(chain)[-1].kind == "close"]
    assert len(ended) == 1, "the daemon that was not killed"
    for chain in _chains(mount):
        # Where a header was cut, there is nothing to seal.
        names = {record.place.segment.partition(".")[0] for record in read_all(chain)}
        sealed = {path.stem for path in chain.glob("*.seal")}
        # One that nobody has continued ends as its daemon did: the newest segments have no seal.
        assert not {name for name in names - sealed if chain in ended or name < max(sealed, default="")}
        assert not list(chain.glob(".new-*")), "nothing half written is left"
