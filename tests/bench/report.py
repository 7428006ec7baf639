"""Figures as JSON and as a Markdown table."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

RATIO: Final = "ratio"
"""The key among a row's values that has policyfs to native."""


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one measurement by target. goal: what was wanted, as a ratio or with its unit."""

    what: str
    where: str
    unit: str
    values: dict[str, float]
    goal: str = ""

    def ratio(self) -> float | None:
        """policyfs to native, the median of the ratios of each turn, if both were measured."""
        return self.values.get(RATIO)

    def cells(self) -> list[str]:
        """The columns of the table."""
        ratio = self.ratio()
        ours = next((value for name, value in self.values.items() if name.startswith("policyfs")), None)
        return [
            self.what,
            self.where,
            self.unit,
            _number(self.values.get("native")),
            _number(self.values.get("bindfs")),
            _number(ours),
            "" if ratio is None else f"{ratio:.2f}",
            self.goal,
        ]

    def line(self) -> str:
        """The row for a terminal."""
        what, where, unit, native, bindfs, ours, ratio, goal = self.cells()
        return (
            f"{what:<46} {where:<7} {native:>12} {bindfs:>12} {ours:>12} {unit:<11} "
            f"{ratio and 'x ' + ratio:<7} {goal and 'goal ' + goal}"
        )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"


@dataclass(slots=True)
class Report:
    """All rows of one run."""

    rows: list[Row] = field(default_factory=list)

    def machine(self) -> str:
        """What it was measured on, for the reader of the figures."""
        return f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "machine": self.machine(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "rows": [
                {
                    "what": row.what,
                    "where": row.where,
                    "unit": row.unit,
                    "values": row.values,
                    "ratio": row.ratio(),
                    "goal": row.goal,
                }
                for row in self.rows
            ],
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def table(self) -> str:
        """Markdown."""
        head = ["what", "store", "unit", "native", "bindfs", "policyfs", "policyfs / native", "goal"]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row.cells()) + " |" for row in self.rows]
        return "\n".join(lines)

    def write_into(self, page: Path) -> None:
        """Replace the figures of a page."""
        write_into(page, "figures", f"Measured on {self.machine()}.\n\n{self.table()}")


def write_into(page: Path, part: str, body: str) -> None:
    """Replace the part of a page between its markers, for example ``<!-- figures: begin -->``."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")
