"""The policy language once more, as plainly as can be: loops over rules and path strings.

Nothing is remembered but whether a glob matches a path and what the rules said to the last question.
Written from docs/policy-language.md alone, and sharing with the engine only the frozen types of
model.py and domain.py, so that what both say is unlikely to be wrong in the same way. It answers
questions about "every possible path below" by trying every path over a given handful of names.
"""

from __future__ import annotations

import errno
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from policyfs.domain import Audit, Facts, FileType, Op
from policyfs.policy.model import Block, Effect, Policy, Rule, Who

NO, UNKNOWN, YES = 0.0, 0.5, 1.0

OPS = tuple(Op)
SAYS_LEAST = [errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV]


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


# ---------------------------------------------------------------- globs


@functools.lru_cache(maxsize=1 << 12)
def alternatives(piece: str) -> list[list[str]]:
    """A segment as rows of symbols: ``=`` and a character, or a wildcard or capture as written."""
    rows: list[list[str]] = [[]]
    i = 0
    while i < len(piece):
        if piece[i] == "\\":
            rows = [[*row, "=" + piece[i + 1]] for row in rows]
            i += 2
        elif piece.startswith(("{app}", "{uid}"), i):
            rows = [[*row, piece[i : i + 5]] for row in rows]
            i += 5
        elif piece[i] == "{":
            depth, j, start, parts = 1, i + 1, i + 1, []
            while depth:
                if piece[j] == "\\":  # the next character is quoted, also a comma
                    j += 2
                    continue
                if piece[j] == "{":
                    depth += 1
                elif piece[j] == "}":
                    depth -= 1
                if depth == 0 or (piece[j] == "," and depth == 1):
                    parts.append(piece[start:j])
                    start = j + 1
                j += 1
            rows = [row + more for row in rows for part in parts for more in alternatives(part)]
            i = j
        else:
            rows = [[*row, piece[i] if piece[i] in "*?" else "=" + piece[i]] for row in rows]
            i += 1
    return rows


def same_letter(a: str, b: str, ignore_case: bool) -> bool:
    if a == b:
        return True
    return ignore_case and a.isascii() and b.isascii() and a.isalpha() and a.lower() == b.lower()


def row_matches(row: Sequence[str], name: str, ignore_case: bool, caller: Caller) -> bool:
    if not row:
        return not name
    head, rest = row[0], row[1:]
    if head == "*":
        return any(row_matches(rest, name[i:], ignore_case, caller) for i in range(len(name) + 1))
    if head in ("{app}", "{uid}"):
        if caller.app is None:
            return False
        own = caller.app if head == "{app}" else str(caller.uid)
        spelled = ["=" + char for char in own]
        return row_matches([*spelled, *rest], name, ignore_case, caller)
    if not name:
        return False
    if head == "?" or same_letter(head[1:], name[0], ignore_case):
        return row_matches(rest, name[1:], ignore_case, caller)
    return False


@functools.lru_cache(maxsize=1 << 17)
def glob_matches(glob: str, path: bytes, ignore_case: bool, caller: Caller) -> bool:
    names = [n.decode("utf-8", "surrogateescape") for n in path.split(b"/") if n]
    pieces = [] if glob == "/" else glob[1:].split("/")

    def walk(i: int, j: int) -> bool:
        left = len(names) - j
        if i == len(pieces):
            return left == 0
        last = i == len(pieces) - 1
        if pieces[i] == "***" and last:
            return True
        if pieces[i] == "**":
            if last:
                return left >= 1
            return any(walk(i + 1, k) for k in range(j, len(names) + 1))
        if not left:
            return False
        hit = any(row_matches(row, names[j], ignore_case, caller) for row in alternatives(pieces[i]))
        return hit and walk(i + 1, j + 1)

    return walk(0, 0)


# ---------------------------------------------------------------- one rule


def kind_in(kinds: Iterable[str], kind: str | None) -> float:
    """A regular file is never an inode/directory, so that much is known even of an unknown kind."""
    if kind is None:
        possible = [k for k in kinds if k not in ("inode/directory", "inode/symlink")]
        return UNKNOWN if possible else NO
    return YES if any(k == kind or (k.endswith("/*") and kind.startswith(k[:-1])) for k in kinds) else NO


def owner_in(owners: Iterable[str], owner: str | None, caller: Caller) -> float:
    """A stranger owns nothing: for it, ``self`` is no owner, known or not."""
    wanted = {caller.app if o == "self" else o for o in owners} - {None}
    if owner is None:
        return UNKNOWN if wanted else NO
    return YES if owner in wanted else NO


