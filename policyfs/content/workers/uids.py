"""Unused uids for the workers of one daemon.

A process may signal, stop, limit and trace other processes of the same uid. So a worker shares its uid
neither with other programs (many run as ``nobody``) nor with other workers. The uids come from
domain.WORKER_UIDS. Each daemon takes a block of this range; when the daemon starts, the block must be unused.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from policyfs.domain import WORKER_UIDS
from policyfs.linux import procfs

BLOCK: Final = 32
"""The number of uids of one daemon. A daemon never has so many workers, even if killed workers do not end."""
_TRIES: Final = 64
_BEGINNING: Final = 4096
"""Bytes of /proc/PID/status that are read: `Uid:` is its ninth line, after a name of 64 bytes at most."""
_COMMON: Final = 65_536
"""The uids of users and services are below this number, and so are 65534 (nobody) and 65535."""
_UNUSED: Final = range(60_706, 61_184)
"""Uids for a namespace that ends at _COMMON, as of LXC: neither systemd nor Debian gives these to anybody
(systemd's UIDS-GIDS.md)."""
_SUBORDINATE: Final = ("/etc/subuid", "/etc/subgid")


class NoUidsError(Exception):
    """The error if no block of uids is free. The message has the reason."""


def free_block(apps: Sequence[tuple[int, int]] = ()) -> int:
    """Return the first of BLOCK uids (and gids of the same numbers) without accounts or processes.

    apps: ranges of uids (first, last) that the policy names. If this user namespace lacks WORKER_UIDS, the
    block comes from the highest uids of the namespace, or from _UNUSED. Raises NoUidsError, OSError.
    """
    used = _uids_of_processes()
    taken = [*apps, *(one for path in _SUBORDINATE for one in _subordinate(Path(path)))]
    for first in _candidates(taken):
        block = range(first, first + BLOCK)
        is_taken = _lowest(taken, first) is not None
        if not is_taken and used.isdisjoint(block) and not any(map(_has_account, block)):
            return first
    raise NoUidsError(
        f"the workers of policyfs need {BLOCK} free uids in a row: without accounts, processes, subordinate "
        f"ids (/etc/subuid) or names in the policy; none were found in {WORKER_UIDS.start}-"
        f"{WORKER_UIDS.stop - 1}, at the top of the uids of this user namespace, or "
        f"(if it ends at {_COMMON}) in {_UNUSED.start}-{_UNUSED.stop - 1}"
    )


def _candidates(taken: Sequence[tuple[int, int]]) -> Iterator[int]:
    mapped = _mapped("uid_map"), _mapped("gid_map")
    choice = random.SystemRandom()  # two daemons that start together should not choose the same block
    for _ in range(_TRIES):
        first = choice.randrange(WORKER_UIDS.start, WORKER_UIDS.stop, BLOCK)
        if all(any(first in ids for ids in each) for each in mapped):
            yield first
    for ids in mapped[0]:
        first, tries = min(ids.stop, WORKER_UIDS.start) - ids.stop % BLOCK - BLOCK, _TRIES
        while first > max(ids.start, _COMMON) and tries:
            if (low := _lowest(taken, first)) is not None:  # two users' subordinate uids are 4,096 blocks
                first = low - BLOCK
                continue
            if any(first in other and first + BLOCK <= other.stop for other in mapped[1]):
                yield first
            first, tries = first - BLOCK, tries - 1
    if max(ids.stop for each in mapped for ids in each) <= _COMMON:
        for first in range(_UNUSED.start, _UNUSED.stop - BLOCK + 1, BLOCK):
            if all(any(first in ids and first + BLOCK <= ids.stop for ids in each) for each in mapped):
                yield first


def _lowest(taken: Sequence[tuple[int, int]], first: int) -> int | None:
    return min((low for low, high in taken if low < first + BLOCK and high >= first), default=None)


def _subordinate(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the ranges (first, last) that users may give to their containers (subuid(5))."""
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                _, first, count = line.split(":")
                yield int(first), int(first) + int(count) - 1


def _mapped(name: str) -> list[range]:
    """Return the ids that this user namespace has. name: ``uid_map`` or ``gid_map`` (user_namespaces(7))."""
    lines = Path("/proc/self", name).read_text(encoding="ascii").splitlines()
    rows = [[int(word) for word in line.split()] for line in lines]
    return [range(first, first + count) for first, _, count in rows]


def _uids_of_processes() -> set[int]:
    found: set[bytes] = set()
    root = str(procfs.root())
    for name in os.listdir(root):  # in few steps, since there may be thousands of processes
        if name.isdigit():
            try:
                fd = os.open(f"{root}/{name}/status", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    status = os.read(fd, _BEGINNING)
                finally:
                    os.close(fd)
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.add(status.partition(b"\nUid:")[2].partition(b"\n")[0])
    return {int(uid) for uids in found for uid in uids.split()}


def _has_account(number: int) -> bool:
    with contextlib.suppress(KeyError):
        pwd.getpwuid(number)
        return True
    with contextlib.suppress(KeyError):
        grp.getgrgid(number)
        return True
    return False
