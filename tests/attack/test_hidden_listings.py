"""B5: what a listing and the numbers around it tell of names that are left out of it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from policyfs.linux import libc
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

GALLERY: Final = 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: hide, deny: [all], paths: "/*/hidden*/***", errno: ENOENT}}
"""
SEEN: Final = 30
HIDDEN: Final = [f"hidden-{sort}{number}" for number in range(SEEN) for sort in ("", "dir-")]
BY_NAME: Final = POLICY.replace('"/*/hidden*/***"', str([f"/*/{name}" for name in HIDDEN]))
"""The same without a pattern: the daemon decides on the other names at once (fs/access/path_answers.py)."""


ALLOW: Final = POLICY[POLICY.index("  - {id: all") :]
BY_EXCEPTION: Final = POLICY.replace(ALLOW, """\
  - {id: all, allow: [all], who: {app: any}, paths: "/***", unless: {path: "/*/hidden*/***"}}
""")
"""The same without a deny: the allow has an exception."""
BY_LETTER: Final = POLICY.replace(ALLOW, """\
  - {id: all, allow: [all], who: {app: any}, paths: ["/", "/*", "/*/*s*"]}
""")
"""The same without an exception: the names that are shown have an s."""


class Told(NamedTuple):
    """What an app learns of a directory. places: where each name stands (telldir); again: what is
    listed from each of these places on; numbers: of the directory itself and of the file system."""

    places: list[tuple[bytes, int]]
    again: list[list[bytes]]
    numbers: tuple[int, ...]


def furnish(store: Path) -> Path:
    """Two directories with the same names; in one there are hidden ones between them."""
    for place in ("plain", "full"):
        (store / place).mkdir()
        for number in range(SEEN):
            (store / place / f"seen-{number:02}").touch()
            if place == "full":
                (store / place / f"hidden-{number}").touch()
                (store / place / f"hidden-dir-{number}").mkdir()
        os.utime(store / place, (1, 1))
    return store


def _entries(fd: int) -> list[tuple[bytes, int]]:
    """Names from here on, each with its d_off (linux_dirent64)."""
    buffer = ctypes.create_string_buffer(4096)
    found = []
    while size := libc.getdents64(fd, buffer):
        raw, at = buffer.raw[:size], 0
        while at < size:
            length = int.from_bytes(raw[at + 16 : at + 18], "little")
            name = raw[at + 19 : raw.index(b"\0", at + 19)]
            found.append((name, int.from_bytes(raw[at + 8 : at + 16], "little")))
            at += length
    return found


def _learn(directory: str) -> Told:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    first = _entries(fd)
    again = []
    for _, place in first:
        os.lseek(fd, place, os.SEEK_SET)
        again.append(sorted(name for name, _ in _entries(fd)))
    os.close(fd)
    status = os.stat(directory)
    return Told(
        [(b"x" * len(name), place) for name, place in first],
        [[b"x" * len(name) for name in names] for names in again],
        (status.st_nlink, status.st_size, status.st_blocks),
    )


def told(mount: Mount) -> tuple[Told, Told]:
    """Of the directory with hidden names, and of the one without."""
    full, plain = (call_as(GALLERY, _learn, str(mount / name)) for name in ("full", "plain"))
    return full, plain


@pytest.mark.parametrize(
    "policy", [POLICY, BY_NAME, BY_EXCEPTION, BY_LETTER], ids=["pattern", "names", "exception", "letter"]
)
@pytest.mark.parametrize("options", first(1, [((),), (("--app", "gallery"),)]), ids=["shared", "app"])
def test_a_listing_has_no_gaps_where_names_are_hidden(
    mounts: Mounts, empty_store: Path, options, policy: str
) -> None:
    """Attack B5.3: Find hidden names by gaps in a listing, or by the directory's link count or size
    Guard: policyfs/fs/namespace/snapshots.py::Snapshots.take,
    policyfs/fs/namespace/lookup.py::Lookup.told
    Without: ::test_it_has_where_hidden_names_keep_their_places
    """
    full, plain = told(mounts.start(policy, furnish(empty_store), *options))
    assert full.places == plain.places
    assert full.again == plain.again
    assert len(full.places) == SEEN + 2
    assert full.numbers == plain.numbers == (1, 4096, 8)


def test_who_sees_all_is_told_the_true_numbers(mounts: Mounts, empty_store: Path) -> None:
    whole = POLICY[: POLICY.index("  - {id: hide")]
    full, plain = told(mounts.start(whole, furnish(empty_store)))
    assert (full.numbers[0], plain.numbers[0]) == (SEEN + 2, 2)


def test_it_has_where_hidden_names_keep_their_places(without, empty_store: Path) -> None:
    full, plain = told(without("hidden-keep-places,hidden-are-counted", POLICY, furnish(empty_store)))
    assert full.places != plain.places
    assert (full.numbers[0], plain.numbers[0]) == (SEEN + 2, 2)
