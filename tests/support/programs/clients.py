"""Ordinary programs at work for hours, one class for each sort of client; run in children with plain rights.

A client does its round over and over. Whatever a program says that was not expected (an exit code,
a word on standard error, a byte) is an AssertionError. What the policy refuses is tried, too.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.support.machine.counts import SOAK
from tests.support.machine.processes import TOOL_ENVIRONMENT
from tests.support.models.trees import alter_tree, differences, inventory, make_tree
from tests.support.programs import databases
from tests.support.programs.crowd import Photographer, Picture

TOOL_S: Final = 600.0 if SOAK else 120.0
_ENVIRONMENT: Final = TOOL_ENVIRONMENT | {
    "GIT_AUTHOR_NAME": "Client",
    "GIT_AUTHOR_EMAIL": "client@example.org",
    "GIT_COMMITTER_NAME": "Client",
    "GIT_COMMITTER_EMAIL": "client@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
}


ASK_TAGS: Final = ("exiftool", "-q", "-s", "-G1", "-n", "-a", "-EXIF:all", "-XMP:all", "-IPTC:all")


class Enough(BaseException):
    """The time is over: the round ends in the middle."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a client works.

    top: of the mount. home: a directory of its own outside. seconds: how long to go on, and at
    least for one round.
    """

    top: Path
    home: Path
    seconds: float
    seed: int


class Work:
    """What all clients use: tools, a clock, chance, and counts of what was done."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.chance = Random(desk.seed)
        self.done: Counter[str] = Counter()
        self._end_s = time.monotonic() + desk.seconds

    def over(self) -> bool:
        """Whether the time is over."""
        return self.done["rounds"] > 0 and time.monotonic() > self._end_s

    def tool(self, *command: str | os.PathLike[str], cwd: Path, script: str | None = None) -> bytes:
        """What a tool says that must succeed, and has nothing to complain of. script: its input."""
        if self.over():
            raise Enough
        done = subprocess.run(
            [os.fspath(word) for word in command],
            cwd=cwd,
            env=_ENVIRONMENT,
            input=None if script is None else script.encode(),
            **({"stdin": subprocess.DEVNULL} if script is None else {}),
            capture_output=True,
            timeout=TOOL_S,
            check=False,
        )
        said = done.stderr.decode(errors="replace")
        said = said if len(said) < 1000 else f"{said[:700]} ... {said[-200:]}"
        assert (done.returncode, said) == (0, ""), f"{command} in {cwd}: {done.returncode}: {said}"
        self.done[str(command[0])] += 1
        return done.stdout

    def refused(self, code: int, function: Callable[..., Any], *arguments: Any) -> None:
        """The policy must refuse this, with that errno."""
        try:
            function(*arguments)
        except OSError as error:
            if error.errno != code:
                raise
            self.done[f"refused {errno.errorcode[code]}"] += 1
        else:
            raise AssertionError(f"not refused: {function} {arguments}")


class Client:
    """A sort of client. Its constructor takes the Work, and what else it needs."""

    def round(self) -> None:
        """All it does, once; afterwards its place is as it was."""
        raise NotImplementedError

    def account(self) -> Any:
        """What it says it left behind, for the test."""
        return None


def work(
    _channel: object, sort: Callable[..., Client], desk: Desk, *arguments: Any
) -> tuple[Any, Counter[str]]:
    """The life of one client, for start_as(); its account, and how often it did what."""
    tools = Work(desk)
    client = sort(tools, *arguments)
    try:
        while not tools.over():
            client.round()
            tools.done["rounds"] += 1
    except Enough:
        pass
    except BaseException as error:
        error.add_note(f"{type(client).__name__} below {desk.top}, seed {desk.seed}, after {tools.done}")
        raise
    return client.account(), tools.done


