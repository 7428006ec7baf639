"""Programs of the comparison: what people run on their files, each measured through one mount at a time."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.comparison.contenders import UIDS, Contender
from tests.bench.comparison.row import Measurement, Row, Work
from tests.support.machine.processes import tool_as

SOURCES: Final = 60
_DEADLINE_S: Final = 300.0
_POSTGRESQL: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)[:1]
SEARCHED: Final = os.pathsep.join([*map(str, _POSTGRESQL), os.environ.get("PATH", os.defpath)])
"""Where programs are looked for: Debian keeps those of PostgreSQL's server out of the way."""


def fill_sources(directory: Path, files: int = SOURCES) -> None:
    """Make a project of C: a header, files that include it and the C library's, and a Makefile."""
    if directory.exists():
        return
    directory.mkdir()
    included = "".join(f"#include <{name}.h>\n" for name in ("stdio", "stdlib", "string", "math", "time"))
    functions = "".join(f"double f{number}(double x);\n" for number in range(files))
    (directory / "all.h").write_text(included + functions)
    for number in range(files):
        text = f'#include "all.h"\ndouble f{number}(double x)\n{{\n'
        text += f'\treturn x > 1 ? f{(number + 1) % files}(sqrt(x)) : strlen("{number}") * x;\n}}\n'
        (directory / f"f{number}.c").write_text(text)
    objects = " ".join(f"f{number}.o" for number in range(files))
    (directory / "main.c").write_text('#include "all.h"\nint main(void) { return f0(9) < 0; }\n')
    (directory / "Makefile").write_text(
        f"CFLAGS = -O1\nprogram: main.o {objects}\n\t$(CC) -o $@ $^ -lm\nmain.o {objects}: all.h\n"
    )


def _sh(line: str, contender: Contender, *arguments: str | os.PathLike[str]) -> Measurement:
    """Run a line in the mount, and return its seconds."""
    start = time.perf_counter()
    words = ("sh", "-c", line, "sh", *arguments)
    tool_as(contender.uid, *words, cwd=contender.path, check=True, deadline_s=_DEADLINE_S)
    return Measurement(time.perf_counter() - start, 1)


def name_users(directory: Path) -> None:
    """Give the clients' uids names, in this mount namespace: PostgreSQL refuses a uid without one."""
    named = directory / "passwd"
    accounts = [f"bench{uid}:x:{uid}:{uid}::/:/bin/sh\n" for uid in UIDS]
    named.write_text(Path("/etc/passwd").read_text() + "".join(accounts))
    named.chmod(0o644)
    tool_as(0, "mount", "--bind", named, "/etc/passwd", check=True)


def _clear(contender: Contender) -> None:
    tool_as(contender.uid, "rm", "-rf", contender.path / "scratch" / _own(contender), deadline_s=_DEADLINE_S)


def _own(contender: Contender) -> str:
    """Return a name in scratch that no other contender uses."""
    return "".join(letter if letter.isalnum() else "-" for letter in contender.name)


def _untar(work: Work, contender: Contender) -> Measurement:
    _clear(contender)
    line = 'mkdir "scratch/$1" && tar --touch --no-same-owner -xf "$2" -C "scratch/$1"'
    took = _sh(line, contender, _own(contender), work.archive)
    _clear(contender)
    return took


def _copy(_work: Work, contender: Contender, how: str) -> Measurement:
    _clear(contender)
    took = _sh(f'cp {how} tree "scratch/$1"', contender, _own(contender))
    _clear(contender)
    return took


def _remove_copy(_work: Work, contender: Contender) -> Measurement:
    """Remove a tree of which each file was asked for xattrs, and got times, owner and mode."""
    _clear(contender)
    _sh('cp -a tree "scratch/$1"', contender, _own(contender))
    return _sh('rm -rf "scratch/$1"', contender, _own(contender))


def _remove(work: Work, contender: Contender) -> Measurement:
    _clear(contender)
    _sh(
        'mkdir "scratch/$1" && tar --touch --no-same-owner -xf "$2" -C "scratch/$1"',
        contender,
        _own(contender),
        work.archive,
    )
    return _sh('rm -rf "scratch/$1"', contender, _own(contender))


def _program(_work: Work, contender: Contender, line: str) -> Measurement:
    return _sh(line, contender)


