"""The gate: this module decides each request, records the decision, and refuses denied requests.

Handlers only translate, and only the gate asks the policy's engine. A request by node number is decided for
every known name of the node, and the strictest answer counts.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import Final, NoReturn

from policyfs.domain import (
    KIND_EMPTY,
    NO_FACTS,
    Audit,
    Decision,
    Facts,
    FileType,
    Need,
    Op,
    Principal,
    RuleMatch,
)
from policyfs.fs.access.audit import Call, Recorder
from policyfs.fs.access.brakes import BrakedError, Brakes, Changed
from policyfs.fs.access.facts import FactFinder
from policyfs.fs.access.hiding_owners import HidingOwners
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.access.ledger import PolicyRecord
from policyfs.fs.access.path_answers import NameVerdicts, PathAnswers, Unseen, Verdicts
from policyfs.fs.access.views import Views
from policyfs.fs.inodes.caller import Admitted, Caller, Context
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import ROOT_ID, Node
from policyfs.fs.inodes.resolver import Resolver
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.rules.tally import least, strongest

_NOT_SHOWN: Final = Decision(allowed=False, errno=errno.ENOENT)
_EACH: Final = tuple(Op)  # an iteration over Op.ALL takes twenty times as long
WRITE: Final = Op.SEE | Op.WRITE
"""The operations that must be allowed before the bytes of a file change."""
_BRAKED: Final = "the app's brake is on: it has changed too many files (`policyfs brake`)"
_NOT_WRITTEN_EMPTY: Final = "the app may write a file of this kind, but not an empty file"


class PolicyChangedError(OSError):
    """The error if a reload replaced the policy meanwhile: ESTALE makes the kernel send the request again."""

    def __init__(self) -> None:
        super().__init__(errno.ESTALE, "the policy changed")


def _nobody_has_it_open(_node: Node) -> int:
    return -1


class Gate:
    """The gate that decides all requests of one mount, under the policy in force.

    INVARIANT: path states and principals are valid under one policy, which may change at any await. Each
    reload changes *generation*: after an await, such values are used only if it is the same (unchanged()); a
    request by node number is decided again.

    app: of an app mount, else None. posix: True with --posix. admitted: the admitted callers; None: all.
    open_fd: returns a new descriptor of an open node's file, which the caller closes, or -1."""

    def __init__(
        self, engine: Engine, *, app: str | None, resolver: Resolver, facts: FactFinder, recorder: Recorder,
        owners_above: HidingOwners, posix: bool = False, open_fd: Callable[[Node], int] = _nobody_has_it_open,
        admitted: Admitted | None = None, brakes: Brakes | None = None,
    ) -> None:  # fmt: skip
        self.app = app
        self.brakes = brakes or Brakes()
        self._open_fd = open_fd
        self._posix = posix
        self._admitted = admitted
        self._owners_above = owners_above
        self.facts = facts
        self.recorder = recorder
        self._resolver = resolver
        self._principals: dict[int, Principal] = {}
        self._paths = PathAnswers(engine, shared=app is None)
        self._names = NameVerdicts(engine, posix=posix)
        self.engine = engine
        self.policy_record = PolicyRecord()
        self.generation = 0
        self.use(engine)

    def use(self, engine: Engine) -> None:
        """Use another engine for all later decisions: the engine of the new policy, after a reload."""
        self.engine = engine
        self.generation += 1
        self._principals.clear()
        self.brakes.use(engine.policy)
        self._paths = PathAnswers(engine, shared=self.app is None)
        self._names = NameVerdicts(engine, posix=self._posix)
        self.recorder.use_policy(self.generation, engine.digest)

    # -- who --------------------------------------------------------------------------------

    def caller(self, ctx: Context) -> Caller:
        """Return the caller of a request, or raise OSError (EACCES) if the mount does not admit it."""
        if not self.admits(ctx):
            raise OSError(errno.EACCES, "not admitted to this mount")
        return Caller(self.principal, ctx.uid, ctx.gid, ctx.pid, ctx.umask)

    def admits(self, ctx: Context) -> bool:
        """Return True if the mount admits this caller. (For LOOKUP and STATFS; others call caller().)"""
        admitted = self._admitted
        return admitted is None or (ctx.uid == admitted.uid and ctx.gid in admitted.gids)

    def unchanged(self, generation: int) -> None:
        """Raise PolicyChangedError if a reload has come since the caller read the number *generation*."""
        if generation != self.generation:
            raise PolicyChangedError

    def principal(self, uid: int) -> Principal:
        """Return the principal of a uid under the policy in force."""
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
        self, who: Principal, ops: Op, state: PathState, dirfd: int, name: bytes, stat: Stat, parent: Node,
        *, fd: int = -1,
    ) -> Decision:  # fmt: skip
        """Return the decision on an object. fd: its descriptor; if -1, facts are found by *name* in *dirfd*,
        where the kind can be that of another object by then. Raise PolicyChangedError after a reload."""
        generation, ftype, facts = self.generation, stat.ftype, NO_FACTS
        need = self.engine.needs(who, ops, state, ftype)
        if need and fd >= 0:
            facts = await self.facts.behind(fd, need, who.lane, seeing=ops == Op.SEE)
        elif need:
            facts = await self.facts.find(need, dirfd, name, stat, who.lane, seeing=ops == Op.SEE)
        self.unchanged(generation)
        return self.decide(who, ops, state, ftype, facts, parent)

    def decide(
        self, who: Principal, ops: Op, state: PathState, ftype: FileType, facts: Facts, parent: Node | None
    ) -> Decision:
        """Return the engine's decision, or the denial of a special file (shows()) or of a hidden() object."""
        if not self.shows(who, state, ftype, parent):
            return _NOT_SHOWN
        decision = self.engine.decide(who, ops, state, ftype, facts)
        if decision.errno == errno.ENOENT:
            return decision
        return self.hidden(who, state, parent) or decision

    def asked_for(self, who: Principal, above: PathState, name: bytes) -> tuple[PathState, Unseen]:
        """Return the path state of a name in a LOOKUP, and the denials by the path alone, which take the same
        time for all names if no object but a directory is shown (decision 10)."""
        known = self.engine.known_child(above, name)
        state = self.engine.step(above, name) if known is None else known
        unseen = self._paths.unseen(who, state)
        if unseen.but_directory is None:
            if known is None:
                self.engine.remember(above, name, state)
        elif known is not None:
            self.engine.step(above, name)
        return state, unseen

    def free(self, who: Principal, state: PathState, parent: Node | None) -> bool:
        """Return True if the caller may do everything at this path, without obligations. Only with --posix.
        There special files and suid bits work as natively: that the kernel opens them without the daemon
        breaks no rule (docs/decisions/0011-native-where-nothing-is-asked.md)."""
        return (
            self._posix and self.engine.unrestricted(who, state) and self.hidden(who, state, parent) is None
        )

    def shows(self, who: Principal, state: PathState, ftype: FileType, parent: Node | None) -> bool:
        """Return False for a special file, which the kernel opens by itself, at a path that is not free()."""
        return ftype is not FileType.SPECIAL or self.free(who, state, parent)

    def shows_all_in(self, who: Principal, state: PathState) -> bool:
        """Return True if the caller sees every entry in the directory at this path, of any type."""
        return self._paths.shows_all_in(who, state)

    def names_in(self, who: Principal, state: PathState) -> Verdicts:
        """Return the decisions on `see` for all names in a directory that follow from path and type alone."""
        return self._names.of(who, state)

    def hidden(self, who: Principal, state: PathState, parent: Node | None) -> Decision | None:
        """Return the denial if the owner of a directory above hides this path, else None."""
        if parent is None or not self.engine.owner_matters_above(state):
            return None
        return self._owners_above.hidden(who, parent, self.generation, self.engine.hidden_above)

    def hidden_by_any(self, who: Principal, state: PathState, node: Node) -> Decision | None:
        """Return the denial if a directory's owner above hides a name of the node's in this state."""
        if not self.engine.owner_matters_above(state):
            return None
        denials = (self.hidden(who, state, parent) for parent in node.directories(state))
        return next(filter(None, denials), None)

    async def node(
        self, caller: Caller, ops: Op, node: Node, *, fd: int = -1, evidence: KindEvidence | None = None
    ) -> Decision:
        """Return the decision on a request by node number: the strictest answer for all names of the node.

        Raise OSError (ESTALE) if the node is gone. fd: an O_RDONLY descriptor of its file, or -1. evidence:
        keeps the lease that proves the kind."""
        renamed = False
        while True:
            generation, who = self.generation, caller.principal
            need = self.need(who, ops, node)
            facts = NO_FACTS
            if need and node.nodeid != ROOT_ID:
                seeing = ops == Op.SEE
                facts = await self.facts_of(node, need, who, fd, evidence=evidence, seeing=seeing)
            if evidence is not None:
                evidence.kind = facts.kind
            if generation == self.generation:
                decision = self.judge(who, ops, node, facts)
                renamed = self._renamed(decision, node, renamed)
                if not renamed:
                    return decision
            else:
                await self.policy_record.wait()

    def seen_now(self, caller: Caller, node: Node) -> Decision | None:
        """Return the decision by which a caller sees a node, with any facts; None: only node() can decide."""
        who = caller.principal
        decision = None if self.need(who, Op.SEE, node) else self.judge(who, Op.SEE, node, NO_FACTS)
        return decision if decision is not None and decision.allowed else None

    def _renamed(self, decision: Decision, node: Node, before: bool) -> bool:
        """Return True if an open file's names have changed, so that the request must be decided once more."""
        doubted = not decision.allowed or node.parent is None
        return doubted and node.open is not None and not before and self._resolver.renamed(node)

    def need(self, who: Principal, ops: Op, node: Node) -> Need:
        """Return the facts that a decision on a node depends on, by any of its names."""
        need = Need.NOTHING
        for state in node.states():
            need |= self.engine.needs(who, ops, state, node.ftype)
        return need

    async def facts_of(
        self, node: Node, need: Need, who: Principal, fd: int = -1,
        *, evidence: KindEvidence | None = None, seeing: bool = False,
    ) -> Facts:  # fmt: skip
        """Return the facts of a node. Find these by a descriptor, or by a name that leads to the node."""
        behind = functools.partial(
            self.facts.behind, need=need, lane=who.lane, evidence=evidence, seeing=seeing
        )
        held = fd
        if held < 0 and node.parent is None and node.open is not None:
            held = node.open.fd  # an open file that has lost its last name
        if held < 0 and node.parent is None and node.ftype is FileType.DIRECTORY:
            held = self._resolver.dirfd(node)  # a removed directory that a process is in
        if held >= 0:
            return await behind(held)
        try:
            # INVARIANT: find the facts by a descriptor. Another file may take the name meanwhile.
            held = self._resolver.open_checked(node)
        except OSError as error:
            removed = self._resolver.removed_fd(node) if node.ftype is FileType.DIRECTORY else -1
            if removed >= 0:  # a directory removed elsewhere, while a process is in it
                return await behind(removed)
            # If another program renamed or replaced the file, the daemon's open descriptor still leads there.
            held = self._open_fd(node) if error.errno == errno.ESTALE else -1
            if held < 0:
                raise
        try:
            return await behind(held)
        finally:
            os.close(held)

    def needed(self, who: Principal, state: PathState, ftype: FileType) -> Need:
        """Return every fact that a caller's decisions at a path may depend on, for any operation."""
        need = Need.NOTHING
        for op in _EACH:
            if found := self.engine.needs(who, op, state, ftype):
                need |= found
        return need

    def possible(self, who: Principal, node: Node) -> Op:
        """Return the operations (of READ, WRITE and ATTR) that all names of a node allow, for some facts."""
        possible = Op.READ | Op.WRITE | Op.ATTR
        for state in node.states():
            possible &= self.engine.possible(who, state, node.ftype)
        return possible

    def judge(self, who: Principal, ops: Op, node: Node, facts: Facts) -> Decision:
        """Return the decision on a node with the given facts: the strictest answer for all its names."""
        worst: Decision | None = None
        for state in node.states():
            above: list[Node] = node.directories(state) if self.engine.owner_matters_above(state) else []
            for parent in above or (None,):
                worst = stricter(worst, self.decide(who, ops, state, node.ftype, facts, parent))
        if worst is None:
            raise OSError(errno.ESTALE, "a node without a state")
        return worst

    async def handle(self, handle: Handle, ops: Op) -> Decision:
        """Return the present policy's decision on an operation through an open handle, by the facts of its
        file, whatever its name now; for a copy, those when it was made."""
        node, renamed = handle.node, False
        while True:
            generation, who = self.generation, handle.caller.principal
            facts = handle.facts or await self._facts_of_handle(handle, self.need(who, ops, node), who)
            if generation == self.generation:
                decision = self.judge(who, ops, node, facts)
                renamed = self._renamed(decision, node, renamed)
                if not renamed:
                    return decision
            else:
                await self.policy_record.wait()

    async def _facts_of_handle(self, handle: Handle, need: Need, who: Principal) -> Facts:
        state = handle.node.open
        located = None if state is None or state.lease is None or not state.lease.holds() else state.located
        if located is not None:  # the kind was found under this same lease (fs/redacted/leased.py)
            kind, _ = located
            return (await self.facts.behind(handle.fd, need & Need.OWNER, who.lane))._replace(kind=kind)
        if need and handle.fd < 0:  # a handle in passthrough
            return await self.facts_of(handle.node, need, who)
        return await self.facts.behind(handle.fd, need, who.lane)

    def hidden_words(self, handle: Handle) -> frozenset[str]:
        """Return the words for data that is hidden now in an open file from its app: by the policy in
        force, for the file's present owner, by any of its names."""
        owner = self.facts.owner_of(handle.fd)
        hidden: frozenset[str] = frozenset()
        for state in handle.node.states():
            hidden |= Views.hidden_now(self.engine, handle.caller.principal, state, lambda: owner)
        return hidden

    def hangs_on_kind(self, who: Principal, ops: Op, node: Node, owner: str | None) -> bool:
        """Return True if the decision on a node is a denial as long as the file's kind is unknown."""
        return not self.judge(who, ops, node, Facts(None, owner)).allowed

    def require_writing_empty(self, handle: Handle, call: Call) -> None:
        """Refuse, on record, to empty a mediated file that the app could not write while it is empty
        (`inode/x-empty`): the denial of the next write would come too late for the old bytes."""
        who, node = handle.caller.principal, handle.node
        if not self.need(who, WRITE, node) & Need.KIND:
            return
        owner = self.facts.owner_of(handle.fd)
        emptied = self.judge(who, WRITE, node, Facts(KIND_EMPTY, owner))
        if not emptied.allowed:
            self.refuse(
                handle.caller, call, node.path(), emptied, error=errno.EACCES, note=_NOT_WRITTEN_EMPTY
            )

    # -- answers --------------------------------------------------------------------------------

    async def require(
        self, caller: Caller, ops: Op, node: Node, call: Call,
        *, fd: int = -1, evidence: KindEvidence | None = None,
    ) -> Decision:  # fmt: skip
        """Return the decision if it allows a request on a node; else refuse, on record. fd, evidence: as for
        node()."""
        decision = await self.node(caller, ops, node, fd=fd, evidence=evidence)
        if not decision.allowed:
            self.refuse(caller, call, node.path(), decision, kind=evidence.kind if evidence else None)
        return decision

    def count(
        self, caller: Caller, call: Call, path: bytes, *objects: Changed, new_path: bytes | None = None
    ) -> None:
        """Count existing objects that an allowed request removes, overwrites or renames, or raise BrakedError
        (brakes.braked). INVARIANT: no await between the decision and this call: a repeat counts once."""
        if (rule := self.brakes.count(self.engine, caller, path, objects)) is not None:
            refusal = Decision(False, errno.EDQUOT, (RuleMatch(rule.id, "limit", rule.ops),), Audit.REQUIRED)
            refuse = functools.partial(
                self.refuse, caller, call, path, refusal, new_path=new_path, note=_BRAKED
            )
            raise BrakedError(self.brakes.save, refuse)

    def refuse(
        self, caller: Caller, call: Call, path: bytes, decision: Decision,
        *, new_path: bytes | None = None, kind: str | None = None, note: str = "", error: int = 0,
    ) -> NoReturn:  # fmt: skip
        """Record a refusal, and raise its errno: *error*, or the decision's. With *error* the event is a
        denial that must be on record, whatever the decision. Raise EIO if a required record fails."""
        if error and decision.audit is not Audit.REQUIRED:
            decision = Decision(allowed=False, errno=error, rules=decision.rules, audit=Audit.REQUIRED)
        self.recorder.decided(
            caller, call, path, decision, new_path=new_path, kind=kind, note=note, error=error
        )
        raise pyfuse3.FUSEError(error or decision.errno)


