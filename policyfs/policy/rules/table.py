"""The rules that remain for one path, and then for one caller.

A *position* is the state of the automaton after a path. At a position, a rule becomes *situated*: its
conditions on the path are decided, except ``{app}`` and ``{uid}`` in globs (captures). For one caller, a
situated rule either cannot match, or it becomes *live*: only its conditions on facts (kind, owner) are still
open. All live rules at a path for a caller are the *profile*. The profile gives every answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.globs.automaton import Automaton, AutomatonBuilder, Binds, Position
from policyfs.policy.globs.names import Bind
from policyfs.policy.globs.paths import parse_glob
from policyfs.policy.memo import Memo
from policyfs.policy.model import SELF, Block, Effect, Policy, Rule
from policyfs.policy.rules.callers import Caller, Callers
from policyfs.policy.rules.facts import NOT, Kinds, Truth, fixed_facts, sample_facts


class Condition(NamedTuple):
    """The conditions of a block on facts (kind and owner), for one caller.

    A field is None if it restricts nothing.
    """

    kinds: Kinds | None
    owners: frozenset[str] | None

    def hold(self, facts: Facts) -> Truth:
        """Return YES if all conditions are true, NO if one is false, else UNKNOWN.

        facts: a result of fixed_facts.
        """
        kind = Truth.YES if self.kinds is None else self.kinds.hold(facts.kind)
        if self.owners is None or kind is Truth.NO:
            return kind
        if facts.owner is None:
            owner = Truth.UNKNOWN if self.owners else Truth.NO
        else:
            owner = Truth.YES if facts.owner in self.owners else Truth.NO
        return min(kind, owner)


class Live:
    """A rule whose conditions on path and caller are true. Only conditions on facts (kind, owner) are open.

    Equal live rules of a table are one object. number: the rule's index in Table.rules. when, unless: the
    open conditions. raw: the kinds of ``raw_types``. fixed: the result of match() if it is the same under all
    facts, else None.
    """

    __slots__ = ("_may", "_must", "fixed", "number", "ops", "raw", "rule", "unless", "when")

    def __init__(
        self,
        number: int,
        rule: Rule,
        when: Condition | None,
        unless: tuple[Condition, ...],
        raw: Kinds,
    ) -> None:
        self.number = number
        self.rule = rule
        # A plain int, because enum.Flag is slow. A content rule counts only for WRITE here, because moves.py
        # decides on renames and links.
        self.ops = int(Op.WRITE if rule.effect is Effect.CONTENT else rule.ops)
        self.when = when
        self.unless = unless
        self.raw = raw
        self.fixed = Truth.YES if when is None and not unless else None
        self._may: dict[FileType, bool] = {}
        self._must: dict[FileType, bool] = {}

    def match(self, facts: Facts) -> Truth:
        """Return YES if the rule matches, NO if not, or UNKNOWN. facts: a result of fixed_facts."""
        if self.fixed is not None:
            return self.fixed
        truth = Truth.YES if self.when is None else self.when.hold(facts)
        for condition in self.unless:
            if truth is Truth.NO:
                break
            truth = min(truth, NOT[condition.hold(facts)])
        return truth

    def conditions(self) -> tuple[Condition, ...]:
        """Return all conditions of the rule on facts: those of ``when`` and of ``unless``."""
        return self.unless if self.when is None else (self.when, *self.unless)

    def may_match(self, ftype: FileType) -> bool:
        """Return True if the rule matches some file of this type, for some kind and owner."""
        if ftype not in self._may:
            self._may[ftype] = any(self.match(facts) is Truth.YES for facts in _samples((self,), ftype))
        return self._may[ftype]

    def may_oblige(self) -> bool:
        """Return True if the rule can match some regular file, perhaps one of unknown kind or owner."""
        return self.may_match(FileType.REGULAR) or any(
            self.match(facts) is not Truth.NO for facts in _samples((self,), FileType.REGULAR, unknown=True)
        )

    def must_match(self, ftype: FileType) -> bool:
        """Return True if the rule matches every file of this type, whatever its kind and owner are."""
        if ftype not in self._must:
            self._must[ftype] = all(self.match(facts) is Truth.YES for facts in _samples((self,), ftype))
        return self._must[ftype]


def told_apart(lives: Iterable[Live]) -> tuple[set[Kinds], set[str]]:
    """Return the sets of kinds, and the owners, in the conditions of these rules."""
    kinds: set[Kinds] = set()
    owners: set[str] = set()
    for live in lives:
        if live.raw.names:
            kinds.add(live.raw)
        for condition in live.conditions():
            if condition.kinds is not None:
                kinds.add(condition.kinds)
            owners.update(condition.owners or ())
    return kinds, owners


def _samples(lives: Iterable[Live], ftype: FileType, *, unknown: bool = False) -> list[Facts]:
    kinds, owners = told_apart(lives)
    return [fixed_facts(ftype, f) for f in sample_facts(kinds, owners, ftype, unknown=unknown)]


def sample_facts_of(lives: Iterable[Live], ftype: FileType, *, unknown: bool) -> list[Facts]:
    """Return sample facts: one of every class of facts that these rules distinguish, for a file of this type.

    unknown: True to include unknown facts (None).
    """
    return _samples(lives, ftype, unknown=unknown)


class Situated(NamedTuple):
    """A rule at a position (state of the automaton after a path), with the conditions that are still open.

    binds: sets of names.Bind (requirements on the caller); the caller must meet one bind of each set. unless:
    the blocks that can match here. Each has its number, and its binds (None: any caller).
    """

    rule: int
    binds: tuple[Binds, ...]
    unless: tuple[tuple[int, Binds | None], ...]

    def covers(self, other: Situated) -> bool:
        """Return True if *other* has the same rule and *unless*, and each set in *binds* of *other* is a
        subset of the set at the same place here. Then this object matches all callers that *other* matches.
        """
        return (
            self.rule == other.rule
            and self.unless == other.unless
            and len(self.binds) == len(other.binds)
            and all(mine >= its for mine, its in zip(self.binds, other.binds, strict=True))
        )

    def requirements(self) -> Iterator[Bind]:
        """Yield all requirements that ``{app}`` and ``{uid}`` in globs put on the caller."""
        for binds in (*self.binds, *(binds for _, binds in self.unless if binds is not None)):
            yield from binds


def binds_hold(binds: Binds, caller: Caller) -> bool:
    """Return True if the caller meets at least one of the requirements."""
    app = caller.app
    return app is not None and any(bind.fits(app, caller.uid) for bind in binds)


class _Compiled:
    """A rule with the numbers of its glob sets. A glob set has the globs of one condition. None: no globs."""

    __slots__ = ("kinds", "paths", "raw", "rule", "self_asked", "unless", "unless_kinds", "when")

    def __init__(self, rule: Rule, known: dict[frozenset[str], Kinds]) -> None:
        """Prepare a rule. known: a dictionary of sets of kinds, which all rules share."""
        self.rule = rule
        self.paths: int | None = None
        self.when: int | None = None
        self.unless: list[int | None] = []
        self.kinds = _kinds(rule.when, known)
        self.unless_kinds = [_kinds(block, known) for block in rule.unless]
        self.raw = known.get(rule.raw_types) or known.setdefault(rule.raw_types, Kinds(rule.raw_types))
        self.self_asked = asks_for_self(rule)


def _kinds(block: Block | None, known: dict[frozenset[str], Kinds]) -> Kinds | None:
    if block is None or block.kinds is None:
        return None
    return known.get(block.kinds) or known.setdefault(block.kinds, Kinds(block.kinds))


class Table:
    """The rules of a policy, ordered by id, with one automaton for all their globs."""

    def __init__(self, policy: Policy, remembered: int) -> None:
        """Make the table of a policy. remembered: the capacity for remembered results."""
        self.policy: Final = policy
        self.callers: Final = Callers(policy)
        self.rules: Final = tuple(sorted(policy.rules, key=lambda rule: rule.id))
        kinds: dict[frozenset[str], Kinds] = {}
        self._compiled: Final = tuple(_Compiled(rule, kinds) for rule in self.rules)
        builder = AutomatonBuilder(frozenset(app.name for app in policy.apps))
        self._by_accept: Final[dict[int, int]] = {}
        self._everywhere: Final[list[int]] = []
        self.uses_uid = False
        accepts = 0
        for number, one in enumerate(self._compiled):
            accepts = self._add(builder, number, one, accepts)
        self.automaton: Final[Automaton] = builder.build()
        self._lives: Final[Memo[tuple[int, str | None, tuple[int, ...]], tuple[Live | None]]] = Memo(
            remembered
        )

    def _add(self, builder: AutomatonBuilder, number: int, compiled: _Compiled, accepts: int) -> int:
        rule = compiled.rule

        def add(paths: tuple[str, ...] | None) -> int | None:
            nonlocal accepts
            if paths is None:
                return None
            accepts += 1
            for text in paths:
                glob = parse_glob(text)
                self.uses_uid = self.uses_uid or "uid" in glob.captures
                builder.add(glob, accepts, folded=rule.ignore_case)
            return accepts

        compiled.paths = add(rule.paths)
        compiled.when = add(rule.when.paths) if rule.when is not None else None
        compiled.unless = [add(block.paths) for block in rule.unless]
        # a rule is found by one of its glob sets; a rule without globs is tried at every path
        first = compiled.paths if compiled.paths is not None else compiled.when
        if first is None:
            self._everywhere.append(number)
        else:
            self._by_accept[first] = number
        return accepts

    def contents(self) -> list[object]:
        """Return the objects that this table is made of."""
        return [*self._compiled, *self.rules, *self.automaton.nodes]

    def first_accepts(self) -> dict[int, int]:
        """Return a dictionary from a glob set to the number of a rule, for each glob set by which a rule is
        found.

        A glob set has the globs of one condition, such as ``paths``.
        """
        return self._by_accept

    def everywhere(self) -> list[int]:
        """Return the numbers of the rules without globs in ``paths`` and ``when``.

        These rules are tried at every path.
        """
        return self._everywhere

    def accepts_of(self, number: int) -> frozenset[int]:
        """Return the numbers of all glob sets of a rule: one for ``paths``, ``when`` and each ``unless`` with
        globs.
        """
        compiled = self._compiled[number]
        return frozenset(a for a in (compiled.paths, compiled.when, *compiled.unless) if a is not None)

    def needed_accepts(self, number: int) -> tuple[int | None, int | None]:
        """Return the numbers of the glob sets of a rule's ``paths`` and ``when``. Both must match a path.

        None: this condition has no globs.
        """
        compiled = self._compiled[number]
        return compiled.paths, compiled.when

    def asks_for_self(self, number: int) -> bool:
        """Return True if a condition of a rule has the owner ``self`` (the calling app)."""
        return self._compiled[number].self_asked

    def unless_accepts(self, number: int) -> Sequence[int | None]:
        """Return, for each ``unless`` block of a rule, the number of its glob set; None without globs."""
        return self._compiled[number].unless

    def situated(self, position: Position) -> tuple[Situated, ...]:
        """Return all rules that can match at a position (state of the automaton after a path), in the order
        of ids.
        """
        found = list(self._everywhere)
        for accept in (*position.free_accepts, *position.bound_accepts):
            number = self._by_accept.get(accept)
            if number is not None:
                found.append(number)
        placed = (self._situate(number, position) for number in sorted(found))
        return tuple(one for one in placed if one is not None)

    def _situate(self, number: int, position: Position) -> Situated | None:
        compiled = self._compiled[number]
        needed: list[Binds] = []
        for accept in (compiled.paths, compiled.when):
            if accept is None or accept in position.free_accepts:
                continue
            binds = position.bound_accepts.get(accept)
            if binds is None:
                return None
            needed.append(binds)
        unless: list[tuple[int, Binds | None]] = []
        for block, accept in enumerate(compiled.unless):
            if accept is None or accept in position.free_accepts:
                unless.append((block, None))
            elif accept in position.bound_accepts:
                unless.append((block, position.bound_accepts[accept]))
        return Situated(number, tuple(needed), tuple(unless))

    def path_fault(self, number: int, position: Position) -> str | None:
        """Return the first condition on paths (``paths``, ``when.path``) that matches here for no caller, or
        None.
        """
        compiled = self._compiled[number]
        for key, accept in (("paths", compiled.paths), ("when.path", compiled.when)):
            if accept is not None and accept not in position.free_accepts | position.bound_accepts.keys():
                return key
        return None

    def live(self, situated: Situated, caller: Caller) -> Live | None:
        """Return the rule as it applies to this caller, or None if it can never match for this caller."""
        if not caller.fits(situated.rule, self.rules[situated.rule]):
            return None
        if not all(binds_hold(binds, caller) for binds in situated.binds):
            return None
        blocks = tuple(
            block for block, binds in situated.unless if binds is None or binds_hold(binds, caller)
        )
        return self.live_for(situated.rule, caller.app, blocks)

    def live_for(self, number: int, app: str | None, blocks: tuple[int, ...]) -> Live | None:
        """Return a rule as it applies to an app (None: a stranger). number: the rule's number.

        blocks: the indices of the ``unless`` blocks whose paths match.
        """
        compiled = self._compiled[number]
        app = app if compiled.self_asked else None
        key = (number, app, blocks)
        found = self._lives.get(key)
        if found is None:
            found = self._lives.keep(key, (self._build(number, compiled, app, blocks),))
        return found[0]

    @staticmethod
    def _build(number: int, compiled: _Compiled, app: str | None, blocks: tuple[int, ...]) -> Live | None:
        rule = compiled.rule
        when: Condition | None = None
        if rule.when is not None:
            when = Condition(compiled.kinds, _owners(rule.when, app))
            if when == (None, None):
                when = None
            elif when.owners is not None and not when.owners:
                return None
        unless: list[Condition] = []
        for block in blocks:
            condition = Condition(compiled.unless_kinds[block], _owners(rule.unless[block], app))
            if condition == (None, None):
                return None
            if condition.owners is None or condition.owners:
                unless.append(condition)
        return Live(number, rule, when, tuple(unless), compiled.raw)


def _owners(block: Block, app: str | None) -> frozenset[str] | None:
    """Return the owners in a block, with ``self`` replaced by the app's name. A stranger owns nothing."""
    if block.owners is None:
        return None
    named = block.owners - {SELF}
    if SELF in block.owners and app is not None:
        named |= {app}
    return named


def asks_for_self(rule: Rule) -> bool:
    """Return True if a condition of the rule has the owner ``self`` (the calling app)."""
    blocks = [*rule.unless] if rule.when is None else [rule.when, *rule.unless]
    return any(SELF in (block.owners or ()) for block in blocks)


def hides(rule: Rule) -> bool:
    """Return True if the rule hides everything below each directory that it matches."""
    return rule.effect is Effect.DENY and bool(rule.ops & Op.SEE) and not rule.monitor
