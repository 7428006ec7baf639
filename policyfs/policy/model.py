"""A policy as frozen values: parse.py makes them from texts after all checks, and the engine compiles them.

docs/policy-language.md explains the fields.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.domain import Audit, Keep, Op

UidRange = tuple[int, int]
"""A range of uids: the first and the last uid. Both belong to the range."""

ANY: Final = "any"
"""In ``who.app``: every app that the policy lists."""

STRANGER: Final = "stranger"
"""In ``who.app``: a caller that is not an app."""

SELF: Final = "self"
"""In ``owner``: the calling app."""


_UNITS: Final = ((604_800, "w"), (86_400, "d"), (3600, "h"), (60, "m"))
"""The units of a time span in a policy's text, in seconds."""


class Modes(enum.Enum):
    """The source of the owner, group and mode that stat shows to an app: the store, or the policy."""

    STORE = "store"
    POLICY = "policy"


class Effect(enum.Enum):
    """The effect of a rule on the requests that match it."""

    ALLOW = "allow"
    DENY = "deny"
    LIMIT = "limit"
    REDACT = "redact"
    CONTENT = "content"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a policy's text: the name of the file, the line and the column (both counted from 1)."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class App:
    """An app of a policy.

    uids: empty if it has only app mounts. gids: the primary groups that an app mount may admit; empty: that
    of the account with the app's uid, or the gid with its number. modes: None if the mount's option decides.
    moves_freely: True if what it links or moves may be seen or changed by more apps than before.
    """

    name: str
    uids: tuple[UidRange, ...]
    gids: tuple[int, ...]
    grants: frozenset[str]
    description: str
    modes: Modes | None = None
    where: Where | None = field(default=None, compare=False)
    moves_freely: bool = False


@dataclass(frozen=True, slots=True)
class Who:
    """The callers that a rule is about: those that match all fields (None: everyone) and not ``not_``. apps:
    names, ``any`` and ``stranger``. A field matches if one of its members does."""

    apps: frozenset[str] | None
    grants: frozenset[str] | None
    uids: tuple[UidRange, ...] | None
    not_: Who | None


@dataclass(frozen=True, slots=True)
class Block:
    """One ``when`` or ``unless`` block: true if all fields that are not None are. kinds: MIME types or
    patterns such as ``image/*``. owners: ``self``, ``none``, names of apps. paths: globs."""

    kinds: frozenset[str] | None
    owners: frozenset[str] | None
    paths: tuple[str, ...] | None


class Limit(NamedTuple):
    """The number of files that an app may remove, overwrite or rename within a time in seconds."""

    changes: int
    within_s: int

    @property
    def within(self) -> str:
        """Return the time as in a policy's text."""
        unit_s, unit = next(one for one in _UNITS if not self.within_s % one[0])
        return f"{self.within_s // unit_s}{unit}"

    def __str__(self) -> str:
        return f"{self.changes} files within {self.within}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Fields that do not apply to the rule's effect are empty.

    ops: ``READ`` for REDACT, ``WRITE | CREATE`` for CONTENT, where CREATE stands only for the new path of
    rename and link: a new file is empty, and ``WRITE | DELETE | ATTR`` for KEEP. paths: globs; None: every
    path. unless: blocks that end a match.
    errno: of a deny; None: the default. raw_types: for REDACT, and for CONTENT with ``no`` or ``clean``.
    limit: of LIMIT, which has ``WRITE | DELETE``.
    overridden: the kinds in the text of ``raw_types`` that policyfs can redact, so that they have no effect.
    audit: None if it sets no level. monitor: True if it is only recorded. quarantine: True if refused files
    are kept. keep: of KEEP.
    """

    id: str
    effect: Effect
    ops: Op
    who: Who | None
    paths: tuple[str, ...] | None
    where: Where
    ignore_case: bool = False
    when: Block | None = None
    unless: tuple[Block, ...] = ()
    errno: int | None = None
    limit: Limit | None = None
    redact: frozenset[str] = frozenset()
    content: frozenset[str] = frozenset()
    raw_types: frozenset[str] = frozenset()
    overridden: frozenset[str] = frozenset()
    audit: Audit | None = None
    monitor: bool = False
    description: str = ""
    quarantine: bool = False
    keep: Keep | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of ``unless``, and that of ``when`` as the last one."""
        return self.unless if self.when is None else (*self.unless, self.when)

    def audit_or(self, default: Audit) -> Audit:
        """Return the level that the rule sets, or the default if it sets none."""
        return default if self.audit is None else self.audit


class Promise(enum.Enum):
    """The statement that an invariant makes, by its key in the policy language."""

    NEVER = "never"
    ONLY = "only"
    NEVER_RAW = "never_raw"


@dataclass(frozen=True, slots=True)
class Invariant:
    """A statement that must hold for every request.

    rule: a deny rule with `mode: monitor` that matches what must not be allowed (NEVER_RAW: not with data of
    ``words``). line, width: its line in the text, and the characters to mark there.
    """

    id: str
    promise: Promise
    rule: Rule
    words: frozenset[str]
    line: str
    width: int


@dataclass(frozen=True, slots=True)
class ExceptionRule:
    """An allow rule, with an id ``exception:ID``, that has ended from until_ns (ns since 1970) on."""

    rule: Rule
    until_ns: int
    reason: str
    approved_by: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy: one file, or a directory's files merged. in_force() adds exceptions to the rules."""

    name: str
    description: str
    apps: tuple[App, ...]
    rules: tuple[Rule, ...]
    audit_allowed: Audit
    audit_denied: Audit
    digest: str
    invariants: tuple[Invariant, ...] = ()
    exceptions: tuple[ExceptionRule, ...] = ()
