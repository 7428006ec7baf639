"""Random trails that daemons could have left, and what somebody could do to them afterwards."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.audit.evidence import Anchors
from policyfs.cli.audit.verify import reports_on
from policyfs.domain import Audit
from policyfs.journal.files.segments import Chain
from policyfs.journal.sealing.checkpoint import checkpoint_of_chain
from policyfs.journal.sealing.keys import KeyStore, Signer
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain import chain
from policyfs.trail.chain.merkle import root_of
from policyfs.trail.chain.seal import Seal, body_of, digest_of, entries_of, seal_of, split
from policyfs.trail.chain.verification import Report
from tests.support.mount.trail import MOUNT_ID, ROOMY, START_NS, Clock, a_denial, an_event, segments


class Trail:
    """A trail with all that belongs to it."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root = root
        self.rng = rng
        self.keys = KeyStore(root / "keys")
        self.clock = Clock()
        self.directory = root / "trail" / MOUNT_ID
        self.checkpoint = b""
        """The signed end of the trail."""
        self.crashed = False
        """True if lines may be gone that a checkpoint has seen."""
        (root / "trail").mkdir(mode=0o700)

    def run(self, events: int, *, keep: int = 0) -> None:
        """Let a daemon record so many events, in small segments, and end in order."""
        journal = Journal(
            str(self.directory), MOUNT_ID, keep=keep, segment_bytes=self.rng.choice((3000, 6000)),
            limits=ROOMY, keys=self.keys, clock_ns=self.clock, steady_ns=lambda: START_NS,
        )  # fmt: skip
        for number in range(events):
            make = self.rng.choice((an_event, an_event, a_denial))
            event = make(b"/DCIM/%d.jpg" % number, time_ns=self.clock.now_ns)
            journal.record(event, self.rng.choice((Audit.REQUIRED, Audit.BEST_EFFORT)))
            self.clock.forward(self.rng.choice((0.001, 0.5, 3)))
            if self.rng.random() < 0.2:
                journal.flush()
        journal.close()

    def crash(self) -> None:
        """Leave the trail as a killed daemon does: no end, perhaps a line cut in half, seals lost."""
        self.crashed = True
        newest = segments(self.directory)[-1]
        lines = lines_of(newest)
        # What rotation removed, it removed after a record of it.
        least = max([2, *(number for number, line in enumerate(lines, 1) if b'"type":"pruned"' in line)])
        keep = self.rng.randrange(least, len(lines)) if len(lines) > least else len(lines)
        cut = lines[keep][: self.rng.choice((0, 30))] if keep < len(lines) else b""
        newest.write_bytes(b"".join(lines[:keep]) + cut)
        seal_file(newest).unlink()
        if self.rng.random() < 0.3:  # it had no time to seal the one before either
            for path in segments(self.directory)[-2:]:
                if not any(path.name in line.decode() for line in all_lines(self.directory)):
                    seal_file(path).unlink(missing_ok=True)

    def note_end(self) -> None:
        """Keep a checkpoint of the end."""
        line = checkpoint_of_chain(Chain(MOUNT_ID, self.directory), self.keys.signer())
        assert line is not None
        self.checkpoint = line

    def report(self, *, checkpoint: bool = True, machine: bool = True) -> Report:
        """Verify. checkpoint, machine: with the checkpoint, and with the keys of the machine."""
        kept = [self.checkpoint] if checkpoint and self.checkpoint else []
        anchors = Anchors([], kept, self.keys.public() if machine else None)
        chains = [Chain(MOUNT_ID, self.directory)]
        [report] = reports_on(chains, str(self.root / "trail"), anchors)
        return report


def lines_of(path: Path) -> list[bytes]:
    """The lines of a segment, with their newlines."""
    return path.read_bytes().splitlines(keepends=True)


def all_lines(directory: Path) -> list[bytes]:
    """The lines of all segments that name a seal."""
    return [line for path in segments(directory) for line in lines_of(path) if b'"type":"sealed"' in line]


def seal_file(segment: Path) -> Path:
    """The file of a segment's seal."""
    return segment.with_suffix(".seal")


class Expected(NamedTuple):
    """What `verify` must name first: the kind of damage, the segment and the line; None if it may be any."""

    kind: str
    segment: str | None
    line: int | None


def _lines(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))


def _somewhere(trail: Trail, *, inner: bool = False) -> tuple[Path, list[bytes], int]:
    """A random line, as (segment, lines, index). inner: neither first nor last of its segment."""
    while True:
        path = trail.rng.choice(segments(trail.directory))
        lines = lines_of(path)
        whole = len(lines) - (not lines[-1].endswith(b"\n"))
        if not inner:
            return path, lines, trail.rng.randrange(whole)
        if whole > 3:
            return path, lines, trail.rng.randrange(1, whole - 2)