def digests(directory: Path) -> dict[str, str]:
    """Of every file below a directory, by path relative to it."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest() for path in paths}


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


class Coder(Client):
    """git: commits, clones by hard link and by pack, collects garbage, checks everything out again."""

    def __init__(self, work: Work, place: str) -> None:
        self._work = work
        self._place = work.desk.top / place

    def round(self) -> None:
        """A repository's life."""
        work, source = self._work, self._place / "source"
        work.tool("git", "init", "-q", "-b", "main", source, cwd=self._place)
        files: dict[str, bytes] = {}
        for version in range(3):
            for number in range(24):
                if version in (0, number) or work.chance.random() < 0.3:
                    name = f"part{number % 5}/{number}.txt"
                    files[name] = work.chance.randbytes(200).hex().encode() * (1 + number % 4)
                    (source / name).parent.mkdir(exist_ok=True)
                    (source / name).write_bytes(files[name])
            work.tool("git", "add", "-A", cwd=source)
            work.tool("git", "commit", "-q", "-m", f"version {version}", cwd=source)
        work.tool("git", "repack", "-q", "-a", "-d", cwd=source)
        work.tool("git", "clone", "-q", "source", "linked", cwd=self._place)
        work.tool("git", "clone", "-q", "--no-local", "source", "packed", cwd=self._place)
        trees = set()
        for name in ("source", "linked", "packed"):
            where = self._place / name
            work.tool("git", "fsck", "--full", "--strict", "--no-progress", cwd=where)
            assert work.tool("git", "status", "--porcelain", cwd=where) == b""
            trees.add(work.tool("git", "rev-parse", "HEAD^{tree}", cwd=where))
            found = {str(path.relative_to(where)): path.read_bytes() for path in where.glob("part*/*.txt")}
            assert found == files, f"the files of {name}"
        assert len(trees) == 1
        packed = self._place / "packed"
        work.tool("git", "gc", "-q", "--prune=now", cwd=packed)
        shutil.rmtree(packed / "part0")
        work.tool("git", "reset", "-q", "--hard", cwd=packed)
        assert work.tool("git", "status", "--porcelain", cwd=packed) == b""
        _empty(self._place)


class Bookkeeper(Client):
    """sqlite3: transfers in a database in WAL mode that others use, too, and one with a rollback journal."""

    TRANSFERS: Final = 8

    def __init__(self, work: Work, shared: str, own: str, number: int) -> None:
        """shared: the database of all. own: a directory. number: of this bookkeeper."""
        self._work = work
        self._shared = work.desk.top / shared
        self._own = work.desk.top / own
        self._writer = number << 32

    def _ask(self, database: Path, script: str) -> list[str]:
        said = self._work.tool(
            "sqlite3", "-bail", "-cmd", ".timeout 60000", database, cwd=Path("/"), script=script
        )
        return said.decode().split()

    def round(self) -> None:
        """Some transfers and a look at the sum; then a database of its own, made and thrown away."""
        self._writer += 1
        databases.transfer(self._shared, self._writer, self.TRANSFERS)
        self._work.done["transfers"] += self.TRANSFERS
        total = str(databases.ACCOUNTS * databases.BALANCE)
        assert self._ask(self._shared, "SELECT sum(balance) FROM account;") == [total]
        forget = f"DELETE FROM transfer WHERE writer = {self._writer}; SELECT changes();"
        assert self._ask(self._shared, forget) == [str(self.TRANSFERS)]
        if self._writer % 10 == 0:
            assert self._ask(self._shared, "PRAGMA integrity_check;") == ["ok"]
        self._rollback()

    def _rollback(self) -> None:
        database = self._own / "rollback.db"
        fill = (
            "CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB);"
            "WITH RECURSIVE c(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM c WHERE n < 400)"
            " INSERT INTO t SELECT n, randomblob(300) FROM c;"
        )
        assert self._ask(database, "PRAGMA journal_mode=DELETE;" + fill) == ["delete"]
        undone = "BEGIN; UPDATE t SET b = x'00'; ROLLBACK; SELECT count(*) FROM t WHERE b = x'00';"
        assert self._ask(database, undone) == ["0"]
        kept = "BEGIN; DELETE FROM t WHERE n > 100; UPDATE t SET b = x'00'; COMMIT; SELECT total(n) FROM t;"
        assert self._ask(database, kept + "PRAGMA integrity_check;") == ["5050.0", "ok"]
        assert os.listdir(self._own) == [database.name], "a journal was left"
        database.unlink()


