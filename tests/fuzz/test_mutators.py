"""What the mutators make of the seeds: other files, bounded, the same each time."""

from __future__ import annotations

import subprocess
import sys
from random import Random
from typing import Final

import pytest

from policyfs.redact.core.patches import MemorySource
from policyfs.redact.plan import Outcome, locate
from tests.fuzz.kept import write_files
from tests.fuzz.mutators import MOST_BYTES, MUTATORS
from tests.fuzz.mutators.inside import inside
from tests.fuzz.seeds import KINDS, seeds_of
from tests.support.machine.counts import count, first
from tests.support.machine.documents import CHECKOUT
from tests.support.samples.jpegs import iptc_place, xmp_packet

GENERATIONS: Final = count(30, 150)
"""Each is made of the one before, ten at a time: accidents add up."""
PLANTED: Final = """
import sys, zlib
from tests.fuzz import check, one
one.OWN_SHARE = float(sys.argv.pop(1))
locate = check.locate
EMPTY = b"tIME" + zlib.crc32(b"tIME").to_bytes(4)
def wrong(kind, what, source):
    found = locate(kind, what, source)
    assert EMPTY not in source.read(0, source.size), "planted"
    return found
check.locate = wrong
one.main()
"""
"""A locator that fails at an empty tIME chunk whose checksum is right. Argument: libFuzzer's own share."""


@pytest.mark.parametrize("kind", sorted(set(MUTATORS) & set(KINDS)))
def test_what_is_made_differs_and_is_bounded(kind: str) -> None:
    for number, seed in enumerate(seeds_of(kind)[:12]):
        data, other = seed, 0
        for generation in range(GENERATIONS):
            rng, again = Random(1000 * number + generation), Random(1000 * number + generation)
            made = MUTATORS[kind](data, rng)
            assert made == MUTATORS[kind](data, again), (number, generation)
            assert len(made) <= MOST_BYTES
            other += made != data
            data = made if generation % 10 else seed
        assert other > GENERATIONS / 2, number


@pytest.mark.parametrize("kind", ["image/heic", "video/mp4", "image/x-canon-cr3", "image/jp2", "image/jxl"])
def test_what_is_made_of_boxes_is_mostly_read(kind: str) -> None:
    """Also where boxes moved: what refers to their bytes follows them."""
    seed = seeds_of(kind)[0]
    made = [MemorySource(MUTATORS[kind](seed, Random(number))) for number in range(60)]
    read = [locate(kind, frozenset({"location"}), source).outcome is not Outcome.REFUSE for source in made]
    assert sum(read) > 25


@pytest.mark.parametrize("kind", sorted(MUTATORS))
@pytest.mark.parametrize(
    "data", [b"", b"a", b"\0" * 8, b"\xff" * 40, b"II*\0\x08\0\0\0\0\0", bytes(range(256))]
)
def test_nothing_raises(kind: str, data: bytes) -> None:
    for seed in range(60):
        MUTATORS[kind](data, Random(seed))


@pytest.mark.parametrize(
    "block", [iptc_place(), b"Photoshop 3.0\0" + iptc_place(), xmp_packet("<a>b</a>"), b""]
)
def test_blocks_within_files(block: bytes) -> None:
    made = {inside(block, Random(seed)) for seed in range(200)}
    assert len(made) > 50


@pytest.mark.parametrize(
    "start", [b"\x89PNG\r\n", b"\xff\xd8\xff", b"8BIM", b"\x1c\x02", b"II*\0", b"MM\0*", b"<a><b><c>"]
)
def test_blocks_that_end_right_behind_their_mark(start: bytes) -> None:
    for seed in range(1000):
        inside(start, Random(seed))
        inside(b"ab" + start, Random(seed))


@pytest.mark.parametrize(("own_share", "finds"), first(1, [(0.25, True), (1.0, False)]))
def test_a_defect_behind_a_checksum_is_found(tmp_path, own_share: float, finds: bool) -> None:
    """libFuzzer by itself does not come to it."""
    write_files(seeds_of("image/png"), tmp_path)
    command = [
        *(sys.executable, "-c", PLANTED, str(own_share), "image/png", str(tmp_path), "-runs=2000", "-seed=1"),
        f"-artifact_prefix={tmp_path}/found-",
    ]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode != 0, "planted" in done.stdout) == (finds, finds), done.stdout + done.stderr