def edit(trail: Trail) -> Expected:
    """Change one byte of a line, anywhere in it."""
    path, lines, index = _somewhere(trail)
    line = bytearray(lines[index])
    at = trail.rng.randrange(len(line) - 1)
    line[at] = trail.rng.choice([byte for byte in b'azAZ09/"{} ' if byte != line[at]])
    lines[index] = bytes(line)
    _lines(path, lines)
    return Expected("edited", path.name, index + 1)


def edit_with_digest(trail: Trail) -> Expected:
    """Change a line, and give it the digest that fits."""
    path, lines, index = _somewhere(trail, inner=True)
    before = chain.split(lines[index - 1][:-1])
    own = chain.split(lines[index][:-1])
    assert before is not None
    assert own is not None
    lines[index], _ = chain.seal(before.chain, own.body.replace(b'"time":"2026', b'"time":"2025'))
    _lines(path, lines)
    return Expected("edited", path.name, index + 1)


def delete(trail: Trail) -> Expected:
    """Remove some lines from within a segment."""
    path, lines, index = _somewhere(trail, inner=True)
    count = trail.rng.randrange(1, len(lines) - index)
    _lines(path, lines[:index] + lines[index + count :])
    return Expected("deleted", path.name, index + 1)


def delete_segment(trail: Trail) -> Expected:
    """Remove a segment with its seal, that is not the newest."""
    paths = segments(trail.directory)
    index = trail.rng.randrange(len(paths) - 1)
    paths[index].unlink()
    seal_file(paths[index]).unlink()
    return Expected("deleted", paths[index + 1].name, 0)


def delete_seal(trail: Trail) -> Expected:
    """Remove the seal of a segment, but not of the newest."""
    path = trail.rng.choice(segments(trail.directory)[:-1])
    seal_file(path).unlink()
    return Expected("deleted", path.name, 0)


def insert_copy(trail: Trail) -> Expected:
    """Insert a line that is somewhere in the same segment already, or in another."""
    path, lines, index = _somewhere(trail, inner=True)
    _, others, other = _somewhere(trail)
    _lines(path, [*lines[:index], others[other], *lines[index:]])
    place = index + 2 if others[other] == lines[index] else index + 1  # of two that are alike, the second
    return Expected("inserted", path.name, place)


def insert_garbage(trail: Trail) -> Expected:
    """Insert a line that is none of a trail."""
    path, lines, index = _somewhere(trail, inner=True)
    noise = trail.rng.randbytes(40).hex().encode() + b"\n"
    garbage = trail.rng.choice((b"\n", b"x\n", b"{}\n", b'{"seq":1}\n', noise))
    _lines(path, [*lines[:index], garbage, *lines[index:]])
    return Expected("inserted", path.name, index + 1)


def insert_forged(trail: Trail) -> Expected:
    """Insert an event with the next number, and a digest that fits the line before."""
    path, lines, index = _somewhere(trail, inner=True)
    before, after = chain.split(lines[index - 1][:-1]), chain.split(lines[index][:-1])
    assert before is not None
    assert after is not None
    forged, _ = chain.seal(before.chain, after.body.replace(b'"time":"2026', b'"time":"2025'))
    _lines(path, [*lines[:index], forged, *lines[index:]])
    return Expected("inserted", path.name, index + 1)


def swap(trail: Trail) -> Expected:
    """Exchange two lines of a segment."""
    path, lines, index = _somewhere(trail, inner=True)
    other = trail.rng.randrange(index + 1, len(lines))
    lines[index], lines[other] = lines[other], lines[index]
    _lines(path, lines)
    return Expected("reordered", path.name, index + 1)


def swap_segments(trail: Trail) -> Expected:
    """Exchange two segments, with or without their seals."""
    first, second = sorted(trail.rng.sample(segments(trail.directory), 2))
    pairs = [(first, second)]
    if trail.rng.random() < 0.5 and seal_file(first).exists() and seal_file(second).exists():
        pairs.append((seal_file(first), seal_file(second)))
    for one, other in pairs:
        kept = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(kept)
    return Expected("reordered", first.name, None)


def truncate(trail: Trail) -> Expected:
    """Cut lines, or a part of one, from the end of any segment."""
    path, lines, index = _somewhere(trail, inner=True)
    cut = lines[index][: trail.rng.choice((0, 0, 1, 40))]
    _lines(path, [*lines[:index], cut])
    return Expected("truncated", None, None)


