"""Indexes: SQLite databases with a table of the events in one file of the trail (segment).

An index is made in memory, stored as one file, and read back into memory as a whole. So SQLite sees only the
bytes whose seal was checked (cache.py), and no other file. Queries cannot change the database.
"""

from __future__ import annotations

import functools
import json
import re
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from policyfs.errors import errno_name
from policyfs.trail.chain.continuity import Joint, Joints
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.record import errno_of
from policyfs.trail.query.condition import GLOB_FUNCTION, condition_of
from policyfs.trail.query.index_lines import EVENT_COLUMNS, OTHER_COLUMNS, IndexLines
from policyfs.trail.query.query import compile_glob
from policyfs.trail.query.selection import Selection

FORMAT: Final = "policyfs-index-5"
_HOUR_NS: Final = 3600 * 1_000_000_000
_MOST: Final = (1 << 63) - 1
_CLASS: Final = {
    "mount": "mount", "app": "app", "uid": "uid", "gid": "gid", "exe": "exe", "operation": "operation",
    "syscall": "syscall", "decision": "decision", "errno": "errno", "rules": "rules",
    "would_deny": "would_deny", "would_allow": "would_allow", "kind": "kind", "io": "io", "view": "view",
    "generation": "policy_generation", "policy": "policy_digest", "note": "note", "folded": "folded",
}  # fmt: skip
"""The columns of the table `class`, and the fields of Event that have the values."""
_LISTS: Final = frozenset({"rules", "would_deny", "would_allow"})

TABLES: Final = f"""
CREATE TABLE class (id INTEGER PRIMARY KEY, {", ".join(_CLASS)});
CREATE TABLE path (id INTEGER PRIMARY KEY, name BLOB);
CREATE TABLE event (line INTEGER PRIMARY KEY, {", ".join(EVENT_COLUMNS[1:])});
"""
_MORE: Final = f"""
CREATE TABLE about (format, size, sha256, lines, last);
CREATE TABLE place (path, line, PRIMARY KEY (path, line)) WITHOUT ROWID;
CREATE TABLE cut (sha256, line);
CREATE TABLE joint (line, seq, before, raw);
CREATE TABLE hour (hour, class, denied, weight, bytes_read, bytes_written, redacted, first, last);
CREATE TABLE other (line INTEGER PRIMARY KEY, {", ".join(OTHER_COLUMNS[1:])});
"""
"""place: the paths of each event, also the second one. cut: see IndexLines.cuts. joint: see Joint. hour:
sums over the events of each hour and class. denied: the path, if the events are denials. weight: the number
of requests. redacted: the number of requests with hidden bytes. first, last: times."""

_TOTALS: Final = ", ".join(
    f"CAST(max(min(total({name}), 9e18), -9e18) AS INTEGER)" for name in ("bytes_read", "bytes_written")
)
SUMS: Final = f"""
time / {_HOUR_NS} AS hour, class,
iif(class IN (SELECT id FROM class WHERE decision = 'deny'), path, NULL) AS denied, sum(ifnull(repeats, 1)),
{_TOTALS}, sum(iif(hidden IS NULL, 0, ifnull(repeats, 1))), min(time), max(time)"""
"""The columns of the table `hour`, from rows of the table `event`."""
BY_SUM: Final = "GROUP BY 1, 2, 3 ORDER BY min(line)"

_ALLOWED: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_REFUSED: Final = frozenset({"load_extension", "fts3_tokenizer"})


class WrongIndexError(ValueError):
    """Error for bytes that are no index, or an index of another version."""


def confine(connection: sqlite3.Connection) -> None:
    """Let SQL only read the tables of the connection: no change, ATTACH, PRAGMA or extension from now on."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')")  # their first use declares a table
    connection.set_authorizer(_authorize)


def _authorize(action: int, _first: str | None, second: str | None, *_: object) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if second in _REFUSED else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def build(lines: Iterable[tuple[int, bytes]], size: int, digest: str) -> bytes:
    """Return the index of some lines (offset, line) of a segment. size, digest: of their bytes."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        database.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA temp_store = MEMORY; {TABLES} {_MORE} BEGIN;"
        )
        found, joints = IndexLines(), Joints()
        database.executemany(_insert("event", len(EVENT_COLUMNS)), found.rows(joints.among(lines)))
        marks = ", ".join(["?", *["CAST(? AS TEXT)" if name in _TEXTS else "?" for name in _CLASS]])
        database.executemany(
            f"INSERT INTO class VALUES ({marks})",
            ((id_, *_stored(one)) for one, id_ in found.classes.items()),
        )
        database.executemany("INSERT INTO path (name, id) VALUES (?, ?)", found.paths.items())
        database.executemany(
            "INSERT INTO other VALUES (?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT))",
            ((*other[:4], *map(_encoded, other[4:])) for other in found.others),
        )
        database.executemany(_insert("cut", 2), found.cuts)
        database.executemany(_insert("joint", 4), joints.found)
        about = FORMAT, size, digest, found.count, joints.last
        database.execute(_insert("about", len(about)), about)
        database.executescript(
            "INSERT INTO place SELECT path, line FROM event UNION SELECT new_path, line FROM event"
            " WHERE new_path IS NOT NULL ORDER BY 1, 2;"
            f"INSERT INTO hour SELECT {SUMS} FROM event {BY_SUM};"
        )
        return database.serialize()
    finally:
        database.close()


