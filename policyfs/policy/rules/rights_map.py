"""A caller's rights at one path, each as the set of facts under which the caller has it (fact_sets.py)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeVar

from policyfs.domain import Audit, FileType, Op
from policyfs.errors import by_rank
from policyfs.policy.model import Effect
from policyfs.policy.rules.fact_sets import FactSpace, Matches
from policyfs.policy.rules.profile import Profile
from policyfs.policy.rules.table import Live

_OPS: Final = tuple(int(op) for op in Op.ALL)
_WITHIN: Final = tuple(tuple(op for op in _OPS if op & ops) for ops in range(int(Op.ALL) + 1))
"""For each set of operations, a tuple of the single operations in it."""

_SEE: Final = int(Op.SEE)
_READ: Final = int(Op.READ)
_READ_AT: Final = _OPS.index(int(Op.READ))
_LEVELS: Final = tuple(Audit)

K = TypeVar("K")


class RightsMap(NamedTuple):
    """For each right of a caller, the set of facts under which the caller has it. Equal maps: equal rights.

    allowed: for each operation of Op.ALL. bare: directories seen only as the way to a path below. redact: by
    word, if READ is allowed. content: by requirement. refused: for each operation, by errno. audits: for each
    operation, for each level, if a rule sets at least this level. keep: by age in seconds, if at least so
    long.
    """

    allowed: tuple[int, ...]
    bare: int
    redact: dict[str, int]
    content: dict[frozenset[str], int]
    refused: tuple[dict[int, int], ...]
    audits: tuple[tuple[int, ...], ...]
    keep: dict[int, int] = {}  # noqa: RUF012 - never changed


def gains(before: RightsMap, after: RightsMap) -> bool:
    """Return True if, under some facts, the new path has more rights, or other content requirements."""
    if before.content != after.content:
        return True
    if any(then & ~now for now, then in zip(before.allowed, after.allowed, strict=True)):
        return True
    if keeps_less(before, after):
        return True
    readable = after.allowed[_READ_AT]
    return any(some & readable & ~after.redact.get(word, 0) for word, some in before.redact.items())


def keeps_less(before: RightsMap, after: RightsMap) -> bool:
    """Return True if, under some facts, what is lost at the new path is not kept, or not as long."""
    return any(some & ~_kept_for(after, age_s) for age_s, some in before.keep.items())


def _kept_for(rights: RightsMap, age_s: int) -> int:
    """Return the facts under which what is lost is kept for so many seconds or longer."""
    kept = 0
    for other_s, some in rights.keep.items():
        kept |= some if other_s >= age_s else 0
    return kept


def asks_more(before: RightsMap, after: RightsMap) -> bool:
    """Return True if, under some facts, the new path has a content requirement that the old path lacks."""
    return any(some & ~before.content.get(content, 0) for content, some in after.content.items())


def differs(before: RightsMap, after: RightsMap) -> bool:
    """Return True if some right differs under some facts."""
    return before != after


class RightsTally:
    """The combined effects of the rules at one path for one caller, under all facts. unsettled: the facts
    under which no rule decides on SEE: only directories on a visible way are seen."""

    __slots__ = ("_content", "_denied", "_denies", "_granted", "_keep", "_lacking", "_others", "_profile",
                 "_redact", "_refusing", "_space", "_unseen", "unsettled")  # fmt: skip

    def __init__(self, profile: Profile, space: FactSpace) -> None:
        self._profile: Final = profile
        self._space: Final = space
        self._granted: Final = dict.fromkeys(_OPS, 0)
        self._denied: Final = dict.fromkeys(_OPS, 0)
        self._refusing: Final[dict[tuple[int, int], int]] = {}  # by operation and errno
        self._content: Final[dict[frozenset[str], int]] = {}
        self._redact: Final[dict[str, int]] = {}
        self._keep: Final[dict[int, int]] = {}
        self._others: Final[dict[tuple[int, Audit], int]] = {}
        self._denies: Final[dict[tuple[int, Audit], int]] = {}
        self._count()
        granted, denied = self._granted[_SEE], self._denied[_SEE]
        unseen = unsettled = 0
        if profile.lost or profile.hiding:
            unseen = space.everything
        elif not profile.top:
            unseen, unsettled = denied, space.everything & ~(granted | denied)
        is_directory = space.ftype is FileType.DIRECTORY
        self._unseen: Final = unseen if is_directory else unseen | unsettled
        self.unsettled: Final = unsettled if is_directory else 0
        # the facts under which SEE is refused without a rule
        self._lacking: Final = self._unseen if profile.lost else self._unseen & ~denied

    def _count(self) -> None:
        """Apply the effects of all rules, as Tally.count does for one combination of facts."""
        redacting: list[tuple[Live, Matches]] = []
        raw = self._space.everything
        denied = self._profile.policy.audit_denied
        for live in self._profile.lives:
            rule, matches = live.rule, self._space.of(live)
            if rule.effect is Effect.ALLOW:
                _raise(self._others, live.ops, rule.audit, matches.certain)
                if not rule.monitor:
                    _add(self._granted, _WITHIN[live.ops], matches.certain)
            elif rule.effect is Effect.DENY and rule.monitor:
                _raise(self._others, live.ops, rule.audit, matches.possible)
            elif rule.effect is Effect.DENY:
                _raise(self._denies, live.ops, rule.audit_or(denied), matches.possible)
                _add(self._denied, _WITHIN[live.ops], matches.possible)
                code = rule.errno or errno.EACCES
                _add(self._refusing, [(op, code) for op in _WITHIN[live.ops]], matches.possible)
            elif rule.effect is Effect.REDACT:
                redacting.append((live, matches))
                raw &= self._space.raw(live) | ~matches.possible
            elif rule.keep is not None:
                _add(self._keep, (rule.keep.age_s,), matches.possible)
                _raise(self._others, live.ops, rule.audit, matches.possible)
            elif self._profile.can_fill:
                _raise(self._others, live.ops, rule.audit, matches.possible)
                if not rule.monitor:
                    _add(self._content, (rule.content,), matches.possible)
        for live, matches in redacting:
            _add(self._redact, live.rule.redact, matches.possible & ~raw)
            _raise(self._others, _READ, live.rule.audit, matches.possible)
            _raise(self._others, _READ, live.rule.audit_or(denied), matches.possible & ~raw)

    def rights(self, *, below: bool) -> RightsMap:
        """Return the rights. below: True if the caller could see some path below this path."""
        everything, granted, denied = self._space.everything, self._granted[_SEE], self._denied[_SEE]
        if self._profile.top:
            unseen, bare = 0, everything & ~(granted & ~denied)
        else:
            unseen = self._unseen if below else self._unseen | self.unsettled
            bare = self.unsettled if below else 0
        refused = tuple(self._refused(op, unseen) for op in _OPS)
        allowed = tuple(everything & ~sum(codes.values()) for codes in refused)
        readable = allowed[_READ_AT]
        lacking = self._lacking | (0 if below else self.unsettled)
        return RightsMap(
            allowed,
            bare,
            _sparse({word: some & readable for word, some in self._redact.items()}),
            _sparse(self._content),
            refused,
            tuple(self._levels(op, some, lacking) for op, some in zip(_OPS, allowed, strict=True)),
            _sparse(self._keep),
        )

    def _levels(self, op: int, allowed: int, lacking: int) -> tuple[int, ...]:
        """Return RightsMap.audits for an operation. lacking: the facts under which SEE lacks a rule."""
        default = self._profile.policy.audit_denied
        refusing: dict[tuple[int, Audit], int] = {}
        if self._profile.hiding:
            for live in self._profile.hiding:
                _raise(refusing, op, live.rule.audit_or(default), self._space.everything)
        else:
            refusing = {(op, level): self._denies.get((op, level), 0) for level in _LEVELS}
            if op != _SEE:
                lacking |= self._space.everything & ~(self._granted[op] | self._denied[op])
            _raise(refusing, op, default, lacking)
        refused = self._space.everything & ~allowed
        return tuple(
            refusing.get((op, level), 0) & refused | self._others.get((op, level), 0) & allowed
            for level in _LEVELS
        )

    def _refused(self, op: int, unseen: int) -> dict[int, int]:
        """Return the set for each errno. Of several, the one that reveals least counts."""
        if op == _SEE:
            return _sparse({errno.ENOENT: unseen})
        codes = {code: some for (of, code), some in self._refusing.items() if of == op}
        codes[errno.EACCES] = codes.get(errno.EACCES, 0) | (
            self._space.everything & ~(self._granted[op] | self._denied[op])
        )
        left = self._space.everything & ~unseen
        found = {errno.ENOENT: unseen}
        for code in by_rank(codes):
            found[code] = found.get(code, 0) | (codes[code] & left)
            left &= ~codes[code]
        return _sparse(found)


def _add(sets: dict[K, int], keys: Iterable[K], some: int) -> None:
    for key in keys:
        sets[key] = sets.get(key, 0) | some


def _raise(levels: dict[tuple[int, Audit], int], ops: int, level: Audit | None, some: int) -> None:
    """Add facts to this audit level and all lower ones. A rule about SEE counts for all operations."""
    if level is not None:
        within = _OPS if ops & _SEE else _WITHIN[ops]
        _add(levels, [(op, lower) for op in within for lower in _LEVELS if lower <= level], some)


def _sparse(sets: dict[K, int]) -> dict[K, int]:
    return {key: some for key, some in sets.items() if some}