class Syncer(Client):
    """rsync and tar: a tree of everything that they carry, in, changed, compared and out again."""

    def __init__(self, work: Work, place: str) -> None:
        self._work = work
        self._place = work.desk.top / place

    def round(self) -> None:
        """The tree's life."""
        work, place = self._work, self._place
        source = work.desk.home / "tree"
        source.mkdir()
        make_tree(source, seed=7)
        copy = ("rsync", "-aHX", "--checksum", "--modify-window=-1")  # -1: compare nanoseconds
        work.tool(*copy, f"{source}/", "tree/", cwd=place)
        assert work.tool(*copy, "--dry-run", "--itemize-changes", f"{source}/", "tree/", cwd=place) == b""
        self._same(source, place / "tree")
        alter_tree(source)
        work.tool(*copy, "--delete", "--inplace", f"{source}/", "tree/", cwd=place)
        self._same(source, place / "tree")
        work.tool("tar", "--xattrs", "-cf", work.desk.home / "out.tar", "tree", cwd=place)
        work.tool("tar", "--compare", "-f", work.desk.home / "out.tar", cwd=place)
        shutil.rmtree(place / "tree")
        work.tool("tar", "--xattrs", "-pxf", work.desk.home / "out.tar", cwd=place)
        self._same(source, place / "tree")
        work.tool("cp", "-a", "tree", "copy", cwd=place)
        self._same(source, place / "copy")
        _empty(place)
        _empty(work.desk.home)

    @staticmethod
    def _same(one: Path, other: Path) -> None:
        assert differences(inventory(one), inventory(other)) == []


@dataclass(frozen=True, slots=True)
class Albums:
    """What somebody who takes photos and looks at them knows.

    names: directories of all photographers; mine: the number of one's own; others: of those
    that are seen redacted. kept: photos that nobody changes, a directory, with what ASK_TAGS must
    say of kept_names. large: one of them that
    is too large to copy, as it must be seen. unreadable: one of a kind that cannot be redacted.
    """

    names: tuple[str, ...]
    mine: int
    others: tuple[int, ...]
    pictures: tuple[Picture, ...]
    kept: str
    kept_names: tuple[str, ...]
    tags: bytes
    large: str
    large_digest: str
    unreadable: str
    hidden: tuple[str, ...]


class Photographs(Client):
    """exiftool, cp, find: takes photos, works on them, and looks at those of others under redaction."""

    STEPS: Final = 25
    REFUSALS: Final = frozenset({errno.ENOENT, errno.EACCES})
    """What opening another's photo may end in: it is gone, or half written, and nothing can be redacted."""

    def __init__(self, work: Work, albums: Albums) -> None:
        self._work = work
        self._albums = albums
        top = work.desk.top
        self._mine = top / albums.names[albums.mine]
        self._kept = top / albums.kept
        directories = [os.fsencode(top / name) for name in albums.names]
        kept = [os.fsencode(self._kept / name) for name in albums.kept_names]
        self.photographer = Photographer(
            directories, albums.mine, albums.others, albums.pictures, kept, False, self.REFUSALS,
            work.desk.seed, work.done,
        )  # fmt: skip

    def round(self) -> None:
        """Photos taken and seen, one by one; then by tools."""
        for _ in range(self.STEPS):
            self.photographer.step()
        self._edit()
        self._look()
        self._try_what_is_refused()

    def account(self) -> dict[bytes, int]:
        """The pictures in its album, by name."""
        return self.photographer.album

    def _edit(self) -> None:
        work, path = self._work, self._mine / "edited.jpg"
        work.tool("cp", self._kept / self._albums.kept_names[0], path, cwd=self._mine)
        artist = f"Number {work.done['rounds']}"
        work.tool("exiftool", "-q", "-overwrite_original", f"-Artist={artist}", path, cwd=self._mine)
        assert work.tool("exiftool", "-s3", "-Artist", path, cwd=self._mine) == artist.encode() + b"\n"
        assert work.tool("djpeg", path, cwd=self._mine).startswith(b"P6\n320 240\n")
        path.unlink()

    def _look(self) -> None:
        work, albums = self._work, self._albums
        assert work.tool(*ASK_TAGS, *albums.kept_names, cwd=self._kept) == albums.tags
        copy = work.desk.home / "copy"
        copy.mkdir()
        for name, picture in zip(albums.kept_names, albums.pictures, strict=True):
            work.tool("cp", self._kept / name, copy, cwd=work.desk.home)
            assert (copy / name).read_bytes() == picture.redacted
        shutil.rmtree(copy)
        assert sha256((self._kept / albums.large).read_bytes()).hexdigest() == albums.large_digest
        found = work.tool("find", self._kept, "-type", "f", "-printf", "%f\n", cwd=work.desk.home)
        assert {*albums.kept_names, albums.large} <= set(found.decode().split())

    def _try_what_is_refused(self) -> None:
        work, albums = self._work, self._albums
        work.refused(errno.EACCES, Path.read_bytes, self._kept / albums.unreadable)
        for name in (albums.kept_names[0], albums.large):
            work.refused(errno.EACCES, os.open, self._kept / name, os.O_RDWR)
            work.refused(errno.EACCES, os.unlink, self._kept / name)
        for name in albums.hidden:
            work.refused(errno.ENOENT, os.lstat, work.desk.top / name)
        work.refused(errno.EPERM, (self._mine / "program.jpg").write_bytes, b"#!/bin/sh\necho no photo\n")


