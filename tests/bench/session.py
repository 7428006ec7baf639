"""One run of the benchmark."""

from __future__ import annotations

from pathlib import Path

from tests.bench import measures
from tests.bench.report import Report, Row


class Session:
    """One run: where it works, what it has measured. known: files to walk over, for memory."""

    def __init__(self, directory: Path, known: int) -> None:
        self.directory = directory
        self.known = known
        self.client = measures.build_client(directory)
        self.report = Report()

    def add(self, what: str, where: str, unit: str, values: dict[str, float], goal: str = "") -> None:
        """Record medians and show them at once."""
        row = Row(what, where, unit, values, goal)
        self.report.rows.append(row)
        print(row.line(), flush=True)
