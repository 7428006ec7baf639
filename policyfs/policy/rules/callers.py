"""Classes of callers: an app (or the strangers) with uids that no ``who.uid`` distinguishes.

Rules treat all callers of one class alike, except by ``{uid}`` in globs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from policyfs.domain import WORKER_UIDS, Principal
from policyfs.policy.globs.names import UID_LIMIT, Bind
from policyfs.policy.model import ANY, STRANGER, App, Policy, Rule, UidRange, Who

_UID_SHIFT: Final = 32
_CLASS_MASK: Final = (1 << _UID_SHIFT) - 1


class CallerClass:
    """All callers of one app (or all strangers) with uids of one class. number: the low 32 bits of their keys
    (Principal.key). sample_uid: one of the uids."""

    __slots__ = ("_fits", "app", "grants", "number", "sample_uid", "uid_class")

    def __init__(self, number: int, app: App | None, uid_class: int, sample_uid: int) -> None:
        self.number = number
        self.app = None if app is None else app.name
        self.grants: frozenset[str] = frozenset() if app is None else app.grants
        self.uid_class = uid_class
        self.sample_uid = sample_uid
        self._fits: dict[int, bool] = {}

    def fits(self, number: int, rule: Rule) -> bool:
        """Return True if these callers match ``who`` of the rule, by its number in the table."""
        if rule.who is None:
            return True
        known = self._fits.get(number)
        if known is None:
            known = self._fits[number] = self.within(rule.who)
        return known

    def within(self, who: Who) -> bool:
        """Return True if the callers of this class match this ``who`` block."""
        if who.apps is not None:
            if self.app is None:
                if STRANGER not in who.apps:
                    return False
            elif self.app not in who.apps and ANY not in who.apps:
                return False
        if who.grants is not None and who.grants.isdisjoint(self.grants):
            return False
        if who.uids is not None and not _within(self.sample_uid, who.uids):
            return False
        return who.not_ is None or not self.within(who.not_)


class Caller:
    """A caller class with one of its uids. uid: the value of ``{uid}`` in globs; None: it matches nothing."""

    __slots__ = ("app", "of", "uid")

    def __init__(self, of: CallerClass, uid: int | None) -> None:
        self.of = of
        self.app = of.app
        self.uid = uid

    def fits(self, number: int, rule: Rule) -> bool:
        """Return True if the caller matches ``who`` of the rule."""
        return self.of.fits(number, rule)

    def bind(self) -> Bind:
        """Return the values that ``{app}`` and ``{uid}`` in globs have for this caller."""
        return Bind(self.app, self.uid)


def _within(uid: int, ranges: tuple[UidRange, ...]) -> bool:
    return any(first <= uid <= last for first, last in ranges)


def tells_uids_apart(who: Who | None, app: str) -> bool:
    """Return True if a ``who`` block can match an app under some uids, and not under others."""
    while who is not None:
        if who.apps is not None and app not in who.apps and ANY not in who.apps:
            return False
        if who.uids is not None:
            return True
        who = who.not_
    return False


def named_uids(policy: Policy) -> list[UidRange]:
    """Return the uids that a policy names, for apps and in rules."""
    whos = [uids for rule in policy.rules for uids in _uid_sets(rule.who)]
    return [one for uids in (*(app.uids for app in policy.apps), *whos) for one in uids]


def _uid_sets(who: Who | None) -> Iterator[tuple[UidRange, ...]]:
    while who is not None:
        if who.uids is not None:
            yield who.uids
        who = who.not_


class Callers:
    """The caller classes and the principals of one policy. A class is made when it is first needed."""

    def __init__(self, policy: Policy) -> None:
        self._apps: Final = {app.name: app for app in policy.apps}
        ranges = sorted(
            ((first, last, app) for app in policy.apps for first, last in app.uids),
            key=lambda entry: entry[:2],
        )
        self._app_starts: Final = [first for first, _, _ in ranges]
        self._app_ranges: Final = ranges
        self._starts, self._uid_class = self._classify(policy)
        self._class_starts: Final[dict[int, list[int]]] = {}
        for number, uid_class in enumerate(self._uid_class):
            self._class_starts.setdefault(uid_class, []).append(number)
        self._classes: Final[list[CallerClass]] = []
        self._by_pair: Final[dict[tuple[str | None, int], CallerClass]] = {}

    @staticmethod
    def _classify(policy: Policy) -> tuple[list[int], list[int]]:
        sets = list(dict.fromkeys(s for rule in policy.rules for s in _uid_sets(rule.who)))
        cuts = {0}
        for ranges in sets:
            for first, last in ranges:
                cuts.update((first, last + 1))
        starts = sorted(cut for cut in cuts if cut < UID_LIMIT)
        signatures: dict[tuple[bool, ...], int] = {}
        classes = [
            signatures.setdefault(tuple(_within(start, ranges) for ranges in sets), len(signatures))
            for start in starts
        ]
        return starts, classes

    def app_of(self, uid: int) -> str | None:
        """Return the app that lists this uid; None for a stranger."""
        at = bisect_right(self._app_starts, uid) - 1
        if at >= 0:
            _, last, app = self._app_ranges[at]
            if uid <= last:
                return app.name
        return None

    def principal(
        self, app: str | None, uid: int, *, uid_matters: bool, uids_differ: bool = False
    ) -> Principal:
        """Return the principal of an app (None: a stranger) with a uid. Raise KeyError for an unknown app.
        uid_matters: True if globs have ``{uid}``. uids_differ: see Principal."""
        of = self._class(app, self.uid_class_of(uid), uid)
        key = of.number
        if uid_matters and app is not None:
            key |= (uid + 1) << _UID_SHIFT
        return Principal(key, app, uid, uids_differ)

    def uid_class_of(self, uid: int) -> int:
        """Return the number of the class of a uid."""
        return self._uid_class[bisect_right(self._starts, uid) - 1]

    def uid_classes(self) -> Iterable[int]:
        """Return the numbers of all classes of uids."""
        return self._class_starts.keys()

    def bounds(self) -> set[int]:
        """Return all uids at which the class or the app of a uid can change."""
        ends = {last + 1 for _, last, _ in self._app_ranges if last + 1 < UID_LIMIT}
        return {*self._starts, *self._app_starts, *ends}

    def samples(self, uid_class: int) -> list[int]:
        """Return some uids of a class: of each range the middle, the last, the first and the second uid."""
        found: dict[int, None] = {}
        for first, end in self._ranges_of(uid_class):
            for uid in ((first + end) // 2, end - 1, first, first + 1):
                if first <= uid < end:
                    found[uid] = None
        return list(found)

    def another(self, uid_class: int, besides: Collection[int]) -> int | None:
        """Return a uid of the class that is not in *besides*, or None."""
        for uid in self.samples(uid_class):
            if uid not in besides:
                return uid
        for first, end in self._ranges_of(uid_class):
            for uid in range(first, min(end, first + len(besides) + 1)):
                if uid not in besides:
                    return uid
        return None

    def _ranges_of(self, uid_class: int) -> Iterator[tuple[int, int]]:
        for number in self._class_starts[uid_class]:
            end = self._starts[number + 1] if number + 1 < len(self._starts) else UID_LIMIT
            yield self._starts[number], end

    def class_of(self, who: Principal) -> CallerClass:
        """Return the caller class of a principal. This object must have made the principal."""
        return self._classes[who.key & _CLASS_MASK]

    @property
    def count(self) -> int:
        """Maximum number of caller classes: each app, and the strangers, with each class of uids."""
        return len(self._class_starts) * (len(self._apps) + 1)

    def everyone(self) -> Iterator[CallerClass]:
        """Yield every possible caller class: each app under any uid (as in app mounts), and strangers."""
        for uid_class, ranges in self._class_starts.items():
            uid = self._starts[ranges[0]]
            for app in self._apps:
                yield self._class(app, uid_class, uid)
            free = next((u for u in map(self._free_uid, ranges) if u is not None), None)
            if free is not None:
                yield self._class(None, uid_class, free)

    def of_shared_mount(self) -> list[CallerClass]:
        """Return every caller class of a shared mount: each uid's app, or strangers. Workers do not count:
        they can open no file (docs/decisions/0027)."""
        cuts = {*self._starts, WORKER_UIDS.start, WORKER_UIDS.stop}
        for first, last, _ in self._app_ranges:
            cuts |= {first, last + 1}
        found: dict[int, CallerClass] = {}
        for uid in sorted(cuts):
            if uid < UID_LIMIT and uid not in WORKER_UIDS:
                of = self._class(self.app_of(uid), self.uid_class_of(uid), uid)
                found[of.number] = of
        return list(found.values())

    def _class(self, app: str | None, uid_class: int, uid: int) -> CallerClass:
        pair = (app, uid_class)
        of = self._by_pair.get(pair)
        if of is None:
            of = CallerClass(len(self._classes), None if app is None else self._apps[app], uid_class, uid)
            self._classes.append(of)
            self._by_pair[pair] = of
        return of

    def _free_uid(self, number: int) -> int | None:
        uid = self._starts[number]
        end = self._starts[number + 1] if number + 1 < len(self._starts) else UID_LIMIT
        at = max(0, bisect_right(self._app_starts, uid) - 1)
        for first, last, _ in self._app_ranges[at:]:
            if first > uid:
                break
            uid = max(uid, last + 1)
        return uid if uid < end else None
