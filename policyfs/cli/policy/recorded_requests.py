"""The requests that a trail records, for commands that decide them again.

Equal requests are counted together.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.domain import Op
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.database import Index
from policyfs.journal.index.indexed import IndexedTrail, Portion
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.exceptions import ALWAYS, live, with_exceptions
from policyfs.policy.exceptions import ends as ends_of
from policyfs.policy.model import Policy
from policyfs.policy.replay.recorded import NO_DECISIONS, Cause, Recorded, demand_of
from policyfs.trail.lines.event import DENY, STRANGER, Event
from policyfs.trail.lines.record import Record
from policyfs.trail.query.condition import SIZE
from policyfs.trail.query.selection import Selection
from policyfs.trail.text.cause import BY_CONTENT, BY_MOUNT, BY_RESOURCE, cause_of

_CAUSES: Final = {"": Cause.NONE, BY_CONTENT: Cause.CONTENT, BY_RESOURCE: Cause.RESOURCE}
_ENGINES: Final = 4
"""The maximum number of compiled policies in memory. A trail may name hundreds of policies."""

_UNKNOWN: Final = ""
"""The app of a daemon's run if the trail has lost the record of the mount's start."""

_FOLDED: Final = "counted together on the trail, without their paths"
_CUT: Final = "with a path that is too long to be recorded whole"
_ENDS: Final = "about the end of an open or a refused file (release, quarantine), not about decisions"
_BAD_AND_LAST: Final = (
    "SELECT (SELECT count(why) FROM other), max(time)"
    " FROM (SELECT time FROM event UNION ALL SELECT time FROM other)"
)
_FIRST_AT: Final = (
    "SELECT min(line) FROM (SELECT line FROM event WHERE time >= ?1"
    " UNION ALL SELECT line FROM other WHERE time >= ?1)"
)
_BAD: Final = "lines are not records: see policyfs audit verify"


class Sighting(NamedTuple):
    """Equal requests of a trail, with their number (weight). empty: True if the file was empty at the open;
    None if unknown. id: reads the id of the first from the trail, until the next Sighting is yielded."""

    recorded: Recorded
    path: bytes
    new_path: bytes | None
    empty: bool | None
    weight: int
    id: Callable[[], str]


class End(NamedTuple):
    """The policy in force at the end of a chain. monitor: True if the mount had --monitor."""

    policy: Policy
    monitor: bool


class _Span(NamedTuple):
    """Lines of an index, from *begin* on and before *end*; term: how many instants had passed."""

    begin: int
    end: int
    term: int


class _Run(NamedTuple):
    """One run of a daemon on the trail. exceptions: their ids, by policy digest and generation."""

    app: str | None
    exceptions: dict[tuple[str, int], tuple[str, ...]]
    monitor: bool | None = None


class RecordedRequests:
    """The requests of a trail that a query selects, with one file of it in memory at a time. left_out: the
    number of events that cannot be decided again (some record no decision), by reason."""

    def __init__(self, trail: IndexedTrail, wanted: Selection, ends: Sequence[int] = ()) -> None:
        """ends: times (ns since 1970) of changes of the other policy: requests across one are never equal."""
        self._trail: Final = trail
        self._wanted: Final = wanted
        self._policies: Final = KeptPolicies(trail.chains)
        self._ends: Final = ends
        self.left_out: Counter[str] = Counter()
        self._compiled: Final = functools.lru_cache(_ENGINES)(self._compile)
        self.end: End | None = None
        """The policy in force at the end of the chain that the last Sighting is from; None if unknown."""

    def engine(self, recorded: Recorded, monitor: bool = False) -> Engine | None:
        """Return the engine of the policy that decided a request, or None if the policy's text is not kept.
        monitor: True to compile the policy as with --monitor."""
        return self._compiled(recorded.digest, recorded.exceptions, monitor)

    def _compile(self, digest: str, exceptions: tuple[str, ...], monitor: bool) -> Engine | None:
        policy = self._policies.policy(digest)
        return (
            None if policy is None else compile_policy(with_exceptions(policy, exceptions), monitor=monitor)
        )

    def effect(self, digest: str, rule: str) -> str | None:
        """Return the effect (such as ``deny``) of a rule; None if its policy's text is not kept."""
        fact = self._policies.fact(digest, rule)
        return None if fact is None else fact.effect

    def __iter__(self) -> Iterator[Sighting]:
        """Yield all selected requests, one file of the trail after the other."""
        for chain in self._trail.chains:
            self.end = self._end_of(chain)
            yield from self._of_chain(chain)

    def _end_of(self, chain: Chain) -> End | None:
        run = _Run(_UNKNOWN, {})
        for portion in self._trail.portions(chain):
            run = list(_runs(portion, run))[-1][1]
        if not run.exceptions:
            return None
        digest, _ = list(run.exceptions)[-1]
        policy = self._policies.policy(digest)
        return None if policy is None else End(policy, monitor=bool(run.monitor))

    def _of_chain(self, chain: Chain) -> Iterator[Sighting]:
        run, latest_ns = _Run(_UNKNOWN, {}), 0
        for portion in self._trail.portions(chain):
            index, begin = portion.index, 1
            [(bad, newest_ns)] = index.query(_BAD_AND_LAST)
            self.left_out.update({_BAD: bad} if bad else {})
            for line, one in _runs(portion, run):
                end = index.lines + 1 if line is None else line - portion.first_line
                ends = self._instants(index, one)
                for span in _spans(index, ends, latest_ns, begin, end):
                    yield from self._of_span(portion, span, ends, one)
                begin, run = end, one
            latest_ns = max(latest_ns, newest_ns or 0)

    def _of_span(self, portion: Portion, span: _Span, ends: Sequence[int], run: _Run) -> Iterator[Sighting]:
        index, made = portion.index, dict[int, Recorded | str]()
        at_ns = ends[span.term - 1] if span.term else ALWAYS
        writing = ",".join(str(id_) for id_, event in index.classes.items() if _asks_for_size(event))
        columns = (
            f"class, path, new_path, CASE WHEN class IN ({writing}) THEN {SIZE} = 0 END,"
            " line IN (SELECT line FROM cut), sum(ifnull(repeats, 1)), min(line), offset"
        )
        rest = f"AND line >= {span.begin} AND line < {span.end} GROUP BY 1, 2, 3, 4, 5 ORDER BY min(line)"
        for class_id, path, new, empty, is_cut, count, *place in index.select(columns, self._wanted, rest):
            if class_id not in made:
                made[class_id] = self._recorded(index.classes[class_id], run, at_ns)
            recorded = made[class_id]
            if isinstance(recorded, str) or is_cut:
                self.left_out[recorded if isinstance(recorded, str) else _CUT] += count
                continue
            new_path = None if new is None else index.path(new)
            is_empty = None if empty is None else bool(empty)
            id_ = functools.partial(_id, portion, *place)
            yield Sighting(recorded, index.path(path), new_path, is_empty, count, id_)

    def _instants(self, index: Index, run: _Run) -> list[int]:
        """Return the times (ns since 1970) at which the answers to some requests of a portion may change."""
        missing = {
            event.policy_digest
            for event in index.classes.values()
            if (event.policy_digest, event.policy_generation) not in run.exceptions
        }
        known = filter(None, map(self._policies.policy, missing))
        return sorted({*self._ends, *ends_of(known, ALWAYS)})

    def _exceptions(self, event: Event, run: _Run, at_ns: int) -> tuple[str, ...]:
        """Return the exceptions (allow rules with an end date) in force at an event."""
        told = run.exceptions.get((event.policy_digest, event.policy_generation))
        policy = self._policies.policy(event.policy_digest) if told is None else None
        return (told or ()) if policy is None else live(policy, at_ns)

    def _recorded(self, event: Event, run: _Run, at_ns: int) -> Recorded | str:
        """Return the request that an event records, or the reason (a text) why it cannot be decided again."""
        if event.operation in NO_DECISIONS:
            return _ENDS
        if event.folded:
            return _FOLDED
        found = cause_of(event, self._policies.fact)
        cause = _CAUSES.get(found, Cause.POLICY)
        if found == BY_MOUNT:
            cause = Cause.SPECIAL if event.operation == "mknod" else Cause.MOUNT
        app = None if event.app == STRANGER else event.app
        mounted = self._mount_of(event) if run.app == _UNKNOWN else run.app
        return Recorded(
            app, event.uid, mounted, event.operation, event.syscall, event.decision != DENY, event.errno,
            cause, event.rules, event.would_deny, event.kind, event.view, event.policy_digest,
            self._exceptions(event, run, at_ns), at_ns, run.monitor,
        )  # fmt: skip

    def _mount_of(self, event: Event) -> str | None:
        """Guess the app of a mount (None: shared) from an event's uid: the record of its start is lost."""
        policy = self._policies.policy(event.policy_digest)
        known = () if policy is None else (app.uids for app in policy.apps if app.name == event.app)
        shared = any(first <= event.uid <= last for uids in known for first, last in uids)
        return None if shared or event.app == STRANGER else event.app