def _dbench(_work: Work, contender: Contender) -> Measurement:
    """Return the MB/s of dbench with two clients."""
    _clear(contender)
    own = contender.path / "scratch" / _own(contender)
    tool_as(contender.uid, "mkdir", own, check=True)
    done = tool_as(contender.uid, "dbench", "-t", "3", "-D", own, "2", check=True, deadline_s=_DEADLINE_S)
    _clear(contender)
    [line] = [line for line in done.stdout.decode().splitlines() if line.startswith("Throughput")]
    return Measurement(float(line.split()[1]))


def _build(_work: Work, contender: Contender, sources: str = "sources") -> Measurement:
    _clear(contender)
    _sh('cp -r "$2" "scratch/$1"', contender, _own(contender), sources)
    took = _sh('make -s -j2 -C "scratch/$1"', contender, _own(contender))
    _clear(contender)
    return took


def _unchanged(work: Work, contender: Contender) -> Measurement:
    return _sh('rsync -rlt tree/ "$1"', contender, work.outside / "tree")


_PGBENCH: Final = """\
set -e
initdb -D "scratch/$1" -A trust -U bench --no-sync
pg_ctl -D "scratch/$1" -w -l "$2/log" -o "-k $2 -c listen_addresses=" start
trap 'pg_ctl -D "scratch/$1" -m fast -w stop >/dev/null' EXIT
pgbench -q -i -s 2 -h "$2" -U bench postgres
pgbench -c 2 -j 2 -T "$3" -h "$2" -U bench postgres
"""


def _pgbench(work: Work, contender: Contender) -> Measurement:
    """Return the transactions a second of PostgreSQL, with two clients. Its server refuses to run as root."""
    _clear(contender)
    seconds = max(2, round(4 * work.seconds))
    done = tool_as(
        contender.uid, "sh", "-c", _PGBENCH, "sh", _own(contender), work.outside, str(seconds),
        cwd=contender.path, check=True, deadline_s=_DEADLINE_S, environment={"PATH": SEARCHED},
    )  # fmt: skip
    _clear(contender)
    [line] = [line for line in done.stdout.decode().splitlines() if line.startswith("tps = ")]
    return Measurement(float(line.split()[2]))


def _again(_work: Work, contender: Contender, line: str) -> Measurement:
    """Run a line twice, and return the seconds of the second run."""
    _sh(line, contender)
    return _sh(line, contender)


def _transactions(_work: Work, contender: Contender) -> Measurement:
    """Return the seconds of 200 transactions of SQLite with its rollback journal."""
    _clear(contender)
    text = "CREATE TABLE t (a);" + 200 * "INSERT INTO t VALUES (1);"
    took = _sh('mkdir "scratch/$1" && sqlite3 "scratch/$1/db" "$2"', contender, _own(contender), text)
    _clear(contender)
    return took


def _program_row(name: str, line: str, *programs: str) -> Row:
    return Row(name, "s", partial(_program, line=line), programs=programs)


_SUM: Final = "find tree -type f -exec md5sum {} + >/dev/null"
_GIT: Final = "git --no-optional-locks -c safe.directory='*' -C git status --porcelain >/dev/null"
_GREP: Final = "grep -rc nothing-has-this tree >/dev/null || true"
_PHOTOS: Final = "exiftool -q -fast -GPSLatitude many/name-0[0-4]*.jpg >/dev/null"

PROGRAMS: Final = (
    _program_row("ls -la program", "ls -la many >/dev/null"),
    _program_row("find", "find many -newer scratch >/dev/null"),
    Row("untar", "s", _untar),
    Row("cp -r tree", "s", partial(_copy, how="-r")),
    Row("cp -a tree", "s", partial(_copy, how="-a")),
    Row("rm -rf, after cp -a", "s", _remove_copy),
    _program_row("find+md5sum tree", _SUM),
    _program_row("grep -r tree", _GREP),
    Row("grep -r tree, again", "s", partial(_again, line=_GREP)),
    _program_row("git status", _GIT),
    Row("git status, again", "s", partial(_again, line=_GIT)),
    Row("rm -rf", "s", _remove),
    Row("make -j2", "s", _build),
    Row("make -j2, 2,000 files", "s", partial(_build, sources="many sources"), slow=True),
    Row("SQLite, 200 transactions", "s", _transactions, programs=("sqlite3",)),
    _program_row("exiftool, 5,000 photos", _PHOTOS, "exiftool"),
    Row("rsync, unchanged tree", "s", _unchanged, programs=("rsync",)),
    Row("dbench", "MB/s", _dbench, programs=("dbench",)),
    Row("pgbench", "1/s", _pgbench, programs=("pgbench", "initdb")),
)
