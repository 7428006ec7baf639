"""Directory entries in requests that change names. This module finds and drops entries, keeps the objects of
removed entries open, and refuses moves."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NoReturn

from policyfs.domain import Audit, Decision, Facts, FileType, Need, Op
from policyfs.errors import CONTENT_REFUSED
from policyfs.fs.access.audit import Call
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.views import version_of
from policyfs.fs.checked.moved_file import Named
from policyfs.fs.checked.withheld_names import WithheldNames
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node, StaleNodeError, check_room, child_path
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.linux.statx import Stat
from policyfs.policy.decide import End, PathState
from policyfs.policy.moves.losses import rules_that_hide
from policyfs.store.frozen import Version

_WHY_ELSEWHERE: Final = (
    "policyfs cannot move this file or directory; copy it instead (mv does so by itself). Possible reasons:"
    " a check of the file takes long, and other apps would have to wait;"
    " an app would get more rights at the new path; a program is writing the file; the file has a second"
    " name; the file has extended attributes or data that are forbidden there; the rules below the directory"
    " differ, or forbid deletion"
)
_WHY_LOST: Final = (
    "mv would copy the file and delete the original, but the copy would lack the data that {rules} hides from"
    " the app. Exempt the app from {rules}, or let the app delete only its own files"
)


class HiddenError(OSError):
    """The error for a request if one of its names is hidden from the caller. decision: the denial."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.errno, "hidden from the caller")
        self.decision = decision


