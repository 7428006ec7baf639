"""Answers at one path for one caller, as docs/policy-language.md ("The decision") defines them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from policyfs.domain import (
    KIND_DIRECTORY,
    OWNER_NONE,
    Audit,
    Decision,
    Facts,
    FileType,
    Need,
    Op,
    RuleMatch,
    banned,
)
from policyfs.policy.memo import Memo
from policyfs.policy.model import Effect, Policy
from policyfs.policy.rules.callers import Caller
from policyfs.policy.rules.facts import Truth, fixed_facts
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import Live, Table, hides, sample_facts_of
from policyfs.policy.rules.tally import Tally

_SEE: Final = int(Op.SEE)
_FILL: Final = int(Op.WRITE | Op.CREATE)
"""Operations by which a name can get bytes: by a write, or by a rename or link to it."""


class Profile:
    """All rules that can match at one path for one caller.

    hiding: the rules that hide a directory above under all facts. hiding_maybe: those that do so for certain
    owners. can_fill: True if the caller could bring bytes under this name: only then content requirements
    apply. limits: the limits on changes, which are not among *lives*: they decide nothing.
    """

    __slots__ = ("can_fill", "hiding", "hiding_maybe", "limits", "lives", "lost", "policy", "top")

    def __init__(
        self,
        policy: Policy,
        lives: tuple[Live, ...],
        above: Sequence[Live] = (),
        *,
        top: bool,
        lost: bool = False,
        lenient: bool = False,
    ) -> None:
        """Prepare the rules at the path (lives), and those that can hide a directory above (above).

        lost: see automaton.MAX_BOUND; also with --monitor. lenient: True for an app with --monitor: then a
        missing allow rule denies nothing.
        """
        self.policy = policy
        self.top = top
        self.lost = lost
        self.limits = tuple(live for live in lives if live.rule.effect is Effect.LIMIT)
        self.lives = tuple(live for live in lives if live not in self.limits) if self.limits else lives
        certain = {live.number: live for live in above if live.must_match(FileType.DIRECTORY)}
        maybe = {live.number: live for live in above if may_hide(live) and live.number not in certain}
        self.hiding = tuple(certain[number] for number in sorted(certain))
        self.hiding_maybe = tuple(maybe[number] for number in sorted(maybe))
        self.can_fill = (lenient and not lost) or any(
            live.ops & _FILL
            and live.rule.effect is Effect.ALLOW
            and not live.rule.monitor
            and live.may_match(FileType.REGULAR)
            for live in self.lives
        )

    def answer(
        self,
        ops: int,
        ftype: FileType,
        facts: Facts,
        *,
        below: Callable[[], bool],
        lenient: bool = False,
    ) -> Decision:
        """Return the decision on these operations, and SEE. below: a function that returns True if the caller
        could see some path below. lenient: as in the constructor."""
        # which rules redact or check a lost path is not known, so --monitor must not open it
        lenient = lenient and not self.lost
        tally = Tally(self.policy, ops | _SEE, can_fill=self.can_fill, lenient=lenient)
        known = fixed_facts(ftype, facts)
        for live in self.lives:
            touched = live.ops & tally.ops
            if touched:
                truth = live.match(known)
                if truth:
                    tally.count(live, touched, truth, known.kind)
        bare = self._see(tally, ftype, below)
        return tally.decision(bare=bare)

    def _see(self, tally: Tally, ftype: FileType, below: Callable[[], bool]) -> bool:
        """Decide if the caller sees the path. Return True if only as a way to a path below, or the root."""
        tally.hide(self.hiding)
        if self.lost or self.hiding:
            tally.unseen = True
            tally.named = bool(self.hiding)
        elif tally.denied & _SEE:
            tally.unseen = not self.top
            tally.named = True
        elif tally.granted & _SEE:
            return False
        elif not self.top:
            tally.unseen = not (ftype is FileType.DIRECTORY and below())
        return not tally.unseen

    def content(self, facts: Facts) -> tuple[Live, ...]:
        """Return the enforced content requirements that apply to a regular file here."""
        return tuple(live for live in self._content(facts) if not live.rule.monitor)

    def monitored_content(self, facts: Facts) -> tuple[Live, ...]:
        """Return the content requirements in monitor mode that apply to a regular file at this path."""
        return tuple(live for live in self._content(facts) if live.rule.monitor)

    def _content(self, facts: Facts) -> Iterator[Live]:
        for live in self.lives if self.can_fill else ():
            if live.rule.effect is Effect.CONTENT and live.match(facts):
                yield live

    def content_possible(self) -> bool:
        """Return True if a content requirement, also one in monitor mode, can apply to a file here."""
        return self.can_fill and any(
            live.rule.effect is Effect.CONTENT and live.may_match(FileType.REGULAR) for live in self.lives
        )

    def content_monitors(self) -> frozenset[str]:
        """Return the ids of the content requirements in monitor mode that can apply to a file here."""
        return frozenset(
            live.rule.id for live in self.lives
            if live.rule.effect is Effect.CONTENT and live.rule.monitor and live.may_match(FileType.REGULAR)
        )  # fmt: skip

    def possible(self, ftype: FileType, *, below: Callable[[], bool], lenient: bool) -> Op:
        """Return READ, WRITE and ATTR as far as allowed for some kind and owner (for stat's modes)."""
        facts = sample_facts_of(self.lives, ftype, unknown=False)
        possible = Op(0)
        for op in (Op.READ, Op.WRITE, Op.ATTR):
            answers = (self.answer(int(op), ftype, one, below=below, lenient=lenient) for one in facts)
            possible |= op if any(answer.allowed for answer in answers) else Op(0)
        return possible

    def needs(self, ops: int, ftype: FileType, *, below: Callable[[], bool], lenient: bool) -> Need:
        """Return the facts (kind, owner) on which the answer to the operations depends.

        INVARIANT: a Profile does not keep this result: two uids of one app can share it, but differ in
        *below*.
        """
        relevant = [live for live in self.lives if live.ops & (ops | _SEE)]
        if all(live.fixed is not None and not live.raw.names for live in relevant):
            return Need.NOTHING
        samples = sample_facts_of(relevant, ftype, unknown=False)

        def outcome(facts: Facts) -> tuple[object, ...]:
            return _outcome(self.answer(ops, ftype, facts, below=below, lenient=lenient))

        full = {facts: outcome(facts) for facts in samples}
        candidates = [Need.NOTHING, Need.OWNER, Need.KIND, Need.KIND | Need.OWNER]
        if ftype is not FileType.REGULAR:
            candidates = [Need.NOTHING, Need.OWNER]
        for need in candidates[:-1]:
            told = {facts: _only(facts, need) for facts in samples}
            part = {facts: outcome(facts) for facts in set(told.values())}
            if all(full[facts] == part[told[facts]] for facts in samples):
                return need
        return candidates[-1]


def profile_at(table: Table, state: PathState, caller: Caller, *, lenient: bool) -> Profile:
    """Return the profile of a path for a caller. lenient: see Profile."""
    lives = tuple(
        live for situated in state.situated(table) if (live := table.live(situated, caller)) is not None
    )
    above = [live for situated in state.hides if (live := table.live(situated, caller))]
    return Profile(table.policy, lives, above, top=state.top, lost=state.position.lost, lenient=lenient)


class Profiles:
    """The profiles of one engine, remembered up to a limit. dry_run: True with --monitor. They do not refer
    to the engine, so that an old engine is freed with the last reference to it."""

    def __init__(self, table: Table, remembered: int, *, dry_run: bool) -> None:
        self._table: Final = table
        self._dry_run: Final = dry_run
        self.known: Final[Memo[tuple[PathState, int, int | None], Profile]] = Memo(remembered)

    def of(self, state: PathState, caller: Caller) -> Profile:
        """Return the profile of a path for a caller: the rules that can match there under some facts."""
        own = caller.uid if caller.app is not None else None
        uid = own if own is not None and state.tells_uid(self._table, own) else None
        key = (state, caller.of.number, uid)
        found = self.known.get(key)
        if found is None:
            lenient = self._dry_run and caller.app is not None
            made = profile_at(self._table, state, caller, lenient=lenient)
            found = self.known.keep(key, made, state.units)
        return found


def _only(facts: Facts, need: Need) -> Facts:
    return Facts(facts.kind if need & Need.KIND else None, facts.owner if need & Need.OWNER else None)


def _outcome(decision: Decision) -> tuple[object, ...]:
    return (
        decision.allowed,
        decision.errno,
        decision.audit,
        decision.redact,
        decision.content,
        decision.monitored_content,
        decision.quarantine,
        decision.keep,
        decision.bare,
        decision.would_deny,
        decision.would_allow,
    )


def bans(live: Live, facts: Facts) -> bool:
    """Return True if this rule forbids data of some words, also in attributes. facts: of fixed_facts."""
    rule = live.rule
    forbids = rule.effect is Effect.CONTENT and not rule.monitor and bool(banned((rule.content,)))
    return forbids and bool(live.match(facts))


def hidden_by(chain: Iterable[tuple[Profile, Facts]]) -> Decision | None:
    """Return a denial if deny rules for SEE hide one of these directories (profile, known facts), or None."""
    found: dict[str, RuleMatch] = {}
    audits: list[Audit] = []
    for profile, facts in chain:
        known = fixed_facts(FileType.DIRECTORY, facts)
        for live in profile.lives:
            truth = live.match(known) if hides(live.rule) else Truth.NO
            if truth:
                match = RuleMatch(live.rule.id, live.rule.effect.value, Op.SEE, truth is Truth.YES)
                found.setdefault(match.rule, match)
                audits.append(live.rule.audit_or(profile.policy.audit_denied))
    return Decision(False, errno.ENOENT, tuple(found.values()), max(audits)) if found else None


def may_hide(live: Live) -> bool:
    """Return True if this deny rule for SEE matches a directory with some owner."""
    owners = [*sorted({o for c in live.conditions() for o in c.owners or ()}), OWNER_NONE, "\0", None]
    return any(live.match(Facts(KIND_DIRECTORY, owner)) for owner in owners)
