"""The UNLINK and RMDIR requests."""

from __future__ import annotations

import contextlib
import errno
import os
from functools import partial
from typing import Final

from policyfs.domain import FileType, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.brakes import Changed, braked
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node, StaleNodeError, child_path
from policyfs.fs.namespace.entries import Entries, gone_version
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.fs.saved.intents import ChangeKind, Intent, Side
from policyfs.fs.sharing.kernel_locks import LateError
from policyfs.linux.statx import Stat
from policyfs.policy.decide import End
from policyfs.store import freeing

_TRIES: Final = 100
"""The limit of decisions on one removal: one more each time that another daemon was changing the name."""


class Remover(FsPart):
    """The handler of UNLINK and RMDIR. An open object that loses its last name stays usable."""

    def __init__(self, fs: FsContext, *, entries: Entries, open_files: OpenFiles) -> None:
        super().__init__(fs)
        self._entries = entries
        self._open_files = open_files

    @recorded_first
    @braked
    async def remove(self, parent: Node, name: bytes, caller: Caller, *, directory: bool) -> None:
        """Remove a name as unlink(2) or rmdir(2) does. directory: True for rmdir."""
        with KindEvidence() as evidence:
            held = await self._remove(parent, name, caller, evidence, directory=directory)
        if held >= 0:
            with contextlib.suppress(LateError):  # the file's space is free before the reply, if that is soon
                await self._locks.apart(caller.holder, partial(freeing.closed, held))

    async def _remove(
        self, parent: Node, name: bytes, caller: Caller, evidence: KindEvidence, *, directory: bool
    ) -> int:
        """Remove a name. Return a descriptor that keeps a large file's space in use, or -1."""
        call = Call("rmdir", "rmdir") if directory else Call("unlink", "unlink")
        if self._was_made(caller, call, child_path(parent, name)):
            return -1
        for _ in range(_TRIES):
            with self._entries.on_record(caller, call, (parent, name)):
                end, stat, _ = await self._entries.end(parent, name, caller, evidence)
            async with self._name_lock.on(caller.holder, (self._resolver.dirfd(parent), name)) as has_waited:
                if not has_waited:
                    return self._remove_now(parent, name, caller, end, stat, call)
        raise OSError(errno.EBUSY, "daemons of other mounts change this name again and again")

    def _remove_now(
        self, parent: Node, name: bytes, caller: Caller, end: End, stat: Stat, call: Call
    ) -> int:  # fmt: skip
        """Decide on a locked name, and remove it, as _remove()."""
        directory = call.operation == "rmdir"
        ops = Op.SEE | Op.DELETE
        decision = self._gate.decide(caller.principal, ops, end.state, end.ftype, end.facts, parent)
        path = child_path(parent, name)
        key = self._nodes.key_of(stat)
        if not decision.allowed:
            error = self._entries.errno(decision, self._nodes.named(key, parent, name))
            self._gate.refuse(caller, call, path, decision, error=error)
        if not directory:  # an empty directory holds nothing: its files were counted
            removed = Changed(end.state, end.ftype, end.facts.owner, stat)
            self._gate.count(caller, call, path, removed)
        self._gate.recorder.decided(caller, call, path, decision, before=gone_version(stat))
        dirfd = self._resolver.dirfd(parent)
        self._entries.keep_open(key, parent, name, replaced=False)
        held = self._space_of(dirfd, name, stat)
        side = Side(parent.nodeid, name, key, stat.btime_ns)
        self._intents.begin(Intent(caller.unique, ChangeKind.REMOVAL, side))
        try:
            if directory:
                self._resolver.still(parent, name, stat)
                if stat.ftype is not FileType.DIRECTORY or decision.keep is None:
                    self._tree.rmdir(dirfd, name)
                else:
                    self._kept.remove(caller, call, decision.keep, path, dirfd, name, stat)
            elif stat.ftype is FileType.DIRECTORY:
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), name)
            else:
                with self._open_files.bytes_stay(key):
                    if not self._kept.remove(caller, call, decision.keep, path, dirfd, name, stat):
                        raise StaleNodeError
            self._entries.drop(key, parent, name)
        except BaseException:
            if held >= 0:
                os.close(held)
            raise
        return held

    def _space_of(self, dirfd: int, name: bytes, stat: Stat) -> int:
        """Return a descriptor that keeps a large file's space in use, or -1, also if no descriptor is free.
        INVARIANT: always -1 on a network store: an NFS client renames a file in use instead (fs/nfs/dir.c,
        nfs_unlink), to a name that no rule is about."""
        if self._remote or not _is_last_of_large(stat):
            return -1
        try:
            return self._tree.open_path(dirfd, name)
        except OSError:
            return -1


def _is_last_of_large(stat: Stat) -> bool:
    return stat.ftype is FileType.REGULAR and stat.nlink == 1 and freeing.is_much(stat)
