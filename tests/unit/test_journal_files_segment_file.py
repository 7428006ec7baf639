"""Lines of segments by their places, plain and compressed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zstandard

from policyfs.domain import Audit
from policyfs.journal.files import compression
from policyfs.journal.files.compression import compress
from policyfs.journal.files.reader import find_chains
from policyfs.journal.files.segment_file import SegmentFile
from policyfs.journal.files.segments import Chain
from policyfs.trail.lines.record import BadLine, Record
from tests.support.mount.trail import a_journal, an_event

COUNT = 300


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    with a_journal(tmp_path) as journal:
        for number in range(COUNT):
            journal.record(an_event(b"/%d" % number + b"x" * (number % 300)), Audit.REQUIRED)
    (chain,) = find_chains(tmp_path)
    return chain


def paths(file: SegmentFile) -> list[bytes]:
    """The paths of all events, each line read by its place, the last line first."""
    places = [(offset, number) for number, (offset, _) in enumerate(file.lines(0, file.size), start=1)]
    found = [file.record(*place) for place in reversed(places)]
    return [one.event.path for one in reversed(found) if isinstance(one, Record) and one.event is not None]


@pytest.fixture
def packed(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Chain:
    monkeypatch.setattr(compression, "_FRAME", 5000)  # lines go over the ends of frames
    place = os.open(chain.directory, os.O_RDONLY)
    assert compress(place, chain.segments()[0], 0)
    os.close(place)
    return chain


EXPECTED = [b"/%d" % number + b"x" * (number % 300) for number in range(COUNT)]


def test_a_plain_segment(chain: Chain) -> None:
    assert paths(SegmentFile(chain, chain.segments()[0])) == EXPECTED


def test_a_compressed_segment(packed: Chain) -> None:
    (name,) = packed.segments()
    file = SegmentFile(packed, name)
    assert paths(file) == EXPECTED
    assert file.size < sum(len(line) for _, line in file.lines(0, file.size)) / 3


def test_a_segment_that_was_compressed_since_it_was_listed(packed: Chain) -> None:
    (name,) = packed.segments()
    assert paths(SegmentFile(packed, name.removesuffix(".zst"))) == EXPECTED
    with pytest.raises(FileNotFoundError):
        SegmentFile(packed, "00000009-20260301T080000Z.jsonl.zst")


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_damaged_one_has_the_lines_before_the_damage(packed: Chain, share: float) -> None:
    (name,) = packed.segments()
    data = bytearray((packed.directory / name).read_bytes())
    at = int(len(data) * share)
    data[at : at + 40] = b"\xff" * 40
    (packed.directory / name).write_bytes(data)
    found = paths(SegmentFile(packed, name))
    assert found == EXPECTED[: len(found)]


def test_a_frame_that_states_more_bytes_than_memory_holds_is_damage(packed: Chain) -> None:
    (name,) = packed.segments()
    file = packed.directory / name
    # magic number, descriptor (8 bytes of content size), window, content size, an empty last block (RFC 8878)
    frame = b"\x28\xb5\x2f\xfd\xc0\x58" + (1 << 60).to_bytes(8, "little") + b"\x01\0\0"
    file.write_bytes(frame + file.read_bytes())
    assert isinstance(SegmentFile(packed, name).record(0, 1), BadLine)


def test_a_place_behind_the_end_has_no_record(packed: Chain) -> None:
    assert isinstance(SegmentFile(packed, packed.segments()[0]).record(1 << 40, 1), BadLine)


SKIPPABLE = b"\x5a\x2a\x4d\x18" + (8).to_bytes(4, "little") + b"skipped!"


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("before", [b"", SKIPPABLE, zstandard.compress(b"")])
@pytest.mark.parametrize("after", [b"", SKIPPABLE])
def test_a_segment_that_another_program_compressed(
    chain: Chain, sized: bool, before: bytes, after: bytes
) -> None:
    """`zstd` states no size of a pipe, and any program may add frames without content."""
    path = chain.directory / chain.segments()[0]
    plain = path.read_bytes()
    path.unlink()
    packer = zstandard.ZstdCompressor(write_content_size=sized)
    frames = [packer.compress(plain[begin : begin + 20_000]) for begin in range(0, len(plain), 20_000)]
    path.with_name(path.name + ".zst").write_bytes(before + before.join(frames) + after)
    file = SegmentFile(chain, path.name + ".zst")
    assert paths(file) == EXPECTED
    file.close()
