"""Events and trails for tests: made by the real journal, read back by the real reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from policyfs.domain import Audit
from policyfs.journal.files.reader import records
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.database import Index, build
from policyfs.journal.sealing.verification import parts, read_key_chain
from policyfs.journal.writing.accounts import Limits
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain import chain
from policyfs.trail.chain.verification import Report
from policyfs.trail.chain.verify import Verifier
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import LineFormatter
from policyfs.trail.lines.record import Record

MOUNT_ID = "0123456789abcdef"
START_NS = 1_772_352_000_000_000_000
"""2026-03-01T08:00:00Z."""

SECOND_NS = 1_000_000_000

ROOMY = Limits(1 << 40, 1 << 40, 1 << 40, 1 << 40)
"""So much for each app that nothing is counted together."""


class Clock:
    """A clock that stands still until told otherwise (ns since 1970)."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND_NS)


BASE = Event(
    time_ns=START_NS,
    mount="/srv/media",
    policy_generation=1,
    policy_digest="ab" * 32,
    app="gallery",
    uid=10011,
    gid=10011,
    pid=4242,
    exe="/usr/bin/exiftool",
    operation="open",
    syscall="open(O_RDONLY)",
    path=b"/DCIM/a.jpg",
    decision="allow",
    rules=("gallery-sees",),
    io="passthrough",
    view="raw",
)


def an_event(path: bytes = b"/DCIM/a.jpg", **fields: object) -> Event:
    """An allowed open by the gallery app, with these fields set otherwise."""
    return BASE._replace(path=path, **fields)


def a_denial(path: bytes = b"/Private/a.jpg", **fields: object) -> Event:
    """A denied open by the gallery app."""
    return an_event(path, decision="deny", errno=13, rules=("no-private",), io="", **fields)


def line_of(event: Event, seq: int = 1) -> bytes:
    """The event's line, newline included, as if it were the first of a chain."""
    line, _ = chain.seal(chain.GENESIS, LineFormatter().event(event, seq))
    return line


def index_of(*events: Event | bytes) -> Index:
    """The index of a segment with these events, or lines."""
    lines = [one if isinstance(one, bytes) else line_of(one) for one in events]
    return Index(build(((0, line) for line in lines), 7, "00"))


@contextmanager
def a_journal(
    directory: Path, clock: Clock | None = None, limits: Limits = ROOMY, **options: Any
) -> Iterator[Journal]:
    """A journal of MOUNT_ID below this trail root. Both its clocks are the one given."""
    keep, clock = options.pop("keep", 0), clock or Clock()
    place = str(directory / MOUNT_ID)
    journal = Journal(place, MOUNT_ID, keep=keep, clock_ns=clock, steady_ns=clock, limits=limits, **options)
    try:
        yield journal
    finally:
        journal.close()


def write_trail(root: Path, events: Iterable[Event], **options: int) -> Path:
    """Record these events, close, and return the mount's directory."""
    with a_journal(root, **options) as journal:
        for event in events:
            journal.record(event, Audit.REQUIRED)
    return root / MOUNT_ID


def read_all(directory: Path) -> list[Record]:
    """Every record of one mount's directory; fails on a line that is none."""
    found = list(records(Chain(directory.name, directory)))
    assert all(isinstance(item, Record) for item in found), found
    return [item for item in found if isinstance(item, Record)]


def kinds(directory: Path) -> list[str]:
    """The type of every record, in order."""
    return [record.kind for record in read_all(directory)]


def paths(directory: Path) -> list[bytes]:
    """The path of every event, in order."""
    return [record.event.path for record in read_all(directory) if record.event is not None]


def segments(directory: Path) -> list[Path]:
    """The segment files, oldest first."""
    return [directory / name for name in Chain(directory.name, directory).segments()]


def verified(directory: Path, expect: dict[int, str] | None = None) -> Report:
    """What a verification of one mount's directory says."""
    verifier = Verifier(directory.name, expect)
    keys = read_key_chain(directory)
    for part in parts(Chain(directory.name, directory), keys, verifier.wanted, None):
        verifier.add(part.check, part.lines, part.seal)
    return verifier.report()
