"""What need not run again, since nothing that it hangs on has changed: proofs of the tests, and redaction.

    python -m tests.support.machine.proofs           # prints what is left out while nothing changes
    python -m tests.support.machine.proofs --write   # writes down that it holds for the files of now

tests/proofs.txt has a line for each file of tests with such tests: a digest of what they hang on, and the
file. While the digest is the one of now, `make test` leaves them out; `make proofs` and `make soak` run all.

Proofs are what must fail where a guard is missing; their names follow in the line. They hang on the file, its
conftest.py, and what it imports of tests/ and policyfs/; on the modules of the guards that it names, and what
these import of policyfs/, which is what they patch; on the C sources, if one of these is their Python side or
the file compiles them. All hang on the version of Python, such as 3.11.

A line without names is a whole file of tests of redaction, which look at bytes and at nothing else. They hang
on all that the file imports, directly or not, on all of redaction and its samples, on the libraries of
requirements.lock, and on the Debian release, whose tools make and read samples.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.machine.documents import CHECKOUT

LIST: Final = CHECKOUT / "tests/proofs.txt"
_LEADING_TO_C: Final = ("policyfs/kernel/bridge.py", "tests/support/machine/objects.py")
"""What hangs on one of these hangs on the C sources of the bridge."""


_IMPORT: Final = re.compile(r"^[ \t]*(?:from ([\w.]+) import (\([^)]*\)|.*)|import ([\w.]+))", re.MULTILINE)
_WORD: Final = re.compile(r"\w+")
_REDACTION: Final = (
    "policyfs/redact",
    "policyfs/content",
    "tests/redaction",
    "tests/fuzz",
    "tests/support/samples",
)
_TOOLS: Final = ("requirements.lock", "packaging/setup/packages.sh")
PURE: Final = (
    *_REDACTION[:2], "policyfs/linux", "policyfs/formats.py", "policyfs/domain.py", "policyfs/__init__.py",
    "tests",
)  # fmt: skip
"""All that a whole file may import."""


def settled() -> frozenset[str]:
    """Return the node ids, without parameters, of the tests about which nothing has changed; whole files by
    their paths."""
    return frozenset(
        one
        for digest, file, *names in _lines()
        if digest == _digest(file, names)
        for one in _nodes_of(file, names)
    )


def _nodes_of(file: str, names: list[str]) -> list[str]:
    return [f"{file}::{name}" for name in names] or [file]


def hangs_on(test: Path) -> set[Path]:
    """Return the files that the proofs of a file of tests hang on."""
    found = {test, *_imported(test, ("tests", "policyfs"))}
    found |= {above / "conftest.py" for above in test.parents if (above / "conftest.py").is_file()}
    for guards in _guards({name for words in _strings(test) for name in words.split(",")}):
        found |= {guards, *_imported(guards, ("policyfs",))}
    if found & {CHECKOUT / file for file in _LEADING_TO_C}:
        found |= {*(CHECKOUT / "policyfs/kernel").rglob("*.[ch]"), *test.parent.rglob("*.[ch]")}
    return found


def reached_by(test: Path) -> set[Path]:
    """Return what a file of tests imports of tests/ and policyfs/, directly or not, and the file."""
    found, left = set[Path](), [test]
    while left:
        if (path := left.pop()) not in found:
            found.add(path)
            left += _imported(path, ("tests", "policyfs"))
    return found


@functools.cache
def _of_redaction() -> frozenset[Path]:
    """Return all files of redaction and of its tests: a locator is imported by its name in a table."""
    below = (path for name in _REDACTION for path in (CHECKOUT / name).rglob("*"))
    files = {path for path in below if path.is_file() and path.suffix != ".pyc"}
    return frozenset(files | {CHECKOUT / name for name in _TOOLS})


def _guards(named: set[str]) -> Iterator[Path]:
    """Yield the modules of tests/attack that define a guard with one of these names, and those so named."""
    attacks = CHECKOUT / "tests/attack"
    for path in [*attacks.glob("guards*.py"), *attacks.glob("weakened.py")]:
        if named & {*_strings(path), *_functions(path)}:
            yield path
    for name in named - {"tests.attack.weakened"}:
        if name.startswith("tests.") and (path := CHECKOUT / f"{name.replace('.', '/')}.py").is_file():
            yield path


def _digest(file: str, names: list[str]) -> str:
    test, digest = CHECKOUT / file, hashlib.sha256(f"{platform.python_version_tuple()[:2]}".encode())
    if not names:
        digest.update(f"{platform.freedesktop_os_release().get('VERSION_ID')}".encode())
    for path in sorted(hangs_on(test) if names else hangs_on(test) | reached_by(test) | _of_redaction()):
        digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + _of_bytes(path))
    return digest.hexdigest()[:16]


@functools.cache
def _of_bytes(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _lines() -> list[list[str]]:
    return [line.split() for line in LIST.read_text("utf-8").splitlines()]


@functools.cache
def _imported(path: Path, packages: tuple[str, ...]) -> list[Path]:
    names: list[str] = []
    for package, parts, module in _IMPORT.findall(path.read_text("utf-8")):
        names += [module] if module else [package, *(f"{package}.{part}" for part in _WORD.findall(parts))]
    modules = [CHECKOUT.joinpath(*name.split(".")) for name in names if name.split(".")[0] in packages]
    files = (file for module in modules for file in (module.with_suffix(".py"), module / "__init__.py"))
    return list(filter(Path.is_file, files))


@functools.cache
def _strings(path: Path) -> frozenset[str]:
    constants = (node.value for node in _nodes(path) if isinstance(node, ast.Constant))
    return frozenset(value for value in constants if isinstance(value, str))


@functools.cache
def _functions(path: Path) -> frozenset[str]:
    """Return the names of the functions of a module as names of guards."""
    return frozenset(
        node.name.replace("_", "-") for node in _nodes(path) if isinstance(node, ast.FunctionDef)
    )


@functools.cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_bytes())))


def main() -> None:
    """Print the node ids of all that may be left out, or write down the digests."""
    if sys.argv[1:] == ["--write"]:
        lines = [
            f"{' '.join([_digest(file, names), file, *sorted(names)])}\n" for _, file, *names in _lines()
        ]
        LIST.write_text("".join(sorted(lines, key=lambda line: line.split()[1])), "utf-8")
    else:
        print(*(one for _, file, *names in _lines() for one in _nodes_of(file, names)))


if __name__ == "__main__":
    main()
