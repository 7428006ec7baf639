"""Text for people: records of the trail as rows, and summaries and results of `audit verify` (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from typing import Final

from policyfs.errors import errno_name
from policyfs.trail.chain.verification import Break, Report
from policyfs.trail.lines.event import BY_APP, BY_DIRECTORY, BY_OPERATION, BY_RULE, DENY, Event
from policyfs.trail.lines.record import BadLine, Fields, Place, Record
from policyfs.trail.lines.table import (
    fit,
    human,
    pad,
    sheet,
    shown,
    shown_path,
    table,
    table_lines,
    width,
    wrap,
)
from policyfs.trail.query.rows import Again
from policyfs.trail.query.summary import BY_PATH, Summary
from policyfs.trail.text.cause import Lookup, cause_of, grounds, nothing_known, remedy_of
from policyfs.trail.text.sentences import describe

_HEAD: Final = ("TIME", "ID", "APP", "UID", "OPERATION", "DECISION", "PATH", "WHY")
_LEAST_WIDTHS: Final = (11, 8, 5, 9, 8)
_UID: Final = 3
_PATH: Final = 6
_WIDE: Final = 110
_INDENT: Final = "    "
_LEAST_ROOM: Final = 12
_ROOM_FOR_WHY: Final = 30
_TOP: Final = 10
_SIZED: Final = frozenset({"release", "rename", "truncate", "unlink"})
"""The operations whose rows have the sizes of the file: these requests change or remove bytes."""
_TOGETHER: Final = {
    BY_DIRECTORY: "{} in this directory, counted together",
    BY_OPERATION: "{} of this operation, counted together",
    BY_RULE: "{} by these rules, counted together",
    BY_APP: "{} of this app, counted together",
}


def local_time(time_ns: int, zone: tzinfo | None) -> str:
    """Return a time (ns since 1970) such as ``2026-03-01 08:15:00.123``. zone: None for the machine's."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, zone)
    except (OverflowError, OSError, ValueError):
        return f"@{seconds}"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest // 1_000_000:03d}"


class RowPrinter:
    """A printer of records as rows of a table. A column grows when a wider cell comes. If WHY has no room
    beside the path, it is in further lines."""

    def __init__(
        self, columns: int | None, zone: tzinfo | None = None, lookup: Lookup = nothing_known
    ) -> None:
        """columns: the terminal's width, or None to cut no cell. zone: None for the machine's."""
        self._columns = columns
        self._lookup = lookup
        self._zone = zone
        self._narrow = columns is not None and columns < _WIDE
        self._widths = [14 if self._narrow else 23, *_LEAST_WIDTHS]

    def head(self) -> str:
        """Return the line with the names of the columns."""
        return self._line(_HEAD)

    def row(self, item: Record | BadLine, again: Again | None = None) -> str:
        """Return the row of a record as text. again: repeats of a refused request, which the row counts."""
        if isinstance(item, BadLine):
            return self._sentence(f"-- {_place(item.place)}: this line is not a record: {shown(item.why)}")
        time = local_time(item.time_ns, self._zone)
        if item.event is None:
            begin = f"{self._cut(0, time)}  {pad(shown(item.id), self._widths[1])}"
            return self._sentence(f"{begin}  -- {describe(item)}")
        event = item.event
        return self._line(
            (
                time,
                shown(item.id),
                shown(event.app),
                str(event.uid) if event.uid >= 0 else "?",
                shown(event.operation),
                shown(event.decision),
                paths(event),
                why(event, again, self._zone, self._lookup),
            )
        )

    def _sentence(self, text: str) -> str:
        if self._columns is None or width(text) <= self._columns:
            return text
        first, *more = wrap(text, self._columns - len(_INDENT))
        return "\n".join([first, *(_INDENT + line for line in more)])

    def _line(self, cells: Sequence[str]) -> str:
        fixed = []
        for index, cell in enumerate(cells[:_PATH]):
            if self._narrow and index == _UID:
                continue
            text = self._cut(index, cell)
            self._widths[index] = max(self._widths[index], width(text))
            fixed.append(pad(text, self._widths[index]))
        path, reason = cells[_PATH:]
        if self._columns is not None:
            room = max(self._columns - sum(width(text) + 2 for text in fixed), _LEAST_ROOM)
            share = room * 3 // 5
            left = room - width(reason) - 2
            if room < _ROOM_FOR_WHY or left < min(share, width(path)):
                lines = ["  ".join([*fixed, fit(path, room)]).rstrip()]
                if reason and cells != _HEAD:
                    lines += [_INDENT + line for line in wrap(reason, self._columns - len(_INDENT))]
                return "\n".join(lines)
            path = fit(path, left)
            path = pad(path, max(width(path), min(share, left)))
        return "  ".join([*fixed, path, reason]).rstrip()

    def _cut(self, index: int, cell: str) -> str:
        """Return the text of a cell. On a narrow terminal, a time is without year and milliseconds."""
        return cell[5:-4] if self._narrow and index == 0 and cell != _HEAD[0] else cell


