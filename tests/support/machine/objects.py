"""C programs of several sources: what has been compiled once is linked again wherever it did not change."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.machine.documents import CHECKOUT
from tests.support.samples.media import KEPT_IN

DEADLINE_S: Final = 60
KERNEL: Final = CHECKOUT / "policyfs/kernel"


def text_of(name: str) -> str:
    """Return the text of a file of the bridge, in one of its rooms."""
    (found,) = KERNEL.glob(f"*/{name}")
    return found.read_text(encoding="utf-8")


def options(*more: str) -> tuple[str, ...]:
    """The flags for parts of policyfs/kernel in a program without Python: the same for all, which then
    share what was compiled. more: sanitizers."""
    headers = (f"-I{CHECKOUT}/tests/unit/without_python", f"-I{KERNEL}")
    return ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", *more, *headers)


def build(program: Path, flags: Sequence[str | Path], sources: Sequence[str], own: Path) -> None:
    """Make a program of C sources that are given as text.

    flags: for each call of gcc; the headers that they lead to stay as they are during a run of tests. own: a
    directory for the objects, unless all processes of the run keep theirs in one.

    Raises subprocess.CalledProcessError if gcc finds an error.
    """
    objects = [_object(flags, source, Path(os.environ.get(KEPT_IN) or own)) for source in sources]
    _gcc(*flags, "-pthread", "-o", program, *objects)


def _object(flags: Sequence[str | Path], source: str, kept: Path) -> Path:
    key = repr(([str(flag) for flag in flags], source))
    made = kept / (hashlib.sha256(key.encode()).hexdigest()[:32] + ".o")
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=kept) as new:  # another process may make it, too
            text = Path(new) / "source.c"
            text.write_text(source, encoding="utf-8")
            _gcc(*flags, "-pthread", "-c", text, "-o", Path(new) / "source.o")
            (Path(new) / "source.o").rename(made)
    return made


def _gcc(*words: str | Path) -> None:
    subprocess.run(["gcc", *words], check=True, timeout=DEADLINE_S)