class Studio(Client):
    """ffmpeg: the same film, cut and converted the same way, time and again."""

    def __init__(self, work: Work, film: str, place: str) -> None:
        self._work = work
        self._film = work.desk.top / film
        self._place = work.desk.top / place
        self._digests: dict[str, str] = {}

    def round(self) -> None:
        """Encode, look at it, take a picture and the sound out of it."""
        work, place = self._work, self._place
        quiet = ("ffmpeg", "-nostdin", "-v", "error", "-bitexact", "-threads", "1")
        work.tool(*quiet, "-i", self._film, "-t", "1", "-c:v", "mpeg4", "-c:a", "aac", "cut.mp4", cwd=place)
        work.tool(*quiet, "-i", "cut.mp4", "-c", "copy", "-movflags", "+faststart", "fast.mp4", cwd=place)
        for name in ("cut.mp4", "fast.mp4"):
            wanted = ("-show_entries", "stream=codec_name", "-of", "csv=p=0")
            said = work.tool("ffprobe", "-v", "error", *wanted, name, cwd=place)
            assert sorted(said.split()) == [b"aac", b"mpeg4"]
        work.tool(*quiet, "-i", "fast.mp4", "-f", "null", "-", cwd=place)
        work.tool(*quiet, "-i", "fast.mp4", "-frames:v", "1", "frame.png", cwd=place)
        work.tool(*quiet, "-i", "cut.mp4", "-vn", "sound.wav", cwd=place)
        for path in sorted(place.iterdir()):
            digest = sha256(path.read_bytes()).hexdigest()
            assert self._digests.setdefault(path.name, digest) == digest, f"{path.name} came out otherwise"
        assert sorted(self._digests) == ["cut.mp4", "fast.mp4", "frame.png", "sound.wav"]
        _empty(place)


class Backup(Client):
    """tar, rsync, cp, find: the true bytes of all that does not change, and every name of what does."""

    def __init__(self, work: Work, parts: Sequence[str], truth: dict[str, str]) -> None:
        """parts: directories that nobody changes. truth: digests of their files by path."""
        self._work = work
        self._parts = parts
        self._truth = truth

    def round(self) -> None:
        """Three copies, compared; one walk over everything."""
        work, top, home = self._work, self._work.desk.top, self._work.desk.home
        work.tool("tar", "-cf", home / "all.tar", *self._parts, cwd=top)
        work.tool("tar", "--compare", "-f", home / "all.tar", cwd=top)
        for way in ("tar", "rsync", "cp"):
            (home / way).mkdir()
        work.tool("tar", "-xf", home / "all.tar", cwd=home / "tar")
        work.tool("rsync", "-aR", *self._parts, home / "rsync", cwd=top)
        work.tool("cp", "-a", "--parents", *self._parts, home / "cp", cwd=top)
        for way in ("tar", "rsync", "cp"):
            assert digests(home / way) == self._truth, f"what {way} copied"
        _empty(home)
        names = work.tool("find", *self._parts, "-type", "f", cwd=top).decode().splitlines()
        assert sorted(names) == sorted(self._truth)
        self._walk()

    def _walk(self) -> None:
        """Through everything: a name may be gone when its turn comes, and nothing else may be wrong."""

        def gone(error: OSError) -> None:
            if error.errno != errno.ENOENT:
                raise error

        for directory, _, names in os.walk(self._work.desk.top, onerror=gone):
            for name in names:
                try:
                    os.lstat(os.path.join(directory, name))
                except OSError as error:
                    gone(error)
            self._work.done["directories"] += 1
