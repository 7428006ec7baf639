"""The differences between two policies: all of them, in groups, each with sample requests."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from policyfs.domain import Audit, Op
from policyfs.policy.analysis.compare import Comparison
from policyfs.policy.analysis.findings import DEFAULT, Finding, RuleRef, Sort, best_for, best_of
from policyfs.policy.analysis.outcomes import Aspect, Change, Direction
from policyfs.policy.analysis.requests import Request
from policyfs.policy.analysis.sides import Compiled, content_of, numbers_of
from policyfs.policy.analysis.subjects import Group, groups, is_of_uid
from policyfs.policy.analysis.walk import MAX_JOINT_PLACES
from policyfs.policy.collector import paused
from policyfs.policy.decide import compile_policy
from policyfs.policy.exceptions import ALWAYS, ends, in_force
from policyfs.policy.model import App, Policy, UidRange
from policyfs.policy.text.values import MAX_UID

_DIRECTIONS: Final = (Direction.WIDER, Direction.NARROWER, Direction.OTHER)


class Example(NamedTuple):
    """A sample request to which the two policies give different answers."""

    op: Op
    change: Change
    request: Request


@dataclass(frozen=True, slots=True)
class Block:
    """Differences between two policies that are reported together.

    who: the labels of all callers. id: see Fingerprints. since_ns, until_ns: the period in ns since 1970;
    since_ns is None from the first compared instant on, until_ns is None if it never ends.
    """

    direction: Direction
    aspect: Aspect
    who: tuple[str, ...]
    rules: tuple[RuleRef, ...]
    examples: tuple[Example, ...]
    id: str = ""
    since_ns: int | None = None
    until_ns: int | None = None

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operations to which the policies give different answers."""
        return tuple(example.op for example in self.examples)


class Note(NamedTuple):
    """A difference between two policies that no single request can show, such as a changed default."""

    direction: Direction
    text: str
    id: str


class Diff(NamedTuple):
    """All differences between two policies. Those by which the new policy allows more come first."""

    blocks: tuple[Block, ...]
    notes: tuple[Note, ...]

    @property
    def wider(self) -> tuple[Block | Note, ...]:
        """The differences by which the new policy allows more."""
        changed: tuple[Block | Note, ...] = (*self.notes, *self.blocks)
        return tuple(one for one in changed if one.direction is Direction.WIDER)


def diff(old: Policy, new: Policy, at_ns: int = ALWAYS) -> Diff:
    """Compare two policies for all times from an instant (ns since 1970) on. Raise TooHardError."""
    blocks: list[Block] = []
    instants = [at_ns, *ends((old, new), at_ns)]
    for begin, end in zip(instants, [*instants[1:], None], strict=True):
        since = None if begin == at_ns else begin
        found = [
            replace(block, since_ns=since, until_ns=end)
            for block in _differences(in_force(old, begin), in_force(new, begin))
        ]
        blocks = _continued(blocks, found)
    fingerprints = Fingerprints(old, new)
    by_rules = [block for block in blocks if all(sign != DEFAULT for sign, _ in block.rules)]
    made = [replace(block, id=fingerprints.of(block)) for block in by_rules]
    made.sort(key=lambda block: (_DIRECTIONS.index(block.direction), block.who, block.rules, block.ops))
    defaults = {(name, block.direction) for block in blocks for sign, name in block.rules if sign == DEFAULT}
    return Diff(tuple(made), tuple(_notes(old, new, defaults)))


def _differences(old: Policy, new: Policy) -> list[Block]:
    policies = (Compiled(compile_policy(old)), Compiled(compile_policy(new)))
    blocks: list[Block] = []
    with paused():
        callers = groups(policies)
        labels = dict.fromkeys(subject.label for group in callers for subject in group.subjects)
        together: dict[tuple[int, ...], list[Group]] = {}
        for group in callers:
            together.setdefault(tuple(id(side.compiled) for side in group.sides), []).append(group)
        for some in together.values():
            comparison = Comparison(some, MAX_JOINT_PLACES)
            best = best_of(comparison.findings(), comparison.confirmed)
            blocks += (block for sort, by_op in best.items() for block in _blocks(comparison, sort, by_op))
    return _merged(blocks, {label: at for at, label in enumerate(labels)})


