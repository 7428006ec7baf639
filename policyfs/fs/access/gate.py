"""The one door: every request is decided here, recorded here, and refused here.

Handlers translate, the gate decides, the engine knows. A request that arrives by node number is
decided for every name that the node is known by, and the strictest answer counts.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from policyfs.domain import NO_FACTS, Audit, Decision, Facts, FileType, Need, Op, Principal
from policyfs.fs.access.admission import Admitted, Context
from policyfs.fs.access.audit import Call, Recorder
from policyfs.fs.access.facts import FactFinder
from policyfs.fs.access.hiding_owners import HidingOwners
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.strictest import stricter
from policyfs.fs.inodes.handles import Caller, Handle
from policyfs.fs.inodes.node import ROOT_ID, Node
from policyfs.fs.inodes.resolver import Resolver
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine, PathState

_REMEMBERED: Final = 1 << 14
"""How many paths are remembered as hidden or not; beyond that all are forgotten."""


_NOT_SHOWN: Final = Decision(allowed=False, errno=errno.ENOENT)


class PolicyChangedError(OSError):
    """The policy changed while a request was being decided: ESTALE makes the kernel ask again."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "the policy changed")


class Unseen(NamedTuple):
    """Denials of seeing that hang on a path and on no fact: of whatever is there, and of all but a
    directory. None: it may be seen, by its type or by a fact.
    """

    whatever: Decision | None
    but_directory: Decision | None


def _nobody_has_it_open(_node: Node) -> int:
    return -1


