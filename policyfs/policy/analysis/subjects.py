"""Classes of callers that the rules of one or two policies distinguish, with a sample of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from policyfs.domain import Audit
from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.analysis.uids import digit_classes
from policyfs.policy.decide import compile_policy
from policyfs.policy.globs.names import UID_LIMIT
from policyfs.policy.model import Policy
from policyfs.policy.rules.callers import Caller

K = TypeVar("K", bound=Hashable)

_ORDINARY: Final = (1000, 4242, 65533)

NOTHING: Final = Policy("", "", (), (), Audit.BEST_EFFORT, Audit.REQUIRED, "")
"""A policy that allows nothing. It takes the place of a policy that lacks an app of the other policy."""


class Subject(NamedTuple):
    """A sample caller, in one or two policies.

    mounted: the app of its app mount; None: a shared mount. apps: its app in each policy; None: a stranger.
    default: True if the app's name alone means this caller. absent: for each policy, True if it lacks the
    mount's app.
    """

    mounted: str | None
    uid: int
    apps: tuple[str | None, ...]
    default: bool
    absent: tuple[bool, ...]

    @property
    def label(self) -> str:
        """The name shown to people: the app's, ``stranger``, or the uid with both names if they differ."""
        names = dict.fromkeys("stranger" if app is None else app for app in self.apps)
        if self.mounted is not None:
            return self.mounted
        return next(iter(names)) if len(names) == 1 else f"{_UID}{self.uid} ({', then '.join(names)})"


_UID: Final = "uid "  # no app's name has a space


def is_of_uid(label: str) -> bool:
    """Return True if a label (Subject.label) is that of a uid with different apps in the two policies."""
    return label.startswith(_UID)


class Group(NamedTuple):
    """Callers that the rules treat alike, except by their own files. sides: the first, in each policy."""

    subjects: tuple[Subject, ...]
    sides: tuple[Side, ...]


def groups(policies: Sequence[Compiled]) -> list[Group]:
    """Return all callers of one or two policies, in groups (see Group). Raise TooHardError."""
    nobody = Compiled(compile_policy(NOTHING))
    made: dict[tuple[object, ...], tuple[list[Subject], tuple[Side, ...]]] = {}
    known: dict[tuple[int, int, int | None], Side] = {}
    for subject in subjects(policies):
        sides = []
        for index, policy in enumerate(policies):
            if subject.absent[index]:
                sides.append(_side(known, -1, nobody, None, subject.uid))
            else:
                sides.append(_side(known, index, policy, subject.apps[index], subject.uid))
        key = tuple(_signature(side) for side in sides)
        made.setdefault(key, ([], tuple(sides)))[0].append(subject)
    return [Group(tuple(members), sides) for members, sides in made.values()]


def _side(
    known: dict[tuple[int, int, int | None], Side], index: int, policy: Compiled, app: str | None, uid: int
) -> Side:
    callers = policy.table.callers
    of = callers.class_of(callers.principal(app, uid, uid_matters=False))
    matters = uid if policy.table.uses_uid else None
    key = (index, of.number, matters)
    if key not in known:
        known[key] = Side(policy, Caller(of, uid))
    return known[key]


def _signature(side: Side) -> tuple[object, ...]:
    policy, caller = side.compiled, side.caller
    captured = {name: side.bits & rules for name, rules in policy.by_capture.items()}
    named = captured.get("app") or side.bits & policy.by_owner.get(caller.app or "", 0)
    return (
        id(policy),
        side.bits,
        caller.app is None,
        caller.app if named else None,
        caller.uid if captured.get("uid") else None,
    )


def subjects(policies: Sequence[Compiled]) -> Iterator[Subject]:
    """Yield sample callers: first of every class on a shared mount, then of every class on an app mount."""
    seen: set[tuple[object, ...]] = set()
    ranges = _ranges(policies)
    present = tuple(False for _ in policies)
    for signature, spans in _grouped(ranges, lambda uid: _shared_signature(policies, uid)).items():
        apps = tuple(app for app, _ in signature)
        for uid, digits in _uids(policies, spans, _ORDINARY):
            seen.add((apps, tuple(number for _, number in signature), digits))
            yield Subject(None, uid, apps, _is_default(policies, apps, uid), present)
    classes = _grouped(ranges, lambda uid: tuple(p.table.callers.uid_class_of(uid) for p in policies))
    for app in sorted({app.name for policy in policies for app in policy.engine.policy.apps}):
        declared = [_declared(policy, app) for policy in policies]
        absent = tuple(uids is None for uids in declared)
        if any(absent) and any(declared):
            continue  # one policy lacks the app: there the app's uids are strangers, compared above
        apps = tuple(None if missing else app for missing in absent)
        for numbers, spans in classes.items():
            for uid, digits in _uids(policies, spans, (0,)):
                if (apps, numbers, digits) not in seen:
                    yield Subject(app, uid, apps, uid == 0 and not any(declared), absent)


def _declared(policy: Compiled, name: str) -> tuple[tuple[int, int], ...] | None:
    return next((app.uids for app in policy.engine.policy.apps if app.name == name), None)


def _is_default(policies: Sequence[Compiled], apps: tuple[str | None, ...], uid: int) -> bool:
    """Return True if the option ``--app NAME``, without a uid, means this caller in each policy."""
    if None in apps or len(set(apps)) != 1:
        return False
    for policy in policies:
        uids = _declared(policy, apps[0] or "")
        if not uids:
            return False
        callers = policy.table.callers
        if callers.uid_class_of(uids[0][0]) != callers.uid_class_of(uid) or policy.table.uses_uid:
            return False
    return True


def _shared_signature(policies: Sequence[Compiled], uid: int) -> tuple[tuple[str | None, int], ...]:
    return tuple((p.table.callers.app_of(uid), p.table.callers.uid_class_of(uid)) for p in policies)


Span = tuple[int, int]
"""A range of uids: the first uid, and the number after the last uid."""


def _ranges(policies: Sequence[Compiled]) -> list[Span]:
    starts = sorted({0}.union(*(policy.table.callers.bounds() for policy in policies)))
    return list(zip(starts, [*starts[1:], UID_LIMIT], strict=True))


def _grouped(ranges: Iterable[Span], key: Callable[[int], K]) -> dict[K, list[Span]]:
    found: dict[K, list[Span]] = {}
    for span in ranges:
        if span[0] < span[1]:
            found.setdefault(key(span[0]), []).append(span)
    return found


def _holds(spans: Iterable[Span], uid: int) -> bool:
    return any(first <= uid < end for first, end in spans)


def _uids(
    policies: Sequence[Compiled], spans: list[Span], ordinary: Sequence[int]
) -> list[tuple[int, object]]:
    """Return sample uids of some ranges, each with a value for ``{uid}`` in globs. ordinary: preferred."""
    if any(policy.table.uses_uid for policy in policies):
        automata = [policy.table.automaton for policy in policies]
        return list(digit_classes(automata, spans))
    return [(next((uid for uid in ordinary if _holds(spans, uid)), spans[0][0]), None)]
