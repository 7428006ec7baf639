"""Proofs of the tests: what must fail where a guard is missing, run when something about it has changed.

    python -m tests.support.machine.proofs           # prints the tests that are proofs
    python -m tests.support.machine.proofs --write   # writes down that they hold for the files of now

tests/proofs.txt has a line for each file of tests with proofs: a digest of what they hang on, the file, and
the names of the proofs. While the digest is the one of now, `make test` leaves them out; `make proofs` and
`make soak` run them all. They hang on the file, its conftest.py, and what it imports of tests/ and policyfs/;
on the modules of the guards that it names, and what these import of policyfs/, which is what they patch; on
the C sources, if one of these is their Python side or the file compiles them.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.machine.documents import CHECKOUT

LIST: Final = CHECKOUT / "tests/proofs.txt"
_LEADING_TO_C: Final = ("policyfs/kernel/bridge.py", "tests/support/machine/objects.py")
"""What hangs on one of these hangs on the C sources of the bridge."""


def settled() -> frozenset[str]:
    """Return the node ids, without parameters, of the proofs about which nothing has changed."""
    return frozenset(
        f"{file}::{name}" for digest, file, *names in _lines() if digest == _digest(file) for name in names
    )


def hangs_on(test: Path) -> set[Path]:
    """Return the files that the proofs of a file of tests hang on."""
    found = {test, *_imported(test, ("tests", "policyfs"))}
    found |= {above / "conftest.py" for above in test.parents if (above / "conftest.py").is_file()}
    for guards in _guards({name for words in _strings(test) for name in words.split(",")}):
        found |= {guards, *_imported(guards, ("policyfs",))}
    if found & {CHECKOUT / file for file in _LEADING_TO_C}:
        found |= {*(CHECKOUT / "policyfs/kernel").rglob("*.[ch]"), *test.parent.rglob("*.[ch]")}
    return found


def _guards(named: set[str]) -> Iterator[Path]:
    """Yield the modules of tests/attack that define a guard with one of these names, and those so named."""
    attacks = CHECKOUT / "tests/attack"
    for path in [*attacks.glob("guards*.py"), *attacks.glob("weakened.py")]:
        if named & {*_strings(path), *_functions(path)}:
            yield path
    for name in named - {"tests.attack.weakened"}:
        if name.startswith("tests.") and (path := CHECKOUT / f"{name.replace('.', '/')}.py").is_file():
            yield path


def _digest(file: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(hangs_on(CHECKOUT / file)):
        digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _lines() -> list[list[str]]:
    return [line.split() for line in LIST.read_text("utf-8").splitlines()]


def _imported(path: Path, packages: tuple[str, ...]) -> Iterator[Path]:
    names: list[str] = []
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        if name.split(".")[0] in packages:
            module = CHECKOUT.joinpath(*name.split("."))
            yield from filter(Path.is_file, (module.with_suffix(".py"), module / "__init__.py"))


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
    """Print the node ids of all proofs, or write down their digests."""
    if sys.argv[1:] == ["--write"]:
        lines = [f"{_digest(file)} {file} {' '.join(sorted(names))}\n" for _, file, *names in _lines()]
        LIST.write_text("".join(sorted(lines, key=lambda line: line.split()[1])), "utf-8")
    else:
        print(*(f"{file}::{name}" for _, file, *names in _lines() for name in names))


if __name__ == "__main__":
    main()
