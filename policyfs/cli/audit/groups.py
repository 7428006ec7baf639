"""Counts of events by group that need little memory: beyond a bound they are in a file without a name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from policyfs.trail.query.summary import Groups

_IN_MEMORY: Final = 50_000
"""The number of counts in memory, some 500 bytes each. Then they are added to the file."""
_CACHE_KIB: Final = 32 << 10


class StoredGroups(Groups):
    """Counts by group and decision, in memory, and beyond a bound in an SQLite database without a name."""

    def __init__(self, fields: int) -> None:
        """fields: the number of fields of a group."""
        super().__init__()
        self._database: sqlite3.Connection | None = None
        names = [f"field{number}" for number in range(fields)] + ["decision"]
        self._columns = ", ".join(names)
        self._match = " AND ".join(f"{name} = ?" for name in names[:-1]) or "1"
        self._marks = ", ".join("?" * (fields + 2))

    def add(self, key: tuple[str, ...], decision: str, weight: int) -> None:
        """Count requests of a group with a decision."""
        super().add(key, decision, weight)
        if len(self._counts) >= _IN_MEMORY:
            self._store()

    def _store(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect("", isolation_level=None)
            self._database.executescript(
                f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE_KIB};"
                f"CREATE TABLE groups ({self._columns}, count, PRIMARY KEY ({self._columns})) WITHOUT ROWID"
            )
        counts = sorted(
            (*map(_bytes, key), _bytes(decision), count) for (key, decision), count in self._counts.items()
        )
        add = "ON CONFLICT DO UPDATE SET count = count + excluded.count"
        add = f"INSERT INTO groups VALUES ({self._marks}) {add}"
        self._database.execute("BEGIN")
        self._database.executemany(add, counts)
        self._database.execute("COMMIT")
        self._counts.clear()
        return self._database

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
        """Yield each group with the numbers of requests by decision, in order."""
        if self._database is None:
            yield from super().__iter__()
            return
        rows = self._store().execute(f"SELECT * FROM groups ORDER BY {self._columns}")
        for key, found in groupby(rows, key=lambda row: row[:-2]):
            yield tuple(map(_text, key)), {_text(row[-2]): row[-1] for row in found}

    def decisions(self) -> list[str]:
        """Return the decisions that were counted, in order."""
        if self._database is None:
            return super().decisions()
        return sorted(_text(row[0]) for row in self._store().execute("SELECT DISTINCT decision FROM groups"))

    def __contains__(self, key: tuple[str, ...]) -> bool:
        """Return True if a request of this group was counted."""
        if self._database is None:
            return super().__contains__(key)
        found = self._store() if self._counts else self._database
        return (
            found.execute(f"SELECT 1 FROM groups WHERE {self._match}", tuple(map(_bytes, key))).fetchone()
            is not None
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
