"""A cache of answers that depend on the path and the caller alone, under one policy."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, Decision, FileType, Op, Principal
from policyfs.policy.decide import Engine, PathState
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
