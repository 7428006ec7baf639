"""Answers that depend on the path and the caller alone, remembered for one policy."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, Decision, FileType, Op, Principal
from policyfs.policy.decide import Engine, PathState

_REMEMBERED: Final = 1 << 14
"""The limit of paths for which an answer is remembered; beyond it all are forgotten."""


class Unseen(NamedTuple):
    """Denials of `see` by a path alone, without any fact.

    whatever: the denial for objects of every type. but_directory: the denial for objects of every type except
    directories. None in a field: the path alone gives no such denial, but type or facts may deny.
    """

    whatever: Decision | None
    but_directory: Decision | None


class PathAnswers:
    """Remembers the answers of one engine. shared: True if several apps use the mount."""

    def __init__(self, engine: Engine, *, shared: bool) -> None:
        self._engine = engine
        self._shared = shared
        self._unseen: dict[tuple[PathState, int], Unseen] = {}
        self._shown: dict[tuple[PathState, int], bool] = {}

    def unseen(self, who: Principal, state: PathState) -> Unseen:
        """Return the denials of `see` that a path alone decides, for any object there."""
        key = (state, who.key)
        found = self._unseen.get(key)
        if found is None:
            if len(self._unseen) >= _REMEMBERED:
                self._unseen.clear()
            found = self._unseen[key] = self._hidden_by_path(who, state)
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
        """True if the caller sees every entry in the directory at this path, of any type.

        Also False if callers see different entries in the directory. (The kernel gives one caller's answers
        about it to all callers.)
        """
        key = (state, who.key)
        found = self._shown.get(key)
        if found is None:
            if len(self._shown) >= _REMEMBERED:
                self._shown.clear()
            differ = self._engine.distinctions
            kept = self._shared and not differ.sight(state)
            found = self._engine.shows_all_in(who, state) and not (kept and differ.below(state))
            self._shown[key] = found
        return found
