"""Runs the SQL of docs/shipping.md in ClickHouse: PYTHON clickhouse_page.py STATEMENTS LINES (needs chdb)."""

from __future__ import annotations

import json
import sys
import tempfile

from chdb.session import Session

statements = json.loads(open(sys.argv[1], encoding="utf-8").read())  # noqa: SIM115 - a script of its own
session = Session(tempfile.mkdtemp())
session.query("CREATE DATABASE page ENGINE = Atomic")
session.query("USE page")
session.query(statements[0])
settings = "SETTINGS input_format_skip_unknown_fields=1, date_time_input_format='best_effort'"
columns = [row[0] for row in json.loads(str(session.query("DESCRIBE policyfs_lines", "JSONCompact")))["data"]]
types = ", ".join(
    f"{name} {kind}"
    for name, kind, *_ in json.loads(str(session.query("DESCRIBE policyfs_lines", "JSONCompact")))["data"]
).replace("'", "\\'")
for _ in range(2):  # each line comes twice
    source = f"file('{sys.argv[2]}', JSONEachRow, '{types}')"
    session.query(f"INSERT INTO policyfs_lines SELECT {', '.join(columns)} FROM {source} {settings}")
print(json.dumps([json.loads(str(session.query(one, "JSONCompact")))["data"] for one in statements[1:]]))
