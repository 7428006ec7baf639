"""Verdicts of a policy on changes before their commit, as far as paths and names decide them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from policyfs.cli.layers.differences import Difference
from policyfs.domain import Facts, FileType, Op, Principal
from policyfs.policy.decide import Engine

if TYPE_CHECKING:
    from policyfs.daemon.policies.policies import Loader

_OPS: Final = {
    "added": Op.SEE | Op.CREATE | Op.WRITE, "changed": Op.SEE | Op.WRITE, "removed": Op.SEE | Op.DELETE,
    "renamed": Op.SEE | Op.CREATE | Op.WRITE,
}  # fmt: skip


class Verdicts:
    """The verdicts of a policy on the changes of one app."""

    def __init__(self, engine: Engine, app: str) -> None:
        self._engine = engine
        self._who: Principal = engine.app_principal(app, 0)

    @classmethod
    def of(cls, loader: Loader, app: str) -> Self:
        """Return the verdicts of a mount's policy. Raises PolicyfsError."""
        return cls(loader.compile(loader.parse(loader.read())), app)

    def hidden(self, path: bytes) -> tuple[str, ...]:
        """Return what the policy hides of the file at a path."""
        return tuple(sorted(self._engine.view(self._who, self._engine.state_of(b"/" + path)).redact))

    def note(self, one: Difference) -> str:
        """Return why the policy would refuse a change, or what it hides of the file; empty otherwise."""
        ops = _OPS[one.kind]
        if one.kind == "changed" and "content" not in one.what:
            ops = Op.SEE | Op.ATTR
        state = self._engine.state_of(b"/" + one.path)
        ftype = FileType.DIRECTORY if one.is_directory else FileType.REGULAR
        if one.is_directory and one.kind == "added":
            ops = Op.SEE | Op.CREATE
        if self._engine.needs(self._who, ops, state, ftype):
            return "its content or owner decides"
        decision = self._engine.decide(self._who, ops, state, ftype, Facts(None, None))
        if not decision.allowed:
            rules = [match.rule for match in decision.rules if match.effect == "deny"]
            return f"refused by the rule {rules[0]}" if rules else "refused: no rule allows it"
        if decision.content:
            return "its content is checked"
        hidden = self.hidden(one.path)
        return f"the command sees it without {', '.join(hidden)}" if hidden else ""
