"""Division of the callers at a class of paths into parts for whom the same rules match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.policy.analysis.files import OWN
from policyfs.policy.analysis.tracks import Callers, Match, Nodes, Track
from policyfs.policy.model import SELF
from policyfs.policy.rules.table import Live

Lives = tuple[tuple[Live, bool], ...]
"""The rules that match at a place, sorted by number, with True for those that are watched (Track)."""


class Part(NamedTuple):
    """Callers for whom the same rules match, with these rules in each policy. If no condition names an app,
    OWN stands for the app's name: apps that differ only in names are in one part."""

    callers: Callers
    lives: tuple[Lives, ...]


class Partition:
    """The division of callers into parts, at each place."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self._tracks: Final = tracks
        all_sides = zip(*(track.sides for track in tracks), strict=True)
        self._renamed: Final = sum(
            1 << at for at, sides in enumerate(all_sides) if len({side.caller.app for side in sides}) > 1
        )
        """The callers with different apps in the two policies: for them OWN would mean two names."""

    def parts(self, nodes: Sequence[Nodes], callers: Callers) -> list[Part]:
        """Return the parts of some callers at a place. nodes: the automaton's nodes there, in each policy."""
        matches = [track.matches(some, callers) for track, some in zip(self._tracks, nodes, strict=True)]
        named = self._named(matches)
        parts = [Part(callers, tuple(() for _ in matches))]
        for index, some in enumerate(matches):
            for match in some:
                for who, live, watched in self._pieces(index, match, named):
                    parts = list(_refined(parts, who, index, live, watched=watched))
        return parts

    def _named(self, matches: Sequence[Sequence[Match]]) -> frozenset[str]:
        named: set[str] = set()
        for track, some in zip(self._tracks, matches, strict=True):
            for match in some:
                named |= track.compiled.owners[match.rule]
        return frozenset(named - {SELF})

    def _pieces(
        self, index: int, match: Match, named: frozenset[str]
    ) -> Iterator[tuple[Callers, Live, bool]]:
        """Yield groups of callers for whom a rule means the same, the rule, and True if it is watched."""
        track, table = self._tracks[index], self._tracks[index].compiled.table
        pieces: list[tuple[Callers, tuple[int, ...]]] = [(match.callers, ())]
        for block, some in match.unless:
            halves = ((who & some, (*blocks, block)) for who, blocks in pieces)
            pieces = [*halves, *((who & ~some, blocks) for who, blocks in pieces)]
        for who, blocks in pieces:
            asks = who and table.asks_for_self(match.rule)
            for callers, app in self._by_name(index, who, named) if asks else [(who, None)]:
                live = table.live_for(match.rule, app, blocks) if callers else None
                if live is not None:
                    watched = callers & track.watched.by_rule[match.rule]
                    for some, flag in ((watched, True), (callers & ~watched, False)):
                        if some:
                            yield some, live, flag

    def _by_name(
        self, index: int, callers: Callers, named: frozenset[str]
    ) -> Iterator[tuple[Callers, str | None]]:
        by_app, others = self._tracks[index].by_app, callers
        for app, who in by_app.items():
            own = who if app is None or app in named else who & self._renamed
            if own & callers:
                yield own & callers, app
                others &= ~own
        if others:
            yield others, OWN


def _refined(parts: list[Part], callers: Callers, index: int, live: Live, *, watched: bool) -> Iterator[Part]:
    for part in parts:
        inside, outside = part.callers & callers, part.callers & ~callers
        if inside:
            more = (*part.lives[index], (live, watched))
            yield Part(inside, (*part.lives[:index], more, *part.lives[index + 1 :]))
        if outside:
            yield Part(outside, part.lives) if inside else part