def kind_of(node: Node) -> str | None:
    fixed = {FileType.DIRECTORY: "inode/directory", FileType.SYMLINK: "inode/symlink"}
    return fixed.get(node.ftype, node.facts.kind)


def block_holds(block: Block, rule: Rule, caller: Caller, node: Node) -> float:
    values = [YES]
    if block.kinds is not None:
        values.append(kind_in(block.kinds, kind_of(node)))
    if block.owners is not None:
        values.append(owner_in(block.owners, node.facts.owner, caller))
    if block.paths is not None:
        hit = any(glob_matches(g, node.path, rule.ignore_case, caller) for g in block.paths)
        values.append(YES if hit else NO)
    return min(values)


def who_holds(who: Who | None, policy: Policy, caller: Caller) -> bool:
    if who is None:
        return True
    if who.apps is not None:
        names = {"stranger"} if caller.app is None else {caller.app, "any"}
        if not names & who.apps:
            return False
    if who.grants is not None:
        held = next((a.grants for a in policy.apps if a.name == caller.app), frozenset())
        if not held & who.grants:
            return False
    if who.uids is not None and not any(a <= caller.uid <= b for a, b in who.uids):
        return False
    return who.not_ is None or not who_holds(who.not_, policy, caller)


def rule_matches(rule: Rule, policy: Policy, caller: Caller, node: Node) -> float:
    """Three-valued, operations aside."""
    if not who_holds(rule.who, policy, caller):
        return NO
    if rule.paths is not None and not any(
        glob_matches(g, node.path, rule.ignore_case, caller) for g in rule.paths
    ):
        return NO
    values = [YES]
    if rule.when is not None:
        values.append(block_holds(rule.when, rule, caller, node))
    values.extend(1.0 - block_holds(block, rule, caller, node) for block in rule.unless)
    return min(values)


# ---------------------------------------------------------------- decisions


def touches(rule: Rule, op: Op) -> bool:
    if rule.effect is Effect.REDACT:
        return op is Op.READ
    if rule.effect is Effect.CONTENT:
        return op is Op.WRITE
    return int.__and__(rule.ops, op) != 0  # flags' own & takes ten times as long


def counts(rule: Rule, truth: float) -> bool:
    return truth == YES if rule.effect is Effect.ALLOW else truth != NO


def words_of_ban(patterns: frozenset[str]) -> set[str]:
    """The words of a requirement that reads ``no location, time``, and ``clean x`` for each of one that reads
    ``clean location, time``; none for one of kinds.
    """
    found = {word.strip() for p in patterns if p[:3] == "no " for word in p[3:].split(",")}
    return found | {
        "clean " + word.strip() for p in patterns if p[:6] == "clean " for word in p[6:].split(",")
    }


