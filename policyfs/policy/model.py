"""A policy as frozen values: parse.py makes them from texts, and the engine is compiled from them.

Only parse.py makes a ``Policy`` from texts, and only after all checks. So all names are declared, sets are
expanded, globs can be parsed, and numbers are in range. docs/policy-language.md explains the fields.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import Audit, Op

UidRange = tuple[int, int]
"""A range of uids: the first and the last uid. Both belong to the range."""

ANY: Final = "any"
"""In ``who.app``: every app that the policy lists."""

STRANGER: Final = "stranger"
"""In ``who.app``: a caller that is not an app."""

SELF: Final = "self"
"""In ``owner``: the calling app."""


class Modes(enum.Enum):
    """The source of the owner, group and mode that stat shows to an app: the files of the store, or the
    policy.
    """

    STORE = "store"
    POLICY = "policy"


class Effect(enum.Enum):
    """The effect of a rule on the requests that match it."""

    ALLOW = "allow"
    DENY = "deny"
    REDACT = "redact"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a policy's text: the name of the file, the line and the column (both counted from 1)."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class App:
    """An app of a policy.

    uids: empty if the app exists only in an app mount. gids: the primary groups that an app mount may admit;
    empty: the primary group of the account with the app's uid (without such an account, the gid with the
    number of the uid). modes: None if the policy does not set them; then an option of the mount decides.
    """

    name: str
    uids: tuple[UidRange, ...]
    gids: tuple[int, ...]
    grants: frozenset[str]
    description: str
    modes: Modes | None = None
    where: Where | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Who:
    """The callers that a rule is about. A field is None if its key is absent. None matches every caller.

    apps: the names of apps, and also ``any`` and ``stranger``. A field matches if one of its members
    matches. A caller matches if all fields match and the block ``not_`` does not match.
    """

    apps: frozenset[str] | None
    grants: frozenset[str] | None
    uids: tuple[UidRange, ...] | None
    not_: Who | None


@dataclass(frozen=True, slots=True)
class Block:
    """One ``when`` or ``unless`` block. It is true if all fields that are not None are true.

    kinds: MIME types or patterns such as ``image/*``. owners: ``self``, ``none``, names of apps. paths: globs
    as text. Names of sets have been replaced by their members.
    """

    kinds: frozenset[str] | None
    owners: frozenset[str] | None
    paths: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Fields that do not apply to the rule's effect are empty.

    ops: the operations on which the rule has an effect; ``READ`` for REDACT, ``WRITE | CREATE`` for CONTENT.
    For CONTENT, CREATE stands only for the new path of rename and link: a new file is empty, so there is
    nothing to check. paths: globs as text; None: every path. unless: if one of these blocks holds, the rule
    does not match. errno: the errno of a deny; None: the default. redact: only for REDACT. content: only for
    CONTENT. raw_types: for REDACT, and for CONTENT if the rule has ``no`` or ``clean``. audit: None if the
    rule sets no level. monitor: True if the rule is recorded only, never enforced. quarantine: only for
    CONTENT; True if refused files are kept for the administrator.
    """

    id: str
    effect: Effect
    ops: Op
    who: Who | None
    paths: tuple[str, ...] | None
    ignore_case: bool
    when: Block | None
    unless: tuple[Block, ...]
    errno: int | None
    redact: frozenset[str]
    content: frozenset[str]
    raw_types: frozenset[str]
    audit: Audit | None
    monitor: bool
    description: str
    where: Where
    quarantine: bool = False

    def audit_or(self, default: Audit) -> Audit:
        """Return the level that the rule sets, or the default if it sets none."""
        return default if self.audit is None else self.audit


class Promise(enum.Enum):
    """The statement that an invariant makes. The values are keys of invariants in the policy language."""

    NEVER = "never"
    ONLY = "only"
    NEVER_RAW = "never_raw"


@dataclass(frozen=True, slots=True)
class Invariant:
    """An invariant: a statement that must hold for every request.

    rule: a deny rule with `mode: monitor`. It matches the requests that must not be allowed. For NEVER_RAW,
    it matches the requests that must not read data of ``words``. line, width: the line of the invariant in
    the policy's text, and the number of characters to mark there in errors.
    """

    id: str
    promise: Promise
    rule: Rule
    words: frozenset[str]
    line: str
    width: int


@dataclass(frozen=True, slots=True)
class ExceptionRule:
    """An exception: an allow rule that ends at a date (exceptions.py).

    rule: the allow rule. Its id begins with ``exception:``; ids of other rules do not. until_ns: the first
    instant at which the exception no longer allows anything, in ns since 1970.
    """

    rule: Rule
    until_ns: int
    reason: str
    approved_by: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy: one file, or all files of a directory merged.

    rules: the rules. in_force() adds the exceptions (allow rules with an end date) that are in force at an
    instant.
    """

    name: str
    description: str
    apps: tuple[App, ...]
    rules: tuple[Rule, ...]
    audit_allowed: Audit
    audit_denied: Audit
    digest: str
    invariants: tuple[Invariant, ...] = ()
    exceptions: tuple[ExceptionRule, ...] = ()
