"""The ban on extended attributes where a rule has ``require: {no: [...]}``: one could contain the data.

Apps that the rule is about cannot set ``user.*`` attributes there (ACLs with --posix they can), nor move a
file with such there from a path with fewer requirements (Settled.holds). link(2) from a path with other
content requirements is refused anyway (Engine.link)."""

from __future__ import annotations

import errno

from policyfs.domain import NO_FACTS, REDACTIONS, Audit, Decision, Facts, Need, to_clean
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node


class AttributeBans:
    """The check of a mount that refuses extended attributes where a rule forbids them."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def need(self, node: Node, caller: Caller) -> Need:
        """Return the facts that check() needs: none if no rule forbids words."""
        if not self._words(node, caller, NO_FACTS):
            return Need.NOTHING
        return Need.OWNER

    def check(self, node: Node, caller: Caller, call: Call, facts: Facts) -> None:
        """Raise FUSEError(EOPNOTSUPP), on record, if a rule forbids some data at one of the file's paths.

        INVARIANT: no await between this call and the change, because the check uses the node's present names.
        """
        words = self._words(node, caller, facts)
        if not words:
            return
        refusal = Decision(allowed=False, errno=errno.EOPNOTSUPP, audit=Audit.REQUIRED)
        named = ", ".join(sorted((words | to_clean(words)) & REDACTIONS))
        note = f"an extended attribute could contain {named}, so apps cannot set extended attributes here"
        self._gate.refuse(caller, call, node.path(), refusal, note=note)

    def _words(self, node: Node, caller: Caller, facts: Facts) -> frozenset[str]:
        """Return the words forbidden for any kind: attributes stay if an app gives the file another."""
        who, engine, facts = caller.principal, self._gate.engine, facts._replace(kind=None)
        found: frozenset[str] = frozenset()
        for state in node.states():
            found |= engine.bans(who, state, node.ftype, facts)
        return found
