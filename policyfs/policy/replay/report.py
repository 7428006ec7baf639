"""The report of a replay: requests with changed answers in groups, with counts and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.errors import harmless
from policyfs.policy.replay.recorded import Recorded
from policyfs.policy.replay.replay import Verdict

GROUPS: Final = 10_000
"""Maximum number of groups. Further ones are counted as one group for each direction."""
EXAMPLES: Final = 3
_SHOWN: Final = 40
_TOGETHER: Final = "(others)"
_GRAVITY: Final = list(Aspect)
_SORTS: Final = {
    Aspect.ACCESS: {Direction.WIDER: "allowed", Direction.NARROWER: "refused"},
    Aspect.REDACTION: {Direction.WIDER: "more data", Direction.NARROWER: "less data"},
    Aspect.CONTENT: {Direction.WIDER: "checked less", Direction.NARROWER: "checked more"},
    Aspect.RECORD: {Direction.WIDER: "recorded less", Direction.NARROWER: "recorded more"},
}
"""Words for what changes."""


class Example(NamedTuple):
    """One request of a group, as an example. id: the id of its record on the trail."""

    path: bytes
    new_path: bytes | None
    id: str


class Key(NamedTuple):
    """The properties that all requests of a group have in common, with both answers and their rules."""

    direction: Direction
    aspect: Aspect
    app: str
    operation: str
    kind: str | None
    before: str
    after: str
    rules_before: tuple[str, ...]
    rules_after: tuple[str, ...]

    @property
    def sort(self) -> str:
        """The sort of change in words such as ``refused``; empty for another errno or view."""
        return _SORTS.get(self.aspect, {}).get(self.direction, "")


@dataclass(slots=True)
class Group:
    """Requests that have the same properties and whose answers change in the same way, counted."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)


class Report:
    """The verdicts of a replay, counted in groups of requests."""

    def __init__(self) -> None:
        self._groups: dict[Key, Group] = {}
        self.requests = 0
        self.unchanged = 0
        self.by_answer = 0
        self.untold: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def add(self, recorded: Recorded, verdict: Verdict, count: int, example: Callable[[], Example]) -> None:
        """Add a verdict on *count* equal requests. example: a function that returns one of them."""
        self.requests += count
        self.by_answer += count if verdict.by_answer else 0
        if verdict.untold:
            self.untold[" and ".join(verdict.untold)] += count
            return
        if verdict.direction is None:
            self.unchanged += count
            return
        app = "stranger" if recorded.app is None else recorded.app
        key = Key(
            verdict.direction, verdict.aspect, app, recorded.operation, recorded.kind, verdict.before,
            verdict.after, tuple(sorted(recorded.rules)), verdict.rules,
        )  # fmt: skip
        if key not in self._groups and len(self._groups) >= GROUPS:
            key = Key(verdict.direction, verdict.aspect, _TOGETHER, _TOGETHER, None, "", "", (), ())
        group = self._groups.setdefault(key, Group())
        group.count += count
        if len(group.examples) < EXAMPLES:
            group.examples.append(example())

    def count(self, direction: Direction) -> int:
        """Return the number of requests whose answers change in this direction (such as more allowed)."""
        return sum(group.count for key, group in self._groups.items() if key.direction is direction)

    def by_sort(self, direction: Direction) -> dict[str, int]:
        """Return these numbers by what changes: refused, less data and others, the gravest first."""
        found = Counter[str]()
        for key, group in self._sorted():
            if key.direction is direction and key.sort:
                found[key.sort] += group.count
        return dict(found)

    @property
    def moves(self) -> bool:
        """True if the new policy allows more or less for some request."""
        return any(key.direction is not Direction.OTHER for key in self._groups)

    def _sorted(self) -> list[tuple[Key, Group]]:
        order = list(Direction)
        return sorted(
            self._groups.items(),
            key=lambda item: (
                order.index(item[0].direction), _GRAVITY.index(item[0].aspect), -item[1].count, str(item[0]),
            ),
        )

    # ---- text

    def text(self) -> str:
        """Return the report as text."""
        lines: list[str] = []
        for direction in Direction:
            groups = [item for item in self._sorted() if item[0].direction is direction]
            for key, group in groups[:_SHOWN]:
                lines += [*_lines(key, group), ""]
            if len(groups) > _SHOWN:
                lines += [f"{direction.value}: {len(groups) - _SHOWN} more groups, see --json", ""]
        return "\n".join([*lines, *self._sum()])

    def _sum(self) -> Iterator[str]:
        counts = [f"{self.count(direction):,} {direction.value}" for direction in Direction]
        for at, direction in enumerate(Direction):
            sorts = ", ".join(f"{count:,} {sort}" for sort, count in self.by_sort(direction).items())
            counts[at] += f" ({sorts})" if sorts else ""
        unknown = self.untold.total()
        yield (
            f"{self.requests:,} requests: {', '.join(counts)}, {self.unchanged:,} unchanged,"
            f" {unknown:,} undecidable"
        )
        for reason, count in self.untold.most_common():
            yield f"  undecidable, {count:,}: the trail does not show {reason}"
        if self.by_answer:
            yield (
                f"  {self.by_answer:,} compared only with the recorded answers: the trail does not contain"
                " the policy that gave these answers, or that policy now gives other answers"
            )
        for reason, count in self.left_out.most_common():
            yield f"  left out, {count:,}: {reason}"

    # ---- JSON

    def as_json(self) -> dict[str, object]:
        """Return the report as plain data (dictionaries and lists) for JSON."""
        return {
            "requests": self.requests,
            **{direction.value: self.count(direction) for direction in Direction},
            "sorts": {direction.value: self.by_sort(direction) for direction in Direction},
            "unchanged": self.unchanged,
            "undecidable": dict(self.untold.most_common()),
            "by_recorded_answer": self.by_answer,
            "left_out": dict(self.left_out.most_common()),
            "changes": [_fields(key, group) for key, group in self._sorted()],
        }


def _lines(key: Key, group: Group) -> Iterator[str]:
    kind = f" {key.kind}" if key.kind else ""
    times = "once" if group.count == 1 else f"{group.count:,} times"
    title = f"{key.direction.value}, {key.sort}" if key.sort else key.direction.value
    yield harmless(f"{title}: {key.app} {key.operation}{kind}, {times}")
    yield harmless(f"  before: {key.before}{_by(key.rules_before)}")
    yield harmless(f"  now: {key.after}{_by(key.rules_after)}")
    yield "  such as " + ", ".join(map(_shown, group.examples))


def _by(rules: tuple[str, ...]) -> str:
    return f" ({', '.join(rules)})" if rules else " (no rule)"


def _shown(example: Example) -> str:
    paths = [path for path in (example.path, example.new_path) if path is not None]
    text = " to ".join(path.decode("utf-8", "backslashreplace") for path in paths)
    return f"{harmless(text)} ({example.id})"


def _fields(key: Key, group: Group) -> dict[str, object]:
    return {
        **key._asdict(),
        "direction": key.direction.value,
        "aspect": key.aspect.value,
        "sort": key.sort,
        "count": group.count,
        "examples": [
            {
                "id": example.id,
                "path": example.path.decode("utf-8", "backslashreplace"),
                **(
                    {"new_path": example.new_path.decode("utf-8", "backslashreplace")}
                    if example.new_path is not None
                    else {}
                ),
            }
            for example in group.examples
        ],
    }
