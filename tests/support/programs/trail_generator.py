"""Trails of any size that look like a family's: written by the product's own chain, at full speed.

    .venv/bin/python -m tests.support.programs.trail_generator ROOT --events 10000000 --days 30

makes a trail root with one chain (--mounts: several), of sessions by seven apps and by strangers: scans,
slide shows, uploads, synchronisation, backups at night, streams, refusals and their repeats. The life of one
file (STORY) goes through it: created, read, renamed twice, changed, refused to others, deleted. The same seed
makes the same trail.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import random
import time
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.journal.files.compression import COMPRESS_FROM
from policyfs.journal.files.policy_texts import PolicyText
from policyfs.journal.files.segments import TrailDirectory
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.sealing.sealer import Sealer
from policyfs.journal.writing.writer import ChainWriter
from policyfs.trail.lines.event import Event
from tests.support.programs.trail_sessions import (
    AT,
    CHAPTERS,
    DIGESTS,
    POLICIES,
    START_NS,
    Fields,
    Sessions,
)

_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS
_BATCH: Final = 1000
_SESSION: Final = 60
"""Events of an average session."""
_BY_HOUR: Final = (1, 1, 6, 6, 1, 1, 2, 4, 5, 4, 3, 3, 4, 4, 3, 3, 4, 5, 7, 9, 10, 9, 6, 3)
"""Share of the sessions in each hour; backups run at two and three."""

_MAKE: Final = Event._make
_SINCE: Final = AT["since_ns"]
_APP_AND_DECISION: Final = itemgetter(AT["app"], AT["decision"])


class Generated(NamedTuple):
    """A generated trail.

    counts: events by (app, decision). records: lines, those of the journal included. story: ids (seq) of the
    events about the file of STORY, in order, in the first chain.
    """

    directories: list[Path]
    counts: Counter[tuple[str, str]]
    records: int
    story: list[int]


def _starts(rng: random.Random, sessions: int, days: float) -> list[int]:
    """Return the times at which sessions begin, in order."""
    hours = rng.choices(range(24), _BY_HOUR, k=sessions)
    found = []
    whole_days = math.ceil(days)
    for hour in hours:
        day = rng.randrange(whole_days) + (hour + rng.random()) / 24
        found.append(START_NS + round(day * days / whole_days * _DAY_NS))
    return sorted(found)


def _size(path: Path) -> int:
    """Return the size of a file; 0 if it was compressed meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Chain:
    """One chain that is being generated."""

    def __init__(self, directory: Path, events: int, days: float, seed: int, **options: int) -> None:
        self._rng = random.Random(seed)
        self._now_ns = START_NS
        self._lock = TrailDirectory(str(directory))
        self._directory = directory
        self._sealer: Sealer | None = None
        self.writer = ChainWriter(
            self._lock, directory.name, segment_bytes=options["segment_bytes"], keep=options["keep"],
            clock_ns=lambda: self._now_ns,
        )  # fmt: skip
        self._sessions = Sessions(self._rng, f"/srv/media{seed}", max(24, min(2000, events // 400)))
        self._left = events
        self._starts = _starts(self._rng, events // _SESSION + 2, days)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.story: list[int] = []
        self._batch: list[Fields] = []
        self._told = 0

    def seal_with(self, keys: KeyStore) -> None:
        """Have the segments sealed and compressed, as a daemon does."""
        self._sealer = Sealer(
            str(self._directory), self._directory.name, keys,
            changed=lambda segment, found: None, sealed=self._note_seal,
        )  # fmt: skip
        self.writer.closed = self._sealer.close_segment
        self._sealer.start(None, lambda: self.writer.extent)

    def _note_seal(self, fields: dict[str, object]) -> None:
        self.writer.note("sealed", fields)

    def write(self) -> None:
        """Write it all, and close it."""
        self._policy(1)
        chapters = [len(self._starts) * part // (CHAPTERS + 1) for part in range(1, CHAPTERS + 1)]
        for number, start in enumerate(self._starts):
            following = self._starts[number + 1] if number + 1 < len(self._starts) else start + _SECOND_NS
            if number == len(self._starts) // 2:
                self._flush()
                self._policy(2)
            if number in chapters:
                self._flush()
                self._tell(start)
            self._now_ns = max(self._now_ns, start)
            self._session(following, night=(start // (_DAY_NS // 24)) % 24 in {2, 3})
            if not self._left:
                break
        while self._left:
            self._session(self._now_ns + _SECOND_NS, night=False)
        self._flush()
        self.writer.note("close", {"cause": "command", "how": "unmounted"})
        self.writer.write(())
        for fd in self.writer.close():
            os.close(fd)
        if self._sealer is not None:
            while any(_size(path) >= COMPRESS_FROM for path in self._plain()[:-1]):
                time.sleep(0.1)
            self._sealer.close()
        self._lock.close()

    def _plain(self) -> list[Path]:
        return sorted(self._directory.glob("*.jsonl"))

    def _session(self, until_ns: int, *, night: bool) -> None:
        events = self._sessions.session(night=night)[: self._left]
        step = min(20_000_000, max(1000, (until_ns - self._now_ns) // (len(events) + 1)))
        now_ns = self._now_ns
        for made in events:
            now_ns += step - now_ns % 997
            made[0] = now_ns
            if made[_SINCE] is not None:
                made[_SINCE] = now_ns - step
        self._left -= len(events)
        self._batch += events
        if len(self._batch) >= _BATCH:
            self._flush()
        self._now_ns = now_ns

    def _tell(self, start_ns: int) -> None:
        self._now_ns = max(self._now_ns, start_ns)
        for made in self._sessions.story(self._told):
            if not self._left:
                return
            self._now_ns += 1_000_000
            made[0] = self._now_ns
            self._left -= 1
            self._batch.append(made)
            self._flush()
            self.story.append(self.writer.seq)
        self._told += 1

    def _flush(self) -> None:
        if self._batch:
            events = list(map(_MAKE, self._batch))
            self.counts.update(map(_APP_AND_DECISION, events))
            self.writer.write(events)
            self.writer.prune()
            self._batch.clear()

    def _policy(self, generation: int) -> None:
        digest, text = DIGESTS[generation - 1], POLICIES[generation - 1].encode()
        self.writer.texts.keep(PolicyText(digest, (("policy.yaml", text),)))
        before = DIGESTS[0] if generation == 2 else ""
        self.writer.texts.in_force(digest, before)
        fields: dict[str, object] = {"policy": digest, "name": f"family-{generation}", "uid": 0, "pid": 1}
        if generation == 1:
            self.writer.note("mount", fields)
        else:
            more = {"result": "in force", "previous": before, "generation": 2, "how": "policyfs reload"}
            self.writer.note("policy", fields | more)
        self._sessions.generation = generation


def generate(
    root: Path,
    events: int,
    days: float = 30,
    *,
    mounts: int = 1,
    seed: int = 1,
    segment_bytes: int = 64 << 20,
    keep: int = 0,
    keys: Path | None = None,
) -> Generated:
    """Make a trail root with so many events over so many days, shared by so many mounts (chains). keys: a
    directory for the keys with which segments are sealed; none are sealed or compressed without."""
    root.mkdir(mode=0o700, exist_ok=True)
    counts: Counter[tuple[str, str]] = Counter()
    directories, records, story = [], 0, []
    for number in range(mounts):
        name = hashlib.sha256(f"mount {seed} {number}".encode()).hexdigest()[:16]
        share = events // mounts + (number < events % mounts)
        made = _Chain(root / name, share, days, seed + number, segment_bytes=segment_bytes, keep=keep)
        if keys is not None:
            made.seal_with(KeyStore(keys))
        made.write()
        counts += made.counts
        records += made.writer.seq
        directories.append(root / name)
        story = story or made.story
    return Generated(directories, counts, records, story)


def main() -> None:
    """Make a trail, and print what is in it."""
    parser = argparse.ArgumentParser(description="generate a trail")
    parser.add_argument("root", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--mounts", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--segment-bytes", type=int, default=64 << 20)
    parser.add_argument("--keys", type=Path, help="seal and compress, with the keys in this directory")
    options = parser.parse_args()
    began = time.perf_counter()
    made = generate(options.root, options.events, options.days, mounts=options.mounts, seed=options.seed,
                    segment_bytes=options.segment_bytes, keys=options.keys)  # fmt: skip
    seconds = time.perf_counter() - began
    size = sum(path.stat().st_size for directory in made.directories for path in directory.glob("*.jsonl*"))
    print(f"{made.records} records, {size} bytes, {size / made.records:.0f} each, {seconds:.1f} s,"
          f" {made.records / seconds:.0f} a second")  # fmt: skip
    for (app, decision), number in sorted(made.counts.items()):
        print(f"  {app:10} {decision:10} {number}")
    print("  story:", " ".join(f"{made.directories[0].name[:8]}:{seq}" for seq in made.story))


if __name__ == "__main__":
    main()
