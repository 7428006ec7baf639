"""The oracle of the policy language (tests/oracle), asked about frozen policies in the words of the engine.

Requests are the oracle's. Moves are more than those of the oracle (exchanges, replaced files, what a file is
free of); what they need of every possible path below, they try over a given handful of names.
"""

from __future__ import annotations

import errno
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from policyfs.domain import DENY_UNKNOWN, Audit, Facts, FileType, Op, banned, to_clean
from policyfs.policy.model import Block, Effect, Policy, Rule, Who
from tests.oracle import globs, language
from tests.oracle.compare import patterns
from tests.oracle.decide import NO_ALLOW, Oracle
from tests.oracle.moves import compared

NO, UNKNOWN, YES = language.Truth

OPS = tuple(Op)
SAYS_LEAST = [errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV]
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
    ``clean location, time``; none for one of kinds.
    """
    return banned((content,))


class Naive:
    """One policy. names: what paths below a moved directory are tried with; kinds: of files there may be."""

    def __init__(
        self,
        policy: Policy,
        names: Sequence[str] = (),
        kinds: Sequence[str] = (),
        depth: int = 3,
        owners: Sequence[str] = ("none", "gone"),
    ) -> None:
        self.policy = policy
        self.names = names
        self.depth = depth
        self.kinds = [*kinds, "inode/x-empty", "x/other"]
        self.owners = [*(a.name for a in policy.apps), *owners]
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

    def below(self, path: bytes, depth: int) -> Iterator[bytes]:
        for length in range(1, depth + 1):
            for names in itertools.product(self.names, repeat=length):
                yield path.rstrip(b"/") + b"".join(b"/" + n.encode() for n in names)

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

    def refusal(self, caller: Caller, op: Op, node: Node) -> int:
        """The errno with which a seen path answers one operation; 0: allowed."""
        denies = self.enforced(caller, op, node, Effect.DENY)
        if denies:
            return min((r.errno or errno.EACCES for r in denies), key=SAYS_LEAST.index)
        return 0 if self.enforced(caller, op, node, Effect.ALLOW) else errno.EACCES

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

    def content_counts(self, caller: Caller, node: Node) -> bool:
        """Some allow of write or create could apply here, so that content requirements count."""
        return self.oracle.could_write(caller_of(self.policy, caller), text_of(node.path))

    # ------------------------------------------------------------ moving

    def rights(
        self, caller: Caller, node: Node
    ) -> tuple[dict[Op, int], frozenset[str], frozenset[frozenset[str]]]:
        """The errno of every operation (0: allowed), the redaction of reads, the content asked for."""
        if not self.seen(caller, node):
            return dict.fromkeys(Op, errno.ENOENT), frozenset(), self.content(caller, node)
        refusals = {op: 0 if op is Op.SEE else self.refusal(caller, op, node) for op in OPS}
        redact = frozenset() if refusals[Op.READ] else self.redact(caller, node)
        return refusals, redact, self.content(caller, node)

    def gain(self, callers: Sequence[Caller], old: bytes, new: bytes, ftype: FileType) -> bool:
        for caller in callers:
            for facts in self.all_facts(ftype, unknown=True):
                before = self.rights(caller, Node(old, ftype, facts))
                after = self.rights(caller, Node(new, ftype, facts))
                if any(before[0][op] and not after[0][op] for op in OPS) or before[2] != after[2]:
                    return True
                if not after[0][Op.READ] and before[1] - after[1]:
                    return True
        return ftype is FileType.REGULAR and self.asks_more(callers, old, new)

    def asks_more(self, callers: Sequence[Caller], old: bytes, new: bytes) -> bool:
        """Somebody's bytes can be at the old path, and by this person or another not come to the new one."""
        if old == new:
            return False
        for facts in self.all_facts(FileType.REGULAR, unknown=True):
            here, there = Node(old, FileType.REGULAR, facts), Node(new, FileType.REGULAR, facts)
            asked = {caller: self.content(caller, there) for caller in callers}
            everybodys = frozenset(itertools.chain.from_iterable(asked.values()))
            for caller in callers:
                at_home = self.content_counts(caller, here) and not self.content_counts(caller, there)
                if (everybodys if at_home else asked[caller]) - self.content(caller, here):
                    return True
        return False

    def content_refusal(self, callers: Sequence[Caller], caller: Caller, old: Node, node: Node) -> int:
        """EPERM if the file at its new path does not meet what is asked of content there; EXDEV if only
        because it is not clean: a copy would be.
        """
        if node.ftype is not FileType.REGULAR or node.facts.kind == "inode/x-empty":
            return 0
        if not self.asks_more(callers, old.path, node.path):
            return 0
        free = set(node.facts.free_of)
        asked = self.content(caller, node)
        cleaned = {word for one in asked for word in words_of_ban(one) if word[:6] == "clean "}
        code = 0
        for one in asked:
            words = words_of_ban(one)
            if words and words <= free:
                continue
            if kind_in(one, node.facts.kind) != YES:
                by_copy = words and all("clean " + word.removeprefix("clean ") in cleaned for word in words)
                if not by_copy:
                    return errno.EPERM
                code = errno.EXDEV
        return code

    def link(self, callers: Sequence[Caller], caller: Caller, old: Node, new: Node) -> int:
        """The errno that link(2) answers, 0 if it may."""
        codes = [
            self.decide(caller, Op.SEE | Op.READ | Op.WRITE, old).errno,
            self.decide(caller, Op.SEE | Op.CREATE, new).errno,
            self.content_refusal(callers, caller, old, new),
        ]
        code = min((c for c in codes if c), key=SAYS_LEAST.index, default=0)
        if code:
            return code
        return errno.EXDEV if self.gain(callers, old.path, new.path, old.ftype) else 0

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
        ways = [(old, new)]
        codes = []
        if replaced is not None and exchange:
            ways.append((replaced, Node(old.path, replaced.ftype, replaced.facts, old.owners)))
        elif replaced is not None:
            codes.append(self.decide(caller, Op.SEE | Op.DELETE, replaced).errno)
        for source, target in ways:
            codes.append(self.decide(caller, Op.SEE | Op.DELETE, source).errno)
            codes.append(self.decide(caller, Op.SEE | Op.CREATE, target).errno)
            codes.append(self.content_refusal(callers, caller, source, target))
        code = min((c for c in codes if c), key=SAYS_LEAST.index, default=0)
        if not code and not all(self.may_move(callers, caller, *way) for way in ways):
            code = errno.EXDEV
        if code == errno.EXDEV and any(self.loses(caller, old, new.path) for old, new in ways):
            return errno.EACCES
        return code

    def loses(self, caller: Caller, old: Node, new: bytes) -> bool:
        """A copy at the new path and a deletion of the old file would lose what is hidden from the caller."""
        if old.ftype is FileType.REGULAR:
            return self.loses_file(caller, Op.SEE | Op.READ, old, new)
        if old.ftype is not FileType.DIRECTORY:
            return False
        return any(
            self.loses_file(caller, Op.SEE | Op.READ | Op.DELETE, Node(a, FileType.REGULAR, facts, owners), b)
            for a, b in zip(self.below(old.path, self.depth), self.below(new, self.depth), strict=True)
            for facts in self.all_facts(FileType.REGULAR, unknown=True)
            for owners in self.owners_above(a)
        )

    def owners_above(self, path: bytes) -> Iterator[tuple[str | None, ...]]:
        """Who may own the directories above, where a rule asks for the owner of what it hides."""
        blocks = [b for r in self.policy.rules if r.ops & Op.SEE for b in (r.when, *r.unless) if b]
        if any(block.owners for block in blocks):
            yield from itertools.product(self.owners, repeat=path.count(b"/") - 1)
        else:
            yield ()

    def loses_file(self, caller: Caller, ops: Op, old: Node, new: bytes) -> bool:
        redact = self.decide(caller, ops, old).redact
        hidden = {word for word in redact if " " not in word}
        if not hidden:
            return False
        kind = old.facts.kind
        mine, other = (self.cleaned(caller, new, Facts(kind, o)) for o in (caller.app or "none", "none"))
        return not ("all-metadata" in mine & other or hidden <= mine & other)

    def cleaned(self, caller: Caller, path: bytes, facts: Facts) -> set[str]:
        """The words of which a copy at this path is cleaned in any case."""
        node = Node(path, FileType.REGULAR, facts)
        if not self.content_counts(caller, node):
            return set()
        words = {
            word
            for rule in self.enforced(caller, Op.WRITE, node, Effect.CONTENT)
            if rule_matches(rule, self.policy, caller, node) == YES
            for word in words_of_ban(rule.content)
        }
        return {word.removeprefix("clean ") for word in words if word[:6] == "clean "}

    def may_move(self, callers: Sequence[Caller], caller: Caller, old: Node, new: Node) -> bool:
        if old.ftype is FileType.DIRECTORY:
            return self.alike(callers, caller, old.path, new.path)
        if not self.gain(callers, old.path, new.path, old.ftype):
            return True
        there = self.decide(caller, Op.SEE | Op.READ | Op.WRITE | Op.DELETE, old)
        here = self.decide(caller, Op.SEE | Op.CREATE | Op.WRITE, new)
        return there.allowed and not there.redact and here.allowed

    def alike(self, callers: Sequence[Caller], caller: Caller, old: bytes, new: bytes) -> bool:
        """No outcome differs for the directory or below it, and all below may be deleted."""
        pairs = [(old, new, (FileType.DIRECTORY,))]
        lower = zip(self.below(old, self.depth), self.below(new, self.depth), strict=True)
        pairs += [(a, b, tuple(FileType)) for a, b in lower]
        for a, b, ftypes in pairs:
            for ftype in ftypes:
                if a != old and not self.deletes(caller, a, ftype):
                    return False
                for one in callers:
                    for facts in self.all_facts(ftype, unknown=True):
                        if self.outcome(one, Node(a, ftype, facts)) != self.outcome(
                            one, Node(b, ftype, facts)
                        ):
                            return False
        return True

    def deletes(self, caller: Caller, path: bytes, ftype: FileType) -> bool:
        return all(
            self.decide(caller, Op.SEE | Op.DELETE, Node(path, ftype, facts)).allowed
            for facts in self.all_facts(ftype, unknown=True)
        )

    def outcome(self, caller: Caller, node: Node) -> object:
        who, path, facts = caller_of(self.policy, caller), text_of(node.path), facts_of(node)
        answers = (self.oracle.decide(who, str(op.name).lower(), path, facts, above(node)) for op in OPS)
        return self.content(caller, node), tuple(map(compared, answers))
