"""What chains say of each other."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from policyfs.domain import Audit
from policyfs.journal.files.reader import find_chains, records
from policyfs.journal.writing.journal import Journal
from policyfs.journal.writing.recorders import heads, open_journal, recorder_id
from policyfs.trail.chain.witness import Sighting, Witness, sightings, vanished
from policyfs.trail.lines.line import LINE_BYTES
from policyfs.trail.lines.record import Place, Record
from tests.support.mount.trail import an_event

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"


def opened(root: Path, mount_id: str) -> tuple[Journal, Path]:
    return open_journal(root, mount_id, keep=0, segment_bytes=1 << 20)


def seen_by(root: Path) -> list[Sighting]:
    found = [record for chain in find_chains(root) for record in records(chain)]
    return sightings(record for record in found if isinstance(record, Record))


def lines_of(directory: Path) -> list[bytes]:
    [segment] = directory.glob("*.jsonl")
    return segment.read_bytes().splitlines(keepends=True)


def test_a_second_recorder_has_a_chain_of_its_own_and_the_next_goes_on_with_the_first(tmp_path: Path) -> None:
    old, old_directory = opened(tmp_path, FIRST)
    new, new_directory = opened(tmp_path, FIRST)
    assert (old_directory.name, new_directory.name) == (FIRST, recorder_id(FIRST, 2))
    for journal in (old, new):
        journal.record(an_event(), Audit.REQUIRED)
    old.close()
    third, third_directory = opened(tmp_path, FIRST)
    assert third_directory == old_directory
    third.close()
    new.close()


def test_each_begins_with_the_last_digests_of_all_others(tmp_path: Path) -> None:
    first, directory = opened(tmp_path, FIRST)
    first.record(an_event(), Audit.REQUIRED)
    opened(tmp_path, SECOND)[0].close()
    last = json.loads(lines_of(directory)[-1])
    assert heads(tmp_path, but=SECOND) == {FIRST: f"{last['seq']}={last['chain']}"}
    by_second = [found for found in seen_by(tmp_path) if found.place.mount_id == SECOND]
    assert [(found.seen, found.seq, found.head) for found in by_second] == [
        (FIRST, last["seq"], last["chain"])
    ]
    first.close()


def _judged(lines: list[bytes], seen: list[Sighting]) -> list[str]:
    witness = Witness(seen)
    witness.begin(1)
    stated = [json.loads(line) for line in lines]
    witness.compare({line["seq"]: line["chain"] for line in stated if line["seq"] in witness.wanted})
    return [what for _, what, _ in witness.finish()]


def test_a_chain_that_was_cut_off_or_sealed_anew_is_named(tmp_path: Path) -> None:
    first, directory = opened(tmp_path, FIRST)
    first.close()
    opened(tmp_path, SECOND)[0].close()
    seen = [found for found in seen_by(tmp_path) if found.seen == FIRST]
    lines = lines_of(directory)
    assert _judged(lines, seen) == []
    assert "lines at the end were removed later" in _judged(lines[:-1], seen)[0]
    other = [line.replace(seen[0].head.encode(), b"0" * 64) for line in lines]
    assert "sealed again" in _judged(other, seen)[0]
    assert _judged(lines, [found._replace(seq=0) for found in seen]) == []  # removed by rotation


def test_a_chain_that_is_gone_is_a_break_until_its_witness_has_begun_anew(tmp_path: Path) -> None:
    first, directory = opened(tmp_path, FIRST)
    first.close()
    opened(tmp_path, SECOND)[0].close()
    there = frozenset({SECOND})
    assert [last for _, last in vanished(seen_by(tmp_path), there)] == [True]
    for segment in directory.iterdir():
        segment.unlink()
    directory.rmdir()
    opened(tmp_path, SECOND)[0].close()
    assert [last for _, last in vanished(seen_by(tmp_path), there)] == [False]


def test_what_is_no_sighting_is_left_alone() -> None:
    place = Place(FIRST, "s", 2)
    for kind, chains in (("others", 7), ("others", {"a": 7}), ("others", {"a": "7=x"}), ("event", {})):
        assert sightings([Record(place, kind, 2, 0, {"chains": chains}, None)]) == []


def test_of_however_many_chains_no_line_is_longer_than_any_other(tmp_path: Path) -> None:
    first, directory = opened(tmp_path, FIRST)
    first.close()
    names = [f"{number:016x}" for number in range(1, 600)]
    names += ["\u732b" * 80 + f"{number}" for number in range(40)]
    for name in names:
        shutil.copytree(directory, tmp_path / name, copy_function=os.link)
    second, place = opened(tmp_path, SECOND)
    assert max(map(len, lines_of(place))) <= LINE_BYTES
    seen = [found for found in seen_by(tmp_path) if found.place.mount_id == SECOND]
    assert {found.seen for found in seen} == {FIRST, *names}
    assert len({found.place for found in seen}) > 1
    second.close()
    # Gone, and in the first of several records that belong together: a break, and once known a note.
    there = frozenset({SECOND, FIRST, *names[1:]})
    shutil.rmtree(tmp_path / names[0])
    assert [last for found, last in vanished(seen, there)] == [True]
    opened(tmp_path, SECOND)[0].close()
    seen = [found for found in seen_by(tmp_path) if found.place.mount_id == SECOND]
    assert [last for found, last in vanished(seen, there)] == [False]