def _continued(before: list[Block], after: list[Block]) -> list[Block]:
    def sort(block: Block) -> tuple[object, ...]:
        return block.direction, block.aspect, block.who, block.rules, block.ops

    going = {sort(block): block for block in after}
    found: list[Block] = []
    for block in before:
        more = going.get(sort(block))
        if more is not None and block.until_ns == more.since_ns:
            found.append(replace(block, until_ns=more.until_ns))
            del going[sort(block)]
        else:
            found.append(block)
    return [*found, *going.values()]


def _blocks(comparison: Comparison, sort: Sort, by_op: dict[Op, list[Finding]]) -> Iterator[Block]:
    """Yield the blocks for one sort of difference: one for callers with the same operations."""
    by_ops: dict[tuple[Op, ...], list[int]] = {}
    callers = {op: functools.reduce(operator.or_, (one.callers for one in by_op[op])) for op in sorted(by_op)}
    for caller in numbers_of(functools.reduce(operator.or_, callers.values())):
        ops = tuple(op for op, who in callers.items() if who >> caller & 1)
        by_ops.setdefault(ops, []).append(caller)
    direction, aspect, rules = sort
    for ops, who in by_ops.items():
        best = [best_for(by_op[op], who[0]) for op in ops]
        request = comparison.samples.request
        examples = (Example(one.op, one.change, request(one.sample, who[0])) for one in best)
        labels = (subject.label for caller in who for subject in comparison.groups[caller].subjects)
        refs = tuple(sorted(rules, key=lambda ref: (ref[1], ref[0])))
        yield Block(direction, aspect, tuple(dict.fromkeys(labels)), refs, tuple(examples))


def _merged(blocks: list[Block], order: Mapping[str, int]) -> list[Block]:
    """Join blocks that differ only in their callers. order: the index of each caller's label."""
    found: dict[tuple[object, ...], Block] = {}
    for block in blocks:
        key = (block.direction, block.aspect, block.rules, block.ops)
        first = found.get(key)
        who = block.who if first is None else {*first.who, *block.who}
        found[key] = replace(first or block, who=tuple(sorted(who, key=order.__getitem__)))
    return list(found.values())


class Fingerprints:
    """Ids of blocks. An id changes with the block's callers, operations or rules.

    If a block is about a uid that has another app than before, its id depends on all changed uids of apps:
    the uid in the block is only a sample.
    """

    def __init__(self, old: Policy, new: Policy) -> None:
        self._texts: Final[dict[str, list[str]]] = {}
        levels = [(policy.audit_allowed.name, policy.audit_denied.name) for policy in (old, new)]
        self._defaults: Final = [_plain(levels)] if levels[0] != levels[1] else []
        uids = [{app.name: app.uids for app in policy.apps} for policy in (old, new)]
        changed = sorted(name for name, _ in uids[0].items() ^ uids[1].items())
        self._moved: Final = _plain([(name, *(side.get(name) for side in uids)) for name in changed])
        for side, policy in enumerate((old, new)):
            for rule in in_force(policy, ALWAYS).rules:
                said = (side, rule.id, rule.who, content_of(rule), *_until(policy, rule.id))
                self._texts.setdefault(rule.id, []).append(_plain(said))

    def of(self, block: Block) -> str:
        """Return the id of a block."""
        texts = sorted(text for name in {name for _, name in block.rules} for text in self._texts[name])
        ops = tuple(int(op) for op in block.ops)
        moved = [self._moved] if any(map(is_of_uid, block.who)) else []
        moved += self._defaults if block.aspect is Aspect.RECORD else []
        return _digest((block.direction.value, block.aspect.value, sorted(block.who), ops, texts, *moved))


def _until(policy: Policy, name: str) -> tuple[int, ...]:
    return tuple(one.until_ns for one in policy.exceptions if one.rule.id == name)


def _digest(value: object) -> str:
    return "c" + hashlib.sha256(_plain(value).encode()).hexdigest()[:11]  # c: so YAML sees no number


def _plain(value: object) -> str:
    """Return a value as text that is the same in every process."""
    if isinstance(value, frozenset | set):
        return "{" + ",".join(sorted(map(_plain, value))) + "}"
    if isinstance(value, tuple | list):
        return "(" + ",".join(map(_plain, value)) + ")"
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return _plain(tuple(getattr(value, name) for name in fields))
    return repr(value)


