"""Reader of a site's trails: collects the requests of each app in a period, by directory."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import Op
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.indexed import IndexedTrail, Portion
from policyfs.policy.learn.unused import CHANGES, Unused, needs_of
from policyfs.policy.replay.recorded import NO_DECISIONS
from policyfs.trail.lines.event import DENY, STRANGER, Event
from policyfs.trail.lines.record import BadLine
from policyfs.trail.query.selection import Selection

DAY_NS: Final = 24 * 3600 * 1_000_000_000
_LOSSES: Final = frozenset({"gap", "damage"})
_TIMES: Final = "SELECT min(time) FROM (SELECT time FROM event UNION ALL SELECT time FROM other)"


@dataclass(slots=True)
class Period:
    """The part of a period that the trails show. days: for each app, the numbers of the days on which it made
    requests, from 0. first_ns: by chain, the time of its oldest record (ns since 1970). lost: True if events
    are missing. digests: of all policies. moves: the apps with moves without paths on the trail."""

    days: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    first_ns: dict[str, int] = field(default_factory=dict)
    lost: bool = False
    digests: set[str] = field(default_factory=set)
    moves: set[str] = field(default_factory=set)


def read_use(trail: IndexedTrail, wanted: Selection, before: Selection, used: Unused) -> Period:
    """Add all requests of a period. before: all events before the period: what was opened
    then for writing, and not closed, counts, too."""
    found = Period()
    for chain in trail.chains:
        _read_chain(trail, chain, wanted, before, used, found)
    return found


def _read_chain(
    trail: IndexedTrail, chain: Chain, wanted: Selection, before: Selection, used: Unused, found: Period
) -> None:
    writers: dict[int, tuple[str, bytes]] = {}
    for portion in trail.portions(chain):
        [(first_ns,)] = portion.index.query(_TIMES)
        if first_ns is not None:
            found.first_ns.setdefault(chain.mount_id, first_ns)
        start = 0
        for item in portion.own(_LOSSES | {"mount", "policy"}):
            if isinstance(item, BadLine):
                found.lost = True
            elif item.kind in _LOSSES:
                found.lost |= wanted.concerns(item)
            else:
                found.digests.add(str(item.fields.get("policy", "")))
                if item.kind == "mount" and "takeovers" not in item.fields and before.covers(item.time_ns):
                    start = item.place.line - portion.first_line
        _open_writers(portion, start, before, writers)
        _add_requests(portion, wanted, used, found)
    for app, path in writers.values():
        used.add(app, path, Op.SEE | Op.READ | Op.WRITE)


def _open_writers(
    portion: Portion, start: int, before: Selection, writers: dict[int, tuple[str, bytes]]
) -> None:
    """Keep the files that are open for writing at the end of a portion, by handle. start: the line at which
    the mount was made anew, so that no file was open any more; 0 if it was not."""
    if start:
        writers.clear()
    classes = portion.index.classes
    opens = {number for number, event in classes.items() if _may_write(event)}
    ends = {number for number, event in classes.items() if event.operation == "release"}
    chosen = ",".join(map(str, opens | ends))
    rows = portion.index.select(
        "class, path, handle",
        before,
        f"AND handle IS NOT NULL AND line > {start} AND class IN ({chosen}) ORDER BY line",
    )
    for number, path, handle in rows:
        if number in ends:
            writers.pop(handle, None)
        else:
            writers[handle] = classes[number].app, portion.index.path(path)


def _may_write(event: Event) -> bool:
    if event.operation not in {"open", "create"} or event.decision == DENY or event.app == STRANGER:
        return False
    return bool(needs_of(event.operation, event.syscall)[0] & CHANGES)


def _add_requests(portion: Portion, wanted: Selection, used: Unused, found: Period) -> None:
    classes = portion.index.classes
    columns = (
        f"class, path, new_path, line IN (SELECT line FROM cut), (time - {wanted.since_ns or 0}) / {DAY_NS},"
        " sum(ifnull(repeats, 1))"
    )
    rows = portion.index.select(columns, wanted, "GROUP BY 1, 2, 3, 4, 5")
    for number, path, new_path, is_cut, day, count in rows:
        event = classes[number]
        if event.app == STRANGER or event.operation in NO_DECISIONS:
            continue
        if event.decision == DENY:
            used.add_refused(event.app, b"/" if is_cut else portion.index.path(path), count)
            continue
        found.days[event.app].add(day)
        ops, new_ops = needs_of(event.operation, event.syscall)
        if is_cut or event.folded:
            used.add_below(event.app, b"/" if is_cut else portion.index.path(path), ops)
            if new_ops:
                used.add_below(event.app, b"/", new_ops)
                found.moves.add(event.app)
        else:
            used.add(event.app, portion.index.path(path), ops)
            if new_path is not None:
                used.add(event.app, portion.index.path(new_path), new_ops)
