"""Owner, group and mode that match the calling app's rights, for programs that check these attributes.

Smbd, FTP and NFS servers in user space refuse by mode bits. With `modes: policy` such an app sees its own
group and the bits of its access(2), and itself as owner of what it may change. They grant nothing."""

from __future__ import annotations

import stat as stat_bits
from typing import Final

from policyfs.domain import FileType, Op
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine
from policyfs.policy.lint.modes import apps_with_modes

_READ: Final = 0o4
_WRITE: Final = 0o2
_ENTER: Final = 0o1
_ANY_EXECUTE: Final = 0o111
_OWNER_AND_GROUP: Final = 0o110
_ALL_CLASSES: Final = 0o111


class ShownModes:
    """The part of a mount that replaces owner, group and mode for some apps, so that these match the policy.

    by_mount: True if all apps see such modes (apps_with_modes). any_uid: True for an app mount that admits
    every uid: the kernel may give one uid another's reply, so all three classes get the same bits."""

    def __init__(self, gate: Gate, *, by_mount: bool, any_uid: bool, read_only: bool) -> None:
        self._gate = gate
        self._by_mount = by_mount
        self._classes = _ALL_CLASSES if any_uid else _OWNER_AND_GROUP
        self._read_only = read_only
        self.apps: frozenset[str | None] = frozenset()
        """The apps that see modes that match their rights by the policy; None stands for strangers."""
        self.use(gate.engine)

    def use(self, engine: Engine) -> None:
        """Use another policy: read from it which apps see modes by the policy."""
        chosen = apps_with_modes(engine, by_mount=self._by_mount)
        self.apps = chosen if self._gate.app is None else chosen & {self._gate.app}

    @property
    def in_use(self) -> bool:
        """True if a file's attributes may depend on the caller's uid."""
        return bool(self.apps)

    def shown(self, stat: Stat, node: Node, caller: Caller) -> Stat:
        """Return *stat* as the caller sees it. INVARIANT: the owner is replaced only for who may change
        attributes: the kernel lets an owner take leases (F_SETLEASE), for which every other open waits."""
        if caller.principal.app not in self.apps:
            return stat
        possible = self._gate.possible(caller.principal, node)
        uid = caller.uid if possible & Op.ATTR else stat.uid
        mode = stat_bits.S_IFMT(stat.mode) | self._bits(stat, possible)
        return stat._replace(uid=uid, gid=caller.gid, mode=mode)

    def _bits(self, stat: Stat, possible: Op) -> int:
        if stat.ftype is FileType.SYMLINK:
            return 0o777
        if stat.ftype is FileType.DIRECTORY:
            bits = _READ | _WRITE | _ENTER
        else:
            bits = _READ if possible & Op.READ else 0
            bits |= _WRITE if possible & Op.WRITE else 0
            bits |= _ENTER if possible & Op.READ and stat.mode & _ANY_EXECUTE else 0
        if self._read_only:
            bits &= ~_WRITE
        return bits * self._classes
