"""Rows of the comparison: one kind of work each, measured through one mount at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.comparison.contenders import UIDS, Contender
from tests.bench.measures import build_client
from tests.support.machine.processes import tool_as
from tests.support.samples import jpegs

MANY: Final = 10_000
SOME: Final = 2_371
FILE_BYTES: Final = 16 << 10
_DEADLINE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Work:
    """What all rows share: the loop's program, and the seconds of one measurement."""

    loop: Path
    seconds: float
    archive: Path


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one contender reached. operations: done for it, 0 if nobody counted them."""

    value: float
    operations: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work. unit: ``s`` (less is better), or a rate."""

    name: str
    unit: str
    measure: Callable[[Work, Contender], Measurement]
    several: bool = False
    """True if four uids take turns: then a contender for one uid takes no part."""


def build_loop(directory: Path) -> Path:
    """Compile loop.c into a directory that plain uids can reach."""
    return build_client(directory, Path(__file__).with_name("loop.c"))


def fill_store(store: Path, names: set[str], directory: Path) -> Path:
    """Make the files that the chosen rows need, and return the archive to unpack."""
    archive = directory / "tree.tar"
    tree = _tree(directory)
    subprocess.run(["tar", "-cf", str(archive), "-C", str(tree), "."], check=True, timeout=60)
    archive.chmod(0o644)
    data = jpegs.photo_with(jpegs.exif())
    data += b"\0" * (FILE_BYTES - len(data))
    many = store / "many"
    if not many.exists():
        many.mkdir()
        for number in range(MANY):
            (many / f"name-{number:05d}.jpg").write_bytes(data)
        (store / "scratch").mkdir()
    if "tree" in " ".join(names) and not (store / "tree").exists():
        shutil.copytree(tree, store / "tree")
    if any(name.startswith("git") for name in names) and not (store / "git").exists():
        shutil.copytree(tree, store / "git")
        _commit(store / "git")
    tool_as(0, "chown", "-R", f"{UIDS[0]}:{UIDS[0]}", store, check=True, deadline_s=_DEADLINE_S)
    tool_as(0, "chmod", "-R", "a+rwX", store, check=True, deadline_s=_DEADLINE_S)
    return archive


def _tree(directory: Path) -> Path:
    """Copy Python's own library: some thousands of small files that every machine has."""
    tree = directory / "tree"
    library = Path(sysconfig.get_path("stdlib"))
    found = sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    for path in found[:SOME]:
        target = tree / path.relative_to(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return tree


def _commit(repository: Path) -> None:
    author = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for words in (("init", "-q"), ("add", "-A"), (*author, "commit", "-q", "-m", "all")):
        subprocess.run(["git", "-C", str(repository), *words], check=True, timeout=120)


# -- loops ------------------------------------------------------------------------------------------


def _loop(
    work: Work, contender: Contender, operation: str, files: int, *, several: bool = False
) -> Measurement:
    uids = [str(uid) for uid in UIDS] if several else []
    many = contender.path / "many"
    done = tool_as(
        0 if several else contender.uid, work.loop, operation, many, str(files), str(work.seconds), *uids,
        check=True, deadline_s=_DEADLINE_S,
    )  # fmt: skip
    count, nanoseconds, operations = map(int, done.stdout.split())
    return Measurement(count * 1e9 / nanoseconds, operations)


def _loop_row(name: str, operation: str, files: int, *, unit: str = "1/s", several: bool = False) -> Row:
    measure = partial(_loop, operation=operation, files=files, several=several)
    return Row(name, unit, measure, several)


# -- programs ---------------------------------------------------------------------------------------


def _sh(line: str, contender: Contender, *arguments: str | os.PathLike[str]) -> Measurement:
    """Run a line in the mount, and return its seconds."""
    start = time.perf_counter()
    words = ("sh", "-c", line, "sh", *arguments)
    tool_as(contender.uid, *words, cwd=contender.path, check=True, deadline_s=_DEADLINE_S)
    return Measurement(time.perf_counter() - start, 1)


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


def _copy(_work: Work, contender: Contender) -> Measurement:
    _clear(contender)
    took = _sh('cp -r tree "scratch/$1"', contender, _own(contender))
    _clear(contender)
    return took


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


def _git_again(_work: Work, contender: Contender) -> Measurement:
    line = "git --no-optional-locks -c safe.directory='*' -C git status --porcelain >/dev/null"
    _sh(line, contender)
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


def _program_row(name: str, line: str) -> Row:
    return Row(name, "s", partial(_program, line=line))


_SUM: Final = "find tree -type f -exec md5sum {} + >/dev/null"
_GIT: Final = "git --no-optional-locks -c safe.directory='*' -C git status --porcelain >/dev/null"

ROWS: Final = (
    _loop_row("open+close, one file", "open", 1),
    _loop_row("open+close, 10,000 files", "open", MANY),
    _loop_row("open+close, 10,000 again", "reopen", MANY),
    _loop_row("open+close, four uids", "open", MANY, several=True),
    _loop_row("open+read 16 KiB+close", "read", MANY),
    _loop_row("open+read+close, again", "reread", MANY),
    _loop_row("stat, 10,000 files", "stat", MANY),
    _loop_row("stat, four uids", "stat", MANY, several=True),
    _loop_row("ENOENT", "absent", 100),
    _loop_row("readdir", "list", 1, unit="names/s"),
    _loop_row("ls -l", "long", 1, unit="names/s"),
    _loop_row("create+write+close+unlink", "create", MANY),
    _loop_row("rename", "rename", MANY),
    _program_row("ls -la program", "ls -la many >/dev/null"),
    _program_row("find", "find many -newer scratch >/dev/null"),
    Row("untar", "s", _untar),
    Row("cp -r tree", "s", _copy),
    _program_row("find+md5sum tree", _SUM),
    _program_row("grep -r tree", "grep -rc nothing-has-this tree >/dev/null || true"),
    _program_row("git status", _GIT),
    Row("git status, again", "s", _git_again),
    Row("rm -rf", "s", _remove),
    Row("dbench", "MB/s", _dbench),
)


def chosen(names: list[str]) -> list[Row]:
    """Return the rows whose names contain one of these; all without any."""
    return [row for row in ROWS if not names or any(name in row.name for name in names)]
