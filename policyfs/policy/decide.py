"""The engine: a compiled policy that answers requests. Only one thread at a time may use an engine.

A path state stands for a path, and a principal for a caller. The answer to a repeated request is one
dictionary look-up. The engine leaves one rule to the file system ("Redaction" in docs/policy-language.md). If
a file is redacted for an app, and the app does not own the file, the app may open the file for writing only
if the open empties the file first. The file system decides this by the flags of the open, ``Decision.redact``
and the file's owner.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

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
from policyfs.policy.collector import paused
from policyfs.policy.exceptions import in_force
from policyfs.policy.globs.classes import FewClasses, few_classes
from policyfs.policy.globs.names import text_of
from policyfs.policy.memo import Memo
from policyfs.policy.model import Policy
from policyfs.policy.moves.losses import Losses
from policyfs.policy.moves.moves import End, Mover, combined
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.distinctions import Distinctions
from policyfs.policy.rules.facts import fixed_facts
from policyfs.policy.rules.profile import Profile, Profiles, bans, hidden_by
from policyfs.policy.rules.scope import Scope
from policyfs.policy.rules.states import Paths, PathState
from policyfs.policy.rules.table import Table
from policyfs.policy.rules.views import Views
from policyfs.policy.rules.visibility import Sight

__all__ = ["End", "Engine", "PathState", "compile_policy"]

REMEMBERED: Final = 1 << 16
"""Capacity of each table of remembered answers in an engine. An answer counts as one unit, or more if it is
large (memo.Memo)."""


class Engine:
    """A compiled policy. Path states and principals are valid only for the engine that made them."""

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
        self._distinctions: Final = Distinctions(self._table, self._sight, remembered, dry_run=monitor)
        self._profiles: Final = Profiles(self._table, remembered, dry_run=monitor)
        self._mover: Final = Mover(self._table, self._paths, self._sight, self._profiles, remembered)
        self._losses: Final = Losses(self._table, self._paths, self._profiles, remembered)
        self._decisions: Final[Memo[tuple[PathState, int, Op, FileType, Facts], Decision]] = Memo(remembered)
        self._pool: Final[Memo[Decision, Decision]] = Memo(remembered)
        self._viewed: Final[Memo[Profile, View]] = Memo(remembered)
        self._needs: Final[Memo[tuple[PathState, int, Op, FileType], Need]] = Memo(remembered)
        self._possible: Final[Memo[tuple[PathState, int, FileType], Op]] = Memo(remembered)

    # ---- paths and callers

    def child(self, state: PathState, name: bytes) -> PathState:
        """Return the path state of the entry ``name`` in the directory with this state."""
        return self._paths.child(state, name)

    def known_child(self, state: PathState, name: bytes) -> PathState | None:
        """Return the path state of a name if child() or remember() has stored it, else None.

        state: the directory's path state.
        """
        return self._paths.known(state, name)

    def step(self, state: PathState, name: bytes) -> PathState:
        """Compute the path state of the name *name* in a directory, without remembering it.

        So a repeated call takes as long as the first call.
        """
        return self._paths.step(state, text_of(name))

    def remember(self, state: PathState, name: bytes, child: PathState) -> None:
        """Remember a result of step() for later calls of child() and known_child()."""
        self._paths.remember(state, name, child)

    def classes_in(self, state: PathState) -> FewClasses | None:
        """Return sample names for the classes of names that rules distinguish in this directory.

        Return None in the same cases as few_classes().
        """
        return few_classes(self._table.automaton, state.position)

    def state_of(self, path: bytes) -> PathState:
        """Return the state of an absolute path such as ``b"/DCIM/a.jpg"``."""
        return self._paths.state_of(path)

    def principal(self, uid: int) -> Principal:
        """Return the principal of a uid on a shared mount: the app that lists the uid, or a stranger."""
        return self._principal(self._table.callers.app_of(uid), uid)

    def app_principal(self, app: str, uid: int) -> Principal:
        """Return the principal of an app mount's app under a uid. Raise KeyError if there is no such app."""
        return self._principal(app, uid)

    def _principal(self, app: str | None, uid: int) -> Principal:
        differ = app is not None and self._scope.uids_matter(app)
        return self._table.callers.principal(
            app, uid, uid_matters=self._table.uses_uid, uids_differ=differ
        )

    # ---- answers

    def decide(self, who: Principal, ops: Op, state: PathState, ftype: FileType, facts: Facts) -> Decision:
        """Decide a request that needs all operations of ``ops`` at this path. SEE is always needed, too.

        If several operations are refused, the answer has the errno that reveals least. So if SEE is refused,
        the errno is ENOENT. Obligations come from READ and WRITE, if they are in ``ops``. If a field of
        ``facts`` is None, the fact is unknown and counts against the caller.
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
        """Return the facts on which the answer of ``decide`` depends. Other facts may stay unknown."""
        key = (state, who.key, ops, ftype)
        found = self._needs.get(key)
        if found is None:
            caller = self._caller(who)
            answer = self._profiles.of(state, caller).needs(
                int(ops),
                ftype,
                below=lambda: self._sight.below(state.position, caller),
                lenient=self._lenient(caller),
            )
            found = self._needs.keep(key, answer, state.units)
        return found

    def possible(self, who: Principal, state: PathState, ftype: FileType) -> Op:
        """Return the operations among READ, WRITE and ATTR that ``decide`` would allow for some kind and
        owner.
        """
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
        """Return the view of a regular file at this path.

        The view is raw only if no kind or owner leads to an obligation.
        """
        if state.position.lost:
            return RAW_VIEW
        profile = self._profiles.of(state, self._caller(who))
        found = self._viewed.get(profile)
        if found is None:
            found = self._viewed.keep(profile, self._views.view(profile))
        return found

    def bans(self, who: Principal, state: PathState, ftype: FileType, facts: Facts) -> frozenset[str]:
        """Return the words whose data the rules about this caller forbid in files at this path.

        The rules count even if the caller may not write files here. The caller may still set attributes, and
        attributes can contain the same data. A field of ``facts`` that is None counts against the caller.
        """
        known = fixed_facts(ftype, facts)
        lives = self._profiles.of(state, self._caller(who)).lives
        return banned(live.rule.content for live in lives if bans(live, known))

    def unrestricted(self, who: Principal, state: PathState) -> bool:
        """Return True if the caller may certainly do everything to any file at this path, without
        obligations: no redaction, no check, and no event that must be on record.
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
        """Return True if the owner of some directory above can decide whether this path is hidden."""
        return self._scope.owner_matters_above(state)

    def hidden_above(self, who: Principal, chain: Sequence[tuple[PathState, Facts]]) -> Decision | None:
        """Return the denial if rules hide directories above a path from the caller, else None.

        Then the path is hidden, too. chain: the path state and the known facts of each directory above the
        path, from the root down. Return None also with --monitor, if the caller is an app.
        """
        caller = self._caller(who)
        if self._lenient(caller):
            return None
        return hidden_by((self._profiles.of(state, caller), facts) for state, facts in chain if not state.top)

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
        """Decide rename(2).

        replaced: the file at the new path, if any. old.facts and new.facts must be the facts of the moved
        file (see needs_move), and replaced.state must be new.state. same_directory: True if both names are in
        one directory. (A rule that hides this directory hides both names.) False is always safe. Raise
        ValueError for an exchange without ``replaced``.
        """
        answer = self._mover.rename(
            self, who, old, new, replaced, exchange=exchange, same_directory=same_directory
        )
        if answer.errno != errno.EXDEV:
            return answer
        back = [(replaced, old.state)] if exchange and replaced is not None else []
        copied = self.cross_device(who, [(old, new.state), *back])
        # the rules that refuse the rename and the rules that refuse the copy are the cause together
        return combined([replace(answer, errno=copied.errno), copied])

    def cross_device(self, who: Principal, moves: Sequence[tuple[End, PathState]]) -> Decision:
        """Return the refusal of a rename that only a copy could carry out.

        moves: each file, and its new path. The errno is EACCES if the copy would lose data that are hidden
        from the caller. Otherwise the errno is EXDEV, so that mv copies the file.
        """
        return self._losses.refusal(self, who, moves)

    def link(self, who: Principal, old: End, new: End, *, same_directory: bool = False) -> Decision:
        """Decide link(2). The arguments are those of rename()."""
        return self._mover.link(self, who, old, new, same_directory=same_directory)

    def needs_move(self, who: Principal, old: PathState, new: PathState, ftype: FileType) -> Need:
        """Return the facts of a file on which the answer to a rename or link can depend."""
        return self._mover.needs(self, who, old, new, ftype)

    def asks_more(self, old: PathState, new: PathState) -> bool:
        """Return True if perhaps some app has a content requirement at ``new`` that it lacks at ``old``.

        The bytes of a file at ``old`` were not checked against this requirement.
        """
        return self._mover.asks_more(old, new)

    def gives_more(self, old: PathState, new: PathState, ftype: FileType, *, same_directory: bool) -> bool:
        """Return True if perhaps some caller has more rights at ``new``, or other content requirements."""
        return self._mover.gain(old, new, ftype, same_directory=same_directory)

    # ---- kernel caches

    @property
    def distinctions(self) -> Distinctions:
        """The tests that show if answers depend on the caller in a shared mount."""
        return self._distinctions

    def uids_matter(self, app: str) -> bool:
        """True if an app can get different answers under different uids at some path, in an app mount."""
        return self._scope.uids_matter(app)

    def caller_matters(self, state: PathState) -> bool:
        """Return True if callers can get different answers to some request at this path."""
        return self._scope.caller_matters(state)

    def caller_matters_below(self, state: PathState) -> bool:
        """Return True if callers can get different answers at some path below this path."""
        return self._scope.caller_matters_below(state)

    def shows_all_in(self, who: Principal, state: PathState) -> bool:
        """Return True if the caller certainly sees every name in this directory, whatever its file is.

        If all callers see the same names in the directory (Distinctions.below() is False), the result is the
        same for all callers.
        """
        if self._scope.may_hide_below(state) or self._table.automaton.may_lose(state.position):
            return False
        caller = self._caller(who)
        if self._lenient(caller):
            return True
        if self._scope.may_except_in(state):
            return False
        return self._distinctions.sees_always(self._paths.step_of_all(state), caller)

    def contents(self) -> Iterator[list[object]]:
        """Yield lists of this engine's objects, so that the caller can free the engine in small steps.

        Freeing a large engine at once takes a tenth of a second.
        """
        memos: tuple[Memo[Any, Any], ...] = (
            self._decisions, self._pool, self._viewed, self._possible,
            self._paths.children, self._profiles.known,
        )  # fmt: skip
        for memo in memos:
            yield list(memo.entries())
        yield self._table.contents()

    def shows_plainly_below(self, who: Principal, state: PathState) -> bool:
        """Return True if the caller certainly sees everything below this path, without any obligation.

        Return False if a glob has ``{uid}``: such a rule can match one uid of an app and fail for another.
        """
        if self._table.uses_uid or self._scope.may_capture_below(state):
            return False
        if not self._scope.only_allows_below(state):
            return False
        child = self._paths.step_of_all(state)
        if self._paths.step_of_all(child) is not child:  # paths two levels down have another state
            return False
        return all(
            self.decide(who, Op.SEE, child, ftype, NO_FACTS).allowed
            for ftype in (FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK)
        )

    # ---- parts for explaining

    @property
    def table(self) -> Table:
        """The compiled rules."""
        return self._table

    def profile(self, who: Principal, state: PathState) -> Profile:
        """Return the profile of a path for a caller: the rules that can match there under some facts."""
        return self._profiles.of(state, self._caller(who))

    def caller(self, who: Principal) -> Caller:
        """Return the caller of a principal: its caller class together with its uid."""
        return self._caller(who)

    def _caller(self, who: Principal) -> Caller:
        return Caller(self._table.callers.class_of(who), who.uid)

    def _lenient(self, caller: Caller) -> bool:
        return self.monitor and caller.app is not None


def compile_policy(policy: Policy, *, monitor: bool = False, remembered: int = REMEMBERED) -> Engine:
    """Compile a policy. monitor: True for the option --monitor: all denials of apps are only recorded.

    remembered: the capacity of the tables of remembered answers (REMEMBERED).
    """
    with paused():
        return Engine(policy, monitor=monitor, remembered=remembered)


def as_of(engine: Engine, at_ns: int) -> Engine:
    """Return an engine with the exceptions (allow rules with an end date) that are in force at an instant.

    at_ns: ns since 1970. The result is *engine* itself if it has exactly these exceptions.
    """
    policy = in_force(engine.policy, at_ns)
    return engine if policy is engine.policy else compile_policy(policy, monitor=engine.monitor)