def _notes(old: Policy, new: Policy, defaults: Collection[tuple[str, Direction]]) -> list[Note]:
    """Return the notes. defaults: the changed defaults that change answers, each with the direction."""
    found = []
    for key, direction in sorted(defaults, key=lambda one: one[0]):
        levels = (level.name.lower() for level in _levels(key, old, new))
        found.append(_note(direction, f"defaults.{key}: {' before, '.join(levels)} now"))
    approved = [{one.rule.id: one for one in policy.exceptions} for policy in (old, new)]
    for name in sorted(approved[0].keys() & approved[1].keys()):
        said = [(sides[name].reason, sides[name].approved_by) for sides in approved]
        if said[0] != said[1]:
            found.append(_note(Direction.OTHER, f"the reason or the approver of {name} has changed"))
    apps = [{app.name: app for app in policy.apps} for policy in (old, new)]
    for name in sorted(apps[0].keys() | apps[1].keys()):
        before_app, after_app = apps[0].get(name), apps[1].get(name)
        if before_app is None or after_app is None:
            told = "removed" if after_app is None else "new"
            found.append(_note(Direction.OTHER, f"the app {name} is {told}"))
        else:
            found += _app_notes(before_app, after_app)
    return found + _limit_notes(old, new)


def _limit_notes(old: Policy, new: Policy) -> list[Note]:
    """Return the notes on limits on changes. One that counts other changes than before may count fewer."""
    found = []
    limits = [{one.id: one for one in policy.rules if one.limit is not None} for policy in (old, new)]
    for name in sorted(limits[0].keys() | limits[1].keys()):
        before, after = (side.get(name) for side in limits)
        if before is None or after is None:
            direction = Direction.WIDER if after is None else Direction.NARROWER
            found.append(_note(direction, f"the limit {name} is {'removed' if after is None else 'new'}"))
        elif (before.who, content_of(before)) != (after.who, content_of(after)):
            found.append(_note(Direction.WIDER, f"the limit {name} counts other changes than before"))
        elif before.limit is not None and after.limit is not None and before.limit != after.limit:
            (changes, within_s), (new_changes, new_within_s) = before.limit, after.limit
            narrower = new_changes <= changes and new_within_s >= within_s
            told = f"the limit {name}: {before.limit} before, {after.limit} now"
            found.append(_note(Direction.NARROWER if narrower else Direction.WIDER, told))
    return found


def _levels(key: str, *policies: Policy) -> list[Audit]:
    return [policy.audit_allowed if key == "audit" else policy.audit_denied for policy in policies]


def _app_notes(before: App, after: App) -> list[Note]:
    found = []
    if set(before.gids) != set(after.gids):
        fewer = bool(after.gids) and set(after.gids) <= set(before.gids)
        direction = Direction.NARROWER if fewer else Direction.WIDER
        told = f"app {after.name}: its app mounts admit other groups than before (gid)"
        groups_of = (
            _ranges(tuple((gid, gid) for gid in app.gids), "the user's primary group")
            for app in (before, after)
        )
        found.append(_note(direction, f"{told}: {' before, '.join(groups_of)} now"))
    if before.uids != after.uids:
        spans = before.uids or ((0, MAX_UID),)  # an app mount of an app without uids admits every uid
        fewer = bool(after.uids) and all(
            any(low <= first and last <= high for low, high in spans) for first, last in after.uids
        )
        direction = Direction.NARROWER if fewer else Direction.WIDER
        told = f"app {after.name}: other uids than before, so its app mounts admit other users"
        users_of = (_ranges(app.uids, "every uid") for app in (before, after))
        found.append(_note(direction, f"{told}: {' before, '.join(users_of)} now"))
    if before.modes is not after.modes:
        told = f"app {after.name}: stat shows the app other owners and modes than before (modes)"
        found.append(_note(Direction.OTHER, told))
    if before.moves_freely != after.moves_freely:
        direction = Direction.WIDER if after.moves_freely else Direction.NARROWER
        may = "may now" if after.moves_freely else "may not any more"
        told = f"app {after.name}: it {may} link files to where other apps have more rights (moves)"
        found.append(_note(direction, told))
    return found


def _ranges(spans: tuple[UidRange, ...], absent: str) -> str:
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans) or absent


def _note(direction: Direction, text: str) -> Note:
    return Note(direction, text, _digest((direction.value, text)))
