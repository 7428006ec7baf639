"""Replay: the answers of another policy to the requests of a trail, compared with the recorded answers."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from policyfs.domain import Decision, Facts, Principal, View, hides_at_least
from policyfs.errors import CONTENT_REFUSED, errno_name
from policyfs.policy.analysis.outcomes import Aspect, Change, Direction, access, changes, content, way_of
from policyfs.policy.decide import Engine, as_of
from policyfs.policy.replay.party import REFUSED, Party, Place
from policyfs.policy.replay.recorded import Cause, Demand, Recorded, World, demand_of
from policyfs.policy.replay.worlds import TooManyError, untold, worlds
from policyfs.policy.rules.facts import content_met

REMEMBERED: Final = 1 << 16
"""Maximum number of remembered answers, and of classes of requests. With more, all are forgotten."""
_TIMES: Final = 8
"""Maximum number of instants for which the new policy is kept compiled, with its exceptions then."""

Engines = Callable[[Recorded, bool], Engine | None]
"""A function that returns the engine of the policy that answered (True: with --monitor), or None."""


class Verdict(NamedTuple):
    """The change of a request's answer under the new policy.

    direction: None if nothing changes, or the change is not known. untold: facts that decide, but are not
    recorded; empty if the direction is certain. by_answer: True if only the recorded answer could be
    compared: the policy that gave it is lost, or gives another now. aspect: the gravest that changes in this
    direction; ACCESS if nothing changes.
    """

    direction: Direction | None = None
    before: str = ""
    after: str = ""
    rules: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    by_answer: bool = False
    aspect: Aspect = Aspect.ACCESS


_OF_CONTENT: Final = frozenset({CONTENT_REFUSED, errno.EXDEV})

_ORDER: Final = list(Direction)
_GRAVITY: Final = list(Aspect)

SAME: Final = Verdict()
_UNKNOWN_CALL: Final = Verdict(untold=("the operation that the request asked for",))
_TOO_MANY: Final = Verdict(untold=("enough facts (too many answers are possible)",))
_SPECIAL: Final = Verdict(untold=("whether the mount had --posix",))
_RESOURCE: Final = Verdict(
    untold=("whether the policy would have allowed the request: a resource was missing",)
)


class Asked(NamedTuple):
    """A class of recorded requests that differ only in their paths. old: the policy that answered; empty if
    it is lost; without and with `--monitor` if the trail does not tell."""

    number: int
    recorded: Recorded
    demand: Demand | None
    new: Party
    old: tuple[Party, ...]


class Replayer:
    """Decider of recorded requests under a new policy, with the exceptions in force at the time."""

    def __init__(self, engine: Engine, recorded_policies: Engines) -> None:
        self._at: Final = functools.lru_cache(_TIMES)(functools.partial(as_of, engine))
        self._policies: Final = recorded_policies
        self._asked: Final[dict[Recorded, Asked]] = {}
        self._known: Final[dict[tuple[object, ...], Verdict]] = {}
        self._count = 0

    def asked(self, recorded: Recorded) -> Asked:
        """Return the class of a recorded request, for decide()."""
        found = self._asked.get(recorded)
        if found is None:
            if len(self._asked) >= REMEMBERED:
                self._asked.clear()
                self._known.clear()
            demand = demand_of(recorded.operation, recorded.syscall)
            ways: tuple[bool, ...] = (False, True) if recorded.would_deny else (False,)
            if recorded.monitor is not None:
                ways = (recorded.monitor,)
            engines = (self._policies(recorded, monitor) for monitor in ways)
            old = tuple(Party(engine, principal_of(engine, recorded)) for engine in engines if engine)
            engine = self._at(recorded.at_ns)
            new = Party(engine, principal_of(engine, recorded))
            found = self._asked[recorded] = Asked(self._count, recorded, demand, new, old)
            self._count += 1
        return found

    def decide(self, asked: Asked, path: bytes, new_path: bytes | None, *, empty: bool | None) -> Verdict:
        """Decide a recorded request again. empty: True if the file was empty at the open; None: unknown."""
        if asked.demand is None:
            return _UNKNOWN_CALL
        if asked.recorded.cause is Cause.RESOURCE:
            return _RESOURCE
        places = [_place(party.engine, path, new_path) for party in (asked.new, *asked.old)]
        if asked.recorded.cause is Cause.SPECIAL:
            pairs = zip((asked.new, *asked.old), places, strict=True)
            new, *old = (party.is_free(place) for party, place in pairs)
            return _SPECIAL if new and not any(old) else SAME
        key = (asked.number, *places, empty)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = _Case(asked, asked.demand, places, empty).verdict()
        return found


def principal_of(engine: Engine, recorded: Recorded) -> Principal | None:
    """Return the caller of a recorded request in a policy, or None if the policy lacks the app."""
    if recorded.mounted is None:
        return engine.principal(recorded.uid)
    try:
        return engine.app_principal(recorded.mounted, recorded.uid)
    except KeyError:
        return None


def _place(engine: Engine, path: bytes, new_path: bytes | None) -> Place:
    new = None if new_path is None else engine.state_of(new_path)
    beside = new_path is not None and path.rpartition(b"/")[0] == new_path.rpartition(b"/")[0]
    return Place(engine.state_of(path), new, beside)


class _Case:
    def __init__(self, asked: Asked, demand: Demand, places: list[Place], empty: bool | None) -> None:
        self._recorded: Final = asked.recorded
        self._demand: Final = demand
        self._new: Final = (asked.new, places[0])
        self._old: Final = list(zip(asked.old, places[1:], strict=True))
        self._empty: Final = empty

    def verdict(self) -> Verdict:
        """Compare the answers of both policies in all worlds in which the old one gives the recorded answer.

        If there is none (a file with several names, an old record), the recorded answer itself is compared.
        """
        try:
            for party, place in self._old:
                found = [
                    (world, before)
                    for world in self._worlds([self._new, (party, place)])
                    if self._repeats(before := self._answer(party, place, world, 1), world)
                ]
                if found:
                    return self._over([world for world, _ in found], [before for _, before in found], party)
            return self._over(self._worlds([self._new]), None, None)._replace(by_answer=True)
        except TooManyError:
            return _TOO_MANY

    def _worlds(self, sides: list[tuple[Party, Place]]) -> list[World]:
        parties, places = [side[0] for side in sides], [side[1] for side in sides]
        return worlds(
            self._demand, self._recorded.kind, empty=self._empty, parties=parties, places=places
        )  # fmt: skip

    def _answer(self, party: Party, place: Place, world: World, index: int) -> Decision:
        told_kind = self._recorded.kind is not None
        hidden = world.hidden[index]
        return party.answer(self._demand, world, place, hidden=hidden, told_kind=told_kind)

    def _repeats(self, before: Decision, world: World) -> bool:
        recorded = self._recorded
        if world.hidden[1]:  # the event names the rules that hide the directory, and no others
            return not recorded.allowed and recorded.errno == before.errno
        if recorded.cause is Cause.CONTENT and recorded.operation == "write":
            return before.allowed and bool(before.content)
        if recorded.cause is Cause.MOUNT and before.allowed:
            return True  # the rules allowed the request, and the mount refused it
        if before.allowed != recorded.allowed or before.errno != recorded.errno:
            return False
        if recorded.allowed and frozenset(before.would_deny) != frozenset(recorded.would_deny):
            return False
        if recorded.cause is Cause.CONTENT or self._demand.move:
            return True
        return _rules(before) == frozenset(recorded.rules)

    def _over(self, found: list[World], before: list[Decision] | None, party: Party | None) -> Verdict:
        """Return one verdict for all worlds that fit, with the facts that decide if they differ."""
        verdicts = []
        for number, world in enumerate(found):
            after = self._answer(*self._new, world, 0)
            was = None if before is None else before[number]
            verdicts.append(self._compare(was, after, party))
        plain = [verdict._replace(rules=()) for verdict in verdicts]
        if not plain:
            return _TOO_MANY
        rules = tuple(sorted({name for one in verdicts for name in one.rules}))
        if all(verdict == plain[0] for verdict in plain):
            return plain[0]._replace(rules=rules)
        open_to = untold(found, plain)
        if any(verdict.untold or verdict.direction is not plain[0].direction for verdict in plain):
            return Verdict(untold=open_to)
        gravest = min((verdict.aspect for verdict in plain), key=_GRAVITY.index)
        told = " or ".join(sorted({verdict.before for verdict in plain}))
        now = " or ".join(sorted({verdict.after for verdict in plain}))
        now = f"{now}, depending on {' and '.join(open_to)}"
        return Verdict(plain[0].direction, told, now, rules, aspect=gravest)

    def _compare(self, was: Decision | None, after: Decision, party: Party | None) -> Verdict:
        if self._recorded.cause is Cause.CONTENT and self._recorded.operation == "write":
            return self._written(was, after)
        if self._recorded.cause is Cause.MOUNT and was is not None and was.allowed:
            if not after.allowed:
                was = None  # the new policy refuses what the mount refused
            else:
                alike = party is not None and self._alike(party)
                return SAME if alike else Verdict(untold=("whether the mount would still refuse it",))
        found = list(self._changes(was, after))
        if not found and after.allowed and self._demand.opens:
            found = list(self._of_view(party))
        if not found:
            return SAME
        direction, aspect = min(
            (change[:2] for change in found), key=lambda one: (_ORDER.index(one[0]), _GRAVITY.index(one[1]))
        )
        before, now = ("; ".join(dict.fromkeys(texts)) for texts in list(zip(*found, strict=True))[2:])
        return Verdict(direction, before, now, self._named(after), aspect=aspect)

    def _alike(self, old: Party) -> bool:
        """Return True if both policies give a mount the same reasons to refuse what the rules allow."""
        (new, place), (_, before) = self._new, next(one for one in self._old if one[0] is old)
        return new.reasons(place) == old.reasons(before)

    def _named(self, after: Decision) -> tuple[str, ...]:
        if after.allowed:
            return tuple(sorted(_rules(after)))
        causes = {"deny", REFUSED} | ({"content"} if after.errno in _OF_CONTENT else set())
        return tuple(sorted({match.rule for match in after.rules if match.effect in causes}))

    def _changes(self, was: Decision | None, after: Decision) -> Iterator[Change]:
        before = was
        if before is None:  # the old answer is only known as allowed or denied
            before = after if after.allowed and self._recorded.allowed else self._as_recorded()
        for change in changes(before, after):
            if change.aspect is Aspect.RECORD and not after.allowed:
                continue  # the trail does not tell the level of a denial
            now = change.after
            if self._new[0].who is None:
                now = f"no app {self._recorded.mounted}"
            elif after.allowed and after.redact - before.redact and self._recorded.kind is None:
                now += ", or refused where the kind cannot be cleaned"
            yield change._replace(after=now)

    def _as_recorded(self) -> Decision:
        recorded = self._recorded
        return Decision(recorded.allowed, 0 if recorded.allowed else recorded.errno or errno.EACCES)

    def _of_view(self, party: Party | None) -> Iterator[Change]:
        (new, place), recorded = self._new, self._recorded
        if new.who is None or not recorded.view:
            return
        after = new.engine.view(new.who, place.state)
        if after.label == recorded.view:
            return
        direction = Direction.OTHER if party is not None else _by_labels(recorded.view, after)
        yield Change(direction, Aspect.REDACTION, _way(recorded.view), way_of(after))

    def _written(self, was: Decision | None, after: Decision) -> Verdict:
        """Return the verdict on a recorded refusal of written bytes because of their content."""
        if not after.allowed:
            if after.errno == CONTENT_REFUSED:
                return SAME
            return Verdict(Direction.OTHER, errno_name(CONTENT_REFUSED), access(after), self._named(after))
        asked = frozenset(after.content)
        if was is not None and asked == frozenset(was.content):
            return SAME
        rules = self._named(after)
        wider = Verdict(Direction.WIDER, errno_name(CONTENT_REFUSED), content(asked), rules)
        if not asked:
            return wider
        kinds_only = not any(pattern.startswith(("no ", "clean ")) for one in asked for pattern in one)
        if not kinds_only or self._recorded.kind is None:
            return Verdict(untold=("which data the written bytes contained",))
        return wider if content_met(asked, Facts(self._recorded.kind)) else SAME


def _rules(decision: Decision) -> frozenset[str]:
    return frozenset(
        match.rule
        for match in decision.rules
        if not match.monitor and (decision.allowed or match.effect != "allow")
    )


def _way(label: str) -> str:
    return "raw (passthrough)" if label == "raw" else label


def _by_labels(before: str, after: View) -> Direction:
    """Return the direction of a change of views, as far as known from the recorded label *before*."""
    words = frozenset(before.partition("redacted(")[2].rstrip(")").split(",")) - {""}
    was_checked = before.startswith("checked")
    stricter = hides_at_least(after.redact, words) and after.checked >= was_checked
    looser = hides_at_least(words, after.redact) and was_checked >= after.checked
    if stricter and looser:
        return Direction.OTHER
    return Direction.NARROWER if stricter else Direction.WIDER