def _runs(portion: Portion, run: _Run) -> Iterator[tuple[int | None, _Run]]:
    """Yield the daemon's runs in a portion, oldest first, each with the line where the next one starts."""
    for item in portion.own(frozenset({"mount", "policy"})):
        if not isinstance(item, Record):
            continue
        options, policy = item.fields.get("options"), item.fields.get("policy")
        if item.kind == "mount":
            yield item.place.line, run
            app = options.get("app") if isinstance(options, dict) else None
            monitor = options.get("monitor") if isinstance(options, dict) else None
            known = monitor if isinstance(monitor, bool) else None
            run = _Run(app if isinstance(app, str) else None, {}, known)
        generation = 1 if item.kind == "mount" else item.fields.get("generation")
        if isinstance(policy, str) and isinstance(generation, int):
            listed = item.fields.get("exceptions")
            ids = tuple(sorted(listed)) if isinstance(listed, dict) else ()
            run.exceptions[policy, generation] = ids
    yield None, run


def _spans(index: Index, ends: Sequence[int], latest_ns: int, begin: int, end: int) -> Iterator[_Span]:
    """Divide lines where answers may change. An exception that has ended stays ended, despite the clock."""
    term = 0
    for end_ns in ends:
        first = 0 if latest_ns >= end_ns else index.query(_FIRST_AT, end_ns).fetchone()[0]
        if first is None or first >= end:
            break
        if first > begin:
            yield _Span(begin, first, term)
            begin = first
        term += 1
    yield _Span(begin, end, term)


def _asks_for_size(event: Event) -> bool:
    """Return True if the answer to a recorded request may depend on whether the file was empty."""
    demand = demand_of(event.operation, event.syscall)
    return demand is not None and demand.opens and not demand.empties and bool(demand.ops[0] & Op.WRITE)


def _id(portion: Portion, line: int, offset: int) -> str:
    item = portion.row(line, offset)
    return item.id if isinstance(item, Record) else f"line {item.place.line} of {item.place.segment}"
