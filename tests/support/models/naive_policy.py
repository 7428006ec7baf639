"""The oracle of the policy language (tests/oracle), asked about frozen policies in the words of the engine.

It only translates.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from policyfs.domain import DENY_UNKNOWN, Audit, Facts, FileType, Op, banned, to_clean
from policyfs.policy.model import Block, Effect, Policy, Rule, Who
from tests.oracle import globs, language
from tests.oracle.compare import patterns
from tests.oracle.decide import NO_ALLOW, Oracle
from tests.oracle.moves import Move, Mover, apart

NO, UNKNOWN, YES = language.Truth

OPS = tuple(Op)
TYPES = {FileType.DIRECTORY: "inode/directory", FileType.SYMLINK: "inode/symlink"}


class Caller(NamedTuple):
    """Who asks; app None: a stranger."""

    app: str | None
    uid: int


class Node(NamedTuple):
    """A path and what is there. owners: of the directories above it, from below the root down."""

    path: bytes
    ftype: FileType
    facts: Facts
    owners: tuple[str | None, ...] = ()


class Answer(NamedTuple):
    """What the language says to one request."""

    allowed: bool
    errno: int
    redact: frozenset[str]
    content: frozenset[frozenset[str]]
    matched: frozenset[tuple[str, int]]
    would_deny: frozenset[str]
    would_allow: frozenset[str]
    audit: Audit
    quarantine: bool = False


# ---------------------------------------------------------------- words of the oracle


def text_of(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def glob_matches(glob: str, path: bytes, ignore_case: bool, caller: Caller) -> bool:
    return globs.matches(globs.Glob(glob, ignore_case, caller.app, caller.uid), text_of(path))


def kind_in(kinds: Iterable[str], kind: str | None) -> language.Truth:
    return language.is_type(tuple(kinds), kind)


def facts_of(node: Node) -> language.Facts:
    kind = TYPES.get(node.ftype, node.facts.kind)
    return language.Facts(kind, language.UNKNOWN if node.facts.owner is None else node.facts.owner)


def above(node: Node) -> tuple[str, ...]:
    """The owners of the directories above, unknown where nobody said."""
    owners = (language.UNKNOWN if owner is None else owner for owner in node.owners)
    return (*owners, *[language.UNKNOWN] * node.path.count(b"/"))


def _who(who: Who) -> dict[str, Any]:
    keys = {"app": who.apps, "grant": who.grants}
    found: dict[str, Any] = {key: sorted(value) for key, value in keys.items() if value is not None}
    if who.uids is not None:
        found["uid"] = [f"{first}-{last}" for first, last in who.uids]
    return found | ({} if who.not_ is None else {"not": _who(who.not_)})


def _block(block: Block) -> dict[str, tuple[str, ...]]:
    keys = {"type": block.kinds, "owner": block.owners, "path": block.paths}
    return {key: tuple(value) for key, value in keys.items() if value is not None}


@functools.lru_cache(maxsize=1 << 12)
def rule_of(rule: Rule) -> language.Rule:
    """A rule of the engine as one of the oracle."""
    words = banned((rule.content,)) or rule.redact
    effect, values, raw = rule.effect.name.lower(), words - {DENY_UNKNOWN}, rule.raw_types
    if rule.effect is Effect.CONTENT:
        raw = frozenset(one for one in rule.content if "/" in one)
        effect = "clean" if to_clean(words) else "no" if words else "content"
        values = to_clean(words) or values or rule.content
    keys: dict[str, Any] = {"raw_types": tuple(raw) if effect in ("redact", "no", "clean") else ()}
    keys |= {} if rule.who is None else {"who": _who(rule.who)}
    keys |= {} if rule.audit is None else {"audit": rule.audit.name.lower()}
    keys |= {} if rule.errno is None else {"errno": errno.errorcode[rule.errno]}
    keys |= {"mode": "monitor"} if rule.monitor else {}
    keys |= {"ignore_case": "true"} if rule.ignore_case else {}
    keys |= {"on_unknown": "deny"} if DENY_UNKNOWN in words else {}
    keys |= {"on_refused": "quarantine"} if rule.quarantine else {}
    operations = {"redact": {"read"}, "allow": None, "deny": None}.get(effect, {"write"})
    return language.Rule(
        rule.id,
        effect,
        tuple(values),
        keys,
        frozenset(operations or {str(op.name).lower() for op in OPS if op in rule.ops}),
        rule.paths,
        None if rule.when is None else _block(rule.when),
        [_block(block) for block in rule.unless],
    )


def caller_of(policy: Policy, caller: Caller) -> language.Caller:
    grants = (app.grants for app in policy.apps if app.name == caller.app)
    return language.Caller(caller.app, caller.uid, next(grants, frozenset()))


def rule_matches(rule: Rule, policy: Policy, caller: Caller, node: Node) -> language.Truth:
    """Three-valued, operations aside."""
    return rule_of(rule).match(caller_of(policy, caller), text_of(node.path), facts_of(node))


def words_of_ban(content: frozenset[str]) -> frozenset[str]:
    """The words of a requirement that reads ``no location, time``, and ``clean x`` for each of one that reads
    ``clean location, time``; none for one of kinds."""
    return banned((content,))


class Naive:
    """One policy. kinds: of files that all_facts() has."""

    def __init__(self, policy: Policy, kinds: Sequence[str] = ()) -> None:
        self.policy = policy
        self.kinds = [*kinds, "inode/x-empty", "x/other"]
        self.owners = [*(a.name for a in policy.apps), "none", "gone"]
        levels = (policy.audit_allowed.name.lower(), policy.audit_denied.name.lower())
        self._rules = {rule.id: rule for rule in policy.rules}
        apps: dict[str, dict[str, Any]] = {app.name: {} for app in policy.apps}
        self.oracle = Oracle(language.Policy(apps, [*map(rule_of, policy.rules)], *levels))

    def all_facts(self, ftype: FileType, *, unknown: bool) -> list[Facts]:
        kinds: list[str | None] = [*self.kinds]
        if ftype is FileType.DIRECTORY:
            kinds = ["inode/directory"]
        elif ftype is FileType.SYMLINK:
            kinds = ["inode/symlink"]
        elif unknown:
            kinds.append(None)
        owners: list[str | None] = [*self.owners, *([None] if unknown else [])]
        return [Facts(k, o) for k in kinds for o in owners]

    def matching(self, caller: Caller, op: Op, node: Node) -> list[Rule]:
        who, name = caller_of(self.policy, caller), str(op.name).lower()
        found = self.oracle.matching(who, text_of(node.path), facts_of(node), name)
        return [self._rules[rule.id] for rule in found]

    def enforced(self, caller: Caller, op: Op, node: Node, effect: Effect) -> list[Rule]:
        return [r for r in self.matching(caller, op, node) if r.effect is effect and not r.monitor]

    def hiding_above(self, caller: Caller, node: Node) -> list[Rule]:
        """The rules that hide directories above."""
        who = caller_of(self.policy, caller)
        return [self._rules[one.id] for one in self.oracle.hiding(who, text_of(node.path), above(node))]

    def seen(self, caller: Caller, node: Node) -> bool:
        who, path = caller_of(self.policy, caller), text_of(node.path)
        hiding = self.oracle.hiding(who, path, above(node))
        return self.oracle.sees(who, path, facts_of(node), hiding) is not None

    def content(self, caller: Caller, node: Node) -> frozenset[frozenset[str]]:
        """The requirements that count for the caller here."""
        who = caller_of(self.policy, caller)
        return frozenset(map(patterns, self.oracle.required(who, text_of(node.path), facts_of(node))))

    def redact(self, caller: Caller, node: Node) -> frozenset[str]:
        """The words of which data is hidden, if the file may be read."""
        who = caller_of(self.policy, caller)
        asking = self.oracle.redacting(who, text_of(node.path), facts_of(node))
        return frozenset(word for rule in asking for word in self._rules[rule.id].redact)

    def decide(self, caller: Caller, ops: Op, node: Node, *, monitor: bool = False) -> Answer:
        """The answer to a request that needs these operations, and to see the path."""
        who, path, facts = caller_of(self.policy, caller), text_of(node.path), facts_of(node)
        wanted = [op for op in OPS if op in ops | Op.SEE]
        words = " ".join(str(op.name).lower() for op in wanted)
        said = self.oracle.decide(who, words, path, facts, above(node), monitor=monitor)
        counts = said.errno is None and self.oracle.could_write(who, path, monitor=monitor)
        matched: dict[str, int] = {}
        for op in wanted:
            for rule in self.matching(caller, op, node):
                obliges = counts if rule.effect is Effect.CONTENT else said.errno is None
                if obliges or rule.effect in {Effect.ALLOW, Effect.DENY}:  # a denial has no obligations
                    matched[rule.id] = matched.get(rule.id, 0) | int(op)
        return Answer(
            said.errno is None,
            getattr(errno, said.errno) if said.errno else 0,
            said.redact | ({DENY_UNKNOWN} if said.strict else set()),
            frozenset(map(patterns, said.checks)),
            frozenset(matched.items()),
            said.would_deny - {NO_ALLOW},
            said.would_allow,
            Audit[said.audit.upper()],
            said.quarantine,
        )

    # ------------------------------------------------------------ moving

    def _move(self, caller: Caller, old: Node, new: bytes, *, is_link: bool = False) -> Move:
        who, facts = caller_of(self.policy, caller), facts_of(old)
        facts = replace(facts, free_of=frozenset(old.facts.free_of))
        return Move(who, text_of(old.path), text_of(new), facts, is_link)

    def _mover(self, callers: Sequence[Caller], *nodes: Node) -> Mover:
        everyone = [caller_of(self.policy, one) for one in callers]
        of = apart(self.oracle.policy, everyone, {str(one.uid) for one in callers})
        above_of = {text_of(node.path): above(node) for node in nodes if node.owners}
        return Mover(self.oracle, of, above_of)

    def link(self, callers: Sequence[Caller], caller: Caller, old: Node, new: Node) -> int:
        """The errno that link(2) answers, 0 if it may."""
        code = self._mover(callers, old, new).answer(self._move(caller, old, new.path, is_link=True))
        return getattr(errno, code) if code else 0

    def rename(
        self,
        callers: Sequence[Caller],
        caller: Caller,
        old: Node,
        new: Node,
        replaced: Node | None,
        *,
        exchange: bool,
    ) -> int:
        """The errno that rename(2) answers, 0 if it may."""
        facts = None
        if replaced is not None:
            facts = replace(facts_of(replaced), free_of=frozenset(replaced.facts.free_of))
        mover, move = self._mover(callers, old, new), self._move(caller, old, new.path)
        code = mover.answer(move, facts, exchange=exchange)
        return getattr(errno, code) if code else 0

    def loses(self, caller: Caller, old: Node, new: bytes) -> bool:
        """A copy at the new path and a deletion of the old file would lose what is hidden from the caller."""
        return self._mover([caller], old).loses(self._move(caller, old, new))
