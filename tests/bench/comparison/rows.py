"""Rows of the comparison: one kind of work each, measured through one mount at a time."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.bench.comparison.contenders import UIDS, Contender
from tests.bench.comparison.programs import PROGRAMS, fill_sources
from tests.bench.comparison.row import Measurement, Row, Work
from tests.bench.measures import build_client
from tests.support.machine.processes import start_as, tool_as
from tests.support.samples import jpegs

MANY: Final = 10_000
SOME: Final = 2_371
FILE_BYTES: Final = 16 << 10
_DEADLINE_S: Final = 300.0


def build_loop(directory: Path) -> Path:
    """Compile loop.c into a directory that plain uids can reach."""
    return build_client(directory, Path(__file__).with_name("loop.c"))


def fill_store(store: Path, names: set[str], directory: Path) -> tuple[Path, Path]:
    """Make the files that the chosen rows need. Return the archive to unpack, and the directory outside."""
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
    if any(name.startswith("make") for name in names):
        fill_sources(store / "sources")
        if "make -j2, 2,000 files" in names:
            fill_sources(store / "many sources", 2_000)
    if any(name.startswith("git") for name in names) and not (store / "git").exists():
        shutil.copytree(tree, store / "git")
        _commit(store / "git")
    tool_as(0, "chown", "-R", f"{UIDS[0]}:{UIDS[0]}", store, check=True, deadline_s=_DEADLINE_S)
    tool_as(0, "chmod", "-R", "a+rwX", store, check=True, deadline_s=_DEADLINE_S)
    outside = directory / "outside"
    outside.mkdir()
    if any(name.startswith("rsync") for name in names) and shutil.which("rsync"):  # it then has nothing to do
        tool_as(0, "rsync", "-rlt", f"{store}/tree/", outside / "tree", check=True, deadline_s=_DEADLINE_S)
    tool_as(0, "chown", "-R", f"{UIDS[0]}:{UIDS[0]}", outside, check=True)
    return archive, outside


def _tree(directory: Path) -> Path:
    """Copy Python's own library, which every machine has, until there are SOME small files. (Some packages of
    Python have a third of the files of others.)"""
    tree = directory / "tree"
    library = Path(sysconfig.get_path("stdlib"))
    found = sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    for number in range(SOME):
        path = found[number % len(found)]
        target = tree / f"library-{number // len(found)}" / path.relative_to(library)
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


def _clients(work: Work, contender: Contender, operation: str, clients: int) -> Measurement:
    """Return the rate of several processes at once."""
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(_loop, work, contender, operation, MANY) for _ in range(clients)]
    found = [one.result() for one in running]
    return Measurement(sum(one.value for one in found), sum(one.operations for one in found))


def _hold(channel: Any, path: Path) -> None:
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_SH, 1)
        channel.send("held")
        channel.recv()


def _beside_a_lock(work: Work, contender: Contender, operation: str) -> Measurement:
    """Return the rate while another process has a byte-range lock on a file, as a database's has."""
    holder = start_as(contender.uid, _hold, contender.path / "many" / f"name-{MANY - 1:05d}.jpg")
    try:
        holder.receive()
        return _loop(work, contender, operation, MANY - 1)
    finally:
        holder.kill()


def _loop_row(name: str, operation: str, files: int, *, unit: str = "1/s", several: bool = False) -> Row:
    measure = partial(_loop, operation=operation, files=files, several=several)
    return Row(name, unit, measure, several)


ROWS: Final = (
    _loop_row("open+close, one file", "open", 1),
    _loop_row("open+close, 10,000 files", "open", MANY),
    _loop_row("open+close, 10,000 again", "reopen", MANY),
    _loop_row("open+close, four uids", "open", MANY, several=True),
    Row("open+close, again, two clients", "1/s", partial(_clients, operation="reopen", clients=2)),
    Row("open+close, eight clients", "1/s", partial(_clients, operation="open", clients=8)),
    _loop_row("open+read 16 KiB+close", "read", MANY),
    _loop_row("open+read+close, again", "reread", MANY),
    _loop_row("stat, 10,000 files", "stat", MANY),
    _loop_row("stat, four uids", "stat", MANY, several=True),
    _loop_row("ENOENT", "absent", 100),
    _loop_row("readdir", "list", 1, unit="names/s"),
    _loop_row("ls -l", "long", 1, unit="names/s"),
    _loop_row("create+write+close+unlink", "create", MANY),
    _loop_row("new files with fsync", "sync", MANY),
    _loop_row("rename", "rename", MANY),
    _loop_row("open for writing+close", "append", MANY),
    _loop_row("chmod", "mode", MANY),
    Row("open+close, beside a lock", "1/s", partial(_beside_a_lock, operation="open")),
    Row("create+unlink, beside a lock", "1/s", partial(_beside_a_lock, operation="create")),
    *PROGRAMS,
)


def chosen(names: list[str]) -> list[Row]:
    """Return the rows whose names contain one of these; without any all but the slow ones."""
    return [row for row in ROWS if any(name in row.name for name in names) or not (names or row.slow)]