class Entries(FsPart):
    """The part of a mount that finds and drops directory entries, for requests that change names."""

    def __init__(
        self,
        fs: FsContext,
        *,
        open_files: OpenFiles,
        passthrough: Passthrough,
        withheld_names: WithheldNames,
    ) -> None:
        super().__init__(fs)
        self._open_files = open_files
        self._passthrough = passthrough
        self._withheld_names = withheld_names

    async def end(
        self, parent: Node, name: bytes, caller: Caller, evidence: KindEvidence,
        moves_to: PathState | None = None,
    ) -> tuple[End, Stat, int]:  # fmt: skip
        """Return the object that has this name, its attributes and its inode key, with all facts that the
        policy may need, also for *moves_to*, the path state after a move.

        evidence: keeps the proof of its kind. Raise OSError (ENOENT) if there is none, or it is not shown;
        HiddenError if the owner of a directory above hides it; StaleNodeError if it is moved meanwhile."""
        check_room(parent, name)
        state = self._gate.engine.child(parent.state, name)
        dirfd = self._resolver.dirfd(parent)
        stat = self._tree.stat(dirfd, name)
        if self._withheld_names.has(stat) or not self._gate.shows(
            caller.principal, state, stat.ftype, parent
        ):
            raise OSError(errno.ENOENT, "not shown", name)
        need = self._gate.needed(caller.principal, state, stat.ftype)
        if self._gate.engine.limited(caller.principal, state):
            need |= Need.OWNER
        if moves_to is not None:
            need |= self._gate.engine.needs_move(caller.principal, state, moves_to, stat.ftype)
        generation = self._gate.generation
        evidence.expected = stat
        lane = caller.principal.lane
        facts = await self._gate.facts.find(need, dirfd, name, stat, lane, evidence=evidence)
        self._gate.unchanged(generation)
        if need and self._gate.engine.child(parent.state, name) != state:
            raise StaleNodeError  # the directory was moved meanwhile: other rules hold for the new path
        if self._gate.engine.owner_matters_above(state):
            seen = self._gate.decide(caller.principal, Op.SEE, state, stat.ftype, facts, parent)
            if not seen.allowed:
                raise HiddenError(seen)
        return End(state, stat.ftype, facts), stat, self._nodes.key_of(stat)

    async def target(
        self, parent: Node, name: bytes, caller: Caller, evidence: KindEvidence, moves_to: PathState | None
    ) -> tuple[End, Stat, int] | None:
        """Return the object at the new name of a rename as end() does, or None. moves_to: in an exchange, the
        path state to which it moves, else None. Raise FileNotFoundError if an exchange finds no object."""
        try:
            if self._withheld_names:
                stat = self._tree.stat(self._resolver.dirfd(parent), name)
                async with self._locks.limit(caller.holder, errno.EBUSY):
                    await self._withheld_names.free(stat)
            return await self.end(parent, name, caller, evidence, moves_to)
        except FileNotFoundError:
            if moves_to is not None:
                raise
            return None

    @contextlib.contextmanager
    def on_record(
        self, caller: Caller, call: Call, old: tuple[Node, bytes], new: tuple[Node, bytes] | None = None
    ) -> Iterator[None]:
        """Refuse the request, on record, if the code inside the context raises HiddenError. old, new: the
        directory and the name of each side of a rename; *new* is None for other requests."""
        try:
            yield
        except HiddenError as hidden:
            ends = [old] if new is None else [old, new]
            error = self.errno(hidden.decision, filter(None, (self._nodes.directory(*end) for end in ends)))
            path, new_path = child_path(*old), None if new is None else child_path(*new)
            self._gate.refuse(caller, call, path, hidden.decision, new_path=new_path, error=error)

    @staticmethod
    def errno(decision: Decision, nodes: Iterable[Node]) -> int:
        """Return the errno of a refused rmdir or rename of these nodes: EACCES, not ENOENT, if others may use
        the directory: the kernel would drop it (fs/fuse/dir.c, fuse_rmdir)."""
        held = any(node.lookups and node.ftype is FileType.DIRECTORY for node in nodes)
        return errno.EACCES if held and decision.errno == errno.ENOENT else decision.errno

    def _open_to_read(self, dirfd: int, name: bytes) -> int:
        return self._tree.open_file(dirfd, name, os.O_RDONLY)

    def keep_open(self, ino_key: int, parent: Node, name: bytes, *, replaced: bool) -> None:
        """Keep a descriptor of an object that loses this name, for fstat and others: of an open file without
        another name, a directory that a process may use, and a replaced file that the kernel still knows."""
        for node in self._nodes.named(ino_key, parent, name):
            self._nodes.vectors.drop(node)  # from here on the handle table has all handles of the node
            if node.ftype is FileType.DIRECTORY:
                fd = self._resolver.open_if_same(node, parent, name, self._tree.open_dir)
                if fd is not None:
                    self._resolver.keep_removed(node, fd)
                continue
            if node.ftype is not FileType.REGULAR or node.links:  # the node has another name
                continue
            if node.open is not None and node.open.fd >= 0:
                continue
            if node.open is None and not (replaced and node.lookups):
                continue
            fd = self._resolver.open_if_same(node, parent, name, self._open_to_read)
            if fd is not None:
                (self._replaced_files if node.open is None else self._open_files).keep(node, fd)

    def drop(self, ino_key: int, parent: Node, name: bytes) -> None:
        for node in self._nodes.named(ino_key, parent, name):
            self._nodes.drop_name(node, parent, name)
            self._passthrough.drop(node)
            self._resolver.drop(node.nodeid)

    def give_name(self, nodes: Iterable[Node], old: tuple[Node, bytes], new: tuple[Node, bytes]) -> None:
        """Give nodes another name. The nodes below a directory update their paths at their next request."""
        for node in nodes:
            self._nodes.add_name(node, *new)
            self._nodes.drop_name(node, *old)
            if node.ftype is FileType.DIRECTORY:
                self._resolver.drop(node.nodeid)

    def refuse_move(
        self,
        caller: Caller,
        call: Call,
        path: bytes,
        new_path: bytes,
        decision: Decision | None,
        error: int = 0,
        looked_at: tuple[Named | None, ...] = (),
    ) -> NoReturn:
        """Refuse a rename or link, on record. decision: the denial, or None for EACCES. looked_at: the files
        that were checked. For CONTENT_REFUSED, the reasons (Named.why) go into the record."""
        if decision is None:
            decision = Decision(allowed=False, errno=errno.EACCES, audit=Audit.REQUIRED)
        note = _WHY_ELSEWHERE if decision.errno == errno.EXDEV else ""
        hiding = rules_that_hide(decision) if call.operation == "rename" else ()
        if hiding:
            note = _WHY_LOST.format(rules=", ".join(hiding))
        elif decision.errno == CONTENT_REFUSED:
            note = "; ".join(end.why for end in looked_at if end is not None and end.why)
        self._gate.refuse(caller, call, path, decision, new_path=new_path, note=note, error=error)

    def refuse_late_move(
        self, caller: Caller, call: Call, old: tuple[Node, bytes], new: tuple[Node, bytes], *, exchange: bool
    ) -> NoReturn:
        """Refuse a rename, on record, because its decision would take too long under a lock of the kernel.

        old, new: the directory and the name of each side. The app can copy the file instead (EXDEV). But if a
        copy could lose data that are hidden from the app, the answer is EBUSY: the facts that were not found
        in time count against the app.
        """
        engine, ends = self._gate.engine, []
        for (parent, name), (above, to) in ((old, new), (new, old))[: 2 if exchange else 1]:
            stat = self._tree.stat(self._resolver.dirfd(parent), name)
            end = End(engine.child(parent.state, name), stat.ftype, Facts(None, None))
            ends.append((end, engine.child(above.state, to)))
        refusal = engine.cross_device(caller.principal, ends)
        if refusal.errno != errno.EXDEV:
            raise OSError(errno.EBUSY, "the file cannot be checked in time, and a copy could lose data")
        decision = replace(refusal, audit=Audit.BEST_EFFORT)  # no other app waits for this record
        self.refuse_move(caller, call, child_path(*old), child_path(*new), decision)


def gone_version(stat: Stat) -> Version | None:
    """Return the version of a removed file for the record, or None for other types of objects."""
    return version_of(stat) if stat.ftype is FileType.REGULAR else None
