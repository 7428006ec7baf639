"""`policyfs` that notes what it imports once it has given up rights.

    python -m tests.support.machine.late_imports NOTES audit follow ...

A confined process may be unable to open a module's file, or another version of it may lie there by now. NOTES
is a file of zeros that every process maps: to note a name there takes no system call. It counts as confined
from the first change of its uid, Landlock rule or filter of system calls on. Workers are another program:
`python -m tests.support.machine.late_imports NOTES zygote ...`.
"""

from __future__ import annotations

import functools
import mmap
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_SIZE: Final = 1 << 18
_PART: Final = 1 << 12
_EVENTS: Final = ("import", "ctypes.dlopen")
_CONFINED: Final = b"+"
_ZYGOTE: Final = "policyfs.content.workers.zygote"


def new_notes(file: Path) -> Path:
    """Make the file of the notes."""
    file.write_bytes(bytes(_SIZE))
    return file


def noted(file: Path) -> tuple[int, list[str]]:
    """Return the number of steps of confinement, and what was imported after one of them."""
    lines = file.read_bytes().replace(b"\0", b"").decode().split("\n")
    names = [line for line in lines if line and line != _CONFINED.decode()]
    return lines.count(_CONFINED.decode()), names


class _Notes:
    def __init__(self, file: str) -> None:
        with open(file, "r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _SIZE)
        self._confined = False
        self._choose_part()
        os.register_at_fork(after_in_child=self._choose_part)
        sys.addaudithook(self._hear)

    def _choose_part(self) -> None:
        """Take another part of the file than a process that confines itself at the same time."""
        self._part = os.getpid() % (_SIZE // _PART) * _PART

    def _add(self, line: bytes) -> None:
        at = max(self._part, self._map.rfind(b"\n", self._part, self._part + _PART) + 1)
        self._map[at : at + len(line) + 1] = line + b"\n"

    def _hear(self, event: str, values: tuple[Any, ...]) -> None:
        if self._confined and event in _EVENTS:
            frames = traceback.extract_stack(limit=12)
            asked = [
                f"{Path(one.filename).name}:{one.lineno}" for one in frames if "importlib" not in one.filename
            ]
            self._add(f"{values[0]} by {' '.join(asked[-4:-1])}".encode())

    def after(self, module: ModuleType, name: str) -> None:
        """Count the process as confined from the end of this function on."""
        function: Callable[..., Any] = getattr(module, name)

        @functools.wraps(function)
        def confining(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            if name != "setresuid" or os.geteuid():
                self._confined = True
                self._add(_CONFINED)
            return result

        setattr(module, name, confining)


def _workers_too(notes: str) -> None:
    popen = subprocess.Popen

    def start(words: list[str], **named: Any) -> Any:
        if _ZYGOTE in words:
            at = words.index(_ZYGOTE)
            words = [*words[:at], __spec__.name, notes, "zygote", *words[at + 1 :]]
            named["env"] = {**named["env"], "PYTHONPATH": os.pathsep.join(sys.path)}
        return popen(words, **named)

    subprocess.Popen = start  # type: ignore[assignment, misc]


def main() -> int:
    file, program = sys.argv[1:3]
    notes = _Notes(file)
    from policyfs.linux.confinement import landlock, seccomp

    for module, name in (
        (os, "setresuid"), (landlock, "read_only_below"), (seccomp, "close_door"), (seccomp, "install"),
    ):  # fmt: skip
        notes.after(module, name)
    if program == "zygote":
        from policyfs.content.workers import zygote

        sys.argv = [_ZYGOTE, *sys.argv[3:]]
        return zygote.main()
    _workers_too(file)
    from policyfs.cli.main import main as policyfs_main

    return policyfs_main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
