"""The requests that a trail records, for commands that decide them again.

Equal requests are counted together.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from typing import Final, NamedTuple

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.domain import Op
from policyfs.journal.files.reader import Chain
from policyfs.journal.index.indexed import IndexedTrail, Portion
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.exceptions import ALWAYS, live, with_exceptions
from policyfs.policy.exceptions import ends as ends_of
from policyfs.policy.model import Policy
from policyfs.policy.replay.recorded import NO_DECISIONS, Cause, Recorded, demand_of
from policyfs.trail.lines.event import DENY, STRANGER, Event
from policyfs.trail.lines.record import Record
from policyfs.trail.query.index import Index
from policyfs.trail.query.index_rows import chosen
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
_BAD: Final = "lines are not records: see policyfs audit verify"


class Sighting(NamedTuple):
    """A group of equal requests of a trail, with their number (weight).

    empty: True if the file was empty at the open; None if that is unknown. id: a function that reads the id
    of the first request from the trail. It works only until the next Sighting is yielded.
    """

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


class _Key(NamedTuple):
    """The values that equal requests of one portion (a part of a trail file, with its index) have in common.

    The ids are ids of the index. term: the number of times from _instants() that had passed at the request.
    """

    class_id: int
    path_id: int
    new_path_id: int
    empty: bool | None
    term: int


class _Run(NamedTuple):
    """One run of a daemon, from start to end, as the daemon has recorded it on the trail.

    app: the app of an app mount; None for a shared mount. exceptions: a dictionary from policy digest and
    generation to the ids of the exceptions (allow rules with an end date) in force. monitor: True if the
    mount had --monitor; None if that is not known.
    """

    app: str | None
    exceptions: dict[tuple[str, int], tuple[str, ...]]
    monitor: bool | None = None


class RecordedRequests:
    """The requests of a trail that a query selects. Only one file of the trail is in memory at a time.

    left_out: a dictionary from each reason to the number of events that cannot be decided again for this
    reason. (Some events record no decision.)
    """

    def __init__(self, trail: IndexedTrail, wanted: Selection, ends: Sequence[int] = ()) -> None:
        """ends: times (ns since 1970) at which the other policy (which decides the requests again) changes.

        A request before such a time and a request after it never count as equal.
        """
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

        monitor: True to compile the policy as with --monitor.
        """
        return self._compiled(recorded.digest, recorded.exceptions, monitor)

    def _compile(self, digest: str, exceptions: tuple[str, ...], monitor: bool) -> Engine | None:
        policy = self._policies.policy(digest)
        return (
            None if policy is None else compile_policy(with_exceptions(policy, exceptions), monitor=monitor)
        )

    def effect(self, digest: str, rule: str) -> str | None:
        """Return the effect (such as ``deny``) of a rule.

        Return None if the trail has not kept the policy's text.
        """
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
        run, mark = _Run(_UNKNOWN, {}), 0
        for portion in self._trail.portions(chain):
            self.left_out.update({_BAD: len(portion.index.bad)} if portion.index.bad else {})
            rows = chosen(portion.exact(self._wanted), portion.index.rows)
            times, mark = _times(portion.index, mark)
            begin = 0
            for line, one in _runs(portion, run):
                end = len(rows)
                if line is not None:
                    end = sum(portion.first_line + portion.index.line_of(row) < line for row in rows)
                yield from self._of_rows(portion, rows[begin:end], times, one)
                begin, run = end, one

    def _of_rows(self, portion: Portion, rows: list[int], times: list[int], run: _Run) -> Iterator[Sighting]:
        index = portion.index
        ends = self._instants(index, run)
        counts, first = _grouped(index, rows, _terms([times[row] for row in rows], ends))
        made: dict[tuple[int, int], Recorded | str] = {}
        for key, count in counts.items():
            recorded = made.get((key.class_id, key.term))
            if recorded is None:
                at_ns = ends[key.term - 1] if key.term else ALWAYS
                recorded = self._recorded(index.classes[key.class_id], run, at_ns)
                made[key.class_id, key.term] = recorded
            if isinstance(recorded, str) or first[key] in index.cut_rows:
                self.left_out[recorded if isinstance(recorded, str) else _CUT] += count
                continue
            new = None if key.new_path_id < 0 else index.path(key.new_path_id)
            id_ = functools.partial(_id, portion, first[key])
            yield Sighting(recorded, index.path(key.path_id), new, key.empty, count, id_)

    def _instants(self, index: Index, run: _Run) -> list[int]:
        """Return the times (ns since 1970) at which the answers to some requests of a portion may change.

        These are the ends of exceptions, and the times at which the other policy changes.
        """
        missing = {
            event.policy_digest
            for event in index.classes
            if (event.policy_digest, event.policy_generation) not in run.exceptions
        }
        known = filter(None, map(self._policies.policy, missing))
        return sorted({*self._ends, *ends_of(known, ALWAYS)})

    def _exceptions(self, event: Event, run: _Run, at_ns: int) -> tuple[str, ...]:
        """Return the exceptions (allow rules with an end date) in force at an event.

        A record of the daemon's run lists these exceptions. If the record is gone, return the exceptions of
        the policy that had not ended at *at_ns*.
        """
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
        """Guess which app mount recorded an event, from the event's uid. Return the mount's app.

        Return None for a shared mount. The guess is needed only if the trail has lost the record of the
        mount's start.
        """
        policy = self._policies.policy(event.policy_digest)
        known = () if policy is None else (app.uids for app in policy.apps if app.name == event.app)
        shared = any(first <= event.uid <= last for uids in known for first, last in uids)
        return None if shared or event.app == STRANGER else event.app


