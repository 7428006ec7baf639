"""Answers to requests at one path for one caller: "The decision" of docs/policy-language.md."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

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
)
from policyfs.errors import ERRNO_RANK
from policyfs.policy.callers import Caller
from policyfs.policy.facts import Truth, fixed_facts
from policyfs.policy.memo import Memo
from policyfs.policy.model import Effect, Policy
from policyfs.policy.states import PathState
from policyfs.policy.table import Live, Table, hides, sample_facts_of

NO_ALLOW: Final = "(no rule allows it)"
"""Placeholder in ``would_deny`` for the missing allow under a mount-wide dry run."""

_SEE: Final = int(Op.SEE)
_READ: Final = int(Op.READ)
_FILL: Final = int(Op.WRITE | Op.CREATE)
"""Operations that bring bytes under a name: a write there, or a move or link of a file to it."""


def least(codes: Iterable[int]) -> int:
    """Return the errno that tells least; 0 if there are none."""
    return min(codes, key=lambda code: ERRNO_RANK.get(code, len(ERRNO_RANK)), default=0)


class Rights(NamedTuple):
    """Rights at a path, for comparing paths.

    allowed: bits of Op, SEE as a bare directory included. refusals: the errno of each operation, 0 if
    allowed. redact: empty unless READ is allowed. audits: the strongest level of the rules that
    restrict, and of those that allow.
    """

    allowed: int
    bare: bool
    redact: frozenset[str]
    content: frozenset[frozenset[str]]
    refusals: tuple[int, ...]
    audits: tuple[Audit | None, Audit | None]


class Profile:
    """All rules that can match at one path for one caller, ready for requests.

    hiding: the rules that hide the path from above under any facts. hiding_maybe: those that do so only
    under some owners of the ancestor. can_fill: the caller could bring bytes under this name, because
    some allow of WRITE or CREATE could match; content requirements apply only then.
    """

    __slots__ = ("_need", "can_fill", "hiding", "hiding_maybe", "lives", "lost", "policy", "top")

    def __init__(self, table: Table, state: PathState, caller: Caller, *, lenient: bool) -> None:
        """Collect the rules. lenient: the caller is under the mount-wide dry run; no allow is missing."""
        self.policy: Policy = table.policy
        self.top = state.top
        self.lost = state.position.lost
        self.lives = tuple(
            live for situated in state.situated(table) if (live := table.live(situated, caller)) is not None
        )
        above = [live for situated in state.hides if (live := table.live(situated, caller))]
        certain = {live.number: live for live in above if always_hides(live)}
        maybe = {live.number: live for live in above if may_hide(live) and not always_hides(live)}
        self.hiding = tuple(certain[number] for number in sorted(certain))
        self.hiding_maybe = tuple(maybe[number] for number in sorted(maybe))
        self.can_fill = lenient or any(
            live.ops & _FILL
            and live.rule.effect is Effect.ALLOW
            and not live.rule.monitor
            and live.may_match(FileType.REGULAR)
            for live in self.lives
        )
        self._need: dict[tuple[int, FileType, bool], Need] = {}

    def answer(
        self,
        ops: int,
        ftype: FileType,
        facts: Facts,
        *,
        below: Callable[[], bool],
        lenient: bool = False,
    ) -> Decision:
        """Decide these operations, and SEE in any case.

        below: returns whether some path below could be seen. lenient: the mount-wide dry run.
        """
        tally = _Tally(self, ops | _SEE, lenient=lenient)
        known = fixed_facts(ftype, facts)
        for live in self.lives:
            touched = live.ops & tally.ops
            if touched:
                truth = live.match(known)
                if truth:
                    tally.count(live, touched, truth, known.kind)
        bare = self._see(tally, ftype, below)
        return tally.decision(bare=bare)

    def _see(self, tally: _Tally, ftype: FileType, below: Callable[[], bool]) -> bool:
        """Decide whether the path is seen; return True if only as a bare directory."""
        for live in self.hiding:
            tally.spoke(live, _SEE, Truth.YES, monitor=tally.lenient)
            if tally.lenient:
                tally.would_deny.append(live.rule.id)
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

    def rights(self, ftype: FileType, facts: Facts, *, below: Callable[[], bool]) -> Rights:
        """Return the caller's rights on a file here, as enforced. facts: from fixed_facts."""
        tally = _Tally(self, int(Op.ALL), lenient=False)
        for live in self.lives:
            truth = live.match(facts)
            if truth:
                tally.count(live, live.ops, truth, facts.kind)
        return tally.rights(bare=self._see(tally, ftype, below))

    def content(self, facts: Facts) -> tuple[Live, ...]:
        """Return the enforced content requirements on a regular file here, for this caller."""
        if not self.can_fill:
            return ()
        return tuple(
            live
            for live in self.lives
            if live.rule.effect is Effect.CONTENT and not live.rule.monitor and live.match(facts)
        )

    def content_possible(self) -> bool:
        """True if a content requirement, enforced or only recorded, may touch a file here."""
        return self.can_fill and any(
            live.rule.effect is Effect.CONTENT and live.may_match(FileType.REGULAR) for live in self.lives
        )

    def possible(self, ftype: FileType, *, below: Callable[[], bool], lenient: bool) -> Op:
        """Return those of READ, WRITE and ATTR that some facts would allow.

        access(2) and ownership stand for these operations.
        """
        facts = sample_facts_of(self.lives, ftype, unknown=False)
        possible = Op(0)
        for op in (Op.READ, Op.WRITE, Op.ATTR):
            answers = (self.answer(int(op), ftype, one, below=below, lenient=lenient) for one in facts)
            possible |= op if any(answer.allowed for answer in answers) else Op(0)
        return possible

    def needs(self, ops: int, ftype: FileType, *, below: Callable[[], bool], lenient: bool) -> Need:
        """Return the facts that the answer depends on; any other fact leaves it the same."""
        key = (ops, ftype, lenient)
        if key not in self._need:
            self._need[key] = self._find_need(ops, ftype, below, lenient=lenient)
        return self._need[key]

    def _find_need(self, ops: int, ftype: FileType, below: Callable[[], bool], *, lenient: bool) -> Need:
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


