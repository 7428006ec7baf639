"""The version of the installed code, and its digest, which tells two builds of one version apart."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Final

_PACKAGE: Final = os.path.dirname(os.path.dirname(__file__))
_LENGTH: Final = 12


@functools.cache
def code_digest(package: str = _PACKAGE) -> str:
    """Return 12 hex digits of the SHA-256 of a package's modules and extensions, as they are on the disk when
    this process first asks. The same build has the same digest on every machine. Raises OSError."""
    return digest_of(sorted(_code(package)), package)[:_LENGTH]


def digest_of(paths: Iterable[str | os.PathLike[str]], directory: str | os.PathLike[str]) -> str:
    """Return the SHA-256 (hex) of files: their paths below a directory, sizes and bytes. Raises OSError."""
    found, above = hashlib.sha256(), os.path.join(directory, "")
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
        found.update(f"{os.fspath(path).removeprefix(above)}\0{len(data)}\0".encode())
        found.update(data)
    return found.hexdigest()


def _installed() -> str:
    """Return the version from the name of the package's metadata: beside the package, or for a checkout where
    pip has noted it."""
    for directory in (os.path.dirname(_PACKAGE), *sys.path):
        if os.path.isdir(directory):
            for name in os.listdir(directory):
                if name.startswith("policyfs-") and name.endswith(".dist-info"):
                    return name.removeprefix("policyfs-").removesuffix(".dist-info")
    return "unknown"


VERSION: Final = _installed()


def _code(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith((".py", ".so")):
                yield entry.path
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _code(entry.path)
