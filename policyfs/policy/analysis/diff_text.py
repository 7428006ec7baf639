"""The difference between two policies as text for people, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from policyfs.domain import Op
from policyfs.policy.analysis.diff import Block, Diff, Example, Note
from policyfs.policy.analysis.findings import RuleRef
from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.errors import harmless
from policyfs.policy.exceptions import ALWAYS, in_force, instant_text
from policyfs.policy.model import Policy, Where

_SAID: Final = {
    (Aspect.ACCESS, Direction.WIDER): "may now {ops}",
    (Aspect.ACCESS, Direction.NARROWER): "may no longer {ops}",
    (Aspect.REDACTION, Direction.WIDER): "with less removed: {ops}",
    (Aspect.REDACTION, Direction.NARROWER): "with more removed: {ops}",
    (Aspect.CONTENT, Direction.WIDER): "with less required of the content: {ops}",
    (Aspect.CONTENT, Direction.NARROWER): "with more required of the content: {ops}",
    (Aspect.RECORD, Direction.WIDER): "with a weaker record: {ops}",
    (Aspect.RECORD, Direction.NARROWER): "with a stronger record: {ops}",
    (Aspect.ERRNO, Direction.OTHER): "with another errno: {ops}",
    (Aspect.QUARANTINE, Direction.OTHER): "with refused files kept or dropped differently: {ops}",
    (Aspect.IO, Direction.OTHER): "in another view: {ops}",
}
_HOW: Final = {"+": "new", "-": "removed", "~": "changed", "=": "unchanged, but now matches other callers"}
_TITLES: Final = {Direction.WIDER: "wider", Direction.NARROWER: "narrower", Direction.OTHER: "other"}


class Side(NamedTuple):
    """One of the two policies, with the name of its file for the shown commands."""

    name: str
    policy: Policy


class Report:
    """The report on the differences. accepted: the reasons of accepted changes (--ack), by id."""

    def __init__(self, found: Diff, old: Side, new: Side, accepted: Mapping[str, str]) -> None:
        self._found: Final = found
        self._sides: Final = (old, new)
        self._apps: Final = tuple(frozenset(app.name for app in side.policy.apps) for side in (old, new))
        self._accepted: Final = accepted
        whole = [in_force(side.policy, ALWAYS) for side in (old, new)]
        self._where: Final = tuple({rule.id: rule.where for rule in policy.rules} for policy in whole)
        self._until: Final = [{one.rule.id: one.until_ns for one in policy.exceptions} for policy in whole]

    def open_count(self) -> int:
        """Return the number of changes that allow more, without the accepted changes."""
        return sum(one.id not in self._accepted for one in self._found.wider)

    def stale(self) -> list[str]:
        """Return the ids of accepted changes that are not among the changes that allow more."""
        return sorted(self._accepted.keys() - {one.id for one in self._found.wider})

    # ---- text

    def text(self) -> str:
        """Format the whole difference."""
        lines = [line for note in self._found.notes for line in self._note_lines(note)]
        for block in self._found.blocks:
            lines += [*self._block_lines(block), ""]
        return "\n".join([*lines, *self._sum()])

    def _note_lines(self, note: Note) -> Iterator[str]:
        yield f"{self._title(note.direction, note.id)}: {note.text}"
        if note.direction is Direction.WIDER:
            yield self._mark(note.id)
        yield ""

    def _title(self, direction: Direction, key: str) -> str:
        accepted = direction is Direction.WIDER and key in self._accepted
        return f"{_TITLES[direction]}{', accepted' if accepted else ''}"

    def _mark(self, key: str) -> str:
        reason = self._accepted.get(key)
        return f"  change {key}" if reason is None else f"  change {key}, accepted: {harmless(reason)}"

    def _block_lines(self, block: Block) -> Iterator[str]:
        what = _SAID[block.aspect, block.direction].format(ops=_ops(block.ops))
        yield f"{self._title(block.direction, block.id)}: {', '.join(block.who)} {what}"
        if block.since_ns is not None or block.until_ns is not None:
            yield f"  {_time(block)}"
        for ref in block.rules:
            yield f"  by rule {ref[1]} ({self._how(ref)}, {self._place(ref)})"
        alike: dict[tuple[object, ...], list[Example]] = {}
        for example in block.examples:
            request = example.request
            key = (request.path, request.ftype, request.facts, request.owners, *example.change)
            alike.setdefault(key, []).append(example)
        for examples in alike.values():
            yield from self._example_lines(examples, block)
        if block.direction is Direction.WIDER:
            yield self._mark(block.id)

    def _how(self, ref: RuleRef) -> str:
        known = [sides[ref[1]] for sides in self._until if ref[1] in sides]
        if len(set(known)) == 2:
            return f"until {instant_text(known[0])} before, until {instant_text(known[1])} now"
        return "; ".join([_HOW[ref[0]], *(f"until {instant_text(one)}" for one in known[:1])])

    def _place(self, ref: RuleRef) -> str:
        where = self._where_of(ref)
        return f"{harmless(where.file)}:{where.line}" if where is not None else "?"

    def _where_of(self, ref: RuleRef) -> Where | None:
        sign, name = ref
        order = self._where if sign == "-" else tuple(reversed(self._where))
        return next((known[name] for known in order if name in known), None)

    def _example_lines(self, examples: list[Example], block: Block) -> Iterator[str]:
        example = next((one for one in examples if one.op is not Op.SEE), examples[0])
        request = example.request
        change = f"{example.change.before} before, {example.change.after} now"
        words = ", ".join(map(_request, examples))
        yield f"  {words} {harmless(request.shown_path)}{_of(request.file)}: {change}"
        for directory, owner in request.above():
            yield f"    where {harmless(directory)} is owned by {owner}"
        yield f"    {self._commands(example, block)[-1]}"

    def _commands(self, example: Example, block: Block) -> list[str]:
        then = "" if block.since_ns is None else f" --at {instant_text(block.since_ns)}"
        return [
            example.request.command(side.name, apps) + then
            for side, apps, absent in zip(
                self._sides, self._apps, example.request.subject.absent, strict=True
            )
            if not absent
        ]

    def _sum(self) -> Iterator[str]:
        counts = Counter(note.direction for note in self._found.notes)
        counts.update(block.direction for block in self._found.blocks)
        if not counts:
            yield "the policies allow the same"
            return
        accepted = counts[Direction.WIDER] - self.open_count()
        told = f" ({accepted} accepted)" if accepted else ""
        yield (
            f"{counts[Direction.WIDER]} wider{told}, {counts[Direction.NARROWER]} narrower,"
            f" {counts[Direction.OTHER]} other"
        )

    # ---- JSON

    def as_json(self) -> dict[str, object]:
        """Return the whole difference as plain data."""
        return {
            "old": {"policy": self._sides[0].name, "digest": self._sides[0].policy.digest},
            "new": {"policy": self._sides[1].name, "digest": self._sides[1].policy.digest},
            "notes": [
                {"direction": note.direction.value, "text": note.text, "change": note.id}
                | self._acceptance(note.direction, note.id)
                for note in self._found.notes
            ],
            "changes": [self._block_json(block) for block in self._found.blocks],
            "wider": self.open_count(),
            "stale": self.stale(),
        }

    def _acceptance(self, direction: Direction, key: str) -> dict[str, object]:
        return {"accepted": self._accepted.get(key)} if direction is Direction.WIDER else {}

    def _block_json(self, block: Block) -> dict[str, object]:
        return {
            "direction": block.direction.value,
            "aspect": block.aspect.value,
            "change": block.id,
            **self._acceptance(block.direction, block.id),
            "since": None if block.since_ns is None else instant_text(block.since_ns),
            "until": None if block.until_ns is None else instant_text(block.until_ns),
            "who": list(block.who),
            "operations": [_ops((op,)) for op in block.ops],
            "rules": [self._rule_json(ref) for ref in block.rules],
            "examples": [self._example_json(example, block) for example in block.examples],
        }

    def _rule_json(self, ref: RuleRef) -> dict[str, object]:
        where = self._where_of(ref)
        place = {} if where is None else {"file": where.file, "line": where.line}
        return {"id": ref[1], "change": self._how(ref), **place}

    def _example_json(self, example: Example, block: Block) -> dict[str, object]:
        request = example.request
        return {
            "operation": _ops((example.op,)),
            "request": _request(example),
            "path": request.shown_path,
            "type": request.ftype.value,
            "kind": request.facts.kind,
            "owner": request.facts.owner,
            "owners_above": dict(request.above()),
            "uid": request.subject.uid,
            "app": request.subject.mounted,
            "before": example.change.before,
            "after": example.change.after,
            "explain": self._commands(example, block),
        }


def _time(block: Block) -> str:
    words = [] if block.since_ns is None else [f"from {instant_text(block.since_ns)}"]
    words += [] if block.until_ns is None else [f"until {instant_text(block.until_ns)}"]
    return " ".join(words)


def _request(example: Example) -> str:
    """Return the request that shows the difference: a move or setxattr if it brings data without a write."""
    moves = {Op.CREATE: "rename to", Op.ATTR: "setxattr"} if example.change.aspect is Aspect.CONTENT else {}
    return moves.get(example.op, example.request.word)


def _of(file: str) -> str:
    return f" ({file})" if file else ""


def _ops(ops: tuple[Op, ...]) -> str:
    names = [(op.name or "").lower() for op in ops]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
