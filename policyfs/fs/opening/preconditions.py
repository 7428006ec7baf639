"""Preconditions of an open: the decision, the right node, and a proof of the file's kind.

Under redaction, an open for writing may also have to empty the file.
"""

from __future__ import annotations

import errno
import os
from typing import Final, NoReturn

from policyfs.domain import OWNER_NONE, Audit, Decision, Facts, Op
from policyfs.fs.access.audit import Call
from policyfs.fs.access.brakes import Changed
from policyfs.fs.access.kind_proof import UnprovenKindError
from policyfs.fs.access.views import Views
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import FMODE_EXEC, looks_empty
from policyfs.fs.inodes.node import BytePath, Node, StaleNodeError
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.opening.request import OpenContext, OpenRequest
from policyfs.store.locking.leases import LeaseKeeper

_UNPROVEN: Final = (
    "the decision depends on the file's kind, which is not certain while a program has the file mapped, or"
    " open for writing"
)
_NEVER_PROVEN: Final = (
    "the decision depends on the file's kind, and here policyfs cannot prove the kind for an open that also"
    " writes"
)
_NOT_EMPTIED: Final = (
    "data in this file is hidden from the app, and the app does not own the file: the app can open the file"
    " for writing only with O_TRUNC, which empties the file"
)


class Preconditions(FsPart):
    """The checks before an app gets a handle. keeper: None if leases prove nothing on the store."""

    def __init__(self, fs: FsContext, *, views: Views, keeper: LeaseKeeper | None) -> None:
        super().__init__(fs)
        self._views = views
        self._keeper = keeper

    async def decide(self, opening: OpenContext) -> None:
        """Set decision and owner in *opening*, or refuse, on record. A reader of a file with a writer gets a
        copy, in which a worker finds the kind (step 7)."""
        request, evidence = opening.request, opening.evidence
        node, caller = request.node, request.caller
        if not request.writing and (not node.view.redact or node.byte_path.finds_kind):
            evidence.demand()
        try:
            opening.decision = await self._gate.require(
                caller, request.ops, node, request.call, fd=opening.fd, evidence=evidence
            )
        except UnprovenKindError:
            evidence.asked = True
            self.demand_proof(opening)
            opening.decision = self._gate.judge(
                caller.principal, request.ops, node, Facts(None, evidence.owner)
            )
        opening.owner = OWNER_NONE
        by_owner = request.writing or evidence.asked or node.view.redact or node.byte_path is BytePath.LIVE
        if opening.fd >= 0 and by_owner:
            opening.owner = self._gate.facts.owners.get(opening.fd, opening.stat)

    def waits_for_writers(self, opening: OpenContext) -> bool:
        """Return True if an open to read and write depends on the kind, and the file has a writer."""
        request, evidence = opening.request, opening.evidence
        both = request.writing and request.ops & Op.READ
        waits = both and evidence.asked and not evidence.holds()
        return bool(waits and self._leases_mean(request.node))

    def check_node(self, opening: OpenContext) -> None:
        """Refuse this open: ESTALE if it needs another node, ETXTBSY if it would empty a running program, or
        as demand_proof() does. For an open for writing, release the lease that proved the kind."""
        self.check_path(opening)
        self.check_running(opening.request.node, opening.request.flags)
        self.demand_proof(opening)
        if opening.request.writing:
            opening.evidence.close()  # the daemon's own open for writing would break the lease

    def check_view(self, opening: OpenContext) -> None:
        """Raise ESTALE if the caller has another view at one name, or the node serves other callers."""
        node, caller = opening.request.node, opening.request.caller
        for state in node.states():
            view = self._gate.engine.view(caller.principal, state)
            if view is not node.view and not (view.raw and node.view.raw):
                raise StaleNodeError
        whose = self._views.whose(
            self._gate.engine, caller, node.view, node.byte_path, node.last_state, lambda: opening.owner
        )
        if node.whose != whose:
            raise StaleNodeError

    def check_path(self, opening: OpenContext) -> None:
        """Raise ESTALE if this open now needs another byte path than the node's."""
        request = opening.request
        node, caller, writing = request.node, request.caller, request.writing
        try:
            self.check_view(opening)
        except StaleNodeError:
            if writing:  # the kernel looks the name up only once more, and must then find a writer's node
                self._views.expect_writer(node.ino, self._gate.engine.view(caller.principal, node.state))
            raise
        if node.parent is None and node.byte_path is not BytePath.COPY:
            return
        if node.view.raw and node.byte_path.finds_kind and not writing:
            self._views.proven(node.ino, caller)
            return
        byte_path = self._views.byte_path(
            self._gate.engine, caller, node.view, node.state, opening.stat, lambda: opening.owner,
            writing=writing,
        )  # fmt: skip
        if byte_path is not node.byte_path:
            if writing:
                self._views.expect_writer(node.ino, node.view)
            elif {byte_path, node.byte_path} == {BytePath.COPY, BytePath.LEASED}:
                self.resized(request)
            raise StaleNodeError

    def resized(self, request: OpenRequest) -> None:
        """Note, before ESTALE, that the file is too large for a copy now, or small enough. Where leases prove
        nothing, the second try needs a copy."""
        if self._leases_mean(request.node):
            self._views.resized(request.node.view, request.caller)

    def demand_proof(self, opening: OpenContext) -> None:
        """Refuse an open for reading that depends on the kind if no lease proves it. Sets *by_kind*.

        Who only reads gets ESTALE, and then a node that shows a copy; an open that also writes, or of a
        nameless file, EBUSY while there is a writer, or EACCES where leases prove nothing, on record.
        INVARIANT: no await between this call and a reader's last step."""
        request, evidence, node = opening.request, opening.evidence, opening.request.node
        opening.by_kind = False
        if not evidence.asked or not request.ops & Op.READ or node.view.redact or node.byte_path.finds_kind:
            return
        if not self._gate.hangs_on_kind(request.caller.principal, request.ops, node, evidence.owner):
            return
        if not evidence.holds() or not (request.writing or node.byte_path is BytePath.RAW):
            self.unproven(node, request.caller, request.call, writing=request.writing)
        opening.by_kind = True

    def still_proven(self, opening: OpenContext) -> None:
        """Refuse a reader whose proof ended during the record. INVARIANT: no await till the reply."""
        request = opening.request
        if opening.handle.recorded_late and not opening.evidence.holds():
            self.unproven(request.node, request.caller, request.call, writing=False)

    def unproven(self, node: Node, caller: Caller, call: Call, *, writing: bool) -> NoReturn:
        """Refuse an open without proof of the kind: ESTALE for a reader, else EBUSY or EACCES, on record."""
        if not writing and node.parent is not None:
            self._views.unproven(node.ino, caller)
            self._views.outdated(node.view, caller)
            raise StaleNodeError
        decision = Decision(allowed=True, errno=0, audit=Audit.REQUIRED)
        means = self._leases_mean(node)
        note, error = (_UNPROVEN, errno.EBUSY) if means else (_NEVER_PROVEN, errno.EACCES)
        self._gate.refuse(caller, call, node.path(), decision, note=note, error=error)

    def _leases_mean(self, node: Node) -> bool:
        """Return False if no read lease can prove that nobody writes the node's file."""
        return self._keeper is not None and not self._keeper.is_void(self._nodes.dev_in(node.ino))

    def check_running(self, node: Node, flags: int) -> None:
        """Raise ETXTBSY for O_RDONLY|O_TRUNC of a running program: the kernel checks this only after the
        reply to OPEN (fs/namei.c, handle_truncate), when the bytes would be gone."""
        if not flags & os.O_TRUNC or flags & os.O_ACCMODE != os.O_RDONLY:
            return
        for other in self._nodes.same_inode(node.ino):
            if any(handle.flags & FMODE_EXEC for handle in self._handles.of_node(other)):
                raise OSError(errno.ETXTBSY, "the file is being executed")

    def check_emptying(self, opening: OpenContext) -> None:
        """Refuse, on record, to open a redacted file of another owner for writing, unless it is empty, or
        emptied by this open or a draft of the app (docs/policy-language.md, "Redaction"). Sets *emptied* if
        that is why the app may write."""
        request, node, who = opening.request, opening.request.node, opening.request.caller.principal
        if not request.writing or not node.view.redact:
            return
        if who.app is not None and opening.owner == who.app:
            return
        if not self._views.hidden_now(self._gate.engine, who, node.state, lambda: opening.owner):
            return
        # The attributes are read again: the release of a writer may have emptied the file since step 1.
        if opening.stat.size and not request.empties and not looks_empty(node, self._tree.fstat(opening.fd)):
            self._views.writer_came(node.ino, node.view)  # expect no writer: readers keep their byte path
            decision = Decision(allowed=False, errno=errno.EACCES, audit=Audit.REQUIRED)
            self._gate.refuse(request.caller, request.call, node.path(), decision, note=_NOT_EMPTIED)
        opening.emptied = True

    def check_brake(self, opening: OpenContext) -> None:
        """Count a file that the app opens for writing, or raise BrakedError. From then on the handle may
        change it: in passthrough no later request tells."""
        request = opening.request
        if not request.writing:
            return
        node, facts = request.node, (opening.owner, opening.stat)
        names = (Changed(state, node.ftype, *facts) for state in node.states())
        self._gate.count(request.caller, request.call, node.path(), *names)

    def check_emptied(self, opening: OpenContext) -> None:
        """Refuse to empty a file if the app may not write an empty one. Not if a draft keeps the bytes, nor
        in passthrough, where a writer keeps the rights of its open."""
        handle, state = opening.handle, opening.shared
        kept = state.mode is not Mode.MEDIATED or state.draft is not None or opening.decision.in_draft
        if opening.request.empties and handle.writable and not kept:
            self._gate.require_writing_empty(handle, opening.request.call)

    def sent_back(self, opening: OpenContext) -> None:
        """Prepare for the second try of an open that gets ESTALE; first the kernel looks the name up."""
        node, caller = opening.request.node, opening.request.caller
        self._replaced_files.missed(node, caller.pid)
        self._nodes.vectors.drop_beside(node)  # the next LOOKUP must reach Python, which keeps its file
        if opening.request.writing:
            self._views.expect_writing(node.ino, caller)
        if node.byte_path is BytePath.COPY and node.whose == caller.principal.lane:
            self._views.outdated(node.view, caller)

    def let_in(self, opening: OpenContext) -> None:
        """Note that no second try of an open comes: the thread's next look-ups need no node for a writer."""
        self._views.expect_nothing(opening.request.node, opening.request.caller)
