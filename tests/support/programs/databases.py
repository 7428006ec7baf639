"""SQLite under several processes: accounts whose sum never changes. Run in children."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from pathlib import Path
from typing import Final

ACCOUNTS: Final = 40
BALANCE: Final = 1000
_BUSY_S: Final = 60.0


def create(path: Path, journal: str = "wal") -> str:
    """Make the database with that journal; returns the journal mode that SQLite settled on."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as database, database:
        (mode,) = database.execute(f"PRAGMA journal_mode={journal}").fetchone()
        database.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note BLOB)")
        database.execute("CREATE TABLE transfer (writer INTEGER, number INTEGER, UNIQUE (writer, number))")
        database.executemany(
            "INSERT INTO account VALUES (?, ?, zeroblob(500))", [(n, BALANCE) for n in range(ACCOUNTS)]
        )
    return str(mode)


def transfer(path: Path, writer: int, count: int) -> int:
    """Move money about in `count` transactions, each rewriting notes; returns how many committed."""
    chance = random.Random(writer)
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as database:
        for number in range(count):
            _transaction(database, chance, writer, number)
        return count


def watch_sum(path: Path, writers: int, count: int, deadline: int) -> int:
    """Read the sum until every transfer is in; returns how often. Each must be the true one."""
    looks = 0
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
        while looks < deadline:
            (total,) = database.execute("SELECT sum(balance) FROM account").fetchone()
            assert total == ACCOUNTS * BALANCE, f"a reader saw a sum of {total}"
            looks += 1
            (done,) = database.execute("SELECT count(*) FROM transfer").fetchone()
            if done == writers * count:
                break
    return looks


def verdict(path: Path) -> tuple[str, int, int]:
    """integrity_check, the sum and the number of transfers, after the WAL went into the database."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (check,) = database.execute("PRAGMA integrity_check").fetchone()
        (total,) = database.execute("SELECT sum(balance) FROM account").fetchone()
        (done,) = database.execute("SELECT count(*) FROM transfer").fetchone()
    return str(check), int(total), int(done)


def transfer_for(path: Path, writer: int, seconds: float) -> int:
    """As transfer(), for a time; returns how many transactions were committed."""
    chance = random.Random(writer)
    number, end = 0, time.monotonic() + seconds
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as database:
        while time.monotonic() < end:
            _transaction(database, chance, writer, number)
            number += 1
    return number


def _transaction(database: sqlite3.Connection, chance: random.Random, writer: int, number: int) -> None:
    one, other = chance.sample(range(ACCOUNTS), 2)
    amount = chance.randrange(50)
    note = chance.randbytes(500)
    database.execute("BEGIN IMMEDIATE")
    change = "UPDATE account SET balance = balance + ?, note = ? WHERE id = ?"
    database.execute(change, (-amount, note, one))
    database.execute(change, (amount, note, other))
    database.execute("INSERT INTO transfer VALUES (?, ?)", (writer, number))
    database.execute("COMMIT")
