"""A row of the comparison: what it measures, in what, and with which programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.comparison.contenders import Contender


@dataclass(frozen=True, slots=True)
class Work:
    """What all rows share.

    loop: the loop's program. seconds: of one measurement of a rate. archive: to unpack. outside: a directory
    beside the store, which the first uid owns.
    """

    loop: Path
    seconds: float
    archive: Path
    outside: Path


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one contender reached. operations: done for it, 0 if nobody counted them."""

    value: float
    operations: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work. unit: ``s`` (less is better), or a rate."""

    name: str
    unit: str
    measure: Callable[[Work, Contender], Measurement]
    several: bool = False
    """True if four uids take turns: then a contender for one uid takes no part."""
    programs: tuple[str, ...] = ()
    """Programs that must be installed. Without them the row is left out."""
    slow: bool = False
    """True if it takes minutes: then it is measured only by its name."""
