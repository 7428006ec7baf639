"""Alerts: messages about lines of the trail that match a condition, such as too many denials (pure).

An alert sends a message at once for the first match. During the next interval (`every` in the configuration)
the alert only counts matches. At the end of the interval, the alert sends one message with the exact number
of matches, by app.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from policyfs.forward.config import (
    DEGRADED,
    DENIALS,
    ENDED,
    KILLED,
    POLICY,
    QUERY,
    RULE,
    TAMPERED,
    UNREDACTABLE,
    WORKER,
    AlertDoc,
    selection_of,
)
from policyfs.forward.follower import BAD, BROKEN, GAP, Item
from policyfs.forward.messages import Message, alert_message, message_of
from policyfs.trail.lines.event import DENY, STRANGER, Event, Holder, holder_of
from policyfs.trail.lines.record import Fields, Record
from policyfs.trail.text.cause import BY_CONTENT, cause_of

_RECORDS: Final = {
    DEGRADED: frozenset({"gap", "damage", "recovered", GAP}),
    TAMPERED: frozenset({"damage", BROKEN, BAD}),
    POLICY: frozenset({"policy"}),
    WORKER: frozenset({"worker"}),
    ENDED: frozenset({"failed", "detached", "close"}),
    KILLED: frozenset({"killed"}),
}
"""Dictionary from a value of the key ``on`` of an alert to the types of records that match it.

The dictionary has only the values for records about the trail and the mount. Other alerts are about events.
"""
_APPS: Final = 32
"""The limit of apps in one message of an alert. The matches of all other apps are one number."""
_EXAMPLES: Final = 5
_BUCKETS: Final = 10
_HOLDERS: Final = 1024

Match = Callable[[Item], int]
"""A function that gets a line of the trail. It returns 0 if the line does not match the alert's condition.

