"""The engine: a compiled policy that answers requests. Pure; one thread at a time.

Paths are path states, one step from their parent's; callers are principals. An answer that was
given before is one dictionary look-up. What opens do under redaction (rule 5 of "The decision":
writing only by emptying the file first) is the file system's to enforce: it knows how a file is
opened, and finds what it needs in ``Decision.redact`` and in who owns the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policyfs.domain import (
    NO_FACTS,
    RAW_VIEW,
    Audit,
    Decision,
    Facts,
    FileType,
    Need,
    Op,
    Principal,
    View,
    banned,
)
from policyfs.policy.callers import Caller
from policyfs.policy.facts import fixed_facts
from policyfs.policy.memo import Memo
from policyfs.policy.model import Effect, Policy
from policyfs.policy.moves import End, Mover
from policyfs.policy.names import text_of
from policyfs.policy.profile import Profile, Profiles, hidden_by
from policyfs.policy.scope import Scope
from policyfs.policy.states import Paths, PathState
from policyfs.policy.table import Table
from policyfs.policy.views import Views
from policyfs.policy.visibility import Sight

__all__ = ["End", "Engine", "PathState", "compile_policy"]

_NO_NAME: Final = "\x01 a name that no rule has \x01"

REMEMBERED: Final = 1 << 16
"""Units of answers of each sort that an engine keeps (memo.Memo)."""


class Engine:
    """Answers for one policy. Path states and principals of one engine mean nothing to another."""

    def __init__(self, policy: Policy, *, monitor: bool, remembered: int) -> None:
        self.policy: Final = policy
        self.digest: Final = policy.digest
        self.monitor: Final = monitor
        self._table: Final = Table(policy, remembered)
        self._paths: Final = Paths(self._table, remembered)
        self.root: Final = self._paths.root
        self._sight: Final = Sight(self._table, remembered)
        self._views: Final = Views()
        self._scope: Final = Scope(self._table, dry_run=monitor)
        self._profiles: Final = Profiles(self._table, remembered, dry_run=monitor)
        self._mover: Final = Mover(self._table, self._paths, self._sight, self._profiles, remembered)
        self._decisions: Final[Memo[tuple[PathState, int, Op, FileType, Facts], Decision]] = Memo(remembered)
        self._pool: Final[Memo[Decision, Decision]] = Memo(remembered)
        self._viewed: Final[Memo[Profile, View]] = Memo(remembered)
        self._possible: Final[Memo[tuple[PathState, int, FileType], Op]] = Memo(remembered)

    # ---- paths and callers

    def child(self, state: PathState, name: bytes) -> PathState:
        """The state of the entry ``name`` in the directory with this state."""
        return self._paths.child(state, name)

    def known_child(self, state: PathState, name: bytes) -> PathState | None:
        """As child, if that was asked before and is remembered."""
        return self._paths.known(state, name)

    def step(self, state: PathState, name: bytes) -> PathState:
        """As child, without remembering it: it takes as long each time."""
        return self._paths.step(state, text_of(name))

    def remember(self, state: PathState, name: bytes, child: PathState) -> None:
        """Let child and known_child answer this from now on; it must be what step answered."""
        self._paths.remember(state, name, child)

    def state_of(self, path: bytes) -> PathState:
        """The state of an absolute path such as ``b"/DCIM/a.jpg"``."""
        return self._paths.state_of(path)

    def principal(self, uid: int) -> Principal:
        """Who a uid is on a shared mount: the app that lists it, or a stranger."""
        callers = self._table.callers
        return callers.principal(callers.app_of(uid), uid, uid_matters=self._table.uses_uid)

    def app_principal(self, app: str, uid: int) -> Principal:
        """Who comes through an app mount under a uid. Raises KeyError: no such app."""
        return self._table.callers.principal(app, uid, uid_matters=self._table.uses_uid)

    # ---- answers

    def decide(self, who: Principal, ops: Op, state: PathState, ftype: FileType, facts: Facts) -> Decision:
        """The answer to a request that needs all of ``ops`` here; seeing is always needed.

        The errno is the one that says least of all that was refused; what is not seen is
        ENOENT. Obligations are those of READ and WRITE, if asked for. Fields of ``facts`` that
        are None are unknown and count against the caller.
        """
        key = (state, who.key, ops, ftype, facts)
        found = self._decisions.get(key)
        if found is not None:
            return found
        caller = self._caller(who)
        answer = self._profiles.of(state, caller).answer(
            int(ops),
            ftype,
            facts,
            below=lambda: self._sight.below(state.position, caller),
            lenient=self._lenient(caller),
        )
        pooled = self._pool.get(answer) or self._pool.keep(answer, answer)
        return self._decisions.keep(key, pooled, state.units)

    def needs(self, who: Principal, ops: Op, state: PathState, ftype: FileType) -> Need:
        """The facts that ``decide`` hangs on: without the others it answers the same."""
        caller = self._caller(who)
        return self._profiles.of(state, caller).needs(
            int(ops),
            ftype,
            below=lambda: self._sight.below(state.position, caller),
            lenient=self._lenient(caller),
        )

    def possible(self, who: Principal, state: PathState, ftype: FileType) -> Op:
        """READ, WRITE and ATTR, as far as ``decide`` would allow them here under some facts."""
        key = (state, who.key, ftype)
        found = self._possible.get(key)
        if found is None:
            caller = self._caller(who)
            answer = self._profiles.of(state, caller).possible(
                ftype,
                below=lambda: self._sight.below(state.position, caller),
                lenient=self._lenient(caller),
            )
            found = self._possible.keep(key, answer, state.units)
        return found

    def view(self, who: Principal, state: PathState) -> View:
        """The view of a regular file here: restricted if any facts could oblige the caller."""
        if state.position.lost:
            return RAW_VIEW
        profile = self._profiles.of(state, self._caller(who))
        found = self._viewed.get(profile)
        if found is None:
            found = self._viewed.keep(profile, self._views.view(profile))
        return found

    def bans(self, who: Principal, state: PathState, ftype: FileType, facts: Facts) -> frozenset[str]:
        """Words that nothing here may tell, of the rules about this caller: also of one who may bring no
        bytes here, for attributes tell, too. A field of ``facts`` that is None counts against the caller.
        """
        known = fixed_facts(ftype, facts)
        return banned(
            live.rule.content
            for live in self._profiles.of(state, self._caller(who)).lives
            if live.rule.effect is Effect.CONTENT and not live.rule.monitor and live.match(known)
        )

    def unrestricted(self, who: Principal, state: PathState) -> bool:
        """True only if the caller may do everything at this path, whatever is there, with nothing
        asked in return: no redaction, no check, no record that must be made.
        """
        answer = self.decide(who, Op.ALL, state, FileType.REGULAR, NO_FACTS)
        return (
            answer.allowed
            and not answer.would_deny
            and answer.audit is not Audit.REQUIRED
            and self.view(who, state).raw
            and not self.needs(who, Op.ALL, state, FileType.REGULAR)
        )

    def owner_matters_above(self, state: PathState) -> bool:
        """True if whether an ancestor hides this path may hang on that ancestor's owner."""
        return self._scope.owner_matters_above(state)

    def hidden_above(self, who: Principal, chain: Sequence[tuple[PathState, Facts]]) -> Decision | None:
        """The denial, if some ancestor is hidden from the caller by what it is.

        chain: the ancestors with what is known of them, root first.
        """
        caller = self._caller(who)
        if self._lenient(caller):
            return None
        for state, facts in chain:
            denial = None if state.top else hidden_by(self._profiles.of(state, caller), facts)
            if denial is not None:
                return denial
        return None

    # ---- moving

    def rename(
        self,
        who: Principal,
        old: End,
        new: End,
        replaced: End | None,
        exchange: bool,
        *,
        same_directory: bool = False,
    ) -> Decision:
        """The answer to rename(2). replaced: what is at the new path, if anything.

        old.facts and new.facts are the moved file's (see needs_move); replaced.state is
        new.state. same_directory: both names are in one directory, so that whatever hides it
        hides both; False is always safe. Raises ValueError: an exchange with nothing.
        """
        return self._mover.rename(
            self, who, old, new, replaced, exchange=exchange, same_directory=same_directory
        )

    def link(self, who: Principal, old: End, new: End, *, same_directory: bool = False) -> Decision:
        """The answer to link(2); arguments as for rename."""
        return self._mover.link(self, who, old, new, same_directory=same_directory)

    def needs_move(self, who: Principal, old: PathState, new: PathState, ftype: FileType) -> Need:
        """The facts of a file that a rename or link from ``old`` to ``new`` may hang on."""
        return self._mover.needs(self, who, old, new, ftype)

    def asks_more(self, old: PathState, new: PathState) -> bool:
        """True if a file that comes from ``old`` to ``new`` may have to hold something there, for whatever
        app, that it did not have to: what was written into it so far was not judged by that.
        """
        return self._mover.asks_more(old, new)

    # ---- what the kernel may remember

    def caller_matters(self, state: PathState) -> bool:
        """False only if every caller gets the same answers at this path."""
        return self._scope.caller_matters(state)

    def caller_matters_below(self, state: PathState) -> bool:
        """False only if every caller gets the same answers at every path below this one."""
        return self._scope.caller_matters_below(state)

    def shows_all_in(self, who: Principal, state: PathState) -> bool:
        """True only if the caller sees everything in the directory at this path, whatever it is."""
        if self._scope.may_hide_below(state):
            return False
        child = self._paths.step(state, _NO_NAME)
        for ftype in (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK):
            answer = self.decide(who, Op.SEE, child, ftype, NO_FACTS)
            if not answer.allowed or answer.bare or self.needs(who, Op.SEE, child, ftype):
                return False
        return True

    # ---- parts for explaining

    @property
    def table(self) -> Table:
        """The compiled rules."""
        return self._table

    def profile(self, who: Principal, state: PathState) -> Profile:
        """What is left of the rules at a path for a caller."""
        return self._profiles.of(state, self._caller(who))

    def caller(self, who: Principal) -> Caller:
        """The principal as rules compare it."""
        return self._caller(who)

    def _caller(self, who: Principal) -> Caller:
        return Caller(self._table.callers.class_of(who), who.uid)

    def _lenient(self, caller: Caller) -> bool:
        return self.monitor and caller.app is not None


def compile_policy(policy: Policy, *, monitor: bool = False, remembered: int = REMEMBERED) -> Engine:
    """Compile a policy. monitor: the mount-wide dry run (``--monitor``). remembered: see REMEMBERED."""
    return Engine(policy, monitor=monitor, remembered=remembered)
