"""Figures of a comparison: medians, ratios to the first contender, and their spread over the rounds."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

NOISE: Final = 0.05
"""The least difference of two runs that counts, however steady each of them was."""
_SELDOM: Final = 0.02
"""Requests of one operation below which they are not shown."""


@dataclass(slots=True)
class Figures:
    """One row in one store: what each contender reached, round by round. unit: ``s`` means less is better."""

    row: str
    store: str
    unit: str
    rounds: dict[str, list[float]] = field(default_factory=dict)
    requests: dict[str, dict[str, float]] = field(default_factory=dict)
    """Requests that reached a daemon for each operation in its last round, by opcode; for ``s`` in all."""

    processor_us: dict[str, float] = field(default_factory=dict)
    """Processor time of a daemon for each operation in its last round, in µs; for ``s`` in all."""

    def add(self, contender: str, value: float) -> None:
        """Record one measurement."""
        self.rounds.setdefault(contender, []).append(value)

    def median(self, contender: str) -> float:
        """Return a contender's median."""
        return statistics.median(self.rounds[contender])

    def ratios(self, contender: str) -> list[float]:
        """Return a contender's ratios to the first one, round by round."""
        first = next(iter(self.rounds.values()))
        pairs = zip(self.rounds[contender], first, strict=False)
        return [value / base for value, base in pairs if base]

    def line(self) -> str:
        """Format the row for a terminal: medians, and the ratios with their least and greatest."""
        cells = []
        for name in self.rounds:
            ratios = self.ratios(name)
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}" if ratios else "-"
            middle = f"{statistics.median(ratios):.2f}" if ratios else "-"
            cells.append(f"{name} {short(self.median(name))} (x{middle}, {spread}){self._asked(name)}")
        return f"{self.store} {self.row} [{self.unit}]: " + "; ".join(cells)

    def _asked(self, contender: str) -> str:
        """Format the requests of each operation, those that matter."""
        asked = self.requests.get(contender, {})
        told = [f"{count:.3g} {opcode}" for opcode, count in asked.items() if count >= _SELDOM]
        spent = f", {short(self.processor_us[contender])} µs of its daemon" if asked else ""
        return f" asks {', '.join(told)}{spent}" if told else ""

    def document(self) -> dict[str, Any]:
        """Return the row for the JSON file."""
        return {
            "row": self.row,
            "store": self.store,
            "unit": self.unit,
            "rounds": self.rounds,
            "median": {name: self.median(name) for name in self.rounds},
            "requests": self.requests,
            "processor_us": self.processor_us,
            "ratio": {name: statistics.median(self.ratios(name) or [0.0]) for name in self.rounds},
        }


def short(value: float) -> str:
    """Format a figure with three digits that mean something."""
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: list[Figures]) -> str:
    """Return a Markdown table of medians, one line for each row and store."""
    names = list(dict.fromkeys(name for row in rows for name in row.rounds))
    head = ["work", "store", "unit", *names]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [short(row.median(name)) if name in row.rounds else "" for name in names]
        lines.append("| " + " | ".join([row.row, row.store, row.unit, *cells]) + " |")
    return "\n".join(lines)


def save(path: Path, machine: str, rows: list[Figures]) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "rows": [row.document() for row in rows]}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> list[Figures]:
    """Read what save() wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    names = ("row", "store", "unit", "rounds", "requests", "processor_us")
    return [Figures(*(row.get(name, {}) for name in names)) for row in document["rows"]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A contender's change from an earlier run, as a factor of speed (above 1: faster now)."""

    row: str
    store: str
    contender: str
    factor: float
    noise: float

    @property
    def counts(self) -> bool:
        """True if the change is greater than the noise of both runs."""
        return abs(self.factor - 1) > self.noise

    def line(self) -> str:
        """Format the change for a terminal."""
        word = "faster" if self.factor > 1 else "slower"
        what = f"{self.store} {self.row}, {self.contender}"
        return f"{what}: x{self.factor:.2f} ({word}; noise {self.noise:.2f})"


def differences(old: list[Figures], new: list[Figures]) -> list[Difference]:
    """Compare two runs by the ratios to the first contender, so that a slower machine does not count. The
    noise of a ratio is the half width of its middle half over the rounds, of both runs together."""
    before = {(row.row, row.store): row for row in old}
    found = []
    for row in new:
        known = before.get((row.row, row.store))
        if known is None:
            continue
        for name in list(row.rounds)[1:]:
            if name not in known.rounds:
                continue
            then, now = known.ratios(name), row.ratios(name)
            if not then or not now:
                continue
            factor = statistics.median(now) / statistics.median(then)
            noise = max(NOISE, _width(then) + _width(now))
            found.append(
                Difference(row.row, row.store, name, 1 / factor if row.unit == "s" else factor, noise)
            )
    return found


def _width(ratios: list[float]) -> float:
    """Return the half width of the middle half of some ratios, relative to their median."""
    if len(ratios) < 2:
        return 1.0
    low, _, high = statistics.quantiles(ratios, n=4)
    return (high - low) / 2 / statistics.median(ratios)
