"""Copies of the policies that records of a trail name, in the trail directory, for root only.

``policies/DIGEST`` has a policy's YAML files, unchanged, so that commands can check and mount them.
``policies/in-force`` names the policy in force and the previous one. INVARIANT: a text is saved before the
first record that names it is written, and removed only after all segments with such records (prune).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.journal.files.segments import DIRECTORY, REGULAR, TrailDirectory, synced_file, write_file

POLICIES: Final = "policies"
_POINTER: Final = "in-force"
_NEW: Final = ".new"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NAME_BYTES: Final = 240


class PolicyText(NamedTuple):
    """The text of one policy: its SHA-256, and for each YAML file its name in the copy and its bytes."""

    digest: str
    files: tuple[tuple[str, bytes], ...]


def policy_text(digest: str, sources: Iterable[tuple[str, bytes]]) -> PolicyText:
    """Return a policy's text, with a unique name for each file. sources: paths and bytes of YAML files."""
    files: dict[str, bytes] = {}
    for number, (path, text) in enumerate(sources, start=1):
        name = os.path.basename(path)
        name = name if name.endswith(".yaml") else f"{name}.yaml"
        numbered = (f"{other}.yaml" for other in itertools.count(number))
        while len(os.fsencode(name)) > _NAME_BYTES or name in files:
            name = next(numbered)
        files[name] = text
    return PolicyText(digest, tuple(sorted(files.items())))


def kept_digests(directory: Path) -> list[str]:
    """Return the digests of the policies with a saved text in a trail directory, sorted."""
    try:
        names = os.listdir(directory / POLICIES)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if _DIGEST.fullmatch(name))


def read_policy(directory: Path, digest: str) -> list[tuple[str, bytes]]:
    """Return the files of a policy's saved text, as pairs of path and bytes. Raises OSError."""
    place = directory / POLICIES / digest
    return [(str(place / name), (place / name).read_bytes()) for name in sorted(os.listdir(place))]


def read_pointer(directory: Path) -> tuple[str, str]:
    """Return the digests of the policy in force and of the previous one; empty if not known."""
    try:
        words = (directory / POLICIES / _POINTER).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return "", ""
    known = [word if _DIGEST.fullmatch(word) else "" for word in words] + ["", ""]
    return known[0], known[1]


class PolicyTexts:
    """The saved policies of one trail directory. Errors are OSError. Called only under the lock of the
    writer."""

    def __init__(self, directory: TrailDirectory) -> None:
        self._directory = directory
        self._texts: dict[str, PolicyText] = {}
        """By digest: the policy in force, the previous one, and those that are not saved yet."""
        self._unsaved: set[str] = set()
        self._pointer = ("", "")
        self._named: dict[str, int] = {}
        self.oldest_unknown = 0
        """The newest segment when this daemon began: which policies it and older ones name is not known."""

    def keep(self, policy: PolicyText) -> None:
        """Add the text of a policy. save() must write the text before the next record is written."""
        self._texts[policy.digest] = policy
        self._unsaved.add(policy.digest)

    def in_force(self, digest: str, previous: str) -> None:
        """Set the digests of the policy in force and of the previous policy. prune() keeps their texts."""
        self._pointer = (digest, previous)
        self._unsaved.add(_POINTER)

    def again(self) -> None:
        """Make save() write all texts again. Used if the trail directory was replaced."""
        self._unsaved.update(self._texts)
        if self._pointer[0]:
            self._unsaved.add(_POINTER)

    def told(self, text: PolicyText, records: Sequence[dict[str, object]], previous: str) -> None:
        """Add the text of a policy that *records* name. previous: the digest of the previous policy, if they
        say (or there are none, and it will be so next) that this one is in force."""
        self.keep(text)
        if not records or any(fields.get("policy") == text.digest for fields in records):
            self.in_force(text.digest, previous)

    def named(self, digest: str, segment: int) -> None:
        """Note that a record names the policy *digest*. segment: the number of the record's trail file."""
        self._named[digest] = segment

    @property
    def is_unsaved(self) -> bool:
        """True if the text of a policy, or the file ``in-force``, is not saved yet."""
        return bool(self._unsaved)

    def save(self) -> None:
        """Write to the disk all policies that are not saved yet, and the file ``in-force`` if it changed."""
        if not self._unsaved:
            return
        place = self._open(make=True)
        try:
            for digest in sorted(self._unsaved - {_POINTER}):
                _save_policy(place, self._texts[digest])
            pointer = " ".join(self._pointer).encode() + b"\n"
            if _POINTER in self._unsaved and not _has(place, _POINTER, pointer):
                write_file(place, _POINTER, pointer)
            os.fsync(place)
        finally:
            os.close(place)
        self._unsaved.clear()
        self._texts = {digest: text for digest, text in self._texts.items() if digest in self._pointer}

    def prune(self, oldest: int) -> None:
        """Remove the texts that no record names any more, as far as it is known. oldest: the oldest segment's
        number."""
        try:
            place = self._open(make=False)
        except FileNotFoundError:
            return
        try:
            for name in os.listdir(place):
                needed = name in self._pointer or name in self._unsaved or not _DIGEST.fullmatch(name)
                if not needed and self._named.get(name, self.oldest_unknown) < oldest:
                    shutil.rmtree(name, dir_fd=place)
                    self._named.pop(name, None)
        finally:
            os.close(place)

    def _open(self, *, make: bool) -> int:
        with contextlib.suppress(FileExistsError):
            if make:
                os.mkdir(POLICIES, 0o700, dir_fd=self._directory.fd)
        return os.open(POLICIES, DIRECTORY, dir_fd=self._directory.fd)


def _save_policy(place: int, policy: PolicyText) -> None:
    if _saved_files(place, policy.digest) == policy.files:
        return
    for name in (_NEW, policy.digest):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(name, dir_fd=place)
    os.mkdir(_NEW, 0o700, dir_fd=place)
    new = os.open(_NEW, DIRECTORY, dir_fd=place)
    try:
        for name, text in policy.files:
            with synced_file(new, name) as file:
                file.write(text)
        os.fsync(new)
    finally:
        os.close(new)
    os.rename(_NEW, policy.digest, src_dir_fd=place, dst_dir_fd=place)


def _saved_files(place: int, digest: str) -> tuple[tuple[str, bytes], ...] | None:
    try:
        there = os.open(digest, DIRECTORY, dir_fd=place)
    except OSError:
        return None
    try:
        return tuple((name, _read_at(there, name)) for name in sorted(os.listdir(there)))
    except OSError:
        return None
    finally:
        os.close(there)


def _has(place: int, name: str, data: bytes) -> bool:
    try:
        return _read_at(place, name) == data
    except OSError:
        return False


def _read_at(place: int, name: str) -> bytes:
    with open(os.open(name, REGULAR, dir_fd=place), "rb") as file:
        return file.read()
