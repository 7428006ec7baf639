"""Verification that a hash chain of the trail is whole: no line was changed, removed or moved (pure).

docs/audit.md states the limits of the proof. A process that can write the files, and has the private key, can
replace all lines from some line on. A signed checkpoint or digest in another place reveals the replacement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from policyfs.trail.chain import chain, damage
from policyfs.trail.chain.damage import DELETED, EDITED, INSERTED, RESEALED, ROLLED_BACK, TRUNCATED, diagnose
from policyfs.trail.chain.expected import Expected
from policyfs.trail.chain.removed import Ranges, not_in, ranges_of, with_numbers
from policyfs.trail.chain.restarts import Restarts
from policyfs.trail.chain.seal import NO_SEAL, Checkpoint, Proof, Seal
from policyfs.trail.chain.segment_check import Cut, SegmentCheck, check_segment, proves
from policyfs.trail.chain.verification import Break, Report, describe_trouble, in_order
from policyfs.trail.lines.record import CLOCK_STEP_NS, Place, Record, parse_line
from policyfs.trail.query.summary import TROUBLE

_BREAKS_LIMIT: Final = 100
_Hole = tuple[str, int, int, int, int]
"""Missing segments: name of the segment after them, their first and last number, seq before and after."""


class Verifier:
    """A verifier of a hash chain. The caller adds all segments (files) in order, and calls report()."""

    def __init__(
        self,
        mount_id: str,
        expect: Mapping[int, str] | None = None,
        checkpoints: Collection[Checkpoint] = (),
    ) -> None:
        """expect: the required digests, by line number. checkpoints: each states the digest of a line."""
        self._mount_id = mount_id
        self._expect = Expected(expect or {}, checkpoints)
        self._seq = 0
        self._head = chain.GENESIS
        self._number = 0
        self._newest = ""
        self._segments = 0
        self._records = 0
        self._first = ""
        self._holes: list[_Hole] = []
        self._cuts: dict[str, Cut] = {}
        self._empty: list[str] = []
        self._lost_end = False
        """True if the end of the previous segment cannot be read, so that its last digest is not known."""
        self.removed: Ranges | None = None
        self._pruned: set[str] = set()
        self._breaks: list[Break] = []
        self._notes: list[Break] = []
        self._proven: int | None = None
        self._signed = 0
        self._time_ns = 0
        self._origin: tuple[object, object] = (None, None)
        self.restarts = Restarts()
        self._last: Proof | None = None
        self._unsealed = ""
        """The name of the previous segment if it has no seal, else empty."""
        self._seals: dict[str, Proof] = {}
        self._begun: dict[str, int] = {}
        self._told_seals: dict[str, tuple[Record, str]] = {}
        self.policies: dict[str, Place] = {}
        """Dictionary from a policy's digest to the place of the last mount or policy record that names it."""

    @property
    def wanted(self) -> Collection[int]:
        """Return the numbers of the lines for which a digest is required."""
        return self._expect.wanted

    @property
    def seq(self) -> int:
        """Return the number of the last line that was added."""
        return self._seq

    @property
    def has_seals(self) -> bool:
        """True if a segment that was added has a seal (a signed statement about its lines)."""
        return self._last is not None

    def segment(self, name: str, number: int, lines: Iterable[bytes], seal: Proof | None = None) -> None:
        """Check and add the next segment (file). lines: with newlines; the last line may have none."""
        kept = list(lines)
        covered = seal.seal.lines if seal else 0
        check = check_segment(self._mount_id, name, number, kept, sealed_lines=covered, wanted=self.wanted)
        self.add(check, lambda: kept, seal)

    def add(self, check: SegmentCheck, lines: Callable[[], Sequence[bytes]], seal: Proof | None) -> None:
        """Add the next segment (file). check: the result of its check. lines: rereads a damaged file."""
        self._segments += 1
        self._follow_number(check)
        self._number, self._newest = check.number, check.name
        self._begun[_plain(check.name)] = self._seq
        before = len(self._breaks)
        if not check.lines:
            check = check._replace(first_seq=self._seq + 1, last_seq=self._seq)
        if check.cut is not None and not check.unread:
            self._cuts[_plain(check.name)] = check.cut
        if not check.lines and check.sound and check.cut is None and not check.unread:
            self._empty.append(check.name)
        if check.sound and check.lines:
            self._join(check)
            self._records += check.lines
            for record in check.records:
                self._check_time(record)
                self._note_record(record)
            for seq, digest in check.digests.items():
                self._expected(check, seq, digest, seal)
            self._seq, self._head = check.last_seq, check.head
        elif not check.sound and not check.unread:
            self._diagnose(check, lines(), seal)
        self._lost_end = bool(check.unread)
        if check.unread:
            what = f"{check.unread}: no line from here on can be read"
            self._break(check.name, check.lines + 1, EDITED, what)
        if seal is not None:
            self._check_seal(check, seal, broken=len(self._breaks) > before)
            self._unsealed = ""
        else:
            self._unsealed = check.name
        self._first = self._first or check.name

    def report(self) -> Report:
        """Return the result of the verification. Call it after all segments (files) were added."""
        for name, cut in self._cuts.items():
            self._break(name, cut.line, TRUNCATED, "cut off, or not a line of a trail")
        if self._empty and self._empty[-1].startswith(f"{self._number:08d}-"):
            self._break(self._empty[-1], 0, TRUNCATED, "the newest segment is empty")
        self._check_holes()
        self._check_told_seals()
        for seq in self._expect.missing:
            what = f"the line with seq {seq} is missing, but a digest of this line was given"
            if self._is_rotated(seq):
                what = f"rotation has removed the line with seq {seq}, so its digest was not compared"
                self._notes.insert(0, Break(Place(self._mount_id, "", 0), what))
            else:
                self._break("", 0, TRUNCATED, what, self._seq)
        if self._expect.end is not None and self._expect.end.seq > self._seq:
            self._check_end(self._expect.end)
        breaks = [found for found in self._breaks if found.kind != damage.CLOCK] or self._breaks
        return Report(
            self._mount_id,
            self._segments,
            self._records,
            self._seq,
            self._head,
            tuple(sorted(breaks, key=in_order)),  # by place, because the time in a changed line may be wrong
            tuple(self._notes[:_BREAKS_LIMIT]),
            proven=self._seq if self._proven is None else self._proven,
            signed=min(self._signed, self._seq if self._proven is None else self._proven),
        )

    # -- from one segment to the next

    def _follow_number(self, check: SegmentCheck) -> None:
        if check.number != self._number + 1:
            self._cuts.pop(_plain(self._newest), None)  # the record about the cut is in the missing segment
            self._holes.append((check.name, self._number + 1, check.number - 1, self._seq, check.first_seq))

    def _join(self, check: SegmentCheck) -> None:
        header = check.records[0]
        if header.fields.get("segment") != check.number:
            found = header.fields.get("segment")
            what = f"the header belongs to segment {found!r}: the file was renamed or exchanged"
            self._break(check.name, 1, damage.REORDERED, what)
            return
        if header.fields.get("mount_id", self._mount_id) != self._mount_id:
            what = f"this segment is of another trail, {header.fields.get('mount_id')}"
            self._notes.append(Break(Place(self._mount_id, check.name, 1), what))
        if not self._first:
            if check.number == 1 and (check.opening != chain.GENESIS or check.first_seq != 1):
                self._break(check.name, 1, DELETED, "the first segment of all does not begin the chain", 0)
            elif check.number > 1:
                self._seq, self._head = check.first_seq - 1, check.opening  # see _check_holes
        elif check.opening != self._head and not self._lost_end:
            self._not_joined(check)

    def _not_joined(self, check: SegmentCheck) -> None:
        missing = check.first_seq - 1 - self._seq
        if missing > 0:
            what = "the header does not continue the previous segment, which lacks lines at its end"
            last = self._last
            shortened = last is not None and last.seal.number == check.number - 1 and not last.distrust
            older = shortened and last is not None and last.seal.last_seq == self._seq
            if older:
                what += ", and that segment's seal is older than the next seal: an older copy was put back"
            if not self._is_behind_hole(check):
                self._break(check.name, 1, ROLLED_BACK if older else TRUNCATED, what)
        elif missing < 0:
            what = "the header does not continue the previous segment, which has additional lines at its end"
            self._break(check.name, 1, INSERTED, what, check.first_seq - 1)
        else:
            what = "the header does not continue the previous segment: lines of that segment were changed,"
            what += " and the digests of these lines were computed again"
            sealed = self._last.seal.first_seq - 1 if self._last else 0
            self._break(check.name, 1, RESEALED, what, min(self._seq - 1, max(sealed, self._signed)))

    def _diagnose(self, check: SegmentCheck, lines: Sequence[bytes], seal: Proof | None) -> None:
        whole = [raw for raw in lines if raw.endswith(b"\n")]
        if len(whole) < len(lines):
            offset = sum(map(len, whole))
            digest = hashlib.sha256(lines[-1]).hexdigest()
            self._cuts[_plain(check.name)] = Cut(len(lines), offset, len(lines[-1]), digest)
        self._records += len(whole)
        seq, head = self._seq, self._head
        if not self._first and check.number > 1 and check.opening:
            seq, head = check.first_seq - 1, check.opening
        sealed = None if seal is None or seal.distrust else proves(seal.seal, whole)
        complete = seal is not None and seal.seal.lines == len(whole)
        final = seal is not None and not seal.distrust and seal.seal.closed != "end"
        limit = {"last_seq": seal.seal.last_seq} if seal is not None and final else {}
        found = diagnose(whole, seq, head, digests_sealed=sealed, complete=complete, **limit)
        for one in found.findings:
            self._break(check.name, one.line, one.kind, one.what, one.before)
        for number, raw in enumerate(whole, start=1):
            if not raw.startswith(b'{"type":"event",'):
                record = parse_line(raw, Place(self._mount_id, check.name, number))
                if isinstance(record, Record):
                    self._note_record(record)
        self._seq, self._head = found.seq, found.head

    # -- seals

    def _check_seal(self, check: SegmentCheck, proof: Proof, *, broken: bool) -> None:
        seal, before = proof.seal, self._last
        self._seals[_plain(check.name)] = proof
        self._last = proof
        begun = check.first_seq - 1
        if proof.distrust:
            kind = EDITED if "was changed" in proof.distrust else RESEALED
            self._break(check.name, 0, kind, f"the seal proves nothing: {proof.distrust}", begun)
            return
        if (seal.mount_id, seal.segment, seal.number) != (self._mount_id, _plain(check.name), check.number):
            self._break(check.name, 0, damage.REORDERED, f"the seal belongs to segment {seal.segment}", begun)
            return
        if self._unsealed and seal.previous != (before.digest if before else NO_SEAL):
            what = "the seal is missing, but the next seal names the missing seal"
            self._break(self._unsealed, 0, DELETED, what, self._begun[_plain(self._unsealed)], unless=True)
        elif before is not None and seal.previous != before.digest:
            what = f"the seal does not follow the seal of {before.seal.segment}"
            if before.seal.number == seal.number - 1:
                what += "; that seal was replaced by an older seal, or that segment was sealed again"
                self._break(before.seal.segment, 0, ROLLED_BACK, what, before.seal.first_seq - 1, unless=True)
            elif not self._is_told(check):
                self._notes.append(Break(Place(self._mount_id, check.name, 0), what))
        if seal.closed == "damage" and check.lines > seal.lines and check.sealed_root == seal.root:
            what = "the daemon noticed that lines from here on were not as it had written them"
            self._break(check.name, seal.lines + 1, EDITED, what, seal.last_seq)
            self._signed = seal.last_seq
        elif broken:
            return
        elif check.last_seq < seal.last_seq:
            what = f"the seal covers lines to seq {seal.last_seq}, but the segment ends at {check.last_seq}"
            self._break(check.name, check.lines + 1, TRUNCATED, what, check.last_seq)
        elif (check.sealed_root, check.first_seq) != (seal.root, seal.first_seq):
            what = "the seal contradicts the segment: lines were changed, and their digests computed again"
            self._break(check.name, 0, RESEALED, what, begun)
        elif seal.closed == "end" and not self._is_resumed(check, seal):
            what = "the daemon ended before this line, and no later daemon recorded a continuation here"
            self._break(check.name, seal.lines + 1, INSERTED, what, seal.last_seq)
        elif self._proven is None or self._proven >= seal.last_seq:
            self._signed = seal.last_seq
            if seal.adopted:
                what = (
                    f"the next daemon sealed the lines to seq {seal.adopted}. The writer of these lines"
                    " crashed, or was a command without keys (such as a mount that did not start)"
                )
                self._notes.append(Break(Place(self._mount_id, check.name, 0), what))

    def _is_resumed(self, check: SegmentCheck, seal: Seal) -> bool:
        if check.last_seq == seal.last_seq:
            return True
        return any(one.kind == "resume" and one.seq == seal.last_seq + 1 for one in check.records)

    def _is_told(self, check: SegmentCheck) -> bool:
        return self._is_behind_hole(check) or any(one.place.segment == check.name for one in self._breaks)

    def _check_told_seals(self) -> None:
        """Compare the seals (signed statements about segments) with the chain's records about seals."""
        for name, (record, digest) in self._told_seals.items():
            proof = self._seals.get(name)
            begun = self._begun.get(name)
            if begun is None:
                continue  # the segment is missing, too, or rotation removed it
            if proof is None:
                what = "the seal is missing, but the trail has a record of the seal"
                self._break(name, 0, DELETED, what, begun, unless=True)
            elif proof.digest != digest and proof.seal.last_seq == record.fields.get("last_seq"):
                what = "the seal differs from its record in the trail: the segment was sealed again"
                self._break(name, 0, RESEALED, what, begun, unless=True)

    # -- the journal's own records

    def _note_record(self, record: Record) -> None:
        place, fields = record.place, record.fields
        if record.kind in {"header", "pruned"} and (stated := ranges_of(fields.get("removed"))) is not None:
            self.removed = stated
        if crash := self.restarts.take(record):
            self._notes.append(Break(place, crash))
        if record.kind in TROUBLE:
            self._notes.append(Break(place, describe_trouble(record)))
        if record.kind == "recovered":
            cut = self._cuts.get(str(fields.get("segment")))
            if cut and (cut.offset, cut.size, cut.sha256) == (
                fields.get("offset"),
                fields.get("bytes"),
                fields.get("sha256"),
            ):
                del self._cuts[str(fields["segment"])]
        elif record.kind in {"mount", "policy"}:
            named = (fields.get(name) for name in ("policy", "previous", "refused"))
            self.policies |= {digest: place for digest in named if isinstance(digest, str)}
        elif record.kind == "pruned":
            segments = fields.get("segments")
            if isinstance(segments, list):
                self._pruned.update(name for name in segments if isinstance(name, str))
        elif record.kind == "sealed":
            self._told_seals[str(fields.get("segment"))] = (record, str(fields.get("seal")))

    def _check_time(self, record: Record) -> None:
        origin = (record.fields.get("boot_id"), record.fields.get("pid"))
        if record.kind == "header" and origin == self._origin:
            return  # if the clock went back, a clock record follows
        if record.kind == "clock":
            self._time_ns = record.time_ns
            what = f"the clock went back by {record.fields.get('seconds')} s"
            self._notes.append(Break(record.place, what))
        elif record.kind in {"header", "resume"}:
            if record.time_ns < self._time_ns - CLOCK_STEP_NS:
                what = "the clock went back before this daemon began"
                self._notes.append(Break(record.place, what))
            self._time_ns, self._origin = record.time_ns, origin
        elif record.time_ns < self._time_ns - CLOCK_STEP_NS:
            what = "this record is older than earlier records, and the trail has no record of a clock change"
            self._break(record.place.segment, record.place.line, damage.CLOCK, what, record.seq - 1)
            self._time_ns = record.time_ns
        else:
            self._time_ns = max(self._time_ns, record.time_ns)

    # -- the ends

    def _expected(self, check: SegmentCheck, seq: int, digest: str, seal: Proof | None) -> None:
        """Compare a line with the digests that were kept elsewhere. If a valid seal has the wrong line,
        somebody has misused the key, and no seal proves anything."""
        misused = seal is not None and not seal.distrust and seal.seal.last_seq >= seq
        proven = 0 if misused else self._signed
        for kept in self._expect.contradicting(seq, digest):
            what = f"seq {seq} has another digest in the checkpoint of {kept.time}: lines were sealed again"
            self._break(check.name, seq - check.first_seq + 1, RESEALED, what, 0)
        if not self._expect.compare(seq, digest):
            what = f"seq {seq} does not have the expected digest: the trail was sealed again"
            self._break(check.name, seq - check.first_seq + 1, RESEALED, what, proven)

    def _is_behind_hole(self, check: SegmentCheck) -> bool:
        return any(name == check.name for name, *_ in self._holes)

    def _gone(self, first: int, last: int) -> str:
        """Return the numbers of missing segments that policyfs did not remove itself, as text, or empty."""
        first = last if first == 1 and self.removed is None else first  # old headers state no ranges
        told = (int(name[:8]) for name in self._pruned if name[:8].isdecimal())
        gone = not_in(with_numbers(self.removed or (), told), first, last)
        return "" if gone is None else f"{gone[0]} to {gone[1]}" if gone[1] > gone[0] else f"{gone[0]}"

    def _check_holes(self) -> None:
        for name, first, last, before, _ in self._holes:
            if gone := self._gone(first, last):
                what = f"segment {gone} is missing before this segment"
                if first == 1:
                    what = f"segments before this segment are missing ({gone}), and no rotation removed them"
                self._break(name, 0, DELETED, what, before)

    def _is_rotated(self, seq: int) -> bool:
        return any(hole[3] < seq < hole[4] and not self._gone(hole[1], hole[2]) for hole in self._holes)

    def _check_end(self, checkpoint: Checkpoint) -> None:
        """Report that the end of the chain is missing, because a checkpoint states a later line."""
        end = f"the checkpoint of {checkpoint.time} has seq {checkpoint.seq}, but the chain ends with"
        end += f" {self._seq}"
        last = self._last.seal if self._last else None
        if last is not None and (last.last_seq, last.closed) == (self._seq, "end") and not self._breaks:
            self._break("", 0, ROLLED_BACK, f"{end}: an older copy was put back")
        else:
            self._break("", 0, TRUNCATED, f"{end}: the end of the chain was cut off")

    def fault(self, kind: str, what: str, before: int | None = None) -> None:
        """Add a damage without a segment. before: the last proven line; None: the last line."""
        self._break("", 0, kind, what, before)

    def _break(
        self, name: str, line: int, kind: str, what: str, before: int | None = None, *, unless: bool = False
    ) -> None:
        """Add a damage. before: the last proven line. unless: True to add no second damage to a segment."""
        if unless and any(found.place.segment == name for found in self._breaks):
            return
        before = self._seq if before is None else before
        self._proven = before if self._proven is None else min(self._proven, before)
        if len(self._breaks) < _BREAKS_LIMIT:
            self._breaks.append(Break(Place(self._mount_id, name, line), what, kind))


def _plain(name: str) -> str:
    return name.removesuffix(".zst")
