"""Sample names: one of each class of names that the globs of a policy distinguish in a directory.

Names that take the same edges of the automaton are one class. So a walk by sample names reaches every
possible position, and answers questions about all paths below a directory without the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from policyfs.policy.globs.automaton import Automaton, Node, Position
from policyfs.policy.globs.names import FREE, Bind, Captured, NameMatcher, Pattern
from policyfs.policy.globs.paths import Wild

MAX_WORDS: Final = 20_000
"""Maximum number of sample names that are tried for one question. With more, TooHardError is raised."""

MAX_BITS: Final = 1 << 29
"""Maximum sum of the sizes of the sets of live positions that one search keeps: 64 MiB."""

FEW: Final = 256
"""Maximum number of literal names, patterns and steps in few_classes(): at most 4 ms."""

_MANY_LITERALS: Final = 200

_FIRST_PRIVATE: Final = 0xE000
_LAST_PRIVATE: Final = 0xF8FF


class TooHardError(Exception):
    """The error if a question about a policy needs more steps or classes than a limit permits."""


def unused_char(used: Iterable[str]) -> str:
    """Return a character from U+E000 to U+F8FF that is not in ``used``. Raise TooHardError without one."""
    taken = set(used)
    for code in range(_FIRST_PRIVATE, _LAST_PRIVATE + 1):
        if chr(code) not in taken:
            return chr(code)
    raise TooHardError


class _Edges:
    """The edges out of some nodes, with names of apps and uids in the places of captures."""

    def __init__(self) -> None:
        self.literals: set[str] = set()
        self.patterns: set[Pattern] = set()
        self.folds = False

    def add(self, node: Node, bind: Bind, apps: tuple[str, ...], uids: tuple[int, ...]) -> None:
        self.literals.update(node.literals)
        self.folds = self.folds or bool(node.folded)
        self.patterns.update(Pattern(tuple(name), True) for name in node.folded)
        self.patterns.update(node.patterns)
        for captured in node.captures:
            self.patterns.update(_filled(captured, bind, apps, uids))
        if len(self.patterns) > MAX_WORDS:
            raise TooHardError


def _filled(
    captured: Captured, bind: Bind, apps: tuple[str, ...], uids: tuple[int, ...]
) -> Iterator[Pattern]:
    app_open = Wild.APP in captured.tokens and bind.app is None
    uid_open = Wild.UID in captured.tokens and bind.uid is None
    for app in apps if app_open else (bind.app,):
        for uid in uids if uid_open else (bind.uid,):
            yield captured.filled(Bind(app, uid))


def name_classes(
    automaton: Automaton,
    positions: Iterable[Position],
    apps: tuple[str, ...],
    uids: tuple[int, ...],
    known: Known | None = None,
    spend: Spend | None = None,
) -> list[str]:
    """Return sample names: at least one of every class that these positions together distinguish.

    apps, uids: the values of ``{app}`` and ``{uid}`` that matter. known: remembers answers between calls.
    spend: gets the number of characters before they are tried. Raise TooHardError beyond MAX_WORDS, or as
    *spend* does.
    """
    edges = _Edges()
    for position in positions:
        for number in position.free:
            edges.add(automaton.nodes[number], FREE, apps, uids)
        for number, bind in position.bound:
            edges.add(automaton.nodes[number], bind, apps, uids)
    return _names(edges, {} if known is None else known, spend)


class FewClasses(NamedTuple):
    """Sample names of a directory. literals: each a class of its own. words: one of each other class."""

    literals: frozenset[str]
    words: tuple[str, ...]


def few_classes(automaton: Automaton, position: Position) -> FewClasses | None:
    """Return sample names in a directory for all callers; None if there are too many, or captures."""
    nodes = [automaton.nodes[number] for number in position.free]
    if position.bound or any(node.captures for node in nodes):
        return None
    if any(max(len(node.literals), len(node.folded), len(node.patterns)) > FEW for node in nodes):
        return None
    edges = _Edges()
    for node in nodes:
        edges.add(node, FREE, (), ())
    if len(edges.literals) > FEW or len(edges.patterns) > FEW:
        return None
    try:
        other = _other(edges)
        words = _words(edges.patterns, other, FEW) if edges.patterns else [other]
    except TooHardError:
        return None
    if any(word in edges.literals for word in words):  # a literal cannot stand for other names
        return None
    return FewClasses(frozenset(edges.literals), tuple(words))


Spend = Callable[[int], None]

Known = dict[frozenset[Pattern], list[str]]
"""Remembered sample names, by the set of patterns that distinguishes their classes."""


def names_out_of(nodes: Iterable[tuple[Node, tuple[str, ...], tuple[int, ...]]], known: Known) -> list[str]:
    """Return sample names that nodes, each with its apps and uids, distinguish. Raise TooHardError."""
    edges = _Edges()
    for node, apps, uids in nodes:
        edges.add(node, FREE, apps, uids)
    return _names(edges, known)


def _other(edges: _Edges) -> str:
    return unused_char(
        char
        for tokens in (*(p.tokens for p in edges.patterns), *edges.literals)
        for char in tokens
        if isinstance(char, str)
    )


def _names(edges: _Edges, known: Known, spend: Spend | None = None) -> list[str]:
    other = _other(edges)
    if not edges.patterns:
        return [*sorted(edges.literals), other]
    if not edges.folds and len(edges.literals) > _MANY_LITERALS:
        words = _known_words(frozenset(edges.patterns), other, known, spend)
        # INVARIANT: a sample name with the unused character in it is not a literal. A sample name without
        # this character might be a literal, and a literal cannot stand for the other names of its class.
        if all(other in word or word not in edges.literals for word in words):
            return [*sorted(edges.literals), *words]
    literal_patterns = {Pattern(tuple(name), False) for name in edges.literals}
    return _known_words(frozenset(edges.patterns | literal_patterns), other, known, spend)


def _known_words(patterns: frozenset[Pattern], other: str, known: Known, spend: Spend | None) -> list[str]:
    """Return the result of _words. A remembered one counts if it has *other*: it was made with the same."""
    found = known.get(patterns)
    if found is None or not any(other in word for word in found):
        found = known[patterns] = _words(patterns, other, spend=spend)
    return found


def _words(
    patterns: AbstractSet[Pattern], other: str, most: int | None = None, spend: Spend | None = None
) -> list[str]:
    """Return a short name for each set of patterns that can match one, with *other* in it if possible."""
    most = MAX_WORDS if most is None else most
    matcher = NameMatcher(sorted(patterns, key=repr))
    most = min(most, MAX_BITS // matcher.size)
    alphabet = (other, *sorted(matcher.alphabet))
    found: dict[int, str] = {}
    start = matcher.start(patterns)
    seen = {(start, False)}
    todo: list[tuple[int, bool, str]] = [(start, False, "")]
    for live, strange, word in todo:
        if spend is not None:
            spend(len(alphabet))
        for char in alphabet:
            after = matcher.step(live, char)
            state = (after, strange or char == other)
            if state in seen:
                continue
            seen.add(state)
            if len(seen) > most:
                raise TooHardError
            accepted = matcher.accepting(after)
            if accepted not in found or (state[1] and other not in found[accepted]):
                found[accepted] = word + char
            if after:
                todo.append((after, state[1], word + char))
    return list(found.values())
