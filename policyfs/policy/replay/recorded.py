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
    """The cause of a denial that the trail has recorded.

    NONE: the request was not denied. POLICY: a rule denied the request, or no rule allowed it; also every
    cause that is not in this list. CONTENT: a rule of redaction or content made the request fail. SPECIAL:
    the mount refused to make a fifo, socket or device. MOUNT: no rule is named, and a note tells why a mount
    refused the request; the rules may have allowed it. RESOURCE: a resource, such as disk space, was missing.
    """

    NONE = "none"
    POLICY = "policy"
    CONTENT = "content"
    SPECIAL = "special"
    MOUNT = "mount"
    RESOURCE = "resource"


class Recorded(NamedTuple):
    """A request and its answer, as the trail has recorded them.

    The paths are not here: functions get the paths as separate arguments. mounted: the app of an app mount;
    None for a shared mount. rules: the rules that made the answer; for a denial only the rules that deny.
    would_deny: rules in monitor mode that would have denied the request.
    kind: the file's content kind, or None. view: the label of the app's view; empty if the request was not an
    open. digest: the digest of the policy that answered. exceptions: ids of this policy's exceptions (allow
    rules with an end date) in force at that time. at_ns: an instant at which the same exceptions were in
    force. monitor: True if the mount had --monitor; None if that is not known.
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
    """The possible meanings of a recorded request. The trail does not always tell the true meaning.

    ops: sets of operations; the request needed one of these sets. types: possible types of the file at the
    path. creates: True if the request made the file, so that the caller owns the file. opens: True if the
    request opened a file. empties: True if the request first emptied the file. move: ``rename``, ``exchange``
    or ``link``, else empty.
    """

    ops: tuple[Op, ...]
    types: tuple[FileType, ...]
    creates: bool = False
    opens: bool = False
    empties: bool = False
    move: str = ""


class World(NamedTuple):
    """An assumption about all facts of a request that the trail has not recorded.

    facts: the facts of the file. replaced: the object that had the new name of a rename, with its facts;
    None: no object. hidden: for each policy, True if a directory above hides the path because of that
    directory's owner. empty: True if the file was empty when it was opened.
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
"""Operations whose events on the trail are no decisions: they record that a file or handle changed."""


def demand_of(operation: str, syscall: str) -> Demand | None:
    """Return the possible meanings of a recorded request. Return None if they are unknown.

    operation, syscall: the names that the event has.
    """
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