Otherwise it returns the number of requests that the line stands for."""


class Alert:
    """One alert of the configuration. It makes messages about lines of the trail that match its condition.

    The first match causes a message at once. Later matches are counted, and one message in each interval
    reports the counts. Not thread-safe.
    """

    def __init__(self, doc: AlertDoc, now_s: Callable[[], float]) -> None:
        """doc: the alert in the configuration. now_s: a clock (seconds) that never goes back."""
        self._doc: Final = doc
        self._now_s: Final = now_s
        self._match: Final = _match_of(doc)
        self._until_s: float | None = None
        self._folded = _Fold()

    @property
    def is_pending(self) -> bool:
        """True if matches were counted, and no message has reported them yet."""
        return bool(self._folded.count)

    def take(self, item: Item) -> Message | None:
        """Test a line of the trail. Return a message that must be sent now, or None. If the line matches, but
        a message was sent less than an interval ago, count the line."""
        weight = self._match(item)
        if not weight:
            return None
        if self._until_s is not None:
            self._folded.add(item, weight)
            return None
        self._until_s = self._now_s() + self._doc.every
        fold = _Fold()
        fold.add(item, weight)
        return self._message(fold, message_of(item).text, at_once=True)

    def due(self, *, at_end: bool = False) -> Message | None:
        """Return a message with the number of counted matches if the interval is over, else None. at_end:
        True if the forwarder ends, so that the message is due now."""
        if self._until_s is None or (self._now_s() < self._until_s and not at_end):
            return None
        fold, self._folded = self._folded, _Fold()
        if not fold.count:
            self._until_s = None
            return None
        self._until_s = self._now_s() + self._doc.every
        text = f"{fold.count} more matches of `on: {self._doc.on}`, {fold.summary()}"
        return self._message(fold, text, at_once=False)

    def _message(self, fold: _Fold, text: str, *, at_once: bool) -> Message:
        if at_once and self._doc.on == DENIALS:
            text = f"more than {self._doc.more_than} denials within {self._doc.within:g} s; the last: {text}"
        fields: Fields = {
            "alert": self._doc.id, "on": self._doc.on, "at_once": at_once, "count": fold.count,
            "first": fold.first, "last": fold.last, "apps": dict(fold.apps), "others": fold.others,
            "examples": fold.examples,
        }  # fmt: skip
        name = f"{self._doc.id}:{fold.examples[0]}:{'1' if at_once else 'n'}"
        return alert_message(name, fold.last, f"{self._doc.id}: {text}", fields)


class _Fold:
    """The matches of one alert that are reported together in one message, counted for each app."""

    def __init__(self) -> None:
        self.count = 0
        self.others = 0
        self.first = self.last = ""
        self.apps: Counter[str] = Counter()
        self.examples: list[str] = []

    def add(self, item: Item, weight: int) -> None:
        message = message_of(item)
        self.count += weight
        self.first = self.first or message.time
        self.last = message.time
        if len(self.examples) < _EXAMPLES:
            self.examples.append(message.id)
        app = _app(item.record.event) if item.record.event else ""
        if app in self.apps or len(self.apps) < _APPS:
            self.apps[app] += weight
        else:
            self.others += weight

    def summary(self) -> str:
        """Return a text for a message: first and last time, and the number of matches of each app."""
        apps = [f"{app or 'the mount'} {count}" for app, count in self.apps.most_common(5)]
        others = self.others + sum(count for _, count in self.apps.most_common()[5:])
        apps += [f"others {others}"] if others else []
        return f"{self.first[:19]}Z to {self.last[:19]}Z: {', '.join(apps)}"


def _app(event: Event) -> str:
    return event.app if event.app != STRANGER else f"uid {event.uid}"


# -- conditions


def _match_of(doc: AlertDoc) -> Match:
    if doc.on in _RECORDS:
        return _records(doc.on)
    wanted = selection_of(doc.query).matches if doc.query else None
    if doc.on == DENIALS:
        return _Burst(doc, wanted)
    tests: dict[str, Callable[[Event], bool]] = {
        RULE: _names_rule(frozenset(doc.rules or ())),
        QUERY: lambda _event: True,
        UNREDACTABLE: lambda event: cause_of(event) == BY_CONTENT,
    }
    test = tests[doc.on]

    def match(item: Item) -> int:
        event = item.record.event
        if event is None or not test(event) or (wanted is not None and not wanted(event)):
            return 0
        return event.weight

    return match


def _names_rule(rules: frozenset[str]) -> Callable[[Event], bool]:
    return lambda event: bool(rules & {*event.rules, *event.would_deny, *event.would_allow})


def _records(which: str) -> Match:
    kinds = _RECORDS[which]

    def match(item: Item) -> int:
        if item.kind not in kinds:
            return 0
        return int(which != ENDED or _is_unwanted_end(item.record))

    return match


def _is_unwanted_end(record: Record) -> bool:
    """Return True if a mount did not start, was detached while in use, or ended without an order."""
    return record.kind != "close" or record.fields.get("cause") in {"outside", "error"}


class _Burst:
    """The condition of an alert on ``denials``: too many denials of one principal within some time.

    Time is that of the lines. A denial a little before the last one counts as if it had the same time. The
    time `within` has ten steps. A bucket is the number of a step, and its count of denials.
    INVARIANT: the numbers of a principal's buckets rise. Otherwise a full deque would drop counts.
    """

    def __init__(self, doc: AlertDoc, wanted: Callable[[Event], bool] | None) -> None:
        self._more_than: Final = doc.more_than
        self._step_ns: Final = max(1, int(doc.within * 1e9) // _BUCKETS)
        self._wanted: Final = wanted
        self._holders: dict[Holder, deque[tuple[int, int]]] = {}

    def __call__(self, item: Item) -> int:
        event = item.record.event
        if event is None or event.decision != DENY or (self._wanted is not None and not self._wanted(event)):
            return 0
        holder = holder_of(event)
        if holder not in self._holders and len(self._holders) >= _HOLDERS:
            del self._holders[next(iter(self._holders))]
        buckets = self._holders.setdefault(holder, deque(maxlen=_BUCKETS))
        bucket = event.time_ns // self._step_ns
        if buckets and bucket <= buckets[-1][0] - _BUCKETS:
            buckets.clear()  # a clock was set back, or the lines of another mount are much older
        elif buckets:
            bucket = max(bucket, buckets[-1][0])
        count = buckets.pop()[1] if buckets and buckets[-1][0] == bucket else 0
        buckets.append((bucket, count + event.weight))
        while buckets[0][0] <= bucket - _BUCKETS:
            buckets.popleft()
        total = sum(count for _, count in buckets)
        return event.weight if total > self._more_than else 0
