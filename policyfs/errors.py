"""Error types and exit codes shared by all layers (layer 0)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

EXIT_OK: Final = 0
EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
EXIT_POLICY: Final = 3
EXIT_POLICY_TESTS: Final = 4
EXIT_INCOMPLETE: Final = 5

ERRNO_RANK: Final = {
    errno.ENOENT: 0,
    errno.EACCES: 1,
    errno.EPERM: 2,
    errno.EROFS: 3,
    errno.EXDEV: 4,
}
"""A rank for each errno: the less an errno reveals, the lower its rank. If several errnos are possible, the
app gets the errno with the lowest rank."""
CONTENT_REFUSED: Final = errno.EPERM
"""The errno of a request that is refused because of the content of a file."""


def by_rank(codes: Iterable[int]) -> list[int]:
    """Return errnos in the order in which they are chosen: the one that reveals least is the first."""
    return sorted(codes, key=lambda code: ERRNO_RANK.get(code, len(ERRNO_RANK)))


class PolicyfsError(Exception):
    """An error that the user can act on. The message gives the problem and the remedy."""

    exit_code: int = EXIT_REFUSED


class UsageError(PolicyfsError):
    """A wrong command line or argument."""

    exit_code = EXIT_USAGE


class UnreadableError(PolicyfsError):
    """The file or directory of a policy cannot be read. A later attempt may succeed."""

    exit_code = EXIT_POLICY


def errno_name(code: int) -> str:
    """Return the symbolic name of an errno (``EACCES``), or ``errno N`` if Python has no name for it."""
    return errno.errorcode.get(code, f"errno {code}")
