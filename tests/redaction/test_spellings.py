"""Places in any spelling are found; numbers that only look alike, and random bytes, hold none."""

from __future__ import annotations

import random
from typing import Final

from policyfs.redact.core.coordinates import holds_place
from policyfs.redact.core.free_text import bytes_tell_place
from tests.redaction.chances import chances
from tests.redaction.spellings import Spellings
from tests.support.machine.counts import count

TEXTS: Final = count(1500, 200_000)
GIGABYTES: Final = count(1, 500) / 50
PRINTABLE: Final = [chr(byte) for byte in range(0x20, 0x7F)]
SHARE: Final = len(PRINTABLE) / 256


def test_each_spelling_of_a_place_is_found() -> None:
    spellings = Spellings(2)
    missed = [text for text in (spellings.text() for _ in range(TEXTS)) if not bytes_tell_place(text)]
    assert not missed, missed[:20]


def test_runs_of_text_in_random_bytes_hold_at_most_one_place_in_100_megabytes() -> None:
    """So many runs of at least eight printable bytes are in so many random bytes. Before, 1.0 had one."""
    chance, found = random.Random(7), 0
    left = int(GIGABYTES * 1e9 * (1 - SHARE) * SHARE**8)
    while left > 0:
        runs = []
        for _ in range(500):
            size = 8
            while chance.random() < SHARE:
                size += 1
            runs.append("".join(chance.choices(PRINTABLE, k=size)))
        found += any(map(holds_place, runs)) if holds_place("\n\n\n".join(runs)) else 0
        left -= len(runs)
    assert found <= max(1, 10 * GIGABYTES)


def test_the_patterns_for_places_match_once_in_100_megabytes_of_random_bytes_by_their_chances() -> None:
    """Before, 2.7 by their chances, and 12 in 300 MB by count: mostly a digit, a degree sign and a digit."""
    assert sum(chance for _, chance in chances()) <= 1


NUMBERS: Final = (
    lambda n: ".".join(str(n(256)) for _ in range(4)),
    lambda n: f"192.168.{n(256)}.{n(256)}:{n(65536)} and 10.{n(256)}.{n(256)}.{n(256)}",
    lambda n: f"version {n(30)}.{n(3000)}.{n(300)}.{n(30)}, build {n(30)}.{n(3000)}.{n(300)}",
    lambda n: f"Lavf{n(99)}.{n(99)}.{n(999)} libx264 {n(999)}.{n(99)}.{n(999)}",
    lambda n: f"20{n(99):02}-{n(12):02}-{n(28):02} {n(24):02}:{n(60):02}:{n(60):02}.{n(999):03}",
    lambda n: f"00:{n(60):02}:{n(60):02},{n(999):03} --> 01:{n(60):02}:{n(60):02},{n(999):03}",
    lambda n: f"+{n(99)} {n(999)} {n(9999)}-{n(9999)}, ISBN 978-{n(9)}-{n(9999)}-{n(9999)}-{n(9)}",
    lambda n: f"{n(9000)}x{n(9000)}, {n(999)}.{n(9)} mm, f/{n(22)}.{n(9)}, 1/{n(8000)} s, ISO {n(25600)}",
    lambda n: f"#{n(1 << 24):06x} rgb({n(256)}, {n(256)}, {n(256)}) {n(100)}%",
    lambda n: f"-{n(20)}.{n(100):02} dB, peak 0.{n(10**6):06}, gain +{n(9)}.{n(100):02} dB",
    lambda n: f"matrix 1.0{n(10**5):05}, 0.0{n(10**5):05}, 0.0{n(10**5):05}, 1.0{n(10**5):05}",
    lambda n: f"{200 + n(700)}.{n(1000):03}, {200 + n(700)}.{n(1000):03}",
    lambda n: f"at {181 + n(700)}.{n(10**5):05} {n(90)}.{n(10**5):05} of it",
)
"""Forms of numbers that are no coordinates, each made of random numbers."""


def test_other_numbers_are_no_place() -> None:
    chance = random.Random(3)
    for form in NUMBERS:
        for _ in range(100):
            assert not holds_place(text := form(chance.randrange)), text