class Profiles:
    """The profiles of one engine, remembered up to a bound. dry_run: the mount-wide one, for apps.

    They do not refer to the engine. So an engine that a reload has replaced is in no reference cycle,
    and it is freed, with all that it remembers, as soon as the last reference is gone.
    """

    def __init__(self, table: Table, remembered: int, *, dry_run: bool) -> None:
        self._table: Final = table
        self._dry_run: Final = dry_run
        self._known: Final[Memo[tuple[PathState, int, int | None], Profile]] = Memo(remembered)

    def of(self, state: PathState, caller: Caller) -> Profile:
        """Return the rules that can still match at a path for a caller."""
        own = caller.uid if caller.app is not None else None
        uid = own if own is not None and state.tells_uid(self._table, own) else None
        key = (state, caller.of.number, uid)
        found = self._known.get(key)
        if found is None:
            lenient = self._dry_run and caller.app is not None
            made = Profile(self._table, state, caller, lenient=lenient)
            found = self._known.keep(key, made, state.units)
        return found


def _only(facts: Facts, need: Need) -> Facts:
    return Facts(facts.kind if need & Need.KIND else None, facts.owner if need & Need.OWNER else None)


def _outcome(decision: Decision) -> tuple[object, ...]:
    """Return the parts of a decision that a request or the trail can tell: all but the rules' names."""
    return (
        decision.allowed,
        decision.errno,
        decision.audit,
        decision.redact,
        decision.content,
        decision.monitored_content,
        decision.quarantine,
        decision.bare,
        decision.would_deny,
        decision.would_allow,
    )


def hidden_by(profile: Profile, facts: Facts) -> Decision | None:
    """Return the denial, if enforced denies of SEE hide this directory under these facts, else None."""
    known = fixed_facts(FileType.DIRECTORY, facts)
    matches: list[RuleMatch] = []
    audits: list[Audit] = []
    for live in profile.lives:
        if hides(live.rule):
            truth = live.match(known)
            if truth:
                certain = truth is Truth.YES
                matches.append(RuleMatch(live.rule.id, live.rule.effect.value, Op.SEE, certain))
                if live.rule.audit is not None:
                    audits.append(live.rule.audit)
    if not matches:
        return None
    audit = max(audits, default=profile.policy.audit_denied)
    return Decision(False, errno.ENOENT, tuple(matches), audit)


def may_hide(live: Live) -> bool:
    """True if this deny of see matches a directory under some owner."""
    owners = [*sorted({o for c in live.conditions() for o in c.owners or ()}), OWNER_NONE, "\0", None]
    return any(live.match(Facts(KIND_DIRECTORY, owner)) for owner in owners)


def always_hides(live: Live) -> bool:
    """True if this deny of see matches a directory under every owner."""
    owners = [*sorted({o for c in live.conditions() for o in c.owners or ()}), OWNER_NONE, "\0", None]
    return all(live.match(Facts(KIND_DIRECTORY, owner)) for owner in owners)


