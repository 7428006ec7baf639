"""Caches of answers that depend on the path and the caller alone, under one policy.

A listing takes the decisions on all names of a directory at once: policies mention a few names, and decide
all others alike, by path and type, and perhaps by facts."""

from __future__ import annotations

import stat as stat_bits
from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, Decision, FileType, Op, Principal
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.globs.classes import FewClasses
from policyfs.policy.globs.names import bytes_of
from policyfs.policy.memo import Memo

_REMEMBERED: Final = 1 << 14
"""The capacity of each cache, in units (memo.Memo): apps choose names, and can make a path state large."""


class Unseen(NamedTuple):
    """The denials of `see` by a path alone, for objects of every type, and of every type but directories;
    else None. With type or facts the policy may still deny."""

    whatever: Decision | None
    but_directory: Decision | None


class PathAnswers:
    """A cache of one policy engine's answers. shared: True if the mount is a shared mount."""

    def __init__(self, engine: Engine, *, shared: bool) -> None:
        self._engine = engine
        self._shared = shared
        self._unseen: Memo[tuple[PathState, int], Unseen] = Memo(_REMEMBERED)
        self._shown: Memo[tuple[PathState, int], bool] = Memo(_REMEMBERED)

    def unseen(self, who: Principal, state: PathState) -> Unseen:
        """Return the denials of `see` that follow from a path alone."""
        key = (state, who.key)
        found = self._unseen.get(key)
        if found is None:
            found = self._unseen.keep(key, self._hidden_by_path(who, state), state.units)
        return found

    def _hidden_by_path(self, who: Principal, state: PathState) -> Unseen:
        answers: dict[FileType, Decision | None] = {}
        for ftype in FileType:
            answer = self._engine.decide(who, Op.SEE, state, ftype, NO_FACTS)
            fact = self._engine.needs(who, Op.SEE, state, ftype)
            answers[ftype] = None if fact or answer.allowed else answer
        file, link, directory = (
            answers[ftype] for ftype in (FileType.REGULAR, FileType.SYMLINK, FileType.DIRECTORY)
        )
        but_directory = file if file == link else None
        return Unseen(but_directory if directory == file else None, but_directory)

    def shows_all_in(self, who: Principal, state: PathState) -> bool:
        """Return True if the caller sees every entry in the directory. But False if the kernel may keep
        answers about a directory in which callers see different entries: it would give one caller's to all.
        """
        key = (state, who.key)
        found = self._shown.get(key)
        if found is None:
            differ = self._engine.distinctions
            kept = self._shared and not differ.sight(state)
            all_seen = self._engine.shows_all_in(who, state) and not (kept and differ.below(state))
            found = self._shown.keep(key, all_seen, state.units)
        return found


_REMEMBERED_NAMES: Final = 1 << 12
"""The capacity of each cache, in units (memo.Memo): apps choose names, and can make a path state large."""

HIDDEN_SHIFT: Final = 16

_UNKNOWN: Final = 1 << 0  # DT_UNKNOWN
_TYPES: Final = {
    FileType.REGULAR: 1 << (stat_bits.S_IFREG >> 12),
    FileType.DIRECTORY: 1 << (stat_bits.S_IFDIR >> 12),
    FileType.SYMLINK: 1 << (stat_bits.S_IFLNK >> 12),
}
_SPECIAL: Final = 0xFFFF & ~_UNKNOWN & ~sum(_TYPES.values())


class Verdicts(NamedTuple):
    """A set of decisions on the names in a directory that depend on path and file type alone.

    shown, hidden: sets of types, one bit for each DT_* type (readdir(3)), for any name not in *apart*. A type
    in neither needs a decision for each object. apart: other names; shown types in the low bits, hidden ones
    from HIDDEN_SHIFT on. by_facts: False if no rule about `see` has a condition on facts."""

    shown: int
    hidden: int
    apart: dict[bytes, int]
    by_facts: bool = True

    @property
    def hang_on_facts(self) -> bool:
        """True if perhaps some name is shown or hidden because of a kind or an owner."""
        decided = _all_types(self.shown | self.hidden) and all(
            _all_types(types | types >> HIDDEN_SHIFT) for types in self.apart.values()
        )
        return self.by_facts and not decided


def _all_types(decided: int) -> bool:
    return all(decided & bit for bit in _TYPES.values())


NOTHING_DECIDED: Final = Verdicts(0, 0, {})


class NameVerdicts:
    """A cache of one policy engine's decisions on names. posix: True if the mount has --posix."""

    def __init__(self, engine: Engine, *, posix: bool) -> None:
        self._engine = engine
        self._posix = posix
        blocks = [
            block
            for rule in engine.policy.rules
            if rule.ops & Op.SEE
            for block in (rule.when, *rule.unless)
            if block is not None
        ]
        self._by_facts = any(block.kinds is not None or block.owners is not None for block in blocks)
        self._classes: Memo[PathState, tuple[FewClasses | None]] = Memo(_REMEMBERED_NAMES)
        self._verdicts: Memo[tuple[PathState, int], Verdicts] = Memo(_REMEMBERED_NAMES)

    def of(self, who: Principal, directory: PathState) -> Verdicts:
        """Return the decisions on `see` in a directory. INVARIANT: the answer and its time depend only on
        policy, path and caller, never on the names that there are."""
        key = (directory, who.key)
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts.keep(key, self._find(who, directory), directory.units)
        return found

    def _find(self, who: Principal, directory: PathState) -> Verdicts:
        classes = self._classes_in(directory)
        if classes is None:
            return NOTHING_DECIDED._replace(by_facts=self._by_facts)
        shown = hidden = 0xFFFF
        for word in classes.words:
            yes, no = self._by_type(who, directory, word)
            shown, hidden = shown & yes, hidden & no
        apart: dict[bytes, int] = {}
        for literal in classes.literals:
            yes, no = self._by_type(who, directory, literal)
            if (yes, no) != (shown, hidden):
                apart[bytes_of(literal)] = yes | no << HIDDEN_SHIFT
        return Verdicts(shown, hidden, apart, self._by_facts)

    def _classes_in(self, directory: PathState) -> FewClasses | None:
        found = self._classes.get(directory)
        if found is None:
            found = self._classes.keep(directory, (self._engine.classes_in(directory),), directory.units)
        return found[0]

    def _by_type(self, who: Principal, directory: PathState, name: str) -> tuple[int, int]:
        engine = self._engine
        state = engine.step(directory, bytes_of(name))
        shown, hidden = 0, 0 if self._posix else _SPECIAL  # see Gate.shows
        if engine.owner_matters_above(state):
            return shown, hidden
        for ftype, bit in _TYPES.items():
            if engine.needs(who, Op.SEE, state, ftype):
                continue
            if engine.decide(who, Op.SEE, state, ftype, NO_FACTS).allowed:
                shown |= bit
            else:
                hidden |= bit
        return shown, hidden
