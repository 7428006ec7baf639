"""Verdicts of a policy on changes before their commit, as far as paths and names decide them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from policyfs.cli.layers.differences import Difference
from policyfs.domain import Facts, FileType, Op, Principal
from policyfs.policy.decide import Engine

if TYPE_CHECKING:
    from policyfs.daemon.policies.policies import Loader
    from policyfs.policy.rules.states import PathState

_OPS: Final = {
    "added": Op.SEE | Op.CREATE | Op.WRITE, "changed": Op.SEE | Op.WRITE, "removed": Op.SEE | Op.DELETE,
    "renamed": Op.SEE | Op.CREATE | Op.WRITE,
}  # fmt: skip


class Verdicts:
    """The verdicts of a policy on the changes of one app."""

    def __init__(self, engine: Engine, app: str) -> None:
        self._engine = engine
        self._above: tuple[bytes, PathState] = (b"", engine.state_of(b"/"))
        self._notes: dict[tuple[PathState, Op, FileType], str] = {}
        self._who: Principal = engine.app_principal(app, 0)

    @classmethod
    def of(cls, loader: Loader, app: str) -> Self:
        """Return the verdicts of a mount's policy. Raises PolicyfsError."""
        return cls(loader.compile(loader.parse(loader.read())), app)

    def hidden(self, path: bytes) -> tuple[str, ...]:
        """Return what the policy hides of the file at a path."""
        return self._hidden(self._state_of(path))

    def _hidden(self, state: PathState) -> tuple[str, ...]:
        return tuple(sorted(self._engine.view(self._who, state).redact))

    def _state_of(self, path: bytes) -> PathState:
        """Return the state of a path. Paths come a directory at a time."""
        directory, _, name = path.rpartition(b"/")
        if self._above[0] != directory:
            self._above = directory, self._engine.state_of(b"/" + directory)
        return self._engine.child(self._above[1], name)

    def note(self, one: Difference) -> str:
        """Return why the policy would refuse a change, or what it hides of the file; empty otherwise."""
        ops = _OPS[one.kind]
        if one.kind == "changed" and "content" not in one.what:
            ops = Op.SEE | Op.ATTR
        ftype = FileType.DIRECTORY if one.is_directory else FileType.REGULAR
        if one.is_directory and one.kind == "added":
            ops = Op.SEE | Op.CREATE
        key = self._state_of(one.path), ops, ftype
        note = self._notes.get(key)
        if note is None:
            note = self._notes[key] = self._note_of(*key)
        return note

    def _note_of(self, state: PathState, ops: Op, ftype: FileType) -> str:
        if self._engine.needs(self._who, ops, state, ftype):
            return "its content or owner decides"
        decision = self._engine.decide(self._who, ops, state, ftype, Facts(None, None))
        if not decision.allowed:
            rules = [match.rule for match in decision.rules if match.effect == "deny"]
            return f"refused by the rule {rules[0]}" if rules else "refused: no rule allows it"
        if decision.content:
            return "its content is checked"
        hidden = self._hidden(state)
        return f"the command sees it without {', '.join(hidden)}" if hidden else ""
