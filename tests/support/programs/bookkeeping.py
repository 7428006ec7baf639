"""A program that books entries in an SQLite database, and knows which are in it.

    python3 bookkeeping.py DATABASE JOURNAL_MODE PAUSE_S

Two at a time work in one database. It works, with a pause after each entry, until its standard input has a
line, then prints the same as tree_changes.py. Its calls do not wait for locks, but are made again: SQLite's
own wait sleeps up to 0.1 s at a time, and a process that never sleeps gets the lock again and again, also
without a mount. It imports nothing of policyfs: it runs as an app.
"""

from __future__ import annotations

import json
import os
import random
import select
import sqlite3
import sys
import time


class Books:
    """A database. worst: its longest call, in seconds."""

    def __init__(self, path: str) -> None:
        self.database = sqlite3.connect(path, timeout=0, isolation_level=None)
        self.worst = 0.0

    def call(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Execute a statement, again for 30 s while another process has a lock."""
        until = time.monotonic() + 30
        while True:
            began = time.monotonic()
            try:
                return self.database.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or began > until:
                    raise
            finally:
                self.worst = max(self.worst, time.monotonic() - began)
            time.sleep(random.uniform(0.0005, 0.003))


def main() -> None:
    path, mode, pause_s = sys.argv[1:4]
    failed, booked, me = [], 0, os.getpid()
    books = Books(path)
    books.call(f"pragma journal_mode={mode}")
    books.call("create table if not exists entries (who, number, text, unique (who, number))")
    print("ready", flush=True)
    while not failed and not (select.select([sys.stdin], [], [], float(pause_s))[0] and booked):
        try:
            books.call("begin immediate")
            books.call("insert into entries values (?, ?, ?)", (me, booked, "x" * 2000))
            books.call("commit")
            booked += 1
        except sqlite3.Error as error:
            failed.append(repr(error))
    worst = books.worst
    found = [one for (one,) in books.call("select number from entries where who = ? order by 1", (me,))]
    differences = [] if found == [*range(booked)] else [f"{len(found)} entries of {booked}"]
    differences += [str(one) for (one,) in books.call("pragma integrity_check") if one != "ok"]
    print(json.dumps([failed, 100 * booked, worst, differences]), flush=True)


if __name__ == "__main__":
    main()
