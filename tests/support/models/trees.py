"""Trees of files with everything that copying tools must carry over, and what a tree holds.

Functions here run in children with plain rights (call_as), natively and below a mount.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SMALL_FILES: Final = 63
_OLD_NS: Final = 1_234_567_890_123_456_789


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name is: type and permission bits, size, time of change in ns, bytes or target.

    links: the names of the same inode within the tree, sorted. xattrs: those of apps.
    """

    mode: int
    size: int
    mtime_ns: int
    digest: str
    links: tuple[bytes, ...]
    xattrs: tuple[tuple[str, bytes], ...]


def make_tree(root: Path, seed: int = 7) -> None:
    """Fill an existing, empty directory; the same seed gives the same tree."""
    chance = random.Random(seed)
    top = os.fsencode(root)
    for number in range(_SMALL_FILES):
        directory = top + b"/d%d/e%d" % (number % 7, number % 3)
        os.makedirs(directory, exist_ok=True)
        _write(directory + b"/file %d.txt" % number, chance.randbytes(chance.randrange(9000)))
    _write(top + b"/big.bin", chance.randbytes((3 << 20) + 17))
    _write(top + b"/empty", b"")
    for name in (
        b"caf\xc3\xa9",
        b"not utf-8 \xff\xfe",
        b"new\nline",
        b"-dash",
        b"n" * 255,
        b" ",
        b"'q\"$(id)",
    ):
        _write(top + b"/" + name, name * 3)
    with open(top + b"/sparse", "wb") as file:
        file.truncate(5 << 20)
        file.seek(3 << 20)
        file.write(b"an island")
    os.makedirs(top + b"/" + b"/".join([b"deep" * 10] * 20))
    os.mkdir(top + b"/hollow")
    os.symlink("big.bin", top + b"/to-big")
    os.symlink("/nowhere/at/all", top + b"/dangling")
    os.symlink(b"t" * 3000, top + b"/long-target")
    os.link(top + b"/big.bin", top + b"/d0/big again")
    os.link(top + b"/big.bin", top + b"/d1/big once more")
    _write(top + b"/tagged", b"with an attribute")
    os.setxattr(top + b"/tagged", "user.note", b"\0a value\xff")
    _write(top + b"/run.sh", b"#!/bin/sh\necho ran\n")
    for name, mode in ((b"run.sh", 0o755), (b"empty", 0o400), (b"tagged", 0o640), (b"hollow", 0o1777)):
        os.chmod(top + b"/" + name, mode)
    for number, (directory, names, files) in enumerate(os.walk(top, topdown=False)):
        for name in files + names:
            path = os.path.join(directory, name)
            os.utime(path, ns=(_OLD_NS, _OLD_NS + number), follow_symlinks=False)


def alter_tree(tree: Path) -> None:
    """Change a tree that make_tree() made: one file less, one more, one changed, one renamed."""
    (tree / "d0" / "e0" / "file 0.txt").unlink()
    (tree / "added").write_bytes(os.urandom(100_000))
    with (tree / "big.bin").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed in the middle")
    (tree / "hollow").rename(tree / "renamed")


def _write(path: bytes, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def inventory(root: Path, *, times: bool = True) -> dict[bytes, Entry]:
    """Everything below a directory, by path relative to it. times: False leaves mtimes out."""
    top = os.fsencode(root)
    paths: list[bytes] = []
    for directory, names, files in os.walk(top):
        paths += [os.path.join(directory, name) for name in names + files]
    stats = {path: os.lstat(path) for path in paths}
    same: dict[int, list[bytes]] = {}
    for path, found in stats.items():
        same.setdefault(found.st_ino, []).append(os.path.relpath(path, top))
    return {
        os.path.relpath(path, top): _entry(path, found, same[found.st_ino], times)
        for path, found in stats.items()
    }


def _entry(path: bytes, found: os.stat_result, links: list[bytes], times: bool) -> Entry:
    is_file, is_link = stat.S_ISREG(found.st_mode), stat.S_ISLNK(found.st_mode)
    data = os.readlink(path) if is_link else b""
    xattrs: list[tuple[str, bytes]] = []
    if is_file:
        with open(path, "rb") as file:
            data = file.read()
        names = [name for name in os.listxattr(path) if name.startswith("user.")]
        xattrs = sorted((name, os.getxattr(path, name)) for name in names)
    return Entry(
        mode=found.st_mode,
        size=found.st_size if is_file or is_link else 0,
        mtime_ns=found.st_mtime_ns if times else 0,
        digest=hashlib.sha256(data).hexdigest(),
        links=tuple(sorted(links)) if is_file else (),
        xattrs=tuple(xattrs),
    )


def differences(one: dict[bytes, Entry], other: dict[bytes, Entry]) -> list[str]:
    """What is not alike in two inventories, in words; empty if they are the same."""
    found = [f"only on one side: {path!r}" for path in sorted(one.keys() ^ other.keys())]
    for path in sorted(one.keys() & other.keys()):
        for field in Entry.__slots__:
            left, right = getattr(one[path], field), getattr(other[path], field)
            if left != right:
                found.append(f"{path!r}: {field} {left!r} != {right!r}")
    return found


MODULES: Final = 24


def make_c_project(root: Path) -> None:
    """A program of many small parts, a static library and a generated header, built by make."""
    (root / "include").mkdir()
    (root / "src").mkdir()
    declarations = "".join(f"int part_{n}(int);\n" for n in range(MODULES))
    (root / "include" / "parts.h").write_text(f"#pragma once\n{declarations}")
    for n in range(MODULES):
        call = f"part_{n + 1}(x + {n})" if n + 1 < MODULES else "x"
        source = f'#include "parts.h"\n#include "build.h"\nint part_{n}(int x) {{ return {call} + STEP; }}\n'
        (root / "src" / f"part_{n}.c").write_text(source)
    (root / "main.c").write_text(
        '#include <stdio.h>\n#include "parts.h"\nint main(void) { printf("%d\\n", part_0(0)); return 0; }\n'
    )
    (root / "Makefile").write_text(
        "PARTS := $(patsubst src/%.c,obj/%.o,$(wildcard src/*.c))\n"
        "CFLAGS := -O1 -Wall -Werror -MMD -Iinclude -Iobj\n"
        "program: obj/main.o libparts.a\n\t$(CC) -o $@ $^\n"
        "libparts.a: $(PARTS)\n\trm -f $@\n\t$(AR) rcs $@ $^\n"
        "obj/build.h: Makefile\n\tmkdir -p obj\n\techo '#define STEP 1' > $@.new\n\tmv $@.new $@\n"
        "obj/main.o: main.c obj/build.h\n\t$(CC) $(CFLAGS) -c -o $@ $<\n"
        "obj/%.o: src/%.c obj/build.h\n\t$(CC) $(CFLAGS) -c -o $@ $<\n"
        "clean:\n\trm -rf obj libparts.a program\n"
        "-include $(wildcard obj/*.d)\n"
    )


PROGRAM_PRINTS: Final = b"%d\n" % (sum(range(MODULES - 1)) + MODULES)
"""What the built program writes."""
