"""A program that changes a tree in all ways, and knows what the tree must be: each change is made once.

    python3 tree_changes.py DIRECTORY SEED PAUSE_S

It works, with a pause after each change, until its standard input has a line, then prints the failed calls,
the number of calls, the longest in seconds, and what differs from its model, as JSON. It imports nothing of
policyfs: it runs as an app.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time
from collections.abc import Callable
from typing import Any

DIRECTORY = "directory"
LINK = b"symlink to "


class Changes:
    """The changes, and the model: content by name; names of one file share one bytearray."""

    def __init__(self, top: str, seed: int) -> None:
        self.top, self.dice = top, random.Random(seed)
        self.files: dict[str, bytearray] = {}
        self.links: dict[str, str] = {}
        self.directories: set[str] = set()
        self.open: list[tuple[int, bytearray]] = []
        self.attributes: dict[int, set[str]] = {}
        self.failed: list[str] = []
        self.calls, self.worst, self.number = 0, 0.0, 0
        os.chdir(top)

    def call(self, function: Callable[..., Any], *arguments: Any, **names: Any) -> Any:
        began = time.monotonic()
        self.calls += 1
        try:
            return function(*arguments, **names)
        except OSError as error:
            self.failed.append(f"{function.__name__} {arguments} {names}: {error!r}")
            raise
        finally:
            self.worst = max(self.worst, time.monotonic() - began)

    def new_name(self) -> str:
        self.number += 1
        above = self.dice.choice(["", *(f"{one}/" for one in self.directories)])
        return f"{above}{self.number}" + "n" * self.dice.choice((0, 0, 0, 120))

    def some(self) -> str:
        return self.dice.choice(list(self.files))

    def write_all(self, fd: int, data: bytes, at: int) -> None:
        while data:
            done = self.call(os.pwrite, fd, data, at)
            data, at = data[done:], at + done

    def make(self) -> None:
        name, data = self.new_name(), os.urandom(self.dice.choice((0, 10, 5000, 200_000)))
        fd = self.call(os.open, name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        self.write_all(fd, data, 0)
        self.files[name] = bytearray(data)
        if self.dice.random() < 0.3:
            self.open.append((fd, self.files[name]))
        else:
            if self.dice.random() < 0.1:
                self.call(os.fsync, fd)
            self.call(os.close, fd)

    def append(self) -> None:
        name, data = self.some(), os.urandom(self.dice.choice((1, 3000)))
        fd = self.call(os.open, name, os.O_WRONLY | os.O_APPEND)
        assert self.call(os.write, fd, data) == len(data)
        self.call(os.close, fd)
        self.files[name] += data

    def overwrite(self) -> None:
        if not self.open:
            return
        fd, content = self.dice.choice(self.open)
        at, data = self.dice.randrange(len(content) + 1), os.urandom(500)
        self.write_all(fd, data, at)
        content[at : at + len(data)] = data
        if self.dice.random() < 0.3:
            size = self.dice.randrange(len(content) + 1)
            self.call(os.ftruncate, fd, size)
            del content[size:]
        assert self.call(os.pread, fd, 1 << 22, 0) == content, "an open file has other bytes"
        assert self.call(os.fstat, fd).st_size == len(content), "an open file has another size"

    def close(self) -> None:
        if len(self.open) > 8:
            fd, content = self.open.pop(self.dice.randrange(len(self.open)))
            assert self.call(os.pread, fd, 1 << 22, 0) == content, "an open file has other bytes"
            self.call(os.close, fd)

    def rename(self) -> None:
        old, new = self.some(), self.dice.choice((self.new_name(), self.some()))
        self.call(os.rename, old, new)
        if self.files[old] is not self.files.get(new):  # of two names of one file both stay
            self.files[new] = self.files.pop(old)

    def save(self) -> None:
        """Save as an editor does."""
        name, data, beside = self.some(), os.urandom(700), self.new_name()
        fd = self.call(os.open, beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.write_all(fd, data, 0)
        self.call(os.close, fd)
        self.call(os.rename, beside, name)
        self.files[name] = bytearray(data)

    def unlink(self) -> None:
        for _ in range((len(self.files) + 189) // 200):  # none of ten; beyond 600, more than are made
            name = self.some()
            self.call(os.unlink, name)
            del self.files[name]

    def link(self) -> None:
        old, new = self.some(), self.new_name()
        self.call(os.link, old, new)
        self.files[new] = self.files[old]

    def symlink(self) -> None:
        name = self.new_name()
        self.call(os.symlink, f"to{self.number}", name)
        self.links[name] = f"to{self.number}"

    def unlink_symlink(self) -> None:
        if len(self.links) > 5:
            name = self.dice.choice(list(self.links))
            self.call(os.unlink, name)
            del self.links[name]

    def mkdir(self) -> None:
        if len(self.directories) < 8:
            self.number += 1
            self.call(os.mkdir, f"d{self.number}", 0o750)
            self.directories.add(f"d{self.number}")

    def move_directory(self) -> None:
        if not self.directories:
            return
        self.number += 1
        old, new = self.dice.choice(list(self.directories)), f"e{self.number}"
        self.call(os.rename, old, new)
        self.directories = self.directories - {old} | {new}
        for known in (self.files, self.links):
            for name in [one for one in known if one.startswith(old + "/")]:
                known[new + name[len(old) :]] = known.pop(name)  # type: ignore[attr-defined, assignment]

    def rmdir(self) -> None:
        empty = [one for one in self.directories if not any(
            name.startswith(one + "/") for name in [*self.files, *self.links])]  # fmt: skip
        if empty:
            self.call(os.rmdir, empty[0])
            self.directories.discard(empty[0])

    def attribute(self) -> None:
        name = self.some()
        self.call(os.chmod, name, self.dice.choice((0o600, 0o644)))
        self.call(os.utime, name, ns=(10**18 + self.number, 10**18 + 2 * self.number))
        assert self.call(os.stat, name).st_mtime_ns == 10**18 + 2 * self.number, "the time was not set"
        try:
            os.setxattr(name, "user.one", b"1")
        except OSError:
            return
        self.call(os.removexattr, name, "user.one")

    def truncate(self) -> None:
        name = self.some()
        size = self.dice.randrange(len(self.files[name]) + 1)
        self.call(os.truncate, name, size)
        del self.files[name][size:]

    def read(self) -> None:
        name = self.some()
        with open(name, "rb", buffering=0) as file:
            assert self.call(file.read) == self.files[name], "a file has other bytes"

    def step(self) -> None:
        self.dice.choice((
            self.make, self.make, self.append, self.overwrite, self.close, self.rename, self.save,
            self.unlink, self.link, self.symlink, self.unlink_symlink, self.mkdir, self.move_directory,
            self.rmdir, self.attribute, self.truncate, self.read,
        ))()  # fmt: skip

    def found(self) -> dict[str, bytes | str]:
        seen: dict[str, bytes | str] = {}
        for above, directories, names in os.walk("."):
            for name in directories:
                seen[os.path.relpath(f"{above}/{name}")] = DIRECTORY
            for name in names:
                path = os.path.relpath(f"{above}/{name}")
                if os.path.islink(path):
                    seen[path] = LINK + os.readlink(path).encode()
                else:
                    with open(path, "rb") as file:
                        seen[path] = file.read()
        return seen

    def differences(self) -> list[str]:
        wanted: dict[str, bytes | str] = {name: bytes(data) for name, data in self.files.items()}
        wanted |= {name: LINK + target.encode() for name, target in self.links.items()}
        wanted |= dict.fromkeys(self.directories, DIRECTORY)
        seen = self.found()
        return sorted(name for name in wanted.keys() | seen.keys() if wanted.get(name) != seen.get(name))


def main() -> None:
    changes = Changes(sys.argv[1], int(sys.argv[2]))
    for _ in range(5):
        changes.make()
    print("ready", flush=True)
    try:
        while not select.select([sys.stdin], [], [], float(sys.argv[3]))[0]:
            changes.step()
    except Exception as error:
        changes.failed.append(repr(error))
    for fd, content in changes.open:
        if os.pread(fd, 1 << 22, 0) != content:
            changes.failed.append("an open file has other bytes at the end")
    print(json.dumps([changes.failed[:5], changes.calls, changes.worst, changes.differences()]), flush=True)


if __name__ == "__main__":
    main()