def cut_tail(trail: Trail) -> Expected:
    """Remove the end: some lines, or the newest segments, and the seals that would tell."""
    paths = segments(trail.directory)
    first = trail.rng.randrange(1, len(paths))
    for path in paths[first:]:
        path.unlink()
        seal_file(path).unlink(missing_ok=True)
    newest = paths[first - 1]
    lines = lines_of(newest)
    if trail.rng.random() < 0.5:
        seal_file(newest).unlink(missing_ok=True)
        _lines(newest, lines[: trail.rng.randrange(1, len(lines))])
    return Expected("truncated", None, None)


def reseal(trail: Trail) -> Expected:
    """Change a line, and make all digests, roots and seals after it anew, with a key of one's own."""
    path, _, index = _somewhere(trail, inner=True)
    foreign = KeyStore(trail.root / f"foreign-{trail.rng.random()}").signer()
    with_keys = trail.rng.random() < 0.5
    if with_keys:
        (trail.directory / "keys.public").write_bytes(foreign.lines)
    with_seals = with_keys or trail.rng.random() < 0.6
    _remake(trail, path, index, foreign if with_seals else None)
    return Expected("re-sealed", None, None)


def _remake(trail: Trail, changed: Path, index: int, signer: Signer | None) -> None:
    head, digests, previous = chain.GENESIS, {}, ""
    after = False
    for path in segments(trail.directory):
        lines = lines_of(path)
        for number, raw in enumerate(lines):
            sealed = chain.split(raw[:-1])
            if sealed is None:
                continue
            body = sealed.body
            if (path, number) == (changed, index):
                body, after = body.replace(b'"time":"2026', b'"time":"2027'), True
            if after:
                for old, new in digests.items():
                    body = body.replace(old, new)
                lines[number], new_head = chain.seal(head, body)
                digests[sealed.chain.encode()] = new_head.encode()
                head = new_head
                digests = dict(list(digests.items())[-1:])
            else:
                head = sealed.chain
        _lines(path, lines)
        line = seal_file(path).read_bytes() if seal_file(path).exists() else b""
        if signer is not None and line:
            found = split(line)
            seal = seal_of(found.body) if found else None
            assert seal is not None
            new_line = _new_seal(seal, lines, signer, previous or seal.previous)
            seal_file(path).write_bytes(new_line)
            previous = digest_of(new_line)


def sealed_by(signer: Signer, segment: Path) -> None:
    """Seal a segment anew, with this key."""
    found = split(seal_file(segment).read_bytes())
    seal = seal_of(found.body) if found else None
    assert seal is not None
    seal_file(segment).write_bytes(_new_seal(seal, lines_of(segment), signer, seal.previous))


def _new_seal(seal: Seal, lines: list[bytes], signer: Signer, previous: str) -> bytes:
    covered = lines[: seal.lines]
    last = chain.split(covered[-1][:-1])
    assert last is not None
    opening = json.loads(covered[0])["previous"]
    made = seal._replace(
        opening=opening, head=last.chain, root=root_of(entries_of(covered)).hex(), previous=previous,
        key=signer.key.key, size=sum(map(len, covered)),
    )  # fmt: skip
    return signer.sign("seal", body_of("seal", made))


MANIPULATIONS: Final[tuple[Callable[[Trail], Expected], ...]] = (
    edit, edit_with_digest, delete, delete_segment, delete_seal, insert_copy, insert_garbage, insert_forged,
    swap, swap_segments, truncate, cut_tail, reseal,
)  # fmt: skip
"""All but rolling back, which needs an older copy (roll_back)."""


def roll_back(trail: Trail, older: Path) -> Expected:
    """Put an older copy of the whole trail in its place."""
    shutil.rmtree(trail.directory)
    shutil.copytree(older, trail.directory)
    return Expected("rolled back", None, None)


def roll_back_segment(trail: Trail, older: Path) -> Expected | None:
    """Put an older copy of one segment and its seal in their places; None if it has not grown since."""
    newest = segments(older)[-1]
    if (trail.directory / newest.name).stat().st_size == newest.stat().st_size:
        return None
    for path in (newest, seal_file(newest)):
        shutil.copy(path, trail.directory / path.name)
    return Expected("rolled back", None, None)


def copied(directory: Path, to: Path) -> Path:
    """A copy of a trail."""
    shutil.copytree(directory, to, copy_function=shutil.copyfile)
    os.chmod(to, 0o700)
    return to