_TEXTS: Final = frozenset(_CLASS) - {"uid", "gid", "generation"}


def _insert(table: str, count: int) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * count)})"


def _encoded(value: object) -> object:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _stored(event: Event) -> Iterable[object]:
    for name, field in _CLASS.items():
        value = getattr(event, field)
        if name in _LISTS:
            value = json.dumps(value)
        elif name == "errno":
            value = errno_name(value) if value else None
        elif isinstance(value, int):
            value = max(-_MOST, min(value, _MOST))
        yield _encoded(value)


def _loaded(values: tuple[Any, ...]) -> Event:
    fields = dict(zip(_CLASS.values(), values, strict=True))
    for name in _LISTS:
        fields[name] = tuple(json.loads(fields[name]))
    fields["errno"] = errno_of(fields["errno"] or "")
    return Event(time_ns=0, pid=0, path=b"", **fields)


class Index:
    """An index: a database of the events in one segment. size, sha256: of the bytes that it is about. lines:
    their number. last: the last line of a trail. bytes: of the index itself."""

    def __init__(self, data: bytes) -> None:
        """data: what build() returned. Raises WrongIndexError if it is no index of this version."""
        if not data:
            raise WrongIndexError("no bytes")
        self.bytes: Final = len(data)
        self._database: Final = sqlite3.connect(":memory:")
        try:
            self._database.deserialize(data)
            self._database.execute("PRAGMA temp_store = MEMORY")
            self._database.text_factory = lambda text: text.decode("utf-8", "surrogatepass")
            self._database.create_function(GLOB_FUNCTION, 2, _matches, deterministic=True)
            confine(self._database)
            [(form, self.size, self.sha256, self.lines, self.last)] = self.query("SELECT * FROM about")
        except (sqlite3.DatabaseError, OverflowError, ValueError) as exc:
            self._database.close()
            raise WrongIndexError(str(exc)) from exc
        if form != FORMAT:
            self._database.close()
            raise WrongIndexError("no index of this version")

    def query(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Return the rows of an SQL statement. values: for its question marks."""
        return self._database.execute(statement, values)

    def select(self, columns: str, wanted: Selection, rest: str = "") -> sqlite3.Cursor:
        """Return these columns of the events of a selection, in order. rest: SQL behind the condition, if
        another."""
        condition = condition_of(wanted, self.classes)
        words = ("SELECT", columns, "FROM event WHERE", f"({condition.sql})", rest or "ORDER BY line")
        return self._database.execute(" ".join(words), condition.values)

    @functools.cached_property
    def classes(self) -> dict[int, Event]:
        """From the id of a class to an event with the fields that its events share; time, path and others are
        empty."""
        columns = ", ".join(_CLASS)
        return {id_: _loaded(values) for id_, *values in self.query(f"SELECT id, {columns} FROM class")}

    def data(self) -> bytes:
        """Return the bytes of the index, as build() returned them."""
        return self._database.serialize()

    def joints(self) -> list[Joint]:
        """Return the lines that do not follow from the line before, such as the first, in order."""
        return [Joint(*one) for one in self.query("SELECT * FROM joint ORDER BY line")]

    def path(self, path_id: int) -> bytes:
        """Return the path with this id."""
        [(name,)] = self.query("SELECT name FROM path WHERE id = ?", path_id)
        found: bytes = name
        return found

    def time_before(self, line: int) -> int | None:
        """Return the time (ns) of the last event before a line, or None. line: its number, from 1."""
        before = "SELECT time FROM event WHERE line < ? ORDER BY line DESC LIMIT 1"
        found = self.query(before, line).fetchone()
        return found[0] if found else None


@functools.lru_cache(64)
def _pattern(glob: str) -> re.Pattern[bytes]:
    return compile_glob(glob)


def _matches(glob: str, path: bytes) -> bool:
    return _pattern(glob).fullmatch(path) is not None