class _Tally:
    """The effects of the rules on one request, and the resulting decision."""

    def __init__(self, profile: Profile, ops: int, *, lenient: bool) -> None:
        self.policy: Final = profile.policy
        self.can_fill: Final = profile.can_fill
        self.ops: Final = ops
        self.lenient: Final = lenient
        self.granted = 0
        self.denied = 0
        self.unseen = False
        self.named = False  # a rule makes it unseen
        self.would_deny: list[str] = []
        self.would_allow: list[str] = []
        self._redacts: list[Live] = []
        self._raw = True
        self._content: list[Live] = []
        self._denies: list[Live] = []
        self._allows: list[Live] = []
        self._said: dict[int, RuleMatch] = {}

    def spoke(self, live: Live, ops: int, truth: Truth, *, monitor: bool) -> None:
        """Add the rule to the rules named in the decision."""
        certain = truth is Truth.YES
        before = self._said.get(live.number)
        if before is not None:
            ops |= int(before.op)
            certain = certain and before.certain
        effect = live.rule.effect.value
        self._said[live.number] = RuleMatch(live.rule.id, effect, Op(ops), certain, monitor)

    def count(self, live: Live, touched: int, truth: Truth, kind: str | None) -> None:
        """Apply the effect of a rule that matches, or may match."""
        rule = live.rule
        monitor = rule.monitor
        if rule.effect is Effect.ALLOW:
            if truth is not Truth.YES:
                return
            self._allows.append(live)
            if monitor:
                self.would_allow.append(rule.id)
            else:
                self.granted |= touched
        elif rule.effect is Effect.DENY:
            if monitor:
                self.would_deny.append(rule.id)
                self._allows.append(live)
            else:
                self.denied |= touched
                self._denies.append(live)
                monitor = self.lenient
        elif rule.effect is Effect.REDACT:
            self._redacts.append(live)
            self._raw = self._raw and live.raw.hold(kind) is Truth.YES
        elif not self.can_fill:
            return
        else:
            self._content.append(live)
        self.spoke(live, touched, truth, monitor=monitor)

    def decision(self, *, bare: bool) -> Decision:
        """Return the resulting decision."""
        code = self._errno(self.ops)
        if self.lenient and code:
            self.would_deny.extend(live.rule.id for live in self._denies)
            if (self.unseen and not self.named) or self.ops & ~(self.granted | self.denied) & ~_SEE:
                self.would_deny.append(NO_ALLOW)
            code = 0
        # a refusal carries no obligations: nobody need sniff a file to refuse it
        redact = self._redact() if code == 0 else frozenset()
        content = self._content if code == 0 else []
        return Decision(
            allowed=code == 0,
            errno=code,
            rules=tuple(self._said[number] for number in sorted(self._said)),
            audit=self._audit(denied=code != 0, redacted=bool(redact)),
            redact=redact,
            content=_distinct(live for live in content if not live.rule.monitor),
            bare=bare,
            would_deny=tuple(dict.fromkeys(self.would_deny)),
            would_allow=tuple(self.would_allow),
            monitored_content=tuple(
                (live.rule.id, live.rule.content) for live in content if live.rule.monitor
            ),
            quarantine=any(live.rule.quarantine for live in content if not live.rule.monitor),
        )

    def rights(self, *, bare: bool) -> Rights:
        """Return the rights: the answers for all operations at once."""
        refusals = tuple(self._errno(int(op)) for op in Op.ALL)
        allowed = sum(int(op) for op, code in zip(Op.ALL, refusals, strict=True) if not code)
        return Rights(
            allowed,
            bare,
            self._redact() if allowed & _READ else frozenset(),
            frozenset(live.rule.content for live in self._content if not live.rule.monitor),
            refusals,
            (
                _strongest((*self._denies, *self._redacts, *self._content)),
                _strongest(self._allows),
            ),
        )

    def _redact(self) -> frozenset[str]:
        if self._raw:
            return frozenset()
        return frozenset(what for live in self._redacts for what in live.rule.redact)

    def _errno(self, ops: int) -> int:
        if self.unseen:
            return errno.ENOENT
        wanted = ops & ~_SEE
        refused = wanted & (self.denied | ~self.granted)
        codes = [live.rule.errno or errno.EACCES for live in self._denies if live.ops & refused]
        if refused & ~self.denied:
            codes.append(errno.EACCES)
        return least(codes)

    def _audit(self, *, denied: bool, redacted: bool) -> Audit:
        """Return the strongest audit level of the rules that made the answer, else the default.

        An allow that is not to be audited silences no denial and no redaction. Rules that are only recorded
        count with those that allow.
        """
        restricting = _strongest((*self._denies, *self._redacts, *self._content))
        allowing = _strongest(self._allows)
        if denied or redacted:
            level = self.policy.audit_denied if restricting is None else restricting
            return level if denied or allowing is None else max(level, allowing)
        said = [level for level in (restricting, allowing) if level is not None]
        level = max(said, default=self.policy.audit_allowed)
        if self.would_deny or self.would_allow:
            return max(level, Audit.BEST_EFFORT)
        return level


def _strongest(lives: Iterable[Live]) -> Audit | None:
    return max((live.rule.audit for live in lives if live.rule.audit is not None), default=None)


def _distinct(lives: Iterable[Live]) -> tuple[frozenset[str], ...]:
    return tuple(dict.fromkeys(live.rule.content for live in lives))
