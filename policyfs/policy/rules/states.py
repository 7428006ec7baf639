"""Path states: for a path, the automaton's position, and the rules that hide a directory above the path."""

from __future__ import annotations

from typing import Final
from weakref import WeakValueDictionary

from policyfs.policy.globs.automaton import Position
from policyfs.policy.globs.names import Bind, text_of
from policyfs.policy.memo import Memo
from policyfs.policy.rules.table import Situated, Table, hides

MAX_HIDES: Final = 1024
"""Maximum number of rules that hide directories above a path. With more, the path is lost."""


_NAME_BYTES: Final = 32
"""Bytes of a name that count as one unit in tables of remembered states."""


class PathState:
    """The state of the policy's automaton after a path. Equal states are one object.

    hides: the rules that hide a directory above: the path, too, is hidden from the callers that they match.
    With an owner, only if that directory has this owner.
    """

    __slots__ = ("__weakref__", "_below", "_binds", "_situated", "hides", "position", "top")

    def __init__(self, position: Position, hides: frozenset[Situated], *, top: bool) -> None:
        self.position = position
        self.hides = hides
        self.top = top
        self._situated: tuple[Situated, ...] | None = None
        self._below: frozenset[Situated] | None = None
        self._binds: frozenset[Bind] | None = None

    def situated(self, table: Table) -> tuple[Situated, ...]:
        """Return the rules that can match at this path, with the conditions that are still open."""
        if self._situated is None:
            self._situated = table.situated(self.position)
        return self._situated

    def hides_below(self, table: Table) -> frozenset[Situated]:
        """Return the rules that hide all names in this directory: they hide it, or one above."""
        if self._below is None:
            own = [] if self.top else [s for s in self.situated(table) if hides(table.rules[s.rule])]
            above = [old for old in self.hides if not any(new.covers(old) for new in own)]
            self._below = frozenset((*above, *own)) if own else self.hides
        return self._below

    @property
    def units(self) -> int:
        """Size of this state in tables of remembered answers."""
        return self.position.units + len(self.hides)

    def requirements(self, table: Table) -> frozenset[Bind]:
        """Return the requirements that captures in globs that can match put on a caller."""
        if self._binds is None:
            found: set[Bind] = set()
            for situated in (*self.situated(table), *self.hides):
                found.update(situated.requirements())
            self._binds = frozenset(found)
        return self._binds

    def tells_uid(self, table: Table, uid: int) -> bool:
        """True if ``{uid}`` in globs can treat this uid differently from a uid that occurs in no name."""
        digits = str(uid)
        return any(
            bind.uid == uid or any(digits in text for _, text in bind.names)
            for bind in self.requirements(table)
        )


class Paths:
    """Maker of path states, which are kept up to a limit."""

    def __init__(self, table: Table, remembered: int) -> None:
        self._table: Final = table
        self._states: Final[WeakValueDictionary[tuple[Position, frozenset[Situated]], PathState]] = (
            WeakValueDictionary()
        )
        self.children: Final[Memo[tuple[PathState, bytes], PathState]] = Memo(remembered)
        self.root: Final = PathState(table.automaton.root, frozenset(), top=True)

    def child(self, state: PathState, name: bytes) -> PathState:
        """Return the path state of the name *name* in the directory with this state."""
        key = (state, name)
        found = self.children.get(key)
        if found is None:
            found = self.step(state, text_of(name))
            self.remember(state, name, found)
        return found

    def remember(self, state: PathState, name: bytes, child: PathState) -> None:
        """Remember *child* as the state of the name *name* in the directory with this state."""
        self.children.keep((state, name), child, child.units + len(name) // _NAME_BYTES)

    def known(self, state: PathState, name: bytes) -> PathState | None:
        """Return the remembered state of the name *name* in the directory with this state, or None."""
        return self.children.get((state, name))

    def step(self, state: PathState, text: str) -> PathState:
        """Return the state of a name without remembering it. text: the decoded name."""
        return self._below(state, self._table.automaton.step(state.position, text))

    def step_of_all(self, state: PathState) -> PathState:
        """Return a state with the rules that match at every name in the directory."""
        return self._below(state, self._table.automaton.step_of_all(state.position))

    def _below(self, state: PathState, position: Position) -> PathState:
        automaton = self._table.automaton
        below = state.hides_below(self._table)
        if len(below) > MAX_HIDES:
            position = automaton.lost
            below = frozenset()
        key = (position, below)
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = PathState(position, below, top=False)
        return found

    def state_of(self, path: bytes) -> PathState:
        """Return the state of an absolute path. Repeated slashes count as one."""
        state = self.root
        for name in path.split(b"/"):
            if name:
                state = self.child(state, name)
        return state
