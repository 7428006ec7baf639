"""Sealed segments: what is sealed, by which daemon, and that changed lines never are."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.cli.audit import evidence as audit_evidence
from policyfs.cli.audit import verify as audit_verify
from policyfs.domain import Audit
from policyfs.journal.files.segments import Chain
from policyfs.journal.sealing import sealer, segment_reading
from policyfs.journal.sealing.keys import KeyStore, is_signed
from policyfs.journal.sealing.segment_reading import SegmentReading
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain import chain
from policyfs.trail.chain.damage import EDITED
from policyfs.trail.chain.merkle import root_of
from policyfs.trail.chain.seal import NO_SEAL, Proof, Seal, body_of, entries_of, read_keys, read_seal
from policyfs.trail.text.sentences import describe
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import (
    MOUNT_ID,
    ROOMY,
    an_event,
    kinds,
    read_all,
    segments,
    verified,
    write_trail,
)

EVENTS = 40


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


@contextmanager
def sealed_journal(root: Path, keys: KeyStore, segment_bytes: int = 4096) -> Iterator[Journal]:
    journal = Journal(
        str(root / MOUNT_ID), MOUNT_ID, keep=0, segment_bytes=segment_bytes, limits=ROOMY, keys=keys
    )
    try:
        yield journal
    finally:
        journal.close()


def fill(root: Path, keys: KeyStore, count: int = EVENTS, segment_bytes: int = 4096) -> Path:
    with sealed_journal(root, keys, segment_bytes) as journal:
        for number in range(count):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    return root / MOUNT_ID


def crash(root: Path, keys: KeyStore, count: int = 5) -> Path:
    """Leave a trail as a killed daemon does: without an end, and without a seal of its last segment."""
    directory = fill(root, keys, count, 1 << 20)
    newest = segments(directory)[-1]
    lines = newest.read_bytes().splitlines(keepends=True)
    newest.write_bytes(b"".join(lines[:-1]))
    seal_file(newest).unlink()
    return directory


def seal_file(segment: Path) -> Path:
    return segment.with_suffix(".seal")


def proof_of(segment: Path) -> Proof:
    keys = read_keys((segment.parent / "keys.public").read_bytes().splitlines(keepends=True), is_signed)
    proof = read_seal(seal_file(segment).read_bytes(), keys, is_signed)
    assert proof is not None
    assert not proof.distrust
    return proof


def seal_of(segment: Path) -> Seal:
    return proof_of(segment).seal


def test_every_segment_is_sealed_once_the_journal_has_ended(tmp_path: Path, keys: KeyStore) -> None:
    directory = fill(tmp_path, keys)
    paths = segments(directory)
    assert len(paths) > 3
    previous, first = NO_SEAL, 1
    for path in paths:
        lines = path.read_bytes().splitlines(keepends=True)
        proof = proof_of(path)
        seal = proof.seal
        assert (seal.first_seq, seal.lines, seal.size) == (first, len(lines), path.stat().st_size)
        assert seal.root == root_of(entries_of(lines)).hex()
        assert seal.closed == ("end" if path == paths[-1] else "rotation")
        assert (seal.adopted, seal.previous, seal.segment) == (0, previous, path.name)
        first, previous = seal.last_seq + 1, proof.digest
    assert verified(directory).whole


def test_a_seal_is_on_record(tmp_path: Path, keys: KeyStore) -> None:
    with sealed_journal(tmp_path, keys) as journal:
        for number in range(EVENTS):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        first = segments(tmp_path / MOUNT_ID)[0]
        wait_for(lambda: seal_file(first).exists() and journal.stats().sealed > first.name, "it is sealed")
        journal.record(an_event(), Audit.REQUIRED)
    told = [record.fields for record in read_all(tmp_path / MOUNT_ID) if record.kind == "sealed"]
    proof = proof_of(first)
    wanted = (first.name, proof.seal.root, proof.digest)
    assert (told[0]["segment"], told[0]["root"], told[0]["seal"]) == wanted


def test_the_next_daemon_goes_on_in_the_segment_and_seals_all_of_it(tmp_path: Path, keys: KeyStore) -> None:
    fill(tmp_path, keys, 3, 1 << 20)
    directory = fill(tmp_path, keys, 3, 1 << 20)
    [path] = segments(directory)
    seal = seal_of(path)
    assert (seal.last_seq, seal.adopted) == (read_all(directory)[-1].seq, 0)


def test_the_lines_of_a_crashed_daemon_are_sealed_by_the_next_which_says_so(
    tmp_path: Path, keys: KeyStore
) -> None:
    directory = crash(tmp_path, keys)
    left = read_all(directory)[-1].seq
    fill(tmp_path, keys, 3, 1 << 20)
    [path] = segments(directory)
    assert seal_of(path).adopted == left
    fill(tmp_path, keys, 3, 1 << 20)
    assert seal_of(path).adopted == left, "the next one knows no more of them"


def test_after_a_cut_line_the_segment_left_behind_is_sealed(tmp_path: Path, keys: KeyStore) -> None:
    directory = crash(tmp_path, keys)
    first = segments(directory)[0]
    whole = first.stat().st_size
    with first.open("ab") as stream:
        stream.write(b'{"type":"ev')
    fill(tmp_path, keys, 3, 1 << 20)
    seal = seal_of(first)
    assert (seal.closed, seal.size, seal.adopted) == ("crash", whole, seal.last_seq)
    assert seal_of(segments(directory)[1]).adopted == 0


def test_a_segment_left_behind_that_cannot_be_read_keeps_no_mount_from_starting(
    tmp_path: Path, keys: KeyStore
) -> None:
    directory = write_trail(tmp_path, [an_event(b"/" + b"x" * 900)] * 3, segment_bytes=1000)
    first, second, *_ = segments(directory)
    first.unlink()
    first.mkdir()
    fill(tmp_path, keys, 3, 1 << 20)
    assert seal_of(second).closed == "crash"
    assert not seal_file(first).exists()


@pytest.mark.parametrize("left", [b"", b'{"type":"header","seq":9,'])
def test_a_segment_whose_header_was_cut_has_nothing_to_seal(
    tmp_path: Path, keys: KeyStore, left: bytes
) -> None:
    directory = crash(tmp_path, keys)
    cut = directory / "00000002-20260301T080000Z.jsonl"
    cut.write_bytes(left)
    fill(tmp_path, keys, 3, 1 << 20)
    assert not seal_file(cut).exists()
    assert [seal_of(path).closed for path in segments(directory) if path != cut] == ["crash", "end"]
    assert verified(directory).whole


def test_a_trail_without_seals_gets_them(tmp_path: Path, keys: KeyStore) -> None:
    directory = fill(tmp_path, keys)
    for path in segments(directory):
        seal_file(path).unlink()
    fill(tmp_path, keys, 1)
    for path in segments(directory)[:-2]:
        assert seal_of(path).closed == "crash"


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, new, data.index(old))
    os.close(fd)


def test_a_line_changed_while_it_runs_is_noticed_and_nothing_is_written_behind_it(
    tmp_path: Path, keys: KeyStore
) -> None:
    """Attack D1.7: Change a line while the daemon records, so that the daemon seals it
    Guard: policyfs/journal/sealing/sealer.py::Sealer.close_segment
    Also: ::test_a_line_changed_between_two_daemons_is_noticed_by_the_second
    Without: ::test_it_is_sealed_where_the_file_is_believed
    """
    with sealed_journal(tmp_path, keys, 1 << 20) as journal:
        for number in range(10):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        [path] = segments(tmp_path / MOUNT_ID)
        wait_for(lambda: proven_bytes(journal), "the sealer has read the lines")
        journal.record(an_event(b"/11"), Audit.REQUIRED)
        edit(path, b'"/11"', b'"/xx"')
        wait_for(lambda: journal.stats().segment == "", "the journal leaves the segment")
        journal.record(an_event(b"/after"), Audit.REQUIRED)
    seal = seal_of(path)
    assert seal.closed == "damage"
    assert seal.lines < len(path.read_bytes().splitlines()), "what was changed is not sealed"
    damage = [record.fields for record in read_all(tmp_path / MOUNT_ID) if record.kind == "damage"]
    assert [(one["segment"], "is not as it was written" in str(one["found"])) for one in damage] == [
        (path.name, True)
    ]


def forge(path: Path, old: bytes, new: bytes) -> None:
    """Change a line, and compute the digests from it on again, as somebody without a key can."""
    head, forged = chain.GENESIS, []
    for line in path.read_bytes().splitlines():
        sealed = chain.split(line)
        assert sealed is not None
        raw, head = chain.seal(head, sealed.body.replace(old, new))
        forged.append(raw)
    path.write_bytes(b"".join(forged))


@pytest.mark.parametrize("ends", [True, False], ids=["at the end", "while it runs"])
def test_a_line_with_a_new_digest_is_never_sealed(tmp_path: Path, keys: KeyStore, ends: bool) -> None:
    with sealed_journal(tmp_path, keys, 1 << 20) as journal:
        journal.record(an_event(b"/before"), Audit.REQUIRED)
        [path] = segments(tmp_path / MOUNT_ID)
        proven = path.stat().st_size
        wait_for(lambda: proven_bytes(journal) == proven, "the sealer has read it")
        for number in range(5):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        forge(path, b'"/3"', b'"/x"')
        if not ends:
            wait_for(lambda: journal.stats().segment == "", "the journal leaves the segment")
            journal.record(an_event(b"/after"), Audit.REQUIRED)
    seal = seal_of(path)
    assert (seal.closed, seal.size) == ("damage", proven)
    report = verified(tmp_path / MOUNT_ID)
    assert not report.whole
    assert (report.proven, report.signed) == (seal.last_seq, seal.last_seq)
    assert ("damage" in kinds(tmp_path / MOUNT_ID)) is not ends


def proven_bytes(journal: Journal) -> int:
    """The size up to which the sealer has found all lines as they were written."""
    reading = journal._sealer._reading
    return 0 if reading is None or reading.proven is None else reading.proven.size


def test_a_segment_of_which_nothing_is_proven_gets_no_seal(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "_EVERY_S", 60.0)
    with sealed_journal(tmp_path, keys, 1 << 20) as journal:
        for number in range(5):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        [path] = segments(tmp_path / MOUNT_ID)
        forge(path, b'"/3"', b'"/x"')
    assert not seal_file(path).exists()
    assert not verified(tmp_path / MOUNT_ID).whole


def test_lines_behind_those_that_a_seal_of_damage_proves_are_named(tmp_path: Path, keys: KeyStore) -> None:
    """All digests were computed again after the daemon had ended, so no line contradicts another."""
    directory = fill(tmp_path, keys, 10, 1 << 20)
    [path] = segments(directory)
    seal = seal_of(path)._replace(closed="damage", lines=4)
    lines = path.read_bytes().splitlines(keepends=True)[:4]
    root, size = root_of(entries_of(lines)).hex(), sum(map(len, lines))
    seal = seal._replace(root=root, last_seq=seal.first_seq + 3, size=size)
    path.with_suffix(".seal").write_bytes(keys.signer().sign("seal", body_of("seal", seal)))
    report = verified(directory)
    assert (report.whole, report.proven, report.signed) == (False, seal.last_seq, seal.last_seq)
    assert [(one.kind, one.place.line) for one in report.breaks] == [(EDITED, 5)]


def test_it_is_sealed_where_the_file_is_believed(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_reading, "checked_digest", lambda head, line: bytes.fromhex(line.chain))
    with sealed_journal(tmp_path, keys, 1 << 20) as journal:
        for number in range(10):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        [path] = segments(tmp_path / MOUNT_ID)
        edit(path, b'"/7"', b'"/x"')
    assert seal_of(path).lines == len(path.read_bytes().splitlines())


def test_a_line_changed_between_two_daemons_is_noticed_by_the_second(tmp_path: Path, keys: KeyStore) -> None:
    directory = fill(tmp_path, keys, 10, 1 << 20)
    [path] = segments(directory)
    before = seal_file(path).read_bytes()
    edit(path, b'"/7"', b'"/x"')
    with sealed_journal(tmp_path, keys, 1 << 20) as journal:
        wait_for(lambda: journal.stats().segment == "", "the journal leaves the segment")
        journal.record(an_event(b"/after"), Audit.REQUIRED)
    assert seal_file(path).read_bytes() == before, "the old seal still tells"
    assert "damage" in kinds(directory)


def test_a_segment_taken_away_with_its_seal_left_is_not_hidden_by_the_next(
    tmp_path: Path, keys: KeyStore
) -> None:
    directory = fill(tmp_path, keys)
    newest = segments(directory)[-1]
    newest.unlink()
    fill(tmp_path, keys, 1)
    assert seal_file(newest).exists()
    report = verified(directory)
    assert not report.whole


def test_a_seal_that_cannot_be_written_is_tried_again_and_keeps_nobody(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("no directory")
    keys = KeyStore(blocked / "keys")
    with sealed_journal(tmp_path, keys) as journal:
        for number in range(EVENTS):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        wait_for(lambda: bool(journal.stats().seal_error), "the failure is told")
        assert not journal.stats().failing
        blocked.unlink()
        wait_for(lambda: not journal.stats().seal_error, "it is tried again")
    assert all(seal_file(path).exists() for path in segments(tmp_path / MOUNT_ID))


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_closed_segment_that_cannot_be_read_stops_no_later_seal(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(sealer, "_EVERY_S", 0.02)
    monkeypatch.setattr(sealer, "_ATTEMPTS", 3)
    unreadable: list[str] = []
    attempts: list[str] = []
    advance = SegmentReading.advance

    def failing(reading: SegmentReading, size: int, **options: int) -> bool:
        if reading.name in unreadable:
            attempts.append(reading.name)
            raise OSError(number, os.strerror(number))
        return advance(reading, size, **options)

    monkeypatch.setattr(SegmentReading, "advance", failing)
    with sealed_journal(tmp_path, keys) as journal:
        journal.record(an_event(b"/first"), Audit.REQUIRED)
        unreadable.append(journal.stats().segment)
        for name in range(EVENTS):
            journal.record(an_event(b"/%d" % name), Audit.REQUIRED)
        if number == errno.EMFILE:
            wait_for(lambda: len(attempts) > 10, "it is tried again and again")
            assert not list((tmp_path / MOUNT_ID).glob("*.seal")), "this is no fault of the disk"
            unreadable.clear()
        wait_for(lambda: not journal.stats().seal_error and journal.stats().sealed != "", "later seals")
    first, *later = segments(tmp_path / MOUNT_ID)
    assert len(later) > 1
    assert all(seal_file(path).exists() for path in later)
    assert seal_file(first).exists() == (number == errno.EMFILE)
    told = [one for one in read_all(tmp_path / MOUNT_ID) if one.kind == "damage"]
    assert len(told) == (number == errno.EIO)
    damaged = f"segment {first.name} is damaged: it cannot be read (Input/output error), so it gets no seal"
    assert all(describe(one) == damaged for one in told)
    monkeypatch.setattr(audit_verify, "_SEALED_NS", 0)
    chains = [Chain(MOUNT_ID, tmp_path / MOUNT_ID)]
    [report] = audit_verify.reports_on(chains, str(tmp_path), audit_evidence.Anchors([], [], None))
    assert report.whole, "the chain names the segment that has no seal"


def test_a_new_key_signs_from_then_on(tmp_path: Path, keys: KeyStore) -> None:
    fill(tmp_path, keys)
    new = keys.rotate().key.key
    directory = fill(tmp_path, keys)
    signers = [seal_of(path).key for path in segments(directory)]
    assert signers[0] != new
    assert signers[-1] == new


def test_an_idle_journal_wakes_no_sealer(
    tmp_path: Path, keys: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer, "_EVERY_S", 0.02)
    steps: list[float] = []
    step = sealer.Sealer._step
    monkeypatch.setattr(
        sealer.Sealer, "_step", lambda self: (steps.append(time.monotonic()), step(self))[-1]
    )
    with sealed_journal(tmp_path, keys, 1 << 20) as journal:
        [path] = segments(tmp_path / MOUNT_ID)
        for number in range(3):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
            wait_for(lambda: proven_bytes(journal) == path.stat().st_size, "the sealer has read the line")
        before = len(steps)
        time.sleep(0.5)
        assert len(steps) <= before + 1