class Naive:
    """One policy. names: what paths below are tried with; facts: what files there may be."""

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
        self._last: tuple[object, list[tuple[Rule, float]]] = (None, [])
        self.owners = [*(a.name for a in policy.apps), *owners]

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

    def matching(self, caller: Caller, op: Op, node: Node) -> list[tuple[Rule, float]]:
        if self._last[0] != (caller, node):
            truths = [(rule, rule_matches(rule, self.policy, caller, node)) for rule in self.policy.rules]
            self._last = ((caller, node), [(rule, t) for rule, t in truths if counts(rule, t)])
        return [(rule, truth) for rule, truth in self._last[1] if touches(rule, op)]

    def enforced(self, caller: Caller, op: Op, node: Node, effect: Effect) -> list[Rule]:
        return [r for r, _ in self.matching(caller, op, node) if r.effect is effect and not r.monitor]

    def below(self, path: bytes, depth: int) -> Iterator[bytes]:
        for length in range(1, depth + 1):
            for names in itertools.product(self.names, repeat=length):
                yield path.rstrip(b"/") + b"".join(b"/" + n.encode() for n in names)

    def could_see_below(self, caller: Caller, path: bytes) -> bool:
        """Some file at some path below could be seen, through directories that do not hide it."""
        rules = [r for r in self.policy.rules if r.ops & Op.SEE and not r.monitor]
        mine = [r for r in rules if who_holds(r.who, self.policy, caller)]
        if not any(rule.effect is Effect.ALLOW for rule in mine):
            return False
        hidden: list[bytes] = []
        for lower in self.below(path, self.depth):  # directories before what is in them
            if any(lower.startswith(above + b"/") for above in hidden):
                continue
            # the path part first: most rules fail it whatever the file
            here = [r for r in mine if self.at_path(r, caller, lower)]
            files = self.files(lower, *FileType)
            if any(rule.effect is Effect.ALLOW for rule in here) and any(
                self.shown(here, caller, node) for node in files
            ):
                return True
            denies = [rule for rule in here if rule.effect is Effect.DENY]
            if denies and all(
                self.denied(denies, caller, node) for node in self.files(lower, FileType.DIRECTORY)
            ):
                hidden.append(lower)
        return False

    def files(self, path: bytes, *ftypes: FileType) -> Iterator[Node]:
        return (Node(path, ftype, f) for ftype in ftypes for f in self.all_facts(ftype, unknown=False))

    def at_path(self, rule: Rule, caller: Caller, path: bytes) -> bool:
        return rule.paths is None or any(
            glob_matches(g, path, rule.ignore_case, caller) for g in rule.paths
        )

    def denied(self, rules: Iterable[Rule], caller: Caller, node: Node) -> bool:
        truths = ((rule, rule_matches(rule, self.policy, caller, node)) for rule in rules)
        return any(rule.effect is Effect.DENY and truth != NO for rule, truth in truths)

    def shown(self, rules: Sequence[Rule], caller: Caller, node: Node) -> bool:
        allows = [rule for rule in rules if rule.effect is Effect.ALLOW]
        allowed = any(rule_matches(rule, self.policy, caller, node) == YES for rule in allows)
        return allowed and not self.denied(rules, caller, node)

    def hiding_above(self, caller: Caller, node: Node) -> list[Rule]:
        """The rules that hide directories above."""
        names = [n for n in node.path.split(b"/") if n]
        found = []
        for i in range(1, len(names)):
            owner = node.owners[i - 1] if i - 1 < len(node.owners) else None
            above = Node(b"/" + b"/".join(names[:i]), FileType.DIRECTORY, Facts(None, owner))
            found += self.enforced(caller, Op.SEE, above, Effect.DENY)
        return found

    def seen(self, caller: Caller, node: Node) -> bool:
        if node.path == b"/":
            return True
        if self.hiding_above(caller, node) or self.enforced(caller, Op.SEE, node, Effect.DENY):
            return False
        if self.enforced(caller, Op.SEE, node, Effect.ALLOW):
            return True
        return node.ftype is FileType.DIRECTORY and self.could_see_below(caller, node.path)

    def content(self, caller: Caller, node: Node, *, lenient: bool = False) -> frozenset[frozenset[str]]:
        """The requirements that count for the caller here. lenient: under the mount-wide dry run."""
        if not lenient and not self.content_counts(caller, node):
            return frozenset()
        return frozenset(r.content for r in self.enforced(caller, Op.WRITE, node, Effect.CONTENT))

    def redact(self, caller: Caller, node: Node) -> frozenset[str]:
        asking = self.enforced(caller, Op.READ, node, Effect.REDACT)
        kind = kind_of(node)
        if all(kind is not None and kind_in(r.raw_types, kind) == YES for r in asking):
            return frozenset()
        return frozenset(what for rule in asking for what in rule.redact)

    def refusal(self, caller: Caller, op: Op, node: Node) -> int:
        """The errno with which a seen path answers one operation; 0: allowed."""
        denies = self.enforced(caller, op, node, Effect.DENY)
        if denies:
            return min((r.errno or errno.EACCES for r in denies), key=SAYS_LEAST.index)
        return 0 if self.enforced(caller, op, node, Effect.ALLOW) else errno.EACCES

    def decide(self, caller: Caller, ops: Op, node: Node, *, monitor: bool = False) -> Answer:
        """The answer to a request that needs these operations, and to see the path."""
        lenient = monitor and caller.app is not None
        wanted = [op for op in OPS if op in ops and op is not Op.SEE]
        code = errno.ENOENT
        if self.seen(caller, node):
            refusals = [self.refusal(caller, op, node) for op in wanted]
            code = min((r for r in refusals if r), key=SAYS_LEAST.index, default=0)
        allowed = lenient or not code
        matched: dict[str, int] = {}
        would_deny: set[str] = set()
        would_allow: set[str] = set()
        for op in (Op.SEE, *wanted):
            for rule in self.speaking(caller, op, node, lenient=lenient):
                if allowed or rule.effect in {Effect.ALLOW, Effect.DENY}:  # a denial has no obligations
                    matched[rule.id] = matched.get(rule.id, 0) | int(op)
                recorded = rule.monitor or (lenient and code != 0)
                if recorded and rule.effect is Effect.DENY:
                    would_deny.add(rule.id)
                if rule.monitor and rule.effect is Effect.ALLOW:
                    would_allow.add(rule.id)
        if not lenient and self.hiding_above(caller, node):
            would_deny, would_allow = set(), set()
        redact = self.redact(caller, node) if allowed and Op.READ in ops else frozenset()
        content, quarantine = frozenset(), False
        if allowed and Op.WRITE in ops:
            content = self.content(caller, node, lenient=lenient)
            asking = self.enforced(caller, Op.WRITE, node, Effect.CONTENT) if content else []
            quarantine = any(rule.quarantine for rule in asking)
        return Answer(
            allowed,
            0 if allowed else code,
            redact,
            content,
            frozenset(matched.items()),
            frozenset(would_deny),
            frozenset(would_allow),
            max(
                self.audit_of_allowed(caller, (Op.SEE, *wanted), node, bool(redact), lenient=lenient)
                if allowed
                else self.audit_of_denied(caller, (Op.SEE, *wanted), node),
                Audit.BEST_EFFORT if would_deny or would_allow or (lenient and code) else Audit.OFF,
            ),
            quarantine,
        )

    def audit_of_denied(self, caller: Caller, ops: Sequence[Op], node: Node) -> Audit:
        """The strictest of what refuses the request: rules, or that no rule allows an operation."""
        default = self.policy.audit_denied
        hiding = self.hiding_above(caller, node)
        if hiding:
            return max(default if rule.audit is None else rule.audit for rule in hiding)
        levels = []
        for op in ops:
            if op is Op.SEE and self.seen(caller, node):
                continue
            denies = self.enforced(caller, op, node, Effect.DENY)
            levels += [default if rule.audit is None else rule.audit for rule in denies]
            if not denies and not (op is not Op.SEE and self.enforced(caller, op, node, Effect.ALLOW)):
                levels.append(default)
        return max(levels)

    def audit_of_allowed(
        self, caller: Caller, ops: Sequence[Op], node: Node, redacted: bool, *, lenient: bool
    ) -> Audit:
        """The strictest key of the rules that match. Without one a rule that redacts has that of denials."""
        rules = [rule for op in ops for rule in self.speaking(caller, op, node, lenient=lenient)]
        if lenient:
            rules += self.hiding_above(caller, node)
        levels = [rule.audit for rule in rules if rule.audit is not None]
        if redacted:
            redacting = [rule for rule in rules if rule.effect is Effect.REDACT]
            levels += [self.policy.audit_denied for rule in redacting if rule.audit is None]
        return max(levels, default=self.policy.audit_allowed)

    def speaking(self, caller: Caller, op: Op, node: Node, *, lenient: bool = False) -> list[Rule]:
        """The rules that match and count."""
        counting = lenient or self.content_counts(caller, node)
        return [
            rule
            for rule, _ in self.matching(caller, op, node)
            if counting or rule.effect is not Effect.CONTENT
        ]

    def content_counts(self, caller: Caller, node: Node) -> bool:
        """Some allow of write or create could apply here, so that content requirements count."""
        if not any(rule.effect is Effect.CONTENT for rule in self.policy.rules):
            return False
        for rule in self.policy.rules:
            if rule.effect is Effect.ALLOW and rule.ops & (Op.WRITE | Op.CREATE) and not rule.monitor:
                for facts in self.all_facts(FileType.REGULAR, unknown=False):
                    there = Node(node.path, FileType.REGULAR, facts)
                    if rule_matches(rule, self.policy, caller, there) == YES:
                        return True
        return False

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
        cleaned = {word for patterns in asked for word in words_of_ban(patterns) if word[:6] == "clean "}
        code = 0
        for patterns in asked:
            words = words_of_ban(patterns)
            if words and words <= free:
                continue
            if kind_in(patterns, node.facts.kind) != YES:
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
        sure = [rule for rule, truth in self.matching(caller, Op.WRITE, node) if truth == YES]
        words = {
            word
            for rule in sure
            if rule.effect is Effect.CONTENT and not rule.monitor
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
        default = self.policy.audit_denied
        rights = self.rights(caller, node)
        refusing = [self.audit_of_denied(caller, OPS, node)] if any(rights[0].values()) else []
        redacts = self.enforced(caller, Op.READ, node, Effect.REDACT) if rights[1] else []
        refusing += [default if rule.audit is None else rule.audit for rule in redacts]
        others = [
            rule.audit
            for op in OPS
            for rule in self.speaking(caller, op, node)
            if rule.audit is not None
            and rule.effect is not Effect.REDACT
            and (rule.effect is not Effect.DENY or rule.monitor)
        ]
        return rights, max(refusing, default=None), max(others, default=None)
