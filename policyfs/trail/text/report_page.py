"""The HTML report of `policyfs audit report`: one page with charts and tables (pure). INVARIANT: see
page_parts.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import tzinfo
from typing import Final, NamedTuple

from policyfs.trail.query.summary import Summary
from policyfs.trail.text.cause import Lookup, cause_of, remedy_of
from policyfs.trail.text.overview import MINUTE_NS, Overview
from policyfs.trail.text.page_parts import document, number_boxes, path_of, search_field, table, text_of
from policyfs.trail.text.render import local_time

ROWS: Final = 3000
_REFUSALS: Final = 300
_COLUMNS: Final = 14
_DIRECTORIES: Final = 25
_BARS: Final = 120
_MOST_EMPTY: Final = 366 * 24 * 60
"""The longest time without events, in minutes, that the chart shows before the first and after the last."""
_HOURS: Final = (1, 2, 3, 6, 12, 24, 48, 168, 720, 8760, 1 << 40)
_STEPS: Final = (1, 2, 5, 10, 15, 30, *(60 * hours for hours in _HOURS))
"""The possible lengths of time for one bar of the chart, in minutes."""
_WIDTH: Final = 960
_HEIGHT: Final = 220
_DECISIONS: Final = ("allow", "would_deny", "deny")


class PageData(NamedTuple):
    """The contents of the HTML report. checked: the output of `audit verify`, empty if it did not run.
    is_whole: False if it found damage. changes: time and sentence for each change of a policy or mount.
    period: of the query, in ns since 1970 (None: no limit)."""

    trail: str
    made: str
    query: str
    summary: Summary
    overview: Overview
    checked: Sequence[str]
    is_whole: bool
    changes: Sequence[tuple[str, str]]
    lookup: Lookup
    zone: tzinfo | None
    period: tuple[int | None, int | None] = (None, None)


def page(facts: PageData) -> str:
    """Return the report as HTML."""
    sections = (
        ("Access over time", _chart(facts)),
        ("Denials and their causes", _denials(facts)),
        ("Who was where", _heat(facts)),
        ("Redactions", _redactions(facts)),
        ("Integrity of the trail", _integrity(facts)),
        ("Policies and mounts", _changes(facts)),
        ("All kinds of access", _accesses(facts)),
    )
    return document("access report", "Access report", _head(facts), _numbers(facts), sections)


def _head(facts: PageData) -> str:
    summary, zone = facts.summary, facts.zone
    period = "no events"
    if summary.first_ns is not None and summary.last_ns is not None:
        first, last = (local_time(time_ns, zone)[:16] for time_ns in (summary.first_ns, summary.last_ns))
        period = f"{first} to {last}"
    query = f" · only {text_of(facts.query)}" if facts.query else ""
    return f"{period}{query} · trail {text_of(facts.trail)} · made {text_of(facts.made)}"


def _numbers(facts: PageData) -> str:
    summary = facts.summary
    decisions = summary.by_decision
    whole = "whole" if facts.is_whole else "not whole"
    pairs = (
        ("events", f"{summary.events:,}", ""),
        ("denied", f"{decisions['deny']:,}", "bad" if decisions["deny"] else ""),
        ("would be denied", f"{decisions['would_deny']:,}", ""),
        ("redacted opens", f"{summary.redacted_opens:,}", ""),
        ("apps", str(len({app for app, _ in summary.by_app})), ""),
        ("trail", whole if facts.checked else "not checked", _look_of_trail(facts)),
    )
    return number_boxes(pairs)


def _look_of_trail(facts: PageData) -> str:
    return "" if not facts.checked else "good" if facts.is_whole else "bad"


def _chart(facts: PageData) -> str:
    """Return a chart of the events over time by decision, and a table of the numbers. The bars fill the
    period of the query, else that of the events."""
    fine = facts.overview.by_minute
    by_hour = {(hour * 60, decision): count for (hour, decision), count in facts.summary.by_hour.items()}
    by_time = fine if fine is not None else by_hour
    if not by_hour:
        return "<p>No events.</p>"
    minutes = [minute for minute, _ in by_time]
    first, last = min(minutes), max(minutes)
    since_ns, until_ns = facts.period
    if since_ns is not None:
        first = min(first, max(since_ns // MINUTE_NS, first - _MOST_EMPTY))
    if until_ns is not None:
        last = max(last, min((until_ns - 1) // MINUTE_NS, last + _MOST_EMPTY))
    step = next(size for size in _STEPS if (last - first) // size < _BARS)
    if fine is None:
        step, first = max(step, 60), first // 60 * 60
    counts: Counter[tuple[int, str]] = Counter()
    for (minute, decision), count in by_time.items():
        counts[(minute - first) // step, decision] += count
    bars = (last - first) // step + 1
    sums = [sum(counts[at, decision] for decision in _DECISIONS) for at in range(bars)]
    most, width = max(1, *sums), _WIDTH / bars  # the decisions may all be unknown ones
    parts, rows = [], []
    for at in range(bars):
        label = local_time((first + at * step) * MINUTE_NS, facts.zone)[:16]
        told = ", ".join(f"{counts[at, one]:,} {one}" for one in _DECISIONS if counts[at, one])
        base = float(_HEIGHT)
        parts.append(f"<g><title>{label}: {told or 'nothing'}</title>")
        for decision in _DECISIONS:
            tall = counts[at, decision] * (_HEIGHT - 10) / most
            base -= tall
            if tall:
                parts.append(
                    f'<rect class="{decision}" x="{at * width:.1f}" y="{base:.1f}" '
                    f'width="{max(width - 1, 1):.1f}" height="{max(tall, 1):.1f}"/>'
                )
        parts.append("</g>")
        rows.append((label, *(str(counts[at, decision]) for decision in _DECISIONS)))
    ends = [(0, "start", first), (_WIDTH, "end", last)]
    for x, anchor, minute in ends:
        label = local_time(minute * MINUTE_NS, facts.zone)[:16]
        parts.append(f'<text x="{x}" y="{_HEIGHT + 14}" text-anchor="{anchor}">{label}</text>')
    legend = "".join(f'<span class="{one}">■ {one.replace("_", " ")}</span>' for one in _DECISIONS)
    length = f"{step} min" if step < 60 else f"{step // 60} h"
    name = f"Events over time, {length} a bar, at most {most:,} in one"
    box = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" aria-label="{name}">'
    numbers = table("time", name, ("From", *_DECISIONS), rows, "1 2 3")
    return (
        f'<p class="legend">{legend}</p>{box}'
        f'<line x1="0" y1="{_HEIGHT}" x2="{_WIDTH}" y2="{_HEIGHT}"/>{"".join(parts)}</svg>'
        f"<details><summary>The numbers</summary>{numbers}</details>"
    )


def _denials(facts: PageData) -> str:
    found = sorted(facts.summary.refusals.values(), key=lambda one: -one.count)
    if not found:
        return "<p>Nothing was denied.</p>"
    causes: Counter[str] = Counter()
    for one in found:
        causes[cause_of(one.event, facts.lookup)] += one.count
    told = ", ".join(f"{_CAUSES.get(cause, cause)}: {count:,}" for cause, count in causes.most_common())
    rows = [
        (
            str(one.count), text_of(one.event.app), cause_of(one.event, facts.lookup), path_of(one.path),
            text_of(remedy_of(one.event, facts.lookup)),
        )
        for one in found[:_REFUSALS]
    ]  # fmt: skip
    heads = ("Times", "App", "Cause", "Such as", "Why, and what would have to change")
    return f"<p>{told}.</p>" + table("denials", "Denials by cause", heads, rows, "0")


_CAUSES: Final = {
    "rule": "a rule denies",
    "no rule": "no rule allows",
    "content": "content that cannot be cleaned or allowed",
    "mount": "the mount itself refuses",
    "resource": "a resource was missing",
}


def _heat(facts: PageData) -> str:
    heat, denied = facts.overview.heat, facts.overview.heat_denied
    apps: Counter[str] = Counter()
    places: Counter[bytes] = Counter()
    for (app, place), count in heat.items():
        apps[app] += count
        places[place] += count
    if not heat:
        return "<p>No events.</p>"
    most = max(heat.values())
    columns = [app for app, _ in apps.most_common(_COLUMNS)]
    head = "".join(f'<th scope="col">{text_of(app)}</th>' for app in columns)
    rows = []
    for place, _ in places.most_common(_DIRECTORIES):
        cells = []
        for app in columns:
            count = heat[app, place]
            shade = (count / most) ** 0.4 * 0.25 if count else 0
            told = f' <span class="deny">({denied[app, place]:,} denied)</span>' if denied[app, place] else ""
            number = f"{count:,}{told}" if count else ""
            cells.append(f'<td class="n" style="background:rgba(var(--heat),{shade:.2f})">{number}</td>')
        rows.append(f'<tr><th scope="row">{path_of(place)}</th>{"".join(cells)}</tr>')
    left = len(places) - _DIRECTORIES
    more = f"<p class=quiet>{left:,} more directories are in the last table.</p>" if left > 0 else ""
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Heat map">'
        '<table class="heat"><caption>Events by app and directory, the busiest first</caption>'
        f'<thead><tr><th scope="col">Directory</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _redactions(facts: PageData) -> str:
    found = facts.overview.redactions
    if not found:
        return "<p>No app read a file from which something was removed.</p>"
    rows = [
        (
            text_of(app), text_of(view), text_of(kind), str(count),
            str(facts.overview.hidden_bytes[app, view, kind]),
        )
        for (app, view, kind), count in found.most_common(_REFUSALS)
    ]  # fmt: skip
    heads = ("App", "View", "Kind", "Opens", "Bytes hidden")
    return table("redactions", "Opens of files in which bytes were hidden", heads, rows, "3 4")


def _integrity(facts: PageData) -> str:
    summary = facts.summary
    lines = [text_of(line) for line in facts.checked] or ["Not checked. Run: policyfs audit verify"]
    gaps = ""
    if summary.trouble or summary.bad_lines:
        gaps = (
            f'<p class="bad">{summary.trouble:,} gaps or repairs in this period: {summary.dropped:,} events '
            f"are not on record, {summary.refused:,} requests were refused, {summary.bad_lines:,} lines are "
            "not records.</p>"
        )
    return f'<pre class="{_look_of_trail(facts)}">{chr(10).join(lines)}</pre>{gaps}'


def _changes(facts: PageData) -> str:
    if not facts.changes:
        return "<p>No policy was changed, no mount began or ended, and no process was killed.</p>"
    rows = [(text_of(time), text_of(sentence)) for time, sentence in facts.changes[-_REFUSALS:]]
    return table("changes", "Changes of policies and mounts, and killed processes", ("Time", "What"), rows)


def _accesses(facts: PageData) -> str:
    found, last = facts.overview.accesses, facts.overview.last_ns
    ranked = sorted(found.items(), key=lambda one: (one[0].decision != "deny", -one[1]))
    rows = [
        (
            str(count), text_of(one.app), text_of(one.operation), path_of(one.directory),
            f'<span class="{_look(one.decision)}">{text_of(one.decision)}</span>', text_of(one.cause),
            text_of(one.grounds), local_time(last[one], facts.zone)[:19],
        )
        for one, count in ranked[:ROWS]
    ]  # fmt: skip
    left = len(ranked) - ROWS
    more = f"<p class=quiet>{left:,} rarer kinds are left out.</p>" if left > 0 else ""
    heads = ("Times", "App", "Operation", "Directory", "Decision", "Cause", "Rules", "Last")
    return (
        search_field("accesses")
        + table("accesses", "Each kind of access, with the rules that decided", heads, rows, "0")
        + more
    )


def _look(decision: str) -> str:
    return decision if decision in _DECISIONS else ""
