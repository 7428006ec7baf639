"""The rules that remain for one path, and then for one caller.

At a *position* (the automaton's state after a path) a rule becomes *situated*: its conditions on the path are
decided, except captures. For a caller, it cannot match, or becomes *live*: only its conditions on facts
(kind, owner) are open. All live rules at a path are the *profile*, which gives every answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
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
    """The conditions of a block on facts, for one caller. A field is None if it restricts nothing."""

    kinds: Kinds | None
    owners: frozenset[str] | None

    @property
    def shape(self) -> Hashable:
        """A value that is equal for conditions that ask for the same."""
        return None if self.kinds is None else self.kinds.names, self.owners

    def hold(self, facts: Facts) -> Truth:
        """Return YES if all conditions are true, NO if one is false, else UNKNOWN. facts: of fixed_facts."""
        kind = Truth.YES if self.kinds is None else self.kinds.hold(facts.kind)
        if self.owners is None or kind is Truth.NO:
            return kind
        if facts.owner is None:
            owner = Truth.UNKNOWN if self.owners else Truth.NO
        else:
            owner = Truth.YES if facts.owner in self.owners else Truth.NO
        return min(kind, owner)


class Live:
    """A rule whose conditions on path and caller are true. Equal ones of a table are one object.

    number: its index in Table.rules. when, unless: the open conditions. raw: the kinds of ``raw_types``.
    fixed: the result of match() if it is the same under all facts, else None.
    """

    __slots__ = ("_known", "fixed", "number", "ops", "raw", "rule", "unless", "when")

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
        self._known: dict[FileType, set[Truth]] = {}

    def match(self, facts: Facts) -> Truth:
        """Return YES if the rule matches, NO if not, else UNKNOWN. facts: a result of fixed_facts."""
        if self.fixed is not None:
            return self.fixed
        truth = Truth.YES if self.when is None else self.when.hold(facts)
        for condition in self.unless:
            if truth is Truth.NO:
                break
            truth = min(truth, NOT[condition.hold(facts)])
        return truth

    def conditions(self) -> tuple[Condition, ...]:
        """Return all conditions of the rule on facts."""
        return self.unless if self.when is None else (self.when, *self.unless)

    @property
    def shape(self) -> Hashable:
        """A value that is equal for rules that match under the same facts."""
        when = None if self.when is None else self.when.shape
        return when, frozenset(condition.shape for condition in self.unless)

    def may_match(self, ftype: FileType) -> bool:
        """Return True if the rule matches some file of this type, for some kind and owner."""
        return Truth.YES in self._results(ftype)

    def must_match(self, ftype: FileType) -> bool:
        """Return True if the rule matches every file of this type, whatever its kind and owner are."""
        return self._results(ftype) == {Truth.YES}

    def may_oblige(self) -> bool:
        """Return True if the rule can match some regular file, perhaps one of unknown kind or owner."""
        unknown = sample_facts_of((self,), FileType.REGULAR, unknown=True)
        return self.may_match(FileType.REGULAR) or any(map(self.match, unknown))

    def _results(self, ftype: FileType) -> set[Truth]:
        if ftype not in self._known:
            facts = sample_facts_of((self,), ftype, unknown=False)
            self._known[ftype] = set(map(self.match, facts))
        return self._known[ftype]


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


def sample_facts_of(lives: Iterable[Live], ftype: FileType, *, unknown: bool) -> list[Facts]:
    """Return one of every class of facts that these rules distinguish. unknown: with unknown facts."""
    kinds, owners = told_apart(lives)
    return [fixed_facts(ftype, f) for f in sample_facts(kinds, owners, ftype, unknown=unknown)]


class Situated(NamedTuple):
    """A rule at a position, with the conditions that are still open.

    binds: the caller must meet one names.Bind of each set. unless: the numbers of blocks that can match here,
    each with its binds (None: any caller).
    """

    rule: int
    binds: tuple[Binds, ...]
    unless: tuple[tuple[int, Binds | None], ...]

    def covers(self, other: Situated) -> bool:
        """Return True if this certainly matches all callers that *other*, with the same rule, matches."""
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
    """A rule with its glob sets: each has the globs of one condition. None: no globs."""

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
        """Return a dictionary from each glob set by which a rule is found to the rule's number."""
        return self._by_accept

    def captured_accepts(self) -> set[int]:
        """Return the glob sets that the automaton can reach through ``{app}`` or ``{uid}``."""
        nodes = self.automaton.nodes
        behind = {target for node in nodes for reached in node.captures.values() for target in reached}
        return {a for n in behind for a in nodes[n].accepts} | self.automaton.accepts_below(behind)

    def everywhere(self) -> list[int]:
        """Return the numbers of the rules without globs in ``paths`` and ``when``: tried at every path."""
        return self._everywhere

    def accepts_of(self, number: int) -> frozenset[int]:
        """Return all glob sets of a rule."""
        compiled = self._compiled[number]
        return frozenset(a for a in (compiled.paths, compiled.when, *compiled.unless) if a is not None)

    def needed_accepts(self, number: int) -> tuple[int | None, int | None]:
        """Return the glob sets of a rule's ``paths`` and ``when``; None without globs. Both must match."""
        compiled = self._compiled[number]
        return compiled.paths, compiled.when

    def asks_for_self(self, number: int) -> bool:
        """Return True if a condition of a rule has the owner ``self`` (the calling app)."""
        return self._compiled[number].self_asked

    def asks_for_kind(self, number: int) -> bool:
        """Return True if a condition of a rule has a kind that workers find, in regular files."""
        compiled = self._compiled[number]
        kinds = (compiled.kinds, *compiled.unless_kinds)
        return any(one is not None and one.for_files and not one.everything for one in kinds)

    def unless_accepts(self, number: int) -> Sequence[int | None]:
        """Return the glob set of each ``unless`` block of a rule; None without globs."""
        return self._compiled[number].unless

    def situated(self, position: Position) -> tuple[Situated, ...]:
        """Return all rules that can match at a position, in the order of ids."""
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
        """Return the first condition (``paths``, ``when.path``) that matches here for no caller, or None."""
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
        """Return a rule as it applies to an app (None: a stranger). blocks: the ``unless`` that match."""
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
    """Return the owners in a block, with the app's name for ``self``. A stranger owns nothing."""
    if block.owners is None:
        return None
    named = block.owners - {SELF}
    if SELF in block.owners and app is not None:
        named |= {app}
    return named


def asks_for_self(rule: Rule) -> bool:
    """Return True if a condition of the rule has the owner ``self`` (the calling app)."""
    return any(SELF in (block.owners or ()) for block in rule.blocks)


def hides(rule: Rule) -> bool:
    """Return True if the rule hides everything below each directory that it matches."""
    return rule.effect is Effect.DENY and decides_sight(rule)


def decides_sight(rule: Rule) -> bool:
    """Return True if the rule allows or denies ``see``."""
    return rule.effect in (Effect.ALLOW, Effect.DENY) and bool(rule.ops & Op.SEE) and not rule.monitor
