"""The goals of the comparison: ratios of an app and a shared mount to the best peer of the same run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.bench.comparison.contenders import FOREIGN
from tests.bench.comparison.figures import Figures, short


class Goal(NamedTuple):
    """The wanted ratios of one row: at least for a rate, at most for seconds. 0: no goal. base: to which
    contender the ratios are, instead of to the best peer."""

    app: float
    shared: float = 0.0
    base: str = ""


GOALS: Final = {
    "open+close, 10,000 files": Goal(1.0, 0.7),
    "open+close, 10,000 again": Goal(1.0, 0.7),
    "create+write+close+unlink": Goal(0.8, 0.6),
    "rename": Goal(1.0, 0.8),
    "untar": Goal(1.2, 1.6),
    "cp -r tree": Goal(1.2, 1.6),
    "rm -rf": Goal(1.2, 1.6),
    "find+md5sum tree": Goal(1.0, 1.5),
    "grep -r tree": Goal(1.0, 1.5),
    "grep -r tree, again": Goal(1.0, 1.2),
    "stat, 10,000 files": Goal(1.0),
    "ls -la program": Goal(1.0),
    "new files with fsync": Goal(1 / 1.5),
    "SQLite, 200 transactions": Goal(1.5),
    "make -j2, 2,000 files": Goal(1.25, 0.0, "native"),
}
_HEAD: Final = "| work | store | best peer | app mount | shared mount |\n|---|---|---|---|---|"


def _best(row: Figures, names: tuple[str, ...]) -> str:
    """Return the contender with the best median; empty without any."""
    found = sorted((name for name in names if name in row.rounds), key=row.median, reverse=row.unit != "s")
    return found[0] if found else ""


def table(rows: list[Figures]) -> str:
    """Return a Markdown table of all rows with a goal, for rates with the processor time (µs) of the daemon
    for each operation."""
    return "\n".join([_HEAD, *_lines(rows)])


def _lines(rows: list[Figures]) -> Iterator[str]:
    for row in rows:
        goal = GOALS.get(row.row)
        best = "" if goal is None else _best(row, (goal.base,) if goal.base else FOREIGN[1:])
        if goal is not None and best:
            ours = [
                _cell(row, kind, best, wanted)
                for kind, wanted in (("app", goal.app), ("shared", goal.shared))
            ]
            cells = [row.row, row.store, f"{best} {short(row.median(best))} {row.unit}", *ours]
            yield "| " + " | ".join(cells) + " |"


def _cell(row: Figures, kind: str, best: str, wanted: float) -> str:
    """Format the first contender of a kind: its median, its ratio with the goal, and its daemon's time."""
    name = next((name for name in row.rounds if name.partition(":")[0] == kind), None)
    if name is None:
        return ""
    ratio = row.median(name) / row.median(best)
    reached = ratio <= wanted if row.unit == "s" else ratio >= wanted
    goal = f" ({'reached' if reached else 'goal'} {wanted:.2g})" if wanted else ""
    spent = f", {short(row.processor_us[name])} µs" if name in row.processor_us and row.unit != "s" else ""
    return f"{short(row.median(name))}: {ratio:.2f} ×{goal}{spent}"
