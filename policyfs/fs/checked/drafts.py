"""Drafts: files are checked as a whole before they reach the store (``require: {no: [...]}``).

Written bytes go into a **draft**, an unnamed file that the writer sees. At FLUSH, fsync and the last RELEASE
it is checked, and copied into the store's file if it has no forbidden data: until then, even after O_TRUNC,
that file is unchanged. A refusal is EPERM, and the draft stays, since FLUSH comes at each close of a
duplicate; at the last RELEASE it is dropped, and a file that its writer created is removed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn

import trio

from policyfs.content.sniffer import Sniffer
from policyfs.domain import TO_TELL, Audit, Decision, banned, kinds_only, only_forbidden, to_clean
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import PolicyChangedError
from policyfs.fs.access.views import version_of
from policyfs.fs.checked.change_lock import Change, ChangeLock, Fence
from policyfs.fs.checked.cleaning import Cleaned, Cleaner
from policyfs.fs.checked.draft_storage import DraftStorage
from policyfs.fs.checked.head import HEAD_BYTES, kind_in, may_become, meets, overlay
from policyfs.fs.checked.head_storage import put_writes
from policyfs.fs.checked.quarantine_queue import QuarantineQueue
from policyfs.fs.checked.rejection import Rejections, must_be
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.inodes.pending_writes import Draft, KeptBytes, Refusal
from policyfs.fs.redacted.plans import PlanFinder
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.redact.core.values import Outcome
from policyfs.store import freeing, ranges

_WRITING: Final = Call("write", "write")
_RELEASING: Final = Call("write", "close")


class Drafts(FsPart):
    """The part of a mount that makes, checks and stores drafts. Callers hold the lock of the draft's node."""

    def __init__(
        self,
        fs: FsContext,
        *,
        kinds: Sniffer,
        plans: PlanFinder,
        change_lock: ChangeLock,
        rejections: Rejections,
        quarantine: QuarantineQueue | None = None,
        shares_blocks: bool = False,
    ) -> None:
        """shares_blocks: True if two files of the store can share blocks (reflink)."""
        super().__init__(fs)
        self._kinds = kinds
        self._plans = plans
        self._rejections = rejections
        self._quarantine = quarantine
        self._storage = DraftStorage(fs.tree, change_lock, shares_blocks=shares_blocks)
        self._cleaner = Cleaner(fs.tree, plans)

    async def empty(self, handle: Handle, state: OpenState) -> Draft:
        """Empty the node's draft (O_TRUNC), and return it: from then on all bytes come through this handle.
        Raise OSError: EOPNOTSUPP without unnamed files, EMFILE if the share of descriptors is used up."""
        seen = version_of(self._tree.fstat(handle.fd))  # read first: others may write while a thread empties
        draft = await self.begin(handle, state, None)
        handle.seen = seen
        return draft

    async def keep_old(self, handle: Handle, state: OpenState) -> bool:
        """Begin an empty draft for a file that is emptied under a content requirement: the store has the old
        bytes until new ones show an allowed kind. Return False if it cannot, or there are none."""
        if not self._tree.fstat(handle.fd).size:
            return False
        try:
            draft = await self.empty(handle, state)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return False  # the store has no unnamed files
        draft.until_kind = True
        return True

    async def has_kind(self, change: Change, draft: Draft, offset: int, data: bytes) -> bool:
        """Return True if a draft (Draft.until_kind) has an allowed kind with *data*. Raise FUSEError(EPERM),
        on record, if no further bytes can give it one."""
        head, content = os.pread(draft.fd, HEAD_BYTES, 0), change.decision.content
        if offset > len(head):
            return False  # a gap: the check at FLUSH decides
        after = overlay(head, offset, data)
        kind = await self._kinds.kind_of_head(after, lane=change.handle.caller.principal.lane)
        if meets(kind, content):
            return True
        if not may_become(after, content):
            self._refuse(change, draft, kind, must_be(content))
        return False

    async def begin(self, handle: Handle, state: OpenState, fence: Fence | None) -> Draft:
        """Return the node's draft. A new one begins as a copy of the file, or empty (*fence* is None). It
        replaces a draft that the store has all of, if another writer has changed the file since.

        Raise OSError as empty(). *fence* is called after the copy: it raises if another app has written the
        file, whose bytes the draft must not show."""
        if state.draft is not None and state.draft.is_outdated(self._tree.fstat(handle.fd)):
            outdated, state.draft = state.draft, None
            await outdated.closed()
        if state.draft is not None:
            if fence is None:
                await self.truncate(state.draft, 0)
            return state.draft
        if self._quarantine is not None:
            await self._quarantine.room(handle.caller)
        head = state.head
        stat = self._tree.fstat(handle.fd)
        draft = self.new(handle, stat)
        draft.created = head is not None and head.created
        draft.refused = head is not None and head.refused
        try:
            if fence is None:
                draft.touch()
            else:
                await trio.to_thread.run_sync(ranges.copy_all, handle.fd, draft.fd, stat.size)
                fence()
                draft.kept = KeptBytes(stat.size)
                if head is not None and head.late:
                    for at, data in head.late:
                        if at is not None:
                            draft.kept.drop(at, at + len(data))
                    put_writes(self._tree, draft.fd, head.late)
                    draft.touch()
                elif head is not None and head.held:  # bytes that were held under another policy
                    draft.kept.drop(0, len(head.held))
                    ranges.put_all(draft.fd, head.held, 0)
                    draft.touch()
        except BaseException:
            draft.close()
            raise
        state.draft, state.head = draft, None
        return draft

    def new(self, handle: Handle, stat: Stat) -> Draft:
        """Return a new, empty draft. It is not the node's draft yet. Raise OSError as begin() does."""
        # The draft belongs to the caller, as a natively written file would: the caller's quota counts it.
        caller = handle.caller
        create = partial(self._tree.create_unnamed, self._tree.root_fd, 0o600, 0, *caller.owner_like(stat))
        fd, release = self._handles.open_for(handle.node, caller.holder, create)
        return saved_draft(self._nodes, handle.node, fd, stat, release)

    async def write(self, draft: Draft, offset: int, data: bytes, *, append: bool) -> int:
        """Write into a draft as write(2) does. append: write at the draft's end."""
        at = draft.size if append else offset
        draft.kept.drop(at, at + len(data))
        written = await trio.to_thread.run_sync(ranges.write, draft.fd, data, at)
        draft.touch()
        return written

    async def truncate(self, draft: Draft, size: int) -> None:
        """Set a draft's size in bytes, on a thread if this frees many blocks."""
        draft.kept.cut(size)
        if freeing.is_much(self._tree.fstat(draft.fd), size):
            await trio.to_thread.run_sync(os.ftruncate, draft.fd, size)
        else:
            os.ftruncate(draft.fd, size)
        draft.touch()

    async def allocate(self, draft: Draft, mode: int, offset: int, length: int) -> None:
        """Allocate space in a draft, as fallocate(2) does."""
        if mode & ~(ranges.KEEP_SIZE | ranges.PUNCH_HOLE | ranges.ZERO_RANGE):
            draft.kept.cut(offset)
        elif mode & ~ranges.KEEP_SIZE:
            draft.kept.drop(offset, offset + length)
        await trio.to_thread.run_sync(ranges.allocate, draft.fd, mode, offset, length)
        draft.touch()

    async def settle(self, change: Change, draft: Draft) -> bool:
        """Store the draft if its check allows it. Return False if the store has its changes already.

        Raise FUSEError(EPERM), on record, for forbidden data; as *change.fence*; OSError (EBUSY) if another
        writer has changed the file. If the file must be cleaned, the store gets a cleaned copy, and the draft
        keeps the bytes for a move to a path without cleaning."""
        handle, decision = change.handle, change.decision
        cleans = to_clean(banned(decision.content))
        if not draft.changed and draft.cleaned_of in (frozenset(), cleans):
            return False
        if draft.is_outdated(self._tree.fstat(handle.fd)):
            return False
        if not decision.allowed:  # the policy has changed since the open
            self._gate.refuse(handle.caller, _WRITING, handle.node.path(), decision)
        cleaned = await self._judge(change, draft) if draft.size else None
        try:
            source = draft.fd if cleaned is None or cleaned.fd < 0 else cleaned.fd
            if source != draft.fd and cleaned is not None:
                await self._check_other_names(change, draft, cleans)
                await self._record_cleaning(change, draft, cleaned)
            await self._storage.store(change, draft, source)
        finally:
            if cleaned is not None:
                cleaned.close()
        draft.cleaned_of = cleans if source != draft.fd else frozenset()
        draft.changed = draft.refused = draft.created = False
        draft.refusal = draft.recorded = None
        draft.keep(draft)
        return True

    async def _record_cleaning(self, change: Change, draft: Draft, cleaned: Cleaned) -> None:
        """Record a cleaning before its copy is stored, once. Other requests go on, but not on this node (its
        lock)."""
        path = change.handle.node.path()
        if draft.recorded == (path, cleaned.note):
            return
        told = replace(change.decision, audit=Audit.REQUIRED)
        await self._gate.recorder.recorded(
            change.handle.caller, _WRITING, path, told, kind=cleaned.kind, note=cleaned.note
        )
        draft.recorded = path, cleaned.note
        draft.keep(draft)

    async def finish(self, change: Change, draft: Draft, is_last: Callable[[], bool]) -> None:
        """Store the draft at the last RELEASE, or record its refusal. No app gets the answer.

        A refusal removes a new file that is still empty in the store. A draft that this policy has refused,
        unchanged, is not checked again; if the app has emptied it since, the file keeps its bytes. If another
        program has changed the file, the draft goes into the quarantine. is_last: tells if no other handle
        writes the file. After a reload, raise PolicyChangedError and leave the draft."""
        handle = change.handle
        if draft.refused and draft.only_empties(self._tree.fstat(handle.fd)):
            draft.refusal = None  # the refused bytes are gone: the quarantine has nothing to keep
            return
        refusal = draft.refusal
        if refusal is None or not draft.unchanged or refusal.generation != self._gate.generation:
            try:
                await self.settle(change, draft)
            except PolicyChangedError:
                raise
            except OSError as error:
                draft.refused = True
                if error.errno == errno.EBUSY:  # another program has changed the file: both versions are kept
                    reason = f"the bytes were not stored: {error.strerror}"
                    draft.refusal = Refusal(None, reason, (), True, self._gate.generation)
                else:
                    self._record_loss(handle, draft, error)
            except pyfuse3.FUSEError:  # the refusal is on record
                draft.refused = True
            except Exception:  # an error inside the daemon, such as a thread that cannot be started
                draft.refused = True
                reason = "the bytes were not stored: an error inside the daemon"
                draft.refusal = Refusal(None, reason, (), True, self._gate.generation)
                if self._quarantine is None:
                    self._record_loss(handle, draft, OSError(errno.EIO, "an error inside the daemon"))
                raise
        if draft.refused and draft.created:
            await self._rejections.remove(handle, is_last)

    def lose(self, handle: Handle, state: OpenState, error: OSError | None) -> None:
        """Drop a draft or a head without a writer after an error, and record its changes as lost. error: None
        if the error is on record, or not the store's."""
        draft = state.draft
        try:
            if error is not None and state.unsaved:
                self._record_loss(handle, draft, error)
        finally:
            state.draft = None
            try:
                if draft is not None:
                    self.give_up(handle, draft)
            finally:
                state.drop_held()

    def _record_loss(self, handle: Handle, draft: Draft | None, error: OSError) -> None:
        """Record that a draft or a head (*draft* is None) is dropped because it cannot be stored. (The
        quarantine makes a record of its own.)"""
        if draft is not None and (draft.torn or self._keeps(draft)):
            return
        decision = Decision(allowed=True, errno=0, audit=Audit.REQUIRED)
        self._gate.recorder.decided(
            handle.caller, _RELEASING, handle.node.path(), decision, error=error.errno or errno.EIO,
            note=f"the last bytes were not stored, and are dropped: {error.strerror}",
        )  # fmt: skip

    def give_up(self, handle: Handle, draft: Draft) -> None:
        """Drop a draft without a writer: into the quarantine if its refusal requires that, or if the store's
        file has only a part of it, so that only the draft has all new bytes."""
        refusal = draft.refusal
        if draft.torn:
            torn = Refusal(None, draft.torn, (), True, self._gate.generation)
            if refusal is not None and draft.unchanged:  # no writes since the refusal
                torn = refusal._replace(reason=f"{draft.torn}; refused: {refusal.reason}", quarantine=True)
            refusal = torn
        if draft.fd >= 0 and refusal is not None and refusal.quarantine and self._quarantine is not None:
            self._quarantine.take(handle, draft.give(), refusal)
        draft.close()

    def _keeps(self, draft: Draft) -> bool:
        return self._quarantine is not None and draft.refusal is not None and draft.refusal.quarantine

    async def _judge(self, change: Change, draft: Draft) -> Cleaned | None:
        """Check a draft through read-only descriptors. Return its cleaned copy if a rule requires one."""
        caller = change.handle.caller
        lane, words = caller.principal.lane, banned(change.decision.content)
        cleans, done = to_clean(words), frozenset[str]()
        fd = self._tree.reopen(draft.fd, os.O_RDONLY)
        cleaned: Cleaned | None = None
        try:
            kind: str | None = None
            if cleans:
                owner = caller.owner_like(self._tree.fstat(fd))
                cleaned = await self._cleaner.clean(fd, cleans, owner, lane)
                kind, done = cleaned.kind, frozenset() if cleaned.refusal else cleans
            forbidden, why = only_forbidden(words, done), ""
            if not cleans and not forbidden:
                kind = await self._kinds.kind_of_fd(fd, lane=lane)
            if forbidden:
                looked_at = fd if cleaned is None or cleaned.fd < 0 else cleaned.fd
                kind, why = await self._told(looked_at, forbidden, lane)
            refusal = "" if cleaned is None else cleaned.refusal
            self._check(change, draft, kind, refusal, why, done)
        except BaseException:
            if cleaned is not None:
                cleaned.close()
            raise
        finally:
            os.close(fd)
        return cleaned

    async def _told(self, fd: int, words: frozenset[str], lane: Hashable) -> tuple[str | None, str]:
        """Return a file's kind, and the reason to refuse it for these words ("" without such data)."""
        read_only = self._tree.reopen(fd, os.O_RDONLY)
        try:
            kind, plan = await self._plans.locate(read_only, words | {TO_TELL}, lane=lane, proof=None)
        finally:
            os.close(read_only)
        return kind, "" if plan.outcome is Outcome.CLEAN else plan.reason

    def _check(
        self, change: Change, draft: Draft, kind: str | None, unclean: str, why: str, done: frozenset[str]
    ) -> None:
        """Refuse a draft that fails a requirement. unclean, why: the reasons against it by content, or "".
        done: the words of which it was cleaned."""
        content, kinds = change.decision.content, kinds_only(change.decision.content)
        if not meets(kind, kinds):
            self._refuse(change, draft, kind, must_be(kinds))
        read = [each for each in content if banned((each,)) and not _lets_through(each, kind)]
        if unclean and to_clean(banned(read)):
            self._refuse(change, draft, kind, unclean)
        if why and only_forbidden(banned(read), done):
            self._refuse(change, draft, kind, why)

    async def _check_other_names(self, change: Change, draft: Draft, cleans: frozenset[str]) -> None:
        handle = change.handle
        if self._tree.fstat(handle.fd).nlink <= 1:
            return
        fd = self._tree.reopen(handle.fd, os.O_RDONLY)
        try:
            keeps = await self._cleaner.is_clean(fd, cleans, handle.caller.principal.lane)
        finally:
            os.close(fd)
        if not keeps:
            self._refuse(
                change, draft, None,
                "the file has other names (hard links), and cleaning would change the file under these names,"
                " too: write to a copy of the file",
            )  # fmt: skip

    def _refuse(self, change: Change, draft: Draft, kind: str | None, note: str) -> NoReturn:
        handle, decision = change.handle, change.decision
        rules = self._rejections.rules_of(decision)
        draft.refused = draft.unchanged = True
        quarantine, generation = decision.quarantine, self._gate.generation
        draft.refusal = Refusal(kind, note, rules, quarantine, generation, handle.caller)
        self._rejections.refuse(handle, decision, kind, note)


def saved_draft(
    nodes: NodeTable, node: Node, fd: int, stat: Stat, release: Callable[[], object]
) -> Draft:
    """Return an empty draft of a node that is saved for the next daemon. stat: of the store's file. release:
    called when the draft no longer has *fd*."""

    def released() -> None:
        if nodes.saved is not None:
            nodes.saved.held.closing(node.nodeid, fd)
        release()

    draft = Draft(fd, stat, created=False, released=released)
    if nodes.saved is not None:
        draft.keep = partial(nodes.saved.held.keep, node)
    return draft


def _lets_through(patterns: frozenset[str], kind: str | None) -> bool:
    """Return True if a ban accepts files of this kind without a look at their content (``raw_types``)."""
    return kind is not None and kind_in(kind, patterns)
