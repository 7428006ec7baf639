"""Verification of a chain's files: segment by segment, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from policyfs.cli.audit.evidence import Anchors
from policyfs.cli.audit.verify import reports_on
from policyfs.domain import Audit
from policyfs.journal.files.segments import Chain
from policyfs.journal.sealing import verification
from policyfs.journal.sealing.checkpoint import checkpoint_of_chain
from policyfs.journal.sealing.keys import KeyStore, is_signed
from policyfs.journal.sealing.verification import (
    digests_at,
    is_recorded,
    kept_checkpoints,
    missing_segment,
    parts,
    read_key_chain,
    workers,
)
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain.restarts import KILLED, UNENDED
from policyfs.trail.chain.seal import UNREADABLE, read_keys
from tests.support.mount.trail import MOUNT_ID, ROOMY, an_event, segments


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """A sealed trail of some segments."""
    place = tmp_path / MOUNT_ID
    keys = KeyStore(tmp_path / "keys")
    journal = Journal(str(place), MOUNT_ID, keep=0, segment_bytes=2000, limits=ROOMY, keys=keys)
    for number in range(8):
        journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    journal.close()
    return Chain(MOUNT_ID, place)


def checked(chain: Chain, **more: object) -> list[verification.Part]:
    return list(parts(chain, read_key_chain(chain.directory), (), None, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("first_key", [False, True])
def test_a_seal_that_is_made_during_the_check_is_seen(chain: Chain, first_key: bool) -> None:
    """The newest segment says that the one before it is sealed. This seal is made after the check began."""
    *_, sealed, newest = segments(chain.directory)
    late = [sealed.with_suffix(".seal")]
    if first_key:
        late = [*chain.directory.glob("*.seal"), chain.directory / "keys.public"]
    hidden = {file: file.read_bytes() for file in late}
    for file in late:
        file.unlink()

    def seal_it() -> None:
        for file, data in hidden.items():
            file.write_bytes(data)

    with pytest.MonkeyPatch.context() as patched:
        raw_lines = verification.raw_lines

        def read(directory: Path, name: str, patience_s: float = 0.0) -> Iterator[bytes]:
            if name == newest.name:
                seal_it()
            yield from raw_lines(directory, name, patience_s)

        patched.setattr(verification, "raw_lines", read)
        (report,) = reports_on([chain], str(chain.directory.parent), Anchors([], [], None))
    assert report.breaks == ()
    assert report.signed == report.seq


def test_every_segment_is_checked_in_order_with_its_seal(chain: Chain) -> None:
    found = checked(chain)
    assert [part.check.name for part in found] == chain.segments()
    assert len(found) > 2
    assert all(part.check.sound for part in found)
    for part in found:
        assert part.seal is not None
        assert part.seal.seal.lines == part.check.lines == len(part.lines())
        assert part.check.sealed_root == part.seal.seal.root


def test_several_processes_find_the_same(chain: Chain) -> None:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        side_by_side = list(parts(chain, read_key_chain(chain.directory), (), pool))
    assert [part.check for part in side_by_side] == [part.check for part in checked(chain)]


@pytest.mark.parametrize(
    ("harm", "sound"),
    [
        (lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:], False),
        (lambda data: data[:-9], True),
        (lambda data: data, True),
    ],
)
def test_a_changed_line_makes_its_segment_unsound_and_a_cut_one_is_told(
    chain: Chain, harm: Callable[[bytes], bytes], sound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "PATIENCE_S", 0.0)
    last = segments(chain.directory)[-1]
    before = last.read_bytes()
    last.write_bytes(harm(before))
    part = checked(chain)[-1]
    assert part.check.sound is sound
    assert (part.check.cut is not None) == (not last.read_bytes().endswith(b"\n"))


def test_a_seal_that_is_missing_or_no_seal(chain: Chain) -> None:
    first, second = segments(chain.directory)[:2]
    first.with_suffix(".seal").unlink()
    second.with_suffix(".seal").write_bytes(b"no seal\n")
    found = checked(chain)
    assert found[0].seal is None
    assert found[1].seal == UNREADABLE
    assert found[2].seal is not None


def test_a_trail_without_keys_has_an_empty_chain_of_keys(chain: Chain, tmp_path: Path) -> None:
    assert read_key_chain(tmp_path) == read_keys([], is_signed)
    assert read_key_chain(chain.directory) != read_keys([], is_signed)


def test_a_seal_newer_than_all_segments_names_the_missing_one(chain: Chain) -> None:
    assert missing_segment(chain) == ""
    last = segments(chain.directory)[-1]
    last.unlink()
    assert missing_segment(chain) == last.name
    for segment in segments(chain.directory):
        segment.unlink()
    assert missing_segment(chain) == last.name
    for seal in chain.directory.glob("*.seal"):
        seal.unlink()
    assert missing_segment(chain) == ""


def test_digests_of_wanted_lines(chain: Chain) -> None:
    part = checked(chain)[1]
    seq = part.check.first_seq
    found = digests_at(chain, part.check.name, {seq, part.check.last_seq, 10_000})
    assert set(found) == {seq, part.check.last_seq}
    assert found[part.check.last_seq] == part.check.head


def test_small_trails_start_no_process(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    with workers([chain]) as pool:
        assert pool is None
    monkeypatch.setattr(verification, "_WORTH_A_PROCESS", 1)
    processors = len(os.sched_getaffinity(0))
    with workers([chain]) as pool:
        assert (pool is None) == (processors < 2)


def test_a_file_that_rotation_removes_meanwhile_is_not_counted(chain: Chain, monkeypatch) -> None:
    scandir = os.scandir

    def then_removed(path: Path) -> list[os.DirEntry[str]]:
        found = list(scandir(path))
        os.unlink(found[0].path)
        return found

    monkeypatch.setattr(os, "scandir", then_removed)
    with workers([chain]) as pool:
        assert pool is None


def test_each_checkpoint_of_a_chain_counts(tmp_path: Path, chain: Chain) -> None:
    signer = KeyStore(tmp_path / "keys").signer()
    line = checkpoint_of_chain(chain, signer)
    assert line is not None
    keys = read_key_chain(chain.directory)
    [kept] = kept_checkpoints([b"no checkpoint\n", line, b"{}\n"], MOUNT_ID, keys)
    last = checked(chain)[-1].check
    assert (kept.checkpoint.seq, kept.checkpoint.head, kept.distrust) == (last.last_seq, last.head, "")
    for lines, mount_id in (([], MOUNT_ID), ([b"no checkpoint\n", b""], MOUNT_ID), ([line], "f" * 16)):
        assert kept_checkpoints(lines, mount_id, keys) == []
    assert kept_checkpoints([line, line], MOUNT_ID, keys) == [kept, kept]


def test_a_checkpoint_by_another_key_or_with_another_signature_is_distrusted(
    tmp_path: Path, chain: Chain
) -> None:
    keys = read_key_chain(chain.directory)
    stranger = checkpoint_of_chain(chain, KeyStore(tmp_path / "other").signer())
    own = checkpoint_of_chain(chain, KeyStore(tmp_path / "keys").signer())
    assert stranger is not None
    assert own is not None
    for lines in ([own, stranger], [stranger, own]):
        found = {kept.distrust.partition(" is ")[2] for kept in kept_checkpoints(lines, MOUNT_ID, keys)}
        assert found == {"", "by a key that is not among the keys of the trail"}
    changed = own.replace(b'"seq":', b'"seq":1', 1)
    assert changed != own
    for lines in ([changed], [own, changed]):
        assert "signature" in kept_checkpoints(lines, MOUNT_ID, keys)[-1].distrust
    [kept] = kept_checkpoints([changed, own], MOUNT_ID, keys)
    assert not kept.distrust, "a later one replaces a changed line"


def _notes(chain: Chain) -> list[str]:
    [report] = reports_on([chain], str(chain.directory.parent), Anchors([], [], None))
    assert report.whole
    return [note.what.partition(";")[0] for note in report.notes]


def test_a_chain_without_its_end_is_named_unless_a_daemon_records_there(chain: Chain, tmp_path: Path) -> None:
    assert _notes(chain) == []
    assert not is_recorded(chain)
    for path in (segments(chain.directory)[-1],):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        path.with_suffix(".seal").unlink()
    assert _notes(chain) == [UNENDED]
    keys = KeyStore(tmp_path / "keys")
    journal = Journal(str(chain.directory), MOUNT_ID, keep=0, limits=ROOMY, keys=keys)
    assert is_recorded(chain)
    assert _notes(chain) == [KILLED]
    journal.close()
    assert not is_recorded(chain)
    assert KILLED in _notes(chain)


def test_only_the_newest_segments_last_line_may_be_in_the_making(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    read = verification.raw_lines
    monkeypatch.setattr(
        verification, "raw_lines", lambda at, name, wait=0.0: waits.append(wait) or read(at, name)
    )
    for part in checked(chain):
        part.lines()
    older = len(chain.segments()) - 1
    assert waits == ([0.0] * older + [verification.PATIENCE_S]) * 2  # checks, then lines
