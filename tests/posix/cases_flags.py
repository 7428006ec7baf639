"""Files and directories that can only grow, or not change (chattr +a and +i): who may do what."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from tests.posix.calls import (
    NOW,
    append_unflagged,
    chattr,
    create,
    ftruncate,
    make,
    map_appending,
    opened,
    pwrite,
    read,
    renameat2,
    utimens,
    with_fd,
    write,
)
from tests.posix.cases_attrs import OWNER
from tests.posix.sides import ROOT, Case, Step, case, do

APPEND = os.O_WRONLY | os.O_APPEND


def marked(letters: str, *things: tuple[str, str], only: str) -> Step:
    """Things of OWNER's, made in the store, of which one then gets a flag."""

    def make_all() -> None:
        for kind, name in things:
            make(kind, name, 65534, 65534, 0o666 if kind == "file" else 0o777)
        chattr(letters, only)

    return Step(ROOT, f"root makes {things} and {letters} {only}", make_all, 0o022, behind=True)


def of_file() -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Calls on the file x."""
    yield from ((write, ("x", b"more", flags)) for flags in (APPEND, os.O_RDWR | os.O_APPEND, os.O_WRONLY))
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_TRUNC,
                  APPEND | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC, APPEND | os.O_CREAT):  # fmt: skip
        yield opened, ("x", flags)
    yield pwrite, ("x", b"0", 0, APPEND)
    yield append_unflagged, ("x",)
    yield ftruncate, ("x", 3, APPEND)
    yield os.truncate, ("x", 3)
    yield map_appending, ("x",)
    yield with_fd, ("x", APPEND, os.posix_fallocate, 0, 4096)
    yield os.chmod, ("x", 0o600)
    yield os.chown, ("x", 65534, 65533)
    yield utimens, ("x", NOW, NOW)
    yield utimens, ("x", (1, 0), (1, 0))
    yield os.link, ("x", "y")
    yield os.rename, ("x", "y")
    yield renameat2, ("x", "z", 2)
    yield os.rename, ("z", "x")
    yield os.setxattr, ("x", "user.a", b"b")
    yield os.unlink, ("x",)
    yield read, ("x",)


def of_directory() -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Calls on the directory d and its file in."""
    yield create, ("d/file", 0o644, b"text")
    yield os.mkdir, ("d/sub", 0o755)
    yield os.mkdir, ("d/inner", 0o755)
    yield os.symlink, ("target", "d/link")
    yield os.mkfifo, ("d/fifo",)
    yield os.link, ("z", "d/hard")
    yield os.rename, ("z", "d/moved")
    yield os.rename, ("d/inner", "d/other")
    yield os.rename, ("d/inner", "out")
    yield renameat2, ("d/inner", "z", 2)
    yield os.unlink, ("d/inner",)
    yield write, ("d/inner", b"x")
    yield os.chmod, ("d", 0o700)
    yield utimens, ("d", NOW, NOW)
    yield os.rename, ("d", "e")
    yield os.rmdir, ("d",)


def all_cases() -> list[Case]:
    """Every case of this table: each call with each flag, alone."""
    begun = marked("+a", ("file", "x"), only="x")
    steps = (do(OWNER, read, "x"), do(OWNER, write, "x", b"more", APPEND), do(OWNER, read, "x"))
    read_first = case("+a file that was read", begun, *steps * 2)
    return [*_cases("file", "x", of_file), *_cases("full", "d", of_directory), read_first]


def _cases(
    kind: str, name: str, calls: Callable[[], Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]]
) -> Iterator[Case]:
    for letters, user in ((letters, user) for letters in ("+a", "+i") for user in (OWNER, ROOT)):
        begun = marked(letters, (kind, name), ("file", "z"), only=name)
        for call, arguments in calls():
            yield case(f"{letters} {kind}", begun, do(user, call, *arguments))