def paths(event: Event) -> str:
    """Return the path of an event as text, or both paths of a rename or link."""
    text = shown_path(event.path)
    return text if event.new_path is None else f"{text} -> {shown_path(event.new_path)}"


def why(
    event: Event, again: Again | None = None, zone: tzinfo | None = None, lookup: Lookup = nothing_known
) -> str:
    """Return the column WHY: errno, rules, mode, view, hidden bytes, sizes, repeats (again: in the same row),
    note."""
    parts = [errno_name(event.errno)] if event.errno else []
    parts += map(shown, grounds(event, lookup))
    parts += [f"would deny: {shown(rule)}" for rule in event.would_deny]
    parts += [shown(text) for text in (event.io, "" if event.view == "raw" else event.view) if text]
    if event.redacted:
        hidden = event.redacted_bytes or sum(length for _, length in event.redacted)
        parts.append(f"{hidden} bytes hidden")
    if event.operation in _SIZED and (sizes := _sizes(event)):
        parts.append(sizes)
    if event.folded:
        parts.append(_TOGETHER.get(event.folded, "{} counted together").format(event.repeats))
    elif again is not None:
        parts.append(_how_often(again, zone))
    elif event.repeats:
        parts.append(f"{event.repeats} more times")
    if event.note:
        parts.append(shown(event.note))
    return " ".join(parts)


def _sizes(event: Event) -> str:
    """Return the size of an event's file before and after the request as text; empty if nothing changed."""
    before, after = event.size_before, event.size_after
    if (before, event.mtime_before_ns) == (after, event.mtime_after_ns):
        return ""
    old, new = ("" if size is None else human(size) for size in (before, after))
    return f"{old} -> {new}" if old and new else f"{old} before" if old else f"{new} after"


def _how_often(again: Again, zone: tzinfo | None) -> str:
    until = local_time(again.last_ns, zone)[11:19]
    text = f"{again.times}{' more' * again.more} times until {until}"
    if len(again.operations) > 1:
        text += f" ({', '.join(f'{shown(name)} {count}' for name, count in again.operations)})"
    return text


def record_sheet(record: Record, zone: tzinfo | None = None) -> list[str]:
    """Return all fields of one record as lines of text, one field in each line."""
    pairs = [("id", shown(record.id)), ("local time", local_time(record.time_ns, zone))]
    event = record.event
    for name, value in record.fields.items():
        if event is not None and name == "path":
            pairs.append((name, shown_path(event.path)))
        elif event is not None and name == "new_path" and event.new_path is not None:
            pairs.append((name, shown_path(event.new_path)))
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            pairs.append((shown(name), ", ".join(map(shown, value))))
        else:
            pairs.append((shown(name), shown(str(value))))
    if event is None:
        pairs.append(("meaning", describe(record)))
    pairs.append(("stands in", _place(record.place)))
    return sheet(pairs)


def _place(place: Place) -> str:
    if not place.segment:
        return shown(place.mount_id)
    line = f" line {place.line}" if place.line > 0 else ""
    return f"{shown(place.mount_id)}/{shown(place.segment)}{line}"


def summary_lines(
    summary: Summary, zone: tzinfo | None, columns: int | None, lookup: Lookup = nothing_known
) -> list[str]:
    """Return a summary as lines of text, about one screen. columns: the terminal's width, or None."""
    if summary.first_ns is None or summary.last_ns is None:
        lines = ["no events"]
    else:
        lines = sheet(
            [
                ("from", local_time(summary.first_ns, zone)),
                ("to", local_time(summary.last_ns, zone)),
                ("events", str(summary.events)),
                ("redacted opens", str(summary.redacted_opens)),
                ("bytes read through the daemon", str(summary.bytes_read)),
                ("bytes written through the daemon", str(summary.bytes_written)),
            ]
        )
        for title, counts in (
            ("APP", summary.by_app),
            ("OPERATION", summary.by_operation),
            ("RULE", summary.by_rule),
        ):
            lines += ["", *_by_decision(title, counts, columns)]
        lines += _denied(summary, columns, lookup)
    if summary.kills:
        lines += ["", f"The daemon killed {len(summary.kills)} processes, because the mount waited for them:"]
        lines += [f"  {record.id}: {describe(record)}" for record in summary.kills[-_TOP:]]
    if summary.crashes:
        lines += ["", f"Daemons that did not end in order: {len(summary.crashes)}"]
        lines += [f"  {shown(place)}: {what}" for place, what in summary.crashes[-_TOP:]]
    if summary.trouble or summary.bad_lines:
        lines += [
            "",
            (
                f"The trail is not whole: {summary.trouble} gaps or repairs ({summary.dropped} dropped, "
                f"{summary.refused} requests refused), {summary.bad_lines} bad lines."
            ),
        ]
    return lines


