"""A survey of a store: the directories at its top, and the kinds of some files below them."""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from policyfs.cli.common.looking import opened, start_sniffer
from policyfs.errors import PolicyfsError

_NAMES: Final = 5000
"""The maximum number of names that the survey reads below one directory at the top of the store."""
_EACH: Final = 2
"""The maximum number of files with the same extension that are sniffed below one directory at the top of the
store."""
_MEDIA: Final = frozenset({"image", "video", "audio"})


@dataclass(slots=True)
class Directory:
    """A directory at the top of a store. files: the number of files found below it. more: True if some names
    below were not read. kinds: the number of sniffed files of each kind. examples: a path for each."""

    name: str
    files: int = 0
    more: bool = False
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def media(self) -> frozenset[str]:
        """The sorts of media (image, video, audio) of the sniffed files. Empty if one is no media."""
        found = frozenset(kind.partition("/")[0] for kind in self.kinds if kind != "inode/x-empty")
        return found if found and found <= _MEDIA else frozenset()

    def told(self) -> str:
        """Return a text with the number of files in the directory and their most frequent kinds."""
        count = f"{'more than ' if self.more else ''}{self.files:,} file{'' if self.files == 1 else 's'}"
        kinds = ", ".join(kind for kind, _ in self.kinds.most_common(4))
        return f"{count}: {kinds}" if kinds else count


def survey(store: str) -> list[Directory]:
    """Return the directories at the top of a store, with the results of the survey. Raises PolicyfsError.
    Leave out ``lost+found``, and names with a comma or with characters that are not printable."""
    try:
        with os.scandir(store) as listed:
            names = sorted(entry.name for entry in listed if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        raise PolicyfsError(f"cannot read the store {store}: {error.strerror}") from error
    found = []
    samples: list[tuple[Directory, str]] = []
    for name in names:
        if name.isprintable() and name != "lost+found" and "," not in name:
            directory = Directory(name)
            samples += [(directory, path) for path in _files(directory, os.path.join(store, name))]
            found.append(directory)
    _sniff(store, samples)
    return found


def _files(directory: Directory, top: str) -> list[str]:
    """Count the files below a directory. Return the paths of the files to sniff."""
    chosen: list[str] = []
    counts: Counter[str] = Counter()
    todo, names = deque([top]), 0
    while todo:
        try:
            with os.scandir(todo.popleft()) as listed:
                for entry in listed:
                    names += 1
                    if names > _NAMES:
                        directory.more = True
                        return chosen
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        directory.files += 1
                        suffix = _suffix(entry.name)
                        counts[suffix] += 1
                        if counts[suffix] <= _EACH:
                            chosen.append(entry.path)
        except OSError:  # a directory that this user may not list, or that has gone: shown as "more than"
            directory.more = True
    return chosen


def _suffix(name: str) -> str:
    """Return the extension of a file's name in lower case, such as ``.jpg``, or an empty text."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if len(suffix) <= 9 else ""


def _sniff(store: str, samples: list[tuple[Directory, str]]) -> None:
    """Sniff some files for their directories, in a confined worker."""
    if not samples:
        return
    for (directory, path), kind in zip(samples, _kinds([path for _, path in samples]), strict=True):
        if kind is not None:
            directory.kinds[kind] += 1
            directory.examples.setdefault(kind, "/" + os.path.relpath(path, store))


def _kinds(paths: list[str]) -> list[str | None]:
    import trio

    sniffer = start_sniffer()

    async def ask() -> list[str | None]:
        found: list[str | None] = []
        for path in paths:
            try:
                with opened(path) as fd:
                    found.append(await sniffer.kind_of_fd(fd))
            except PolicyfsError:
                found.append(None)
        await sniffer.aclose()
        return found

    return trio.run(ask)
