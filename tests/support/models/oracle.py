"""What a policy says of paths in a small world, by the naive evaluator, and what readers may be shown.

One question about a policy is asked once: paths are few, since each sequence of calls has a
directory of its own whose name no rule here tells from another's.
"""

from __future__ import annotations

from collections.abc import Sequence

from policyfs.content.workers.worker import Detector, SniffError
from policyfs.domain import Facts, FileType, Op
from policyfs.policy.model import Effect, Policy
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.models.naive_policy import YES, Answer, Caller, Naive, Node, kind_in

TOP = b"/x"
"""The directory of a sequence, by whatever name."""


class Remembering(Naive):
    """The naive evaluator with answers kept, asked about no facts but those that a rule mentions."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        blocks = [b for r in policy.rules for b in (*r.unless, *(() if r.when is None else (r.when,)))]
        owners = {o for b in blocks for o in b.owners or ()}
        kinds = {k for b in blocks for k in b.kinds or ()} | {k for r in policy.rules for k in r.raw_types}
        if not owners:
            self.owners = ["none"]
        self.kinds = [*sorted(k for k in kinds if "*" not in k), "x/other"]
        self.by_owner, self.by_kind = bool(owners), bool(kinds)
        self._kept: dict[object, object] = {}

    def _once(self, key: object, ask):
        if key not in self._kept:
            self._kept[key] = ask()
        return self._kept[key]

    def decide(self, caller, ops, node, *, monitor=False):
        key = ("decide", caller, ops, node, monitor)
        return self._once(key, lambda: super(Remembering, self).decide(caller, ops, node, monitor=monitor))

    def rename(self, callers, caller, old, new, replaced, *, exchange):
        key = ("rename", caller, old, new, replaced, exchange)
        ask = super().rename
        return self._once(key, lambda: ask(callers, caller, old, new, replaced, exchange=exchange))

    def link(self, callers, caller, old, new):
        ask = super().link
        return self._once(("link", caller, old, new), lambda: ask(callers, caller, old, new))


class Kinds:
    """Kinds of bytes, by libmagic in this process; remembered."""

    def __init__(self) -> None:
        self._detector = Detector()
        self._known: dict[bytes, str | None] = {}

    def of(self, data: bytes) -> str | None:
        """The kind of a file with these bytes; None where sniffing fails."""
        head = data[: 64 * 1024]
        if head not in self._known:
            try:
                self._known[head] = self._detector.kind(head) if head else "inode/x-empty"
            except SniffError:
                self._known[head] = None
        return self._known[head]


class Oracle:
    """One policy's answers. apps: uid -> name; other uids are strangers."""

    def __init__(self, text: str, apps: dict[int, str], strangers: Sequence[int],
                 kinds: Kinds, app: str | None = None) -> None:  # fmt: skip
        self.text = text
        self.policy = parse_policy([SourceText("policy.yaml", text.encode())])
        self.naive = Remembering(self.policy)
        self.kinds = kinds
        self._apps = apps
        self._app = app
        self.callers = [Caller(name, uid) for uid, name in apps.items()]
        self.callers += [Caller(None, uid) for uid in strangers]
        self.hides_by_owner = any(
            rule.effect is Effect.DENY
            and rule.ops & Op.SEE
            and any(b.owners for b in (rule.when, *rule.unless) if b)
            for rule in self.policy.rules
        )
        """Then what is above a path may hide it, so that moves between directories may be EXDEV."""
        self.wants_kinds = self.naive.by_kind or any(
            rule.effect in {Effect.REDACT, Effect.CONTENT} for rule in self.policy.rules
        )

    def caller(self, uid: int) -> Caller:
        """Who that is."""
        return Caller(self._app or self._apps.get(uid), uid)

    def node(self, path: bytes, ftype: FileType, data: bytes, owner: str, above: Sequence[str]) -> Node:
        """What is at a path (below TOP). data: a file's bytes; above: owners of the directories over it, from
        TOP's own on."""
        kind = {FileType.DIRECTORY: "inode/directory", FileType.SYMLINK: "inode/symlink"}.get(ftype)
        if kind is None and self.wants_kinds:
            kind = self.kinds.of(data)
        if not self.naive.by_owner:
            owner, above = "none", ()
        return Node(path, ftype, Facts(kind, owner), tuple(above))

    def decide(self, uid: int, ops: Op, node: Node) -> Answer:
        """The answer to a request."""
        return self.naive.decide(self.caller(uid), ops, node)

    def new(self, uid: int, path: bytes, ftype: FileType, above: Sequence[str]) -> Node:
        """What would be made at a path."""
        kind = {FileType.DIRECTORY: "inode/directory", FileType.SYMLINK: "inode/symlink"}.get(ftype)
        owner = self.caller(uid).app or "none"
        if not self.naive.by_owner:
            owner, above = "none", ()
        return Node(path, ftype, Facts(kind, owner), tuple(above))

    def hidden_now(self, uid: int, node: Node) -> bool:
        """Would something be hidden from this reader, were the kind not known?"""
        caller = self.caller(uid)
        unknown = node._replace(facts=Facts(None, node.facts.owner))
        return bool(self.naive.redact(caller, unknown))

    def could_hide(self, uid: int, node: Node) -> bool:
        """Is the reader's view of the path a redacted one: under some facts something is hidden."""
        caller = self.caller(uid)
        return any(
            self.naive.redact(caller, node._replace(facts=facts))
            for facts in self.naive.all_facts(FileType.REGULAR, unknown=True)
        )

    def checks(self, uid: int, node: Node) -> bool:
        """Is the caller's view of the path a checked one, under some facts."""
        caller = self.caller(uid)
        return any(
            self.naive.content(caller, node._replace(facts=facts))
            for facts in self.naive.all_facts(FileType.REGULAR, unknown=True)
        )

    def asks_otherwise(self, one: Node, other: Node) -> bool:
        """Is other content asked for at two paths, of some caller under some facts."""
        return any(
            self.naive.content(caller, one._replace(facts=facts))
            != self.naive.content(caller, other._replace(facts=facts))
            for caller in self.callers
            for facts in self.naive.all_facts(FileType.REGULAR, unknown=True)
        )

    def shown(self, uid: int, node: Node, data: bytes) -> bytes | None:
        """What this reader is shown of a file with these bytes; None: it may not be opened."""
        caller = self.caller(uid)
        there = node._replace(facts=Facts(self.kinds.of(data), node.facts.owner))
        redact = self.naive.redact(caller, there)
        if not redact:
            return data
        plan = locate(there.facts.kind, redact, MemorySource(data))
        if plan.outcome is Outcome.REFUSE:
            return None
        return apply(data, plan.patches)

    def meets(self, uid: int, node: Node, data: bytes) -> bool:
        """May a file with these bytes be written here, as far as content is required."""
        kind = self.kinds.of(data)
        if not data:
            return True
        there = node._replace(facts=Facts(kind, node.facts.owner))
        wanted = self.naive.content(self.caller(uid), there)
        return all(kind is not None and kind_in(kinds, kind) == YES for kinds in wanted)