def _denied(summary: Summary, columns: int | None, lookup: Lookup) -> list[str]:
    if not summary.denied_paths:
        return []
    top = summary.denied_paths.most_common(_TOP)
    rows = [(str(count), shown(app), shown_path(path)) for (app, path), count in top]
    lines = ["", *table(("DENIED", "APP", "PATH"), rows, columns=columns, flexible=2, right=frozenset({0}))]
    lines += ["", "Why, and what would have to change:"]
    for one in sorted(summary.refusals.values(), key=lambda one: -one.count)[:_TOP]:
        cause, remedy = cause_of(one.event, lookup), shown(remedy_of(one.event, lookup))
        begin = f"{one.count} of {shown(one.event.app)}, such as {shown_path(one.path)}: {cause}"
        room = (columns or 10_000) - len(_INDENT)
        lines += [begin, *(_INDENT + line for line in wrap(remedy, room))]
    return lines


def grouped_lines(summary: Summary, by: Sequence[str], columns: int | None) -> Iterator[str]:
    """Return a table of a summary's counts, as lines of text. by: fields whose values form the groups."""
    decisions = summary.grouped.decisions()

    def rows() -> Iterator[tuple[str, ...]]:
        for key, counts in summary.grouped:
            cells = (value if name in BY_PATH else shown(value) for name, value in zip(by, key, strict=True))
            yield *cells, *(str(counts.get(decision, "")) for decision in decisions)

    heads = (*(name.upper() for name in by), *(decision.upper() for decision in decisions))
    right = frozenset(range(len(by), len(heads)))
    return table_lines(heads, rows, columns=columns, flexible=0, right=right)


def _by_decision(title: str, counts: Counter[tuple[str, str]], columns: int | None) -> list[str]:
    decisions = sorted({decision for _, decision in counts})
    totals: Counter[str] = Counter()
    for (name, _), count in counts.items():
        totals[name] += count
    rows = [
        (shown(name), *(str(counts[name, decision] or "") for decision in decisions))
        for name, _ in totals.most_common()
    ]
    right = frozenset(range(1, len(decisions) + 1))
    head = (title, *(shown(decision).upper() for decision in decisions))
    return table(head, rows, columns=columns, flexible=0, right=right)


def summary_json(summary: Summary) -> Fields:
    """Return a summary of events as one JSON object. Counts have the form {name: {decision: number}}."""

    def nested(counts: Counter[tuple[str, str]]) -> Fields:
        out: dict[str, dict[str, int]] = {}
        for (name, decision), count in counts.items():
            out.setdefault(name, {})[decision] = count
        return dict(out)

    return {
        "first_ns": summary.first_ns,
        "last_ns": summary.last_ns,
        "events": summary.events,
        "decisions": dict(summary.by_decision),
        "apps": nested(summary.by_app),
        "operations": nested(summary.by_operation),
        "rules": nested(summary.by_rule),
        "denied": [
            {"app": app, "path": path.decode("utf-8", "backslashreplace"), "decision": DENY, "count": count}
            for (app, path), count in summary.denied_paths.most_common(_TOP)
        ],
        "redacted_opens": summary.redacted_opens,
        "bytes_read": summary.bytes_read,
        "bytes_written": summary.bytes_written,
        "dropped": summary.dropped,
        "refused": summary.refused,
        "killed": [{"id": record.id, "what": describe(record)} for record in summary.kills[-_TOP:]],
        "crashes": [{"id": place, "what": what} for place, what in summary.crashes[-_TOP:]],
        "trouble": summary.trouble,
        "bad_lines": summary.bad_lines,
    }


def report_lines(report: Report) -> list[str]:
    """Return the result of `audit verify` for one hash chain as lines of text, the first damage first."""
    name = shown(report.mount_id)
    verdict = "BROKEN" if not report.whole else "whole, but INCOMPLETE" if report.missing else "whole"
    segments = "1 segment" if report.segments == 1 else f"{report.segments} segments"
    lines = [f"{name}: {verdict}, {report.records} records in {segments}"]
    for found in report.breaks:
        lines.append(f"  {found.kind or 'break'}: {_place(found.place)}: {shown(found.what)}")
    lines += [f"  missing: {_place(found.place)}: {shown(found.what)}" for found in report.missing]
    lines += [f"  note: {_place(found.place)}: {shown(found.what)}" for found in report.notes]
    if report.breaks:
        lines.append(f"  proven: the lines to seq {report.proven}")
    if report.signed:
        lines.append(f"  sealed: the lines to seq {report.signed}")
    if report.head:
        lines.append(f"  head: {shown(report.mount_id[:8])}:{report.seq}={report.head}")
    return lines


def report_json(report: Report) -> Fields:
    """Return the result of `audit verify` for one hash chain as one JSON object."""

    def places(found: Sequence[Break]) -> list[Fields]:
        return [
            {"segment": place.segment, "line": place.line, "what": what} | ({"kind": kind} if kind else {})
            for place, what, kind in found
        ]

    found = (report.breaks, report.notes, report.missing)
    lists = zip(("breaks", "notes", "missing"), map(places, found), strict=True)
    return report._asdict() | {"whole": report.whole} | dict(lists)
