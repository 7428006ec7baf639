"""A program that books entries in an SQLite database, and knows which are in it.

    python3 bookkeeping.py DATABASE JOURNAL_MODE

Two at a time work in one database. It works until its standard input has a line, then prints the same as
changes.py. It imports nothing of policyfs: it runs as an app.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sqlite3
import sys
import time


def main() -> None:
    path, mode = sys.argv[1:3]
    failed, worst, booked, me = [], 0.0, 0, os.getpid()
    database = sqlite3.connect(path, timeout=30, isolation_level=None)
    until = time.monotonic() + 30
    while time.monotonic() < until:  # SQLite does not wait for a lock when it sets the mode
        with contextlib.suppress(sqlite3.OperationalError):
            database.execute(f"pragma journal_mode={mode}")
            database.execute("create table if not exists entries (who, number, text, unique (who, number))")
            break
    print("ready", flush=True)
    while not failed and not select.select([sys.stdin], [], [], 0)[0]:
        began = time.monotonic()
        try:
            database.execute("begin immediate")
            database.execute("insert into entries values (?, ?, ?)", (me, booked, "x" * 2000))
            database.execute("commit")
            booked += 1
        except sqlite3.Error as error:
            failed.append(repr(error))
        worst = max(worst, time.monotonic() - began)
    found = [one for (one,) in database.execute("select number from entries where who = ? order by 1", (me,))]
    differences = [] if found == [*range(booked)] else [f"{len(found)} entries of {booked}"]
    differences += [one for (one,) in database.execute("pragma integrity_check") if one != "ok"]
    print(json.dumps([failed, 100 * booked, worst, differences]), flush=True)


if __name__ == "__main__":
    main()