def stricter(one: Decision | None, other: Decision) -> Decision:
    """Return a decision as strict as both: a denial wins, and the errno that tells less; obligations add
    up."""
    if one is None or one == other:
        return other
    if one.allowed and other.allowed:
        return Decision(
            allowed=True,
            errno=0,
            rules=tuple(dict.fromkeys(one.rules + other.rules)),
            audit=max(one.audit, other.audit),
            redact=one.redact | other.redact,
            content=one.content + tuple(c for c in other.content if c not in one.content),
            bare=one.bare or other.bare,
            would_deny=tuple(dict.fromkeys(one.would_deny + other.would_deny)),
            would_allow=tuple(dict.fromkeys(one.would_allow + other.would_allow)),
            monitored_content=tuple(dict.fromkeys(one.monitored_content + other.monitored_content)),
            quarantine=one.quarantine or other.quarantine,
            keep=strongest((one.keep, other.keep)),
        )
    denials = [decision for decision in (one, other) if not decision.allowed]
    return Decision(
        allowed=False,
        errno=least(d.errno for d in denials),
        rules=tuple(dict.fromkeys(match for d in denials for match in d.rules)),
        audit=max(one.audit, other.audit),
        would_deny=tuple(dict.fromkeys(name for d in denials for name in d.would_deny)),
        would_allow=tuple(dict.fromkeys(name for d in denials for name in d.would_allow)),
    )
