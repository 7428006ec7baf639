"""The texts of the policies that a trail names. They are kept beside the segments, and only root reads them.

Each policy is a directory ``policies/DIGEST`` with the policy's YAML files, unchanged, so that commands can
check and mount them. The file ``policies/in-force`` names the policy in force and the previous one.

INVARIANT: a text is saved before the first record that names its policy is written. It is removed only after
the last segment with such a record was removed (writer.py, prune).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.journal.segments import TrailDirectory

POLICIES: Final = "policies"
_POINTER: Final = "in-force"
_NEW: Final = ".new"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NAME_BYTES: Final = 240
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PolicyText(NamedTuple):
    """The texts of one policy. files: pairs of a file name in the policy's directory, and the bytes."""

    digest: str
    files: tuple[tuple[str, bytes], ...]


def policy_text(digest: str, sources: Iterable[tuple[str, bytes]]) -> PolicyText:
    """Return the texts of a policy, each with a unique file name. sources: pairs of path and bytes."""
    files: dict[str, bytes] = {}
    for number, (path, text) in enumerate(sources, start=1):
        name = os.path.basename(path)
        name = name if name.endswith(".yaml") else f"{name}.yaml"
        if len(os.fsencode(name)) > _NAME_BYTES or name in files:
            name = f"{number}.yaml"
        files[name] = text
    return PolicyText(digest, tuple(sorted(files.items())))


def kept_digests(directory: Path) -> list[str]:
    """Return the digests of the policies that are kept in a mount's trail directory."""
    try:
        names = os.listdir(directory / POLICIES)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if _DIGEST.fullmatch(name))


def read_policy(directory: Path, digest: str) -> list[tuple[str, bytes]]:
    """Read the files of a kept policy, as pairs of path and bytes. Raises OSError."""
    place = directory / POLICIES / digest
    return [(str(place / name), (place / name).read_bytes()) for name in sorted(os.listdir(place))]


def read_pointer(directory: Path) -> tuple[str, str]:
    """Return the digests of the policy in force and of the previous policy. Empty if unknown."""
    try:
        words = (directory / POLICIES / _POINTER).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return "", ""
    known = [word if _DIGEST.fullmatch(word) else "" for word in words] + ["", ""]
    return known[0], known[1]


class PolicyTexts:
    """The policy texts of one chain. Only one thread may use it, as with the writer. Errors are OSError."""

    def __init__(self, directory: TrailDirectory) -> None:
        self._directory = directory
        self._texts: dict[str, PolicyText] = {}
        """The texts of the policy in force, of the previous one, and of policies that are not saved yet."""
        self._unsaved: set[str] = set()
        self._pointer = ("", "")
        self._named: dict[str, int] = {}
        self.oldest_unknown = 0
        """The number of the newest segment when this daemon began.

        No segment up to this one was searched for names of policies."""

    def keep(self, policy: PolicyText) -> None:
        """Add a text, which must be saved before the next record is written."""
        self._texts[policy.digest] = policy
        self._unsaved.add(policy.digest)

    def in_force(self, digest: str, previous: str) -> None:
        """Set the policy in force and the previous one. The texts of both stay."""
        self._pointer = (digest, previous)
        self._unsaved.add(_POINTER)

    def again(self) -> None:
        """Make save() write all texts again, because the directory was replaced."""
        self._unsaved.update(self._texts)
        if self._pointer[0]:
            self._unsaved.add(_POINTER)

    def told(self, text: PolicyText, records: Sequence[dict[str, object]], previous: str) -> None:
        """Add the text of a policy that *records* name.

        previous: the digest of the policy before it, if these records put a new policy in force.
        """
        self.keep(text)
        if any(fields.get("policy") == text.digest for fields in records):
            self.in_force(text.digest, previous)

    def named(self, digest: str, segment: int) -> None:
        """Note that a record in segment number *segment* names the policy *digest*."""
        self._named[digest] = segment

    @property
    def is_unsaved(self) -> bool:
        """True if a text, or the file ``in-force``, is not saved yet."""
        return bool(self._unsaved)

    def save(self) -> None:
        """Write all unsaved texts to the disk."""
        if not self._unsaved:
            return
        place = self._open(make=True)
        try:
            for digest in sorted(self._unsaved - {_POINTER}):
                _save_policy(place, self._texts[digest])
            if _POINTER in self._unsaved:
                _write_at(place, _NEW + _POINTER, " ".join(self._pointer).encode() + b"\n", os.O_TRUNC)
                os.rename(_NEW + _POINTER, _POINTER, src_dir_fd=place, dst_dir_fd=place)
            os.fsync(place)
        finally:
            os.close(place)
        self._unsaved.clear()
        self._texts = {digest: text for digest, text in self._texts.items() if digest in self._pointer}

    def prune(self, oldest: int) -> None:
        """Remove the texts that no record in segment *oldest* or in a later one names."""
        try:
            place = self._open(make=False)
        except FileNotFoundError:
            return
        try:
            for name in os.listdir(place):
                needed = name in self._pointer or name in self._unsaved or not _DIGEST.fullmatch(name)
                if not needed and self._named.get(name, self.oldest_unknown) < oldest:
                    _remove(place, name)
                    self._named.pop(name, None)
        finally:
            os.close(place)

    def _open(self, *, make: bool) -> int:
        with contextlib.suppress(FileExistsError):
            if make:
                os.mkdir(POLICIES, 0o700, dir_fd=self._directory.fd)
        return os.open(POLICIES, _DIRECTORY, dir_fd=self._directory.fd)


def _save_policy(place: int, policy: PolicyText) -> None:
    if _saved_files(place, policy.digest) == policy.files:
        return
    for name in (_NEW, policy.digest):
        _remove(place, name)
    os.mkdir(_NEW, 0o700, dir_fd=place)
    new = os.open(_NEW, _DIRECTORY, dir_fd=place)
    try:
        for name, text in policy.files:
            _write_at(new, name, text, os.O_EXCL)
        os.fsync(new)
    finally:
        os.close(new)
    os.rename(_NEW, policy.digest, src_dir_fd=place, dst_dir_fd=place)


def _saved_files(place: int, digest: str) -> tuple[tuple[str, bytes], ...] | None:
    try:
        there = os.open(digest, _DIRECTORY, dir_fd=place)
    except OSError:
        return None
    try:
        return tuple((name, _read_at(there, name)) for name in sorted(os.listdir(there)))
    except OSError:
        return None
    finally:
        os.close(there)


def _read_at(place: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    with open(fd, "rb") as file:
        return file.read()


def _write_at(place: int, name: str, data: bytes, flags: int) -> None:
    flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=place), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove(place: int, name: str) -> None:
    """Remove a policy's directory with its files, if the directory exists."""
    try:
        there = os.open(name, _DIRECTORY, dir_fd=place)
    except FileNotFoundError:
        return
    try:
        for file in os.listdir(there):
            os.unlink(file, dir_fd=there)
    finally:
        os.close(there)
    os.rmdir(name, dir_fd=place)
