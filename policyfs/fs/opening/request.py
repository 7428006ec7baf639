"""The request of one open, and the results of its steps so far."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from policyfs.domain import NO_RANGES, OWNER_NONE, Decision, Op, Ranges
from policyfs.fs.access.audit import Call
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.open_state import OpenState
from policyfs.linux.statx import Stat
from policyfs.store.frozen import Version

_FLAG_NAMES: Final = (
    (os.O_APPEND, "O_APPEND"), (os.O_TRUNC, "O_TRUNC"), (os.O_CREAT, "O_CREAT"), (os.O_EXCL, "O_EXCL"),
    (os.O_DIRECT, "O_DIRECT"),
)  # fmt: skip


@functools.lru_cache(maxsize=256)
def ops_of(flags: int) -> Op:
    """Return the operations that an open with these flags needs. O_TRUNC always needs `write`."""
    mode = flags & os.O_ACCMODE
    ops = Op.SEE
    if mode != os.O_WRONLY:
        ops |= Op.READ
    if mode != os.O_RDONLY or flags & os.O_TRUNC:
        ops |= Op.WRITE
    return ops


def describe(flags: int) -> str:
    """Return open flags as people write them, e.g. ``open(O_WRONLY|O_TRUNC)``."""
    mode = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_RDWR")[flags & os.O_ACCMODE]
    return "open(" + "|".join([mode, *(name for bit, name in _FLAG_NAMES if flags & bit)]) + ")"


@functools.lru_cache(maxsize=256)
def call_of(flags: int) -> Call:
    """Return the operation and system call that the trail has for an open with these flags of open(2)."""
    return Call("open", describe(flags))


class OpenRequest(NamedTuple):
    """An app's request to open a node."""

    node: Node
    caller: Caller
    flags: int
    """The flags of open(2)."""
    call: Call
    """The operation and system call for the record."""
    ops: Op
    """The operations that the policy must allow."""

    @property
    def writing(self) -> bool:
        """True if the open (by O_TRUNC) or its handle may change the file."""
        return bool(self.ops & Op.WRITE)

    @property
    def empties(self) -> bool:
        """True if the open empties the file."""
        return bool(self.flags & os.O_TRUNC)

    @classmethod
    def of(cls, node: Node, caller: Caller, flags: int, call: Call | None = None) -> Self:
        """Return the request for these open(2) flags. call: for the record, if there was no open(2)."""
        return cls(node, caller, flags, call or call_of(flags), ops_of(flags))


@dataclass(slots=True)
class OpenContext:
    """An open under way. Its steps (docs/architecture/opening.md) set the fields, and read no later ones."""

    request: OpenRequest
    evidence: KindEvidence = field(default_factory=KindEvidence)
    """The lease under which the file's kind was found."""
    fd: int = -1
    """Step 1: an O_RDONLY descriptor of the file, closed at the end of the open, or -1."""
    stat: Stat = field(init=False)
    """Step 1: the file's attributes."""
    decision: Decision = field(init=False)
    """Step 2: the decision. Step 7 replaces it if the byte path finds the kind in the bytes that it shows."""
    owner: str = OWNER_NONE
    """Step 2: the app that owns the file, or `none`. Also `none` if the open does not depend on the owner."""
    by_kind: bool = False
    """Step 3: True if the decision depended on the file's kind."""
    emptied: bool = False
    """Step 4: True if the app may write only because it empties the file."""
    handle: Handle = field(init=False)
    """After step 4: the app's new handle."""
    state: OpenState | None = None
    """After step 4: the node's open state, entered once for this open."""
    bytes_fd: int = -1
    """Step 7: the descriptor from which a mediated handle reads, or -1 if it reads from the file itself."""
    version: Version | None = None
    """Step 7: the version of the shown bytes, or None if the handle shows the file itself."""
    kind: str | None = None
    """Step 7: the kind of the shown bytes, for the record."""
    redacted: Ranges = NO_RANGES
    """Step 7: the hidden byte ranges, for the record."""
    note: str = ""
    """Step 7: a note for the record."""

    @property
    def shared(self) -> OpenState:
        """The node's open state. Raise RuntimeError before step 5."""
        if self.state is None:
            raise RuntimeError("the open state is used before step 5")
        return self.state
