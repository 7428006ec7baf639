"""docs/shipping.md: its table has fields of the lines, and its statements run in ClickHouse."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.trail.lines.schema import line_schema
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import MOUNT_ID, START_NS, a_denial, an_event, segments, write_trail
from tests.support.programs.log_servers import rsyslog
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


@contextlib.contextmanager
def postgres(place: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A server of PostgreSQL. The value: how it is found, and what kills it and starts it again."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    place.mkdir()
    shutil.chown(place, "postgres", "postgres")
    become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    init = [*become, programs / "initdb", "-A", "trust", "-D", place / "data"]
    subprocess.run(init, check=True, capture_output=True, cwd="/")
    words = [*become, programs / "postgres", "-D", place / "data", "-k", place, "-h", ""]
    servers = list[subprocess.Popen[bytes]]()

    def kill() -> None:
        if servers:
            servers[-1].kill()
            servers[-1].wait(10)

    def start() -> None:
        kill()
        (place / "data/postmaster.pid").unlink(missing_ok=True)
        servers.append(subprocess.Popen(words, cwd="/", stderr=subprocess.DEVNULL))
        asked = ["psql", "-h", place, "-U", "postgres", "-c", "SELECT 1"]
        wait_for(lambda: not subprocess.run(asked, capture_output=True, check=False).returncode, "psql", 60)

    start()
    try:
        yield f"postgresql://postgres@/postgres?host={place}", start
    finally:
        kill()


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/usr/lib/x86_64-linux-gnu/rsyslog/ompgsql.so").exists(), reason="rsyslog-pgsql")
def test_rsyslog_writes_the_lines_of_two_machines_into_postgresql(arena: Path) -> None:
    tables, question = re.findall(r"^```postgresql\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (into,) = re.findall(r"^```conf\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (out_of,) = re.findall(r"^```rsyslog\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    with contextlib.ExitStack() as stack:
        found, kill_and_start = stack.enter_context(postgres(arena / "postgres"))

        def ask(statement: str) -> list[list[str]]:
            words = ["psql", "-qAt", "-F", "|", "-d", found, "-c", statement]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            return [line.split("|") for line in done.stdout.splitlines()]

        ask(tables)
        lines = dict[str, list[bytes]]()
        for host in ("ada", "bob"):
            place = arena / host
            place.mkdir()
            events = [an_event(b"/it's \xff\"\\%d" % at) for at in range(200)]
            write_trail(place / "trail", [an_event(), a_denial(b"/DCIM/a.jpg"), *events])
            lines[host] = [line.raw for line in Reader(place / "trail").read()]
            settings = f'global(localHostname="{host}")\n' + out_of.replace("/var/spool/policyfs", str(place))
            settings += re.sub(r'conninfo="[^"]*"', f'conninfo="{found}"', into)
            stack.enter_context(rsyslog(place, settings))
            (place / "lines.jsonl").write_bytes(b"".join(lines[host][:100]))
        kill_and_start()
        for host, those in lines.items():
            with (arena / host / "lines.jsonl").open("ab") as file:
                file.write(b"".join(those[50:]))  # some come twice
        counts = [[host, str(len(those))] for host, those in lines.items()]
        count = "SELECT host, count(*) FROM policyfs_lines GROUP BY host ORDER BY host"
        wait_for(lambda: ask(count) == counts, "all lines", 120)
        assert [row[1:] for row in ask(question)] == [
            [host, "gallery", "10011", "raw"] for host in ("ada", "bob")
        ]
