"""docs/shipping.md: its table has fields of the lines, and its statements run in ClickHouse."""

from __future__ import annotations

import json
import re
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from policyfs.trail.lines.schema import line_schema
from tests.support.machine.documents import CHECKOUT
from tests.support.mount.trail import MOUNT_ID, START_NS, a_denial, an_event, segments, write_trail
from tests.unit.test_follow_follower import Reader

TEXT = (CHECKOUT / "docs/shipping.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"^```sql\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
PROGRAM = CHECKOUT / "tests/support/programs/clickhouse_page.py"


def test_each_column_is_a_field_of_a_line() -> None:
    schema: dict[str, Any] = line_schema()
    fields = {name for one in schema["$defs"].values() for name in one["properties"]} | {"id", "host", "why"}
    columns = re.findall(
        r"(\w+) (?:LowCardinality|String|UInt|Int|DateTime|Array|Nullable|Fixed)", STATEMENTS[0]
    )
    assert len(columns) > 30
    assert set(columns) <= fields


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_statements_run_in_clickhouse(tmp_path: Path) -> None:
    """In an environment of its own: the library takes most of a gigabyte."""
    denials = [a_denial(repeats=4, since_ns=START_NS), a_denial(app="maps")]
    events = [an_event(), an_event(b"/\xff", redacted=((1, 2),)), *denials, an_event(b"/damaged")]
    directory = write_trail(tmp_path / "trail", events)
    (segment,) = segments(directory)
    kept = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(b"x\n" if b"/damaged" in line else line for line in kept))
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(b"".join(line.raw for line in Reader(tmp_path / "trail").read()))
    (tmp_path / "statements.json").write_text(json.dumps(STATEMENTS))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "chdb"], check=True)
    done = subprocess.run(
        [python, PROGRAM, tmp_path / "statements.json", lines], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    denied, damage = json.loads(done.stdout)
    assert denied == [["gallery", ["no-private"], 4], ["maps", ["no-private"], 1]]
    assert {row[2] for row in damage} == {"hole"}
    assert {row[1] for row in damage} == {MOUNT_ID}
