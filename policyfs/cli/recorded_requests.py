"""The requests of a trail, equal ones together, for commands that decide them again."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from policyfs.cli.audit_policies import KeptPolicies
from policyfs.domain import Op
from policyfs.journal.indexed import IndexedTrail, Portion
from policyfs.journal.reader import Chain
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.replay.recorded import NO_DECISIONS, Cause, Recorded, demand_of
from policyfs.trail.cause import BY_CONTENT, BY_RESOURCE, cause_of
from policyfs.trail.event import DENY, STRANGER, Event
from policyfs.trail.index import Index
from policyfs.trail.index_rows import chosen
from policyfs.trail.record import Record
from policyfs.trail.selection import Selection

_CAUSES: Final = {"": Cause.NONE, BY_CONTENT: Cause.CONTENT, BY_RESOURCE: Cause.RESOURCE}
_ENGINES: Final = 4
"""Compiled policies that are kept; a trail may name hundreds."""

_UNKNOWN: Final = ""
"""In place of the app of an app mount: the record of its start is gone."""

_FOLDED: Final = "counted together on the trail, without their paths"
_CUT: Final = "with a path that is too long to be recorded whole"
_ENDS: Final = "about what became of a file (release, quarantine), no decisions"
_BAD: Final = "lines are no records: see policyfs audit verify"


class Sighting(NamedTuple):
    """Equal requests of a trail. empty: True if the file held nothing at open; None: unknown. weight: number
    of requests. id: reads the id of the first of them; only until the next one is asked for.
    """

    recorded: Recorded
    path: bytes
    new_path: bytes | None
    empty: bool | None
    weight: int
    id: Callable[[], str]


class _Key(NamedTuple):
    """What equal rows of one portion have in common."""

    class_id: int
    path_id: int
    new_path_id: int
    empty: bool | None


class RecordedRequests:
    """The requests of a trail that a query selects. Memory: the index of one segment, and its requests.

    left_out: events that are no decisions or cannot be decided, by reason.
    """

    def __init__(self, trail: IndexedTrail, wanted: Selection) -> None:
        self._trail: Final = trail
        self._wanted: Final = wanted
        self._policies: Final = KeptPolicies(trail.chains)
        self.left_out: Counter[str] = Counter()
        self.engine: Final = functools.lru_cache(_ENGINES)(self._engine)

    def _engine(self, digest: str, monitor: bool) -> Engine | None:
        """Compile a recorded policy; None if the trail does not keep its text."""
        policy = self._policies.policy(digest)
        return None if policy is None else compile_policy(policy, monitor=monitor)

    def effect(self, digest: str, rule: str) -> str | None:
        """Return the effect of a rule of a recorded policy; None if the trail does not keep its text."""
        fact = self._policies.fact(digest, rule)
        return None if fact is None else fact.effect

    def __iter__(self) -> Iterator[Sighting]:
        """Yield all requests, segment by segment."""
        for chain in self._trail.chains:
            yield from self._of_chain(chain)

    def _of_chain(self, chain: Chain) -> Iterator[Sighting]:
        mounted: str | None = _UNKNOWN
        for portion in self._trail.portions(chain):
            self.left_out.update({_BAD: len(portion.index.bad)} if portion.index.bad else {})
            rows = chosen(portion.exact(self._wanted), portion.index.rows)
            begin = 0
            for line, app in [*_mounts(portion), (None, None)]:
                end = len(rows)
                if line is not None:
                    end = sum(portion.first_line + portion.index.line_of(row) < line for row in rows)
                yield from self._of_rows(portion, rows[begin:end], mounted)
                begin, mounted = end, (mounted if line is None else app)

    def _of_rows(self, portion: Portion, rows: list[int], mounted: str | None) -> Iterator[Sighting]:
        index = portion.index
        counts, first = _grouped(index, rows)
        made: dict[int, Recorded | str] = {}
        for key, count in counts.items():
            recorded = made.get(key.class_id)
            if recorded is None:
                recorded = made[key.class_id] = self._recorded(index.classes[key.class_id], mounted)
            if isinstance(recorded, str) or first[key] in index.cut_rows:
                self.left_out[recorded if isinstance(recorded, str) else _CUT] += count
                continue
            new = None if key.new_path_id < 0 else index.path(key.new_path_id)
            id_ = functools.partial(_id, portion, first[key])
            yield Sighting(recorded, index.path(key.path_id), new, key.empty, count, id_)

    def _recorded(self, event: Event, mounted: str | None) -> Recorded | str:
        """Return an event's request, or the reason why there is none to decide."""
        if event.operation in NO_DECISIONS:
            return _ENDS
        if event.folded:
            return _FOLDED
        cause = _CAUSES.get(cause_of(event, self._policies.fact), Cause.POLICY)
        app = None if event.app == STRANGER else event.app
        if mounted == _UNKNOWN:
            mounted = self._mount_of(event)
        return Recorded(
            app, event.uid, mounted, event.operation, event.syscall, event.decision != DENY, event.errno,
            cause, event.rules, event.would_deny, event.kind, event.view, event.policy_digest,
        )  # fmt: skip


    def _mount_of(self, event: Event) -> str | None:
        """Return the app of the app mount that an event is from, if the record of its start is gone."""
        policy = self._policies.policy(event.policy_digest)
        known = () if policy is None else (app.uids for app in policy.apps if app.name == event.app)
        shared = any(first <= event.uid <= last for uids in known for first, last in uids)
        return None if shared or event.app == STRANGER else event.app


def _mounts(portion: Portion) -> Iterator[tuple[int, str | None]]:
    """Yield the starts of mounts: their lines, and the apps of app mounts."""
    for item in portion.own(frozenset({"mount"})):
        options = item.fields.get("options") if isinstance(item, Record) else None
        if isinstance(item, Record):
            app = options.get("app") if isinstance(options, dict) else None
            yield item.place.line, app if isinstance(app, str) else None


def _grouped(index: Index, rows: list[int]) -> tuple[Counter[_Key], dict[_Key, int]]:
    """Count equal rows, and return the first row of each sort."""
    writing = {number for number, event in enumerate(index.classes) if _asks_for_size(event)}
    special = index.new_paths.keys() | index.cut_rows
    classes, paths = index.class_of, index.path_of
    sizes: dict[int, int] = dict(index.numbers("size")) if writing else {}
    keys = [
        _Key(classes[row], paths[row], -1, None)
        if row not in special and classes[row] not in writing
        else _Key(
            classes[row], paths[row], index.new_paths.get(row, -1),
            sizes[row] == 0 if row in sizes and classes[row] in writing else None,
        )
        for row in rows
    ]  # fmt: skip
    first = dict(zip(reversed(keys), reversed(rows), strict=True))
    counts = Counter(keys)
    for key, row in zip(keys, rows, strict=True) if index.repeats else ():
        counts[key] += index.repeats.get(row, 1) - 1
    return counts, first


def _asks_for_size(event: Event) -> bool:
    """True if an answer may depend on whether the file was empty."""
    demand = demand_of(event.operation, event.syscall)
    return demand is not None and demand.opens and not demand.empties and bool(demand.ops[0] & Op.WRITE)


def _id(portion: Portion, row: int) -> str:
    item = portion.row(row)
    return item.id if isinstance(item, Record) else f"line {item.place.line} of {item.place.segment}"
