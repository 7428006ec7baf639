"""Cleaned copies of files and whole trees: the bytes that an app would read under redaction, as new files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from policyfs.cli.common.looking import start_sniffer
from policyfs.cli.common.output import new_file
from policyfs.content.cache import RACY_NS
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.linux import libc
from policyfs.redact.core.patches import PatchedSource
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.frozen import FrozenTooLarge, Version, freeze, seal
from policyfs.trail.lines.table import shown, table

if TYPE_CHECKING:
    from policyfs.content.sniffer import Sniffer

_COPY_BYTES: Final = 1 << 20
_PROCESSORS_MAX: Final = 16
_FROZEN_BYTES: Final = 32 << 20
_CHANGED: Final = "another program changed the file: try again"

Look = Callable[[int], Plan]
"""A function that returns the plan for the file behind an O_RDONLY descriptor."""


class _ChangedError(Exception):
    """The error if a file has other bytes than when its plan was made."""


class _Bytes:
    """The bytes of an open file (ByteSource). read() raises _ChangedError if the file has become shorter."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        data, left = b"", max(0, min(size, self.size - offset))
        while left:
            part = os.pread(self._fd, left, offset + len(data))
            if not part:
                raise _ChangedError
            data, left = data + part, left - len(part)
        return data


def settled(fd: int) -> Version:
    """Return the version of a file, once every later change also changes it: after RACY_NS (ns)."""
    version = _version(fd)
    if time.time_ns() - max(version.mtime_ns, version.ctime_ns) < RACY_NS:
        time.sleep(RACY_NS / 1e9)
    return version


@contextlib.contextmanager
def frozen(fd: int) -> Iterator[int]:
    """Provide a descriptor of a file's bytes as they are now: of a copy in memory that nothing can change, or
    of the file itself (*fd*) if it has more than 32 MiB. Raises PolicyfsError."""
    try:
        copy = freeze(fd, _FROZEN_BYTES, None, reflink=False)
    except OSError as error:
        raise PolicyfsError(f"it cannot be read: {error.strerror}") from error
    except FrozenTooLarge:
        yield fd
        return
    with copy:
        seal(copy)
        yield copy.fd


def save(
    fd: int, before: Version, source: int, plan: Plan, path: str, look: Look,
    like: os.stat_result | None = None,
) -> None:  # fmt: skip
    """Save the bytes that an app would read under redaction in a new file.

    fd: the file, with the version that it had before frozen(). source: the descriptor that frozen() has
    provided, of whose bytes *plan* was made. like: gives the new file its mode (without set-id bits) and
    times; None: the mode that the umask leaves of 0666, and times of now. Raises PolicyfsError; then nothing
    is left of the new file.

    INVARIANT: the new file gets no name if it has bytes that no plan was made of. A program that writes the
    file through a mapping need not change its version. So, without a copy in memory, *look* must find nothing
    in the new file.
    """
    view = PatchedSource(_Bytes(source, before.size), plan.patches)
    mode = None if like is None else like.st_mode & 0o777
    try:
        with new_file(path, mode) as out:
            for at in range(0, before.size, _COPY_BYTES):
                _write(out, view.read(at, _COPY_BYTES), at)
            with _reopened(out) as copy:
                if _version(fd) != before or (source == fd and look(copy).outcome is not Outcome.CLEAN):
                    raise _ChangedError
            if like is not None:
                os.utime(out, ns=(like.st_atime_ns, like.st_mtime_ns))
    except _ChangedError as error:
        raise PolicyfsError(_CHANGED) from error
    except OSError as error:
        raise PolicyfsError(error.strerror or str(error)) from error


