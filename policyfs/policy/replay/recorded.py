"""Requests as a trail has recorded them: their facts, and the operations that they needed."""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.exceptions import ALWAYS

ALL_TYPES: Final = (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)
_FILE: Final = (FileType.REGULAR,)
_NAMED: Final = (FileType.REGULAR, FileType.SYMLINK)

_OPEN: Final = re.compile(r"open\((O_RDONLY|O_WRONLY|O_RDWR)((?:\|[A-Z_]+)*)\)")


class Cause(enum.Enum):
    """The cause of a recorded denial.

    POLICY: the rules, or any cause that is not in this list. CONTENT: a rule of redaction or content.
    SPECIAL: fifos, sockets, devices. MOUNT: no rule is named, and a note tells why a mount refused what the
    rules perhaps allowed. RESOURCE: such as no disk space.
    """

    NONE = "none"
    POLICY = "policy"
    CONTENT = "content"
    SPECIAL = "special"
    MOUNT = "mount"
    RESOURCE = "resource"


class Recorded(NamedTuple):
    """A request and its answer, as the trail has recorded them, without paths.

    mounted: the app of an app mount; None: a shared mount. rules: those that made the answer; for a denial
    only those that deny. would_deny: rules in monitor mode. view: the label of an open's view. digest,
    exceptions: the policy that answered, and its exceptions in force then. at_ns: an instant with the same
    exceptions. monitor: True with --monitor; None: not known.
    """

    app: str | None
    uid: int
    mounted: str | None
    operation: str
    syscall: str
    allowed: bool
    errno: int
    cause: Cause
    rules: tuple[str, ...]
    would_deny: tuple[str, ...] = ()
    kind: str | None = None
    view: str = ""
    digest: str = ""
    exceptions: tuple[str, ...] = ()
    at_ns: int = ALWAYS
    monitor: bool | None = None


class Demand(NamedTuple):
    """The possible meanings of a recorded request.

    ops: sets of operations of which it needed one. creates: True if it made the file. empties: True if it
    first emptied the file. move: ``rename``, ``exchange`` or ``link``, else empty.
    """

    ops: tuple[Op, ...]
    types: tuple[FileType, ...]
    creates: bool = False
    opens: bool = False
    empties: bool = False
    move: str = ""


class World(NamedTuple):
    """An assumption about all facts of a request that the trail has not recorded.

    replaced: the object that had the new name. hidden: for each policy, True if a directory above hides the
    path because of its owner. empty: True if the file was empty at the open.
    """

    ops: Op
    ftype: FileType
    facts: Facts
    replaced: tuple[FileType, Facts] | None
    hidden: tuple[bool, ...]
    empty: bool


_SEE: Final = (Op.SEE,)
_PLAIN: Final = {
    "lookup": Demand(_SEE, ALL_TYPES),
    "stat": Demand(_SEE, ALL_TYPES),
    "readlink": Demand(_SEE, (FileType.SYMLINK,)),
    "list": Demand(_SEE, (FileType.DIRECTORY,)),
    "access": Demand((*_SEE, Op.SEE | Op.READ, Op.SEE | Op.WRITE, Op.SEE | Op.READ | Op.WRITE), ALL_TYPES),
    "getxattr": Demand(_SEE, ALL_TYPES),
    "listxattr": Demand(_SEE, ALL_TYPES),
    "read": Demand((Op.SEE | Op.READ,), _FILE),
    "write": Demand((Op.SEE | Op.WRITE,), _FILE),
    "truncate": Demand((Op.SEE | Op.WRITE,), _FILE, opens=True),
    "attr": Demand((Op.SEE | Op.ATTR,), ALL_TYPES),
    "xattr": Demand((Op.SEE | Op.ATTR,), ALL_TYPES),
    "mkdir": Demand((Op.SEE | Op.CREATE,), (FileType.DIRECTORY,), creates=True),
    "mknod": Demand((Op.SEE | Op.CREATE,), _FILE, creates=True),
    "symlink": Demand((Op.SEE | Op.CREATE,), (FileType.SYMLINK,), creates=True),
    "unlink": Demand((Op.SEE | Op.DELETE,), _NAMED),
    "rmdir": Demand((Op.SEE | Op.DELETE,), (FileType.DIRECTORY,)),
    "rename": Demand(_SEE, ALL_TYPES, move="rename"),
    "link": Demand(_SEE, _NAMED, move="link"),
}

NO_DECISIONS: Final = frozenset({"release", "quarantine"})
"""Operations whose events record that a file or handle changed: no decisions."""


def demand_of(operation: str, syscall: str) -> Demand | None:
    """Return the possible meanings of a recorded request, or None if they are unknown."""
    if operation == "rename" and "EXCHANGE" in syscall:
        return _PLAIN["rename"]._replace(move="exchange")
    if operation not in {"open", "create"}:
        return _PLAIN.get(operation)
    flags = _OPEN.fullmatch(syscall)
    if flags is None:
        return None
    ops = Op.SEE
    if flags[1] != "O_WRONLY":
        ops |= Op.READ
    if operation == "create":
        return Demand((ops | Op.CREATE | Op.WRITE,), _FILE, creates=True, opens=True, empties=True)
    empties = "|O_TRUNC" in flags[2]
    if flags[1] != "O_RDONLY" or empties:
        ops |= Op.WRITE
    return Demand((ops,), _FILE, opens=True, empties=empties)