def _runs(portion: Portion, run: _Run) -> Iterator[tuple[int | None, _Run]]:
    """Yield the daemon's runs in a portion (a part of a trail file, with its index), oldest first.

    Each run comes with the number of the line at which the next run starts, or None for the last run. run:
    the run to which the first lines belong.
    """
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


def _times(index: Index, mark: int) -> tuple[list[int], int]:
    """Return a time for each row of the index, and the latest of these times.

    mark: the latest time in earlier portions. If the clock was set back, a row gets the latest time of the
    lines before it. So an exception (an allow rule with an end date) that has ended stays ended.
    """
    times = [*index.times, mark]
    for own in index.own:
        next_row = bisect_left(range(index.rows), own.line, key=index.line_of)
        times[next_row] = max(times[next_row], own.time_ns)
    latest = list(accumulate(times, max, initial=mark))[1:]
    return latest, latest.pop()


def _terms(times: list[int], ends: Sequence[int]) -> Iterable[int]:
    """Return for each time in *times* the number of *ends* that had passed. Both lists are ascending."""
    first, last = (bisect_right(ends, times[number]) if times else 0 for number in (0, -1))
    return repeat(first, len(times)) if first == last else [bisect_right(ends, time) for time in times]


def _grouped(index: Index, rows: list[int], terms: Iterable[int]) -> tuple[Counter[_Key], dict[_Key, int]]:
    """Return the number of rows of the index with each key, and the first row with each key.

    terms: see _Key.term, for each row.
    """
    writing = {number for number, event in enumerate(index.classes) if _asks_for_size(event)}
    special = index.new_paths.keys() | index.cut_rows
    classes, paths = index.class_of, index.path_of
    sizes: dict[int, int] = dict(index.numbers("size")) if writing else {}
    keys = [
        _Key(classes[row], paths[row], -1, None, term)
        if row not in special and classes[row] not in writing
        else _Key(
            classes[row], paths[row], index.new_paths.get(row, -1),
            sizes[row] == 0 if row in sizes and classes[row] in writing else None, term,
        )
        for row, term in zip(rows, terms, strict=True)
    ]  # fmt: skip
    first = dict(zip(reversed(keys), reversed(rows), strict=True))
    counts = Counter(keys)
    for key, row in zip(keys, rows, strict=True) if index.repeats else ():
        counts[key] += index.repeats.get(row, 1) - 1
    return counts, first


def _asks_for_size(event: Event) -> bool:
    """Return True if the answer to a recorded request may depend on whether the file was empty."""
    demand = demand_of(event.operation, event.syscall)
    return demand is not None and demand.opens and not demand.empties and bool(demand.ops[0] & Op.WRITE)


def _id(portion: Portion, row: int) -> str:
    item = portion.row(row)
    return item.id if isinstance(item, Record) else f"line {item.place.line} of {item.place.segment}"
