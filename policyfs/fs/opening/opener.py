"""The nine steps of an open. docs/architecture/opening.md gives the reason for each. O_TRUNC comes last, so
that a refused open destroys nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

from policyfs.domain import Decision
from policyfs.fs.access.audit import Call
from policyfs.fs.access.brakes import braked
from policyfs.fs.access.ledger import PacedError, paced
from policyfs.fs.access.views import version_of
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.pending_writes import Head
from policyfs.fs.opening.bridge_handles import BridgeHandles
from policyfs.fs.opening.byte_paths import PathServer
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.open_files import BackingFiles
from policyfs.fs.opening.preconditions import Preconditions
from policyfs.fs.opening.request import OpenContext, OpenRequest
from policyfs.fs.opening.stale_retries import FirstTry, SecondTries
from policyfs.fs.opening.write_access import WriteAccess
from policyfs.linux.statx import Stat


class Opener(FsPart):
    """The opener of one mount: it opens regular files, also newly created ones, and releases handles."""

    def __init__(
        self,
        fs: FsContext,
        *,
        paths: Mapping[BytePath, PathServer],
        backing_files: BackingFiles,
        preconditions: Preconditions,
        write_access: WriteAccess,
        lifecycle: Lifecycle,
        bridge_handles: BridgeHandles,
    ) -> None:
        super().__init__(fs)
        self._paths = paths
        self._backing_files = backing_files
        self._preconditions = preconditions
        self._write_access = write_access
        self._lifecycle = lifecycle
        self._bridge_handles = bridge_handles
        self.second_tries = SecondTries()

    # -- open -----------------------------------------------------------------------------------

    async def open(
        self, node: Node, flags: int, caller: Caller, rests: Callable[[], None] = lambda: None
    ) -> Handle:
        """Open a node for a caller. Raise FUSEError for a refusal, OSError for other errors. rests:
        RawRequest.rests(), called if the open must wait for a reload."""
        first_try = self.second_tries.first_try(caller.holder, rests)
        try:
            return await self._try_open(node, flags, caller, first_try)
        finally:
            first_try.ends()

    @braked
    @paced
    async def _try_open(self, node: Node, flags: int, caller: Caller, first_try: FirstTry) -> Handle:
        thread = caller.pid
        if self.second_tries.holds(thread, caller.holder):  # also when `paced` calls again
            await first_try.waits()
        opening = OpenContext(OpenRequest.of(node, caller, flags))
        second, stale, paced_out = self.second_tries.begins(thread), False, False
        try:
            await self._open(opening)
        except PacedError:
            paced_out = True  # the daemon has not answered this try, and begins it again
            raise
        except OSError as error:
            stale = error.errno == errno.ESTALE
            if stale:
                self._preconditions.sent_back(opening)
            raise
        finally:
            if second:  # this comes first: without it each later reload would wait for this thread
                self.second_tries.ends(thread)
            opening.evidence.close_later()
            if (paced_out and second) or (stale and not second):
                self.second_tries.sent_back(thread, caller.holder)
            if not stale and not paced_out:
                self._preconditions.let_in(opening)
        return opening.handle

    async def _open(self, opening: OpenContext) -> None:
        """Take the nine steps of an open. Take fewer if the kernel already has a backing id for the bytes."""
        node = opening.request.node
        path = self._paths[node.byte_path]
        await self._lifecycle.emptied(node)
        try:
            if not await self._open_again(opening, path):
                opening.fd, opening.stat = await self._backing_files.find_apart(node)  # 1
                await self._preconditions.decide(opening)  # 2
                if self._preconditions.waits_for_writers(opening) and await self._lifecycle.released(node):
                    await self._preconditions.decide(opening)
                self._preconditions.check_node(opening)  # 3
                self._preconditions.check_emptying(opening)  # 4
                self._preconditions.check_brake(opening)
                self._lifecycle.begin(opening)
                await self._write_access.grant(opening)  # 5, 6
                await path.connect(opening)  # 7
                self._preconditions.check_emptied(opening)
            self._register(opening)
            await self._record(opening)  # 8
            if opening.request.empties:
                self._close_found(opening)
            await self._write_access.empty(opening, self._preconditions.check_emptied)  # 9
            self._write_access.still_empty(opening)
            caller = opening.request.caller
            self._replaced_files.opened(node, caller.pid)
            if not self.second_tries.is_any_of(caller.holder):  # the bridge must not answer second tries
                self._bridge_handles.opened(opening)
            self._lifecycle.succeed(opening)
        except BaseException:
            self._lifecycle.fail(opening)
            raise
        finally:
            self._close_found(opening)

    @staticmethod
    def _close_found(opening: OpenContext) -> None:
        """Close the descriptor of step 1. INVARIANT: called before a file is emptied. At the first close
        after that, ext4, xfs and btrfs begin to write the new bytes to the disk: this must be the app's
        close, or a power cut leaves an empty file."""
        fd, opening.fd = opening.fd, -1
        if fd >= 0:
            os.close(fd)

    async def _open_again(self, opening: OpenContext, path: PathServer) -> bool:
        request = opening.request
        named = request.node.parent is not None and self._replaced_files.find(request.node) < 0
        return named and not request.writing and await path.open_again(opening)

    def _register(self, opening: OpenContext) -> None:
        handle, state = opening.handle, opening.shared
        handle.mode = state.mode
        if handle.mode is Mode.MEDIATED and handle.fd < 0:
            handle.fd = os.dup(opening.fd if opening.bytes_fd < 0 else opening.bytes_fd)
        self._lifecycle.show_size(handle, opening.version or version_of(opening.stat))
        self._lifecycle.finish(opening)

    async def _record(self, opening: OpenContext) -> None:
        """Put the open on record. Then refuse it if the policy, or the proof of its kind, no longer holds."""
        request, handle = opening.request, opening.handle
        handle.recorded_late = await self._gate.recorder.recorded(
            request.caller, request.call, request.node.path(), opening.decision,
            kind=opening.kind or opening.evidence.kind, io=handle.mode.value, view=request.node.view.label,
            redacted=opening.redacted, handle=handle.index, note=opening.note,
            before=None if handle.created else handle.before,
        )  # fmt: skip
        self._gate.unchanged(handle.generation)
        if opening.by_kind and not request.writing:
            self._preconditions.still_proven(opening)

    @braked
    async def open_to_truncate(self, node: Node, size: int, caller: Caller) -> Handle:
        """Open the daemon's own handle for truncate(2) by path: all steps of an open for writing but 7 and 9
        (docs/architecture/opening.md). size: in bytes; the caller sets it."""
        flags = os.O_WRONLY if size else os.O_WRONLY | os.O_TRUNC
        call = Call("truncate", "truncate")
        opening = OpenContext(OpenRequest.of(node, caller, flags, call))
        opening.decision = await self._gate.require(caller, opening.request.ops, node, call)
        opening.fd, opening.stat = self._backing_files.open_named(node)
        try:
            opening.owner = self._gate.facts.owners.get(opening.fd, opening.stat)
            self._preconditions.check_view(opening)
            self._preconditions.check_emptying(opening)
            self._preconditions.check_brake(opening)
            self._lifecycle.begin(opening)
            await self._write_access.grant(opening)
            handle, state = opening.handle, opening.shared
            self._gate.unchanged(handle.generation)
            if node.view.checked and state.head is None:
                state.head = Head(self._tree.fstat(handle.fd).size)
            await self._gate.recorder.recorded(
                caller, call, node.path(), opening.decision,
                view=node.view.label, handle=handle.index, before=handle.before,
            )  # fmt: skip
            self._gate.unchanged(handle.generation)
            self._write_access.still_empty(opening)
            self._lifecycle.succeed(opening)
        except BaseException:
            self._lifecycle.fail(opening)
            raise
        finally:
            os.close(opening.fd)
        return handle

    # -- create -----------------------------------------------------------------------------------

    async def created(
        self, node: Node, fd: int, flags: int, caller: Caller, decision: Decision, stat: Stat, call: Call
    ) -> Handle:
        """Open a handle on a file that an app has just created. The handle owns *fd* (O_RDWR) after the
        return, the caller if this raises."""
        opening = OpenContext(OpenRequest.of(node, caller, flags, call))
        opening.stat, opening.decision, opening.emptied = stat, decision, bool(node.view.redact)
        self._lifecycle.begin(opening)
        handle = opening.handle
        handle.fd, handle.created, handle.seen = fd, True, handle.before
        try:
            if node.byte_path is BytePath.RAW:
                opening.fd = self._tree.reopen(fd, os.O_RDONLY)
            await self._paths[node.byte_path].connect(opening)
            self._register(opening)
            await self._record(opening)
            self._lifecycle.succeed(opening)
        except BaseException:
            handle.fd = -1  # the calling code still owns *fd*
            self._lifecycle.fail(opening)
            raise
        finally:
            if opening.fd >= 0:
                os.close(opening.fd)
        return handle

    # -- release ---------------------------------------------------------------------------------

    def close(self, handle: Handle) -> None:
        """Record the release of a handle, and release its resources."""
        state = handle.node.open
        if state is None:
            raise RuntimeError("a handle of a node that is not open")
        try:
            after = None
            self._kept.released(handle)
            if handle.writable and handle.fd >= 0:
                after = version_of(self._tree.fstat(handle.fd))
            if handle.writable or handle.mode is Mode.MEDIATED:
                self._gate.recorder.released(handle, handle.node.path(), after)
        finally:
            self._lifecycle.leave(handle, state)