@contextlib.contextmanager
def _reopened(fd: int) -> Iterator[int]:
    copy = os.open(libc.proc_fd(fd), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield copy
    finally:
        os.close(copy)


def _version(fd: int) -> Version:
    status = os.fstat(fd)
    return Version(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _write(out: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(out, view, at)
        view, at = view[done:], at + done


@dataclass(slots=True)
class Copy:
    """The result for one file. path: as the user would write it. kind: None if unknown.

    why: the reason of a refusal; "": the copy was written. tells: the number of removed parts of each
    category (of the first MAX_FINDINGS parts).
    """

    path: str
    kind: str | None = None
    why: str = ""
    cleaned: bool = False
    tells: Counter[str] = field(default_factory=Counter)

    def found(self, plan: Plan) -> None:
        """Take over what was removed under a plan."""
        self.cleaned = plan.outcome is Outcome.PATCH
        self.tells.update(word for finding in plan.findings for word in finding.what.split(", "))

    def _told(self) -> str:
        if self.why:
            return f"refused: {self.why}"
        if not self.cleaned:
            return "unchanged"
        return "removed: " + ", ".join(f"{word} {count}" for word, count in sorted(self.tells.items()))

    def row(self) -> tuple[str, str, str]:
        """Return the cells of a table, with the characters escaped that harm a terminal."""
        return shown(self.path), shown(self.kind or "unknown"), shown(self._told())

    def as_json(self) -> dict[str, object]:
        """Return the result for JSON."""
        outcome = Outcome.REFUSE if self.why else Outcome.PATCH if self.cleaned else Outcome.CLEAN
        return {
            "file": self.path, "kind": self.kind, "outcome": outcome.value, "reason": self.why,
            "removed": dict(self.tells),
        }  # fmt: skip


class _Source(NamedTuple):
    """A file or directory that the user names. above: an O_PATH descriptor of the directory that has it.

    shown: the user's path of that directory, with a slash at its end; "" for the working directory.
    """

    above: int
    name: str
    shown: str


class _File(NamedTuple):
    """A file to copy. path: relative to source.above, and to the directory of the copies."""

    source: _Source
    path: bytes
    copy: Copy


class CleanCopies:
    """Writes cleaned copies of trees below a directory. Follows no symbolic link, and overwrites nothing."""

    def __init__(self, sources: Sequence[_Source], to: int, words: frozenset[str]) -> None:
        """to: a descriptor of the directory of the copies. words: what to hide, as in a rule."""
        self._sources = sources
        self._to = to
        self._words = words
        self._made: list[tuple[bytes, os.stat_result]] = []
        self.copies: list[Copy] = []
        """The results, in the order of the trees."""

    async def run(self, sniffer: Sniffer, tasks: int) -> None:
        """Copy everything. tasks: the number of files at the same time. Raises OSError, if the mode or the
        times of a new directory cannot be set."""
        send, receive = trio.open_memory_channel[_File](0)
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(self._work, receive, sniffer)
            async with send:
                for source in self._sources:
                    for file in self._walk(source):
                        await send.send(file)
        for path, like in reversed(self._made):  # when no new file changes the times any more
            with _opened_below(self._to, path, os.O_RDONLY | os.O_DIRECTORY) as fd:
                os.utime(fd, ns=(like.st_atime_ns, like.st_mtime_ns))
                os.fchmod(fd, like.st_mode & 0o777)

    def _walk(self, source: _Source) -> Iterator[_File]:
        """Yield the files of a tree, and make its directories."""
        todo = [os.fsencode(source.name)]
        while todo:
            path = todo.pop()
            copy = Copy(source.shown + os.fsdecode(path))
            try:
                names = self._entered(source, path)
            except (OSError, PolicyfsError) as error:
                copy.why = _why(error)
            else:
                if names is not None:
                    todo += [path + b"/" + name for name in sorted(names, reverse=True)]
                    continue
                yield _File(source, path, copy)
            self.copies.append(copy)

    def _entered(self, source: _Source, path: bytes) -> list[bytes] | None:
        """Make a copy of a directory and return the names in it; return None for a regular file."""
        with _opened_below(source.above, path, os.O_PATH | os.O_NOFOLLOW) as fd:
            like = os.fstat(fd)
        if stat.S_ISREG(like.st_mode):
            return None
        if not stat.S_ISDIR(like.st_mode):
            link = "it is a symbolic link, which is not followed"
            raise PolicyfsError(link if stat.S_ISLNK(like.st_mode) else "it is not a regular file")
        with _opened_below(source.above, path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            names = list(map(os.fsencode, os.listdir(fd)))
        with self._place(path) as (above, name):
            try:
                os.mkdir(name, 0o700, dir_fd=above)
                self._made.append((path, like))
            except FileExistsError:
                with _opened_below(above, name, os.O_PATH | os.O_DIRECTORY):
                    pass
        return names

    @contextlib.contextmanager
    def _place(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """Provide the directory and the name of a copy."""
        directory, _, name = path.rpartition(b"/")
        with _opened_below(self._to, directory or b".", os.O_PATH | os.O_DIRECTORY) as above:
            yield above, name

    async def _work(self, files: trio.MemoryReceiveChannel[_File], sniffer: Sniffer) -> None:
        async for file in files:
            try:
                await trio.to_thread.run_sync(self._copy, file, sniffer)
            except (OSError, PolicyfsError) as error:
                file.copy.why = _why(error)

    def _copy(self, file: _File, sniffer: Sniffer) -> None:
        """Copy a file. Runs on a thread."""

        def look(fd: int) -> Plan:
            file.copy.kind, plan = trio.from_thread.run(sniffer.locate, fd, self._words)
            return plan

        with contextlib.ExitStack() as stack:
            fd = stack.enter_context(_opened_below(file.source.above, file.path, os.O_RDONLY | os.O_NONBLOCK))
            like = os.fstat(fd)
            if not stat.S_ISREG(like.st_mode):
                raise PolicyfsError(_CHANGED)
            above, name = stack.enter_context(self._place(file.path))
            new = _new_path(above, name)
            before = settled(fd)
            source = stack.enter_context(frozen(fd))
            plan = look(source)
            if plan.outcome is Outcome.REFUSE:
                raise PolicyfsError(plan.reason)
            save(fd, before, source, plan, new, look, like)
        file.copy.found(plan)


def _new_path(above: int, name: bytes) -> str:
    """Return a path of a new file in an open directory. Raises FileExistsError before any work for it."""
    path = f"/proc/self/fd/{above}/{os.fsdecode(name)}"
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    return path


@contextlib.contextmanager
def _opened_below(directory: int, path: bytes, flags: int) -> Iterator[int]:
    fd = libc.open_beneath(directory, path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _why(error: OSError | PolicyfsError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def copy_clean(
    paths: Sequence[str], to: str, words: frozenset[str], show: Callable[[Sized], None], *, as_json: bool
) -> int:
    """Write cleaned copies of files and trees into a directory, and print the results.

    show: takes the growing list of results. Return 0 if all were written, else 1. Raises UsageError and
    PolicyfsError; then nothing was written.
    """
    _check(paths, to)
    with contextlib.ExitStack() as stack:
        sources = [_source(path, stack) for path in paths]
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(to)
            fd = os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise PolicyfsError(f"cannot write to {to}: {error.strerror}") from error
        stack.callback(os.close, fd)
        made = CleanCopies(sources, fd, words)
        show(made.copies)
        try:
            _run(made)
            libc.sync_file_system(fd)
        except OSError as error:
            raise PolicyfsError(f"cannot write all of {to}: {error.strerror}") from error
    _print(made.copies, to, words, as_json=as_json)
    return EXIT_REFUSED if any(copy.why for copy in made.copies) else EXIT_OK


def _run(made: CleanCopies) -> None:
    processors = min(_PROCESSORS_MAX, len(os.sched_getaffinity(0)))
    sniffer = start_sniffer(processors + 1)  # one lane gets all but one

    async def ask() -> None:
        try:
            await made.run(sniffer, 2 * processors)
        finally:
            await sniffer.aclose()

    try:
        trio.run(ask)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            raise KeyboardInterrupt from None
        raise


def _check(paths: Sequence[str], to: str) -> None:
    """Raise UsageError if the copies would be written into a source, or over each other."""
    names = Counter(os.path.basename(os.path.abspath(path)) for path in paths)
    where = os.path.realpath(to)
    above: list[str] = []
    while not above or above[-1] != "/":
        above.append(where)
        where = os.path.dirname(where)
    for path in paths:
        name = os.path.basename(os.path.abspath(path))
        if not name or names[name] > 1:
            raise UsageError(f"{path}: its copy needs a name that no other path has")
        if any(_same(path, each) for each in above):
            raise UsageError(f"{to} is inside {path}: name a directory outside of it")
        if _same(path, os.path.join(to, name)):
            raise UsageError(f"the copy of {path} would be this very file or directory")


def _same(path: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.lstat(path), os.lstat(other))
    return False


def _source(path: str, stack: contextlib.ExitStack) -> _Source:
    above, name = os.path.split(os.path.abspath(path))
    try:
        fd = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PolicyfsError(f"cannot read {path}: {error.strerror}") from error
    stack.callback(os.close, fd)
    return _Source(fd, name, path.rstrip("/").removesuffix(name))


def _print(copies: Sequence[Copy], to: str, words: frozenset[str], *, as_json: bool) -> None:
    refused = sum(1 for copy in copies if copy.why)
    cleaned = sum(1 for copy in copies if copy.cleaned)
    if as_json:
        told = {"to": to, "redact": sorted(words), "written": len(copies) - refused, "refused": refused}
        print(json.dumps(told | {"files": [copy.as_json() for copy in copies]}, indent=2))
        return
    # The file's author chooses the names of tags. No escape sequence in them may reach the terminal.
    print("\n".join(table(("file", "kind", "copy"), [copy.row() for copy in copies])))
    print(
        f"copies in {shown(to)}: {cleaned:,} cleaned, {len(copies) - refused - cleaned:,} unchanged;"
        f" {refused:,} refused"
    )
