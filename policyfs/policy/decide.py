"""The engine: a compiled policy that answers requests. Only one thread at a time may use an engine.

A path state stands for a path, and a principal for a caller. The file system decides one rule ("Redaction" in
docs/policy-language.md): a file that is redacted for an app opens for writing only if the open empties it, or
the app owns it.
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
from policyfs.policy.model import Policy, Rule
from policyfs.policy.moves.losses import Losses
from policyfs.policy.moves.moves import End, Mover, combined
from policyfs.policy.rules.callers import Caller, CallerClass
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
"""Capacity, in units, of each table of remembered answers in an engine (memo.Memo)."""


class Engine:
    """A compiled policy. Path states and principals are valid only for the engine that made them."""

    def __init__(self, policy: Policy, *, monitor: bool, remembered: int) -> None:
        self.policy: Final = policy
        self.digest: Final = policy.digest
        self.monitor: Final = monitor
        self.table: Final = Table(policy, remembered)
        self._paths: Final = Paths(self.table, remembered)
        self.root: Final = self._paths.root
        self._remembered: Final = remembered
        self._sight: Final = Sight(self.table, remembered)
        self._views: Final = Views()
        self._scope: Final = Scope(self.table, dry_run=monitor)
        self.distinctions: Final = self.distinctions_of(self.table.callers.of_shared_mount())
        self._profiles: Final = Profiles(self.table, remembered, dry_run=monitor)
        self._mover: Final = Mover(self.table, self._paths, self._sight, self._profiles, remembered)
        self._losses: Final = Losses(self.table, self._paths, self._profiles, remembered)
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
        """Return the path state of a name that child() or remember() has stored, else None."""
        return self._paths.known(state, name)

    def step(self, state: PathState, name: bytes) -> PathState:
        """Compute the path state of a name without remembering it: a repeated call takes as long."""
        return self._paths.step(state, text_of(name))

    def remember(self, state: PathState, name: bytes, child: PathState) -> None:
        """Remember a result of step() for later calls of child() and known_child()."""
        self._paths.remember(state, name, child)

    def classes_in(self, state: PathState) -> FewClasses | None:
        """Return sample names of the classes of names in this directory (few_classes)."""
        return few_classes(self.table.automaton, state.position)

    def state_of(self, path: bytes) -> PathState:
        """Return the state of an absolute path such as ``b"/DCIM/a.jpg"``."""
        return self._paths.state_of(path)

    def principal(self, uid: int) -> Principal:
        """Return the principal of a uid on a shared mount: the app that lists the uid, or a stranger."""
        return self._principal(self.table.callers.app_of(uid), uid)

    def app_principal(self, app: str, uid: int) -> Principal:
        """Return the principal of an app mount's app under a uid. Raise KeyError if there is no such app."""
        return self._principal(app, uid)

    def _principal(self, app: str | None, uid: int) -> Principal:
        differ = app is not None and self._scope.uids_matter(app)
        return self.table.callers.principal(app, uid, uid_matters=self.table.uses_uid, uids_differ=differ)

    # ---- answers

    def decide(self, who: Principal, ops: Op, state: PathState, ftype: FileType, facts: Facts) -> Decision:
        """Decide a request that needs all operations of ``ops``, and SEE, at this path.

        Of several refusals the errno that reveals least counts: ENOENT for SEE. Obligations come from READ
        and WRITE. A field of ``facts`` that is None is unknown, and counts against the caller.
        """
        key = (state, who.key, ops, ftype, facts)
        found = self._decisions.get(key)
        if found is not None:
            return found
        caller = self.caller(who)
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
            caller = self.caller(who)
            answer = self._profiles.of(state, caller).needs(
                int(ops),
                ftype,
                below=lambda: self._sight.below(state.position, caller),
                lenient=self._lenient(caller),
            )
            found = self._needs.keep(key, answer, state.units)
        return found

    def possible(self, who: Principal, state: PathState, ftype: FileType) -> Op:
        """Return READ, WRITE and ATTR as far as ``decide`` would allow them for some kind and owner."""
        key = (state, who.key, ftype)
        found = self._possible.get(key)
        if found is None:
            caller = self.caller(who)
            answer = self._profiles.of(state, caller).possible(
                ftype,
                below=lambda: self._sight.below(state.position, caller),
                lenient=self._lenient(caller),
            )
            found = self._possible.keep(key, answer, state.units)
        return found

    def view(self, who: Principal, state: PathState) -> View:
        """Return the view of a regular file at this path: raw only if no facts lead to an obligation."""
        if state.position.lost:
            return RAW_VIEW
        profile = self._profiles.of(state, self.caller(who))
        found = self._viewed.get(profile)
        if found is None:
            found = self._viewed.keep(profile, self._views.view(profile))
        return found

    def bans(self, who: Principal, state: PathState, ftype: FileType, facts: Facts) -> frozenset[str]:
        """Return the words whose data the rules forbid in files here, also for callers who may not write.
        They may set attributes, which can contain the same data. Unknown facts count against the caller."""
        known = fixed_facts(ftype, facts)
        lives = self._profiles.of(state, self.caller(who)).lives
        return banned(live.rule.content for live in lives if bans(live, known))

    def limited(self, who: Principal, state: PathState) -> bool:
        """Return True if perhaps a limit counts what the caller changes at this path (limits)."""
        return bool(self._profiles.of(state, self.caller(who)).limits)

    def limits(self, who: Principal, state: PathState, ftype: FileType, facts: Facts) -> tuple[Rule, ...]:
        """Return the rules with a limit that count a change of the object here. They decide nothing: if too
        many are changed, the file system refuses (fs/access/brakes.py). An unknown owner counts."""
        lives = self._profiles.of(state, self.caller(who)).limits
        known = fixed_facts(ftype, facts) if lives else facts
        return tuple(live.rule for live in lives if live.match(known))

    def unrestricted(self, who: Principal, state: PathState) -> bool:
        """Return True if the caller may certainly do everything here, without any obligation or record."""
        answer = self.decide(who, Op.ALL, state, FileType.REGULAR, NO_FACTS)
        return (
            answer.allowed
            and not answer.would_deny
            and answer.audit is not Audit.REQUIRED
            and answer.keep is None
            and self.view(who, state).raw
            and not self.needs(who, Op.ALL, state, FileType.REGULAR)
        )

    def owner_matters_above(self, state: PathState) -> bool:
        """Return True if the owner of some directory above can decide whether this path is hidden."""
        return self._scope.owner_matters_above(state)

    def hidden_above(self, who: Principal, chain: Sequence[tuple[PathState, Facts]]) -> Decision | None:
        """Return the denial if rules hide a directory above, else None, as for apps with --monitor. chain:
        the path state and the known facts of each directory above, from the root down."""
        caller = self.caller(who)
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
        """Decide rename(2). Raise ValueError for an exchange without ``replaced``.

        replaced: the file at new.state, if any. old.facts, new.facts: of the moved file (needs_move).
        same_directory: True if a rule that hides one name's directory hides both; False is always safe.
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
        """Return the refusal of a rename that only a copy could carry out (Losses.refusal)."""
        return self._losses.refusal(self, who, moves)

    def link(self, who: Principal, old: End, new: End, *, same_directory: bool = False) -> Decision:
        """Decide link(2). The arguments are those of rename()."""
        return self._mover.link(self, who, old, new, same_directory=same_directory)

    def needs_move(self, who: Principal, old: PathState, new: PathState, ftype: FileType) -> Need:
        """Return the facts of a file on which the answer to a rename or link can depend."""
        return self._mover.needs(self, who, old, new, ftype)

    def asks_more(self, old: PathState, new: PathState) -> bool:
        """Return True if perhaps some app has a content requirement at ``new`` that it lacks at ``old``."""
        return self._mover.asks_more(old, new)

    def gives_more(
        self, who: Principal, old: PathState, new: PathState, ftype: FileType, *, same_directory: bool
    ) -> bool:
        """Return True if perhaps some caller has more rights at ``new``, or other content requirements, and
        ``who`` may not decide that."""
        if not self._mover.gain(old, new, ftype, same_directory=same_directory):
            return False
        return not self._mover.moves_freely(self, who, old, new)

    # ---- kernel caches

    def distinctions_of(self, callers: list[CallerClass]) -> Distinctions:
        """Return the tests whether these callers, as if no other had the mount, get different answers."""
        return Distinctions(self.table, callers, self._sight, self._remembered, dry_run=self.monitor)

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
        """Return True if the caller certainly sees every name in this directory, whatever its file is."""
        if self._scope.may_hide_below(state) or self.table.automaton.may_lose(state.position):
            return False
        caller = self.caller(who)
        if self._lenient(caller):
            return True
        if self._scope.may_except_in(state):
            return False
        return self.distinctions.sees_always(self._paths.step_of_all(state), caller)

    def contents(self) -> Iterator[list[object]]:
        """Yield lists of this engine's objects: freeing a large engine at once takes a tenth of a second."""
        memos: tuple[Memo[Any, Any], ...] = (
            self._decisions, self._pool, self._viewed, self._possible,
            self._paths.children, self._profiles.known,
        )  # fmt: skip
        for memo in memos:
            yield list(memo.entries())
        yield self.table.contents()

    def shows_plainly_below(self, who: Principal, state: PathState) -> bool:
        """Return True if the caller certainly sees everything below, without any obligation. False if a glob
        has ``{uid}``: it can distinguish uids of one app."""
        if self.table.uses_uid or self._scope.may_capture_below(state):
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

    def profile(self, who: Principal, state: PathState) -> Profile:
        """Return the profile of a path for a caller: the rules that can match there under some facts."""
        return self._profiles.of(state, self.caller(who))

    def caller(self, who: Principal) -> Caller:
        """Return the caller of a principal: its caller class together with its uid."""
        return Caller(self.table.callers.class_of(who), who.uid)

    def _lenient(self, caller: Caller) -> bool:
        return self.monitor and caller.app is not None


def compile_policy(policy: Policy, *, monitor: bool = False, remembered: int = REMEMBERED) -> Engine:
    """Compile a policy. monitor: True for --monitor: all denials of apps are only recorded."""
    with paused():
        return Engine(policy, monitor=monitor, remembered=remembered)


def as_of(engine: Engine, at_ns: int) -> Engine:
    """Return an engine with the exceptions in force at an instant (ns since 1970)."""
    policy = in_force(engine.policy, at_ns)
    return engine if policy is engine.policy else compile_policy(policy, monitor=engine.monitor)