class Gate:
    """Decides requests of one mount under the policy in force.

    INVARIANT: states and principals of one policy mean nothing to another, and any await may
    bring another. So nothing of a policy is used after an await unless the generation is still
    the same (unchanged()); what came by node number is decided again instead.

    app: the app whose mount this is, None for a shared mount. posix: was it mounted with --posix.
    admitted: all others are refused. open_fd: a descriptor of a node's file, of one who has it open (the
    caller's to close), or -1.
    """

    def __init__(
        self, engine: Engine, *, app: str | None, resolver: Resolver, facts: FactFinder, recorder: Recorder,
        owners_above: HidingOwners, posix: bool = False, open_fd: Callable[[Node], int] = _nobody_has_it_open,
        admitted: Admitted | None = None,
    ) -> None:  # fmt: skip
        self.app = app
        self._open_fd = open_fd
        self._posix = posix
        self._admitted = admitted
        self._owners_above = owners_above
        self.facts = facts
        self.recorder = recorder
        self._resolver = resolver
        self._principals: dict[int, Principal] = {}
        self._unseen: dict[tuple[PathState, int], Unseen] = {}
        self._shown: dict[tuple[PathState, int], bool] = {}
        self.engine = engine
        self.generation = 0
        self.use(engine)

    def use(self, engine: Engine) -> None:
        """Decide by this engine from now on (a reload)."""
        self.engine = engine
        self.generation += 1
        self._principals.clear()
        self._unseen.clear()
        self._shown.clear()
        self.recorder.use_policy(self.generation, engine.digest)

    # -- who --------------------------------------------------------------------------------

    def caller(self, ctx: Context) -> Caller:
        """Who sent the request: the mount's app, or the app of the caller's uid.

        Raises OSError (EACCES), as the kernel would say, for one whom the mount does not admit.
        """
        if not self.admits(ctx):
            raise OSError(errno.EACCES, "not admitted to this mount")
        return Caller(self.principal, ctx.uid, ctx.gid, ctx.pid, ctx.umask)

    def admits(self, ctx: Context) -> bool:
        """May this caller use the mount at all. LOOKUP asks; for all else see caller()."""
        admitted = self._admitted
        return admitted is None or (ctx.uid == admitted.uid and ctx.gid in admitted.gids)

    def unchanged(self, generation: int) -> None:
        """Go on only if the policy is the one of that generation. Raises PolicyChangedError."""
        if generation != self.generation:
            raise PolicyChangedError

    def principal(self, uid: int) -> Principal:
        """The principal of a uid under the policy in force."""
        known = self._principals.get(uid)
        if known is None:
            if len(self._principals) > 4096:
                self._principals.clear()
            if self.app is None:
                known = self.engine.principal(uid)
            else:
                known = self.engine.app_principal(self.app, uid)
            self._principals[uid] = known
        return known

    # -- decisions ------------------------------------------------------------------------------

    async def at(
        self, who: Principal, ops: Op, state: PathState, dirfd: int, name: bytes, stat: Stat, parent: Node
    ) -> Decision:
        """Decide on what *name* in *dirfd* is now; finds the facts that the answer hangs on.

        Raises PolicyChangedError if the policy changed while they were found.
        """
        generation, ftype = self.generation, stat.ftype
        need = self.engine.needs(who, ops, state, ftype)
        facts = NO_FACTS
        if need:
            facts = await self.facts.find(need, dirfd, name, stat, who.lane, seeing=ops == Op.SEE)
        self.unchanged(generation)
        return self.decide(who, ops, state, ftype, facts, parent)

    def decide(
        self, who: Principal, ops: Op, state: PathState, ftype: FileType, facts: Facts, parent: Node | None
    ) -> Decision:
        """The engine's answer, with directories above that hide by their owners taken in."""
        if not self.shows(who, state, ftype, parent):
            return _NOT_SHOWN
        decision = self.engine.decide(who, ops, state, ftype, facts)
        if decision.errno == errno.ENOENT:
            return decision
        return self.hidden(who, state, parent) or decision

    def asked_for(self, who: Principal, above: PathState, name: bytes) -> tuple[PathState, Unseen]:
        """The state of a name that LOOKUP asks for, and what of it is hidden by its path alone.

        Where all but a directory is hidden this takes as long for a name that was asked for or listed
        before as for one that is new (docs/decisions/0010-hidden-takes-as-long-as-absent.md).
        """
        known = self.engine.known_child(above, name)
        state = self.engine.step(above, name) if known is None else known
        unseen = self._unseen_at(who, state)
        if unseen.but_directory is None:
            if known is None:
                self.engine.remember(above, name, state)
        elif known is not None:
            self.engine.step(above, name)
        return state, unseen

    def _unseen_at(self, who: Principal, state: PathState) -> Unseen:
        key = (state, who.key)
        found = self._unseen.get(key)
        if found is None:
            if len(self._unseen) >= _REMEMBERED:
                self._unseen.clear()
            found = self._unseen[key] = self._hidden_by_path(who, state)
        return found

    def _hidden_by_path(self, who: Principal, state: PathState) -> Unseen:
        answers: dict[FileType, Decision | None] = {}
        for ftype in FileType:
            answer = self.engine.decide(who, Op.SEE, state, ftype, NO_FACTS)
            fact = self.engine.needs(who, Op.SEE, state, ftype)
            answers[ftype] = None if fact or answer.allowed else answer
        file, link, directory = (
            answers[ftype] for ftype in (FileType.REGULAR, FileType.SYMLINK, FileType.DIRECTORY)
        )
        but_directory = file if file == link else None
        return Unseen(but_directory if directory == file else None, but_directory)

    def free(self, who: Principal, state: PathState, parent: Node | None) -> bool:
        """May the caller do everything at this path, whatever is there, with nothing asked in return.

        Only on a mount with --posix. There special files and suid bits are as natively: what goes
        round the daemon goes round no rule (docs/decisions/0011-native-where-nothing-is-asked.md).
        """
        return (
            self._posix and self.engine.unrestricted(who, state) and self.hidden(who, state, parent) is None
        )

    def shows(self, who: Principal, state: PathState, ftype: FileType, parent: Node | None) -> bool:
        """False for fifos, sockets and devices: opening them never asks the daemon (see free)."""
        return ftype is not FileType.SPECIAL or self.free(who, state, parent)

    def shows_all_in(self, who: Principal, state: PathState) -> bool:
        """Does the caller see all that is in the directory at this path, whatever it is.

        False, too, where the kernel tells everybody what it was told of the directory, and not
        everybody sees the same in it.
        """
        key = (state, who.key)
        found = self._shown.get(key)
        if found is None:
            if len(self._shown) >= _REMEMBERED:
                self._shown.clear()
            engine = self.engine
            kept = self.app is None and not engine.caller_matters(state)
            found = engine.shows_all_in(who, state) and not (kept and engine.caller_matters_below(state))
            self._shown[key] = found
        return found

    def hidden(self, who: Principal, state: PathState, parent: Node | None) -> Decision | None:
        """The denial, if a directory above hides what is at this path by its owner."""
        if parent is None or not self.engine.owner_matters_above(state):
            return None
        return self._owners_above.hidden(who, parent, self.generation, self.engine.hidden_above)

    def hidden_by_any(self, who: Principal, state: PathState, node: Node) -> Decision | None:
        """The denial, if a directory above one of a node's names of that state hides it by its owner."""
        if not self.engine.owner_matters_above(state):
            return None
        denials = (self.hidden(who, state, parent) for parent in node.directories(state))
        return next(filter(None, denials), None)

    async def node(
        self, caller: Caller, ops: Op, node: Node, *, fd: int = -1, evidence: KindEvidence | None = None
    ) -> Decision:
        """Decide on a node that came by number: the strictest of all its names. ESTALE if it is gone.

        fd: an O_RDONLY descriptor of it, where there is one: cheaper than finding it by name. evidence:
        keeps what proves its kind.
        """
        renamed = False
        while True:
            generation, who = self.generation, caller.principal
            need = self.need(who, ops, node)
            facts = NO_FACTS
            if need and node.nodeid != ROOT_ID:
                seeing = ops == Op.SEE
                facts = await self.facts_of(node, need, who, fd, evidence=evidence, seeing=seeing)
            if generation == self.generation:
                decision = self.judge(who, ops, node, facts)
                renamed = self._renamed(decision, node, renamed)
                if not renamed:
                    return decision

    def _renamed(self, decision: Decision, node: Node, before: bool) -> bool:
        """Was an open file refused by a name that it has no more, so that it is to be judged again. Once."""
        refused = not decision.allowed and node.open is not None and not before
        return refused and self._resolver.renamed(node)

    def need(self, who: Principal, ops: Op, node: Node) -> Need:
        """The facts that an answer about a node hangs on, by any of its names."""
        need = Need.NOTHING
        for state in node.states():
            need |= self.engine.needs(who, ops, state, node.ftype)
        return need

    async def facts_of(
        self, node: Node, need: Need, who: Principal, fd: int = -1,
        *, evidence: KindEvidence | None = None, seeing: bool = False,
    ) -> Facts:  # fmt: skip
        """Facts of a node by a descriptor, or by a name that leads to it."""
        behind = functools.partial(
            self.facts.behind, need=need, lane=who.lane, evidence=evidence, seeing=seeing
        )
        held = fd
        if held < 0 and node.parent is None and node.open is not None:
            held = node.open.fd  # an open file that has no name any more
        if held < 0 and node.parent is None and node.ftype is FileType.DIRECTORY:
            held = self._resolver.dirfd(node)  # removed, and somebody is in it
        if held >= 0:
            return await behind(held)
        try:
            dirfd, name, stat = self._resolver.locate(node)
        except OSError as error:
            removed = self._resolver.removed_fd(node) if node.ftype is FileType.DIRECTORY else -1
            if removed >= 0:  # elsewhere, while somebody is in it
                return await behind(removed)
            # Renamed or replaced elsewhere, and open here: it still is what it is.
            held = self._open_fd(node) if error.errno == errno.ESTALE else -1
            if held < 0:
                raise
            try:
                return await behind(held)
            finally:
                os.close(held)
        if evidence is not None:
            evidence.expected = stat
        return await self.facts.find(need, dirfd, name, stat, who.lane, evidence=evidence, seeing=seeing)

    def needed(self, who: Principal, state: PathState, ftype: FileType) -> Need:
        """Every fact that a caller's answers about a path could hang on, whatever the operation."""
        need = Need.NOTHING
        for op in Op.ALL:
            need |= self.engine.needs(who, op, state, ftype)
        return need

    def possible(self, who: Principal, node: Node) -> Op:
        """READ, WRITE and ATTR, as far as some facts would allow them under all names of a node."""
        possible = Op.READ | Op.WRITE | Op.ATTR
        for state in node.states():
            possible &= self.engine.possible(who, state, node.ftype)
        return possible

    def judge(self, who: Principal, ops: Op, node: Node, facts: Facts) -> Decision:
        """Decide on a node with the facts given: the strictest of all its names."""
        worst: Decision | None = None
        for state in node.states():
            above: list[Node] = node.directories(state) if self.engine.owner_matters_above(state) else []
            for parent in above or (None,):
                worst = stricter(worst, self.decide(who, ops, state, node.ftype, facts, parent))
        if worst is None:
            raise OSError(errno.ESTALE, "a node without a state")
        return worst

    async def handle(self, handle: Handle, ops: Op) -> Decision:
        """Decide again, under the policy in force, on what an open handle is used for.

        The facts are those of the file behind the handle, whatever its name is now; of a frozen
        copy, those of the file when it was made.
        """
        node, renamed = handle.node, False
        while True:
            generation, who = self.generation, handle.caller.principal
            facts = handle.facts or await self._facts_of_handle(handle, self.need(who, ops, node), who)
            if generation == self.generation:
                decision = self.judge(who, ops, node, facts)
                renamed = self._renamed(decision, node, renamed)
                if not renamed:
                    return decision

    async def _facts_of_handle(self, handle: Handle, need: Need, who: Principal) -> Facts:
        state = handle.node.open
        located = None if state is None or state.lease is None or not state.lease.holds() else state.located
        if located is not None:  # found under this very lease (fs/redacted/leased.py)
            kind, _ = located
            return (await self.facts.behind(handle.fd, need & Need.OWNER, who.lane))._replace(kind=kind)
        return await self.facts.behind(handle.fd, need, who.lane)

    def hangs_on_kind(self, who: Principal, ops: Op, node: Node, owner: str | None) -> bool:
        """Would the answer on a node be a denial if nobody knew of what kind it is."""
        return not self.judge(who, ops, node, Facts(None, owner)).allowed

    # -- answers --------------------------------------------------------------------------------

    async def require(
        self, caller: Caller, ops: Op, node: Node, call: Call,
        *, fd: int = -1, evidence: KindEvidence | None = None,
    ) -> Decision:  # fmt: skip
        """Allow a request on a node, or refuse it on record. fd, evidence: see node()."""
        decision = await self.node(caller, ops, node, fd=fd, evidence=evidence)
        if not decision.allowed:
            self.refuse(caller, call, node.path(), decision)
        return decision

    def refuse(
        self,
        caller: Caller,
        call: Call,
        path: bytes,
        decision: Decision,
        *,
        new_path: bytes | None = None,
        kind: str | None = None,
        note: str = "",
        error: int = 0,
    ) -> NoReturn:
        """Record a refusal and raise its errno (*error*, else the decision's; EIO if it must be on
        record and cannot be). A refusal that no rule asked for is recorded as required.
        """
        if error and decision.audit is not Audit.REQUIRED:
            decision = Decision(allowed=False, errno=error, rules=decision.rules, audit=Audit.REQUIRED)
        self.recorder.decided(
            caller, call, path, decision, new_path=new_path, kind=kind, note=note, error=error
        )
        raise pyfuse3.FUSEError(error or decision.errno)
