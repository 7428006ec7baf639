"""A policy as frozen values: what parsing yields and compiling reads.

Nothing here validates: parse.py does, once, and whatever exists as a ``Policy`` is sound:
names are declared, sets are expanded, globs parse, numbers are in range. What the fields mean
is docs/policy-language.md.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from policyfs.domain import Audit, Op

UidRange = tuple[int, int]
"""Uids from the first to the last, both included."""

ANY: Final = "any"
"""In ``who.app``: every app that the policy lists."""

STRANGER: Final = "stranger"
"""In ``who.app``: a caller that is no app."""

SELF: Final = "self"
"""In ``owner``: the app that asks."""


class Modes(enum.Enum):
    """Where the owner, group and mode come from that an app is shown: from the store, or from the policy."""

    STORE = "store"
    POLICY = "policy"


class Effect(enum.Enum):
    """What a rule does to a request that it matches."""

    ALLOW = "allow"
    DENY = "deny"
    REDACT = "redact"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a policy's source text: file name as given, line and column from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class App:
    """A principal. uids: none where the app exists only through an app mount.

    gids: the primary groups of which an app mount admits one, none for the default. modes: None where
    the policy does not say, so that the mount does.
    """

    name: str
    uids: tuple[UidRange, ...]
    gids: tuple[int, ...]
    grants: frozenset[str]
    description: str
    modes: Modes | None = None


@dataclass(frozen=True, slots=True)
class Who:
    """Which callers a rule means; None in a field: the key is absent and asks nothing.

    apps may hold ``any`` and ``stranger`` besides the names of apps. Within a field any
    member will do, all fields together must hold, and the block ``not_`` must not.
    """

    apps: frozenset[str] | None
    grants: frozenset[str] | None
    uids: tuple[UidRange, ...] | None
    not_: Who | None


@dataclass(frozen=True, slots=True)
class Block:
    """One ``when`` or ``unless`` block; all fields that are not None must hold.

    kinds: MIME types or ``type/*``, sets expanded. owners: ``self``, ``none``, names of apps.
    paths: globs as text, path sets expanded.
    """

    kinds: frozenset[str] | None
    owners: frozenset[str] | None
    paths: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Fields that the rule's effect has no use for are empty.

    ops: the operations it touches; ``READ`` for REDACT, ``WRITE | CREATE`` for CONTENT (CREATE
    stands for the new path of rename and link only: an empty new file holds nothing to check).
    paths: globs as text, path sets expanded; None: every path. unless: any block spares.
    errno: of a deny, None for the default. redact, raw_types: of REDACT; content: of CONTENT.
    audit: None where the rule does not say. monitor: recorded only, never enforced. quarantine: of CONTENT,
    what is refused is kept for the administrator.
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


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy, of one file or of a directory's files merged.

    digest: SHA-256 in hex of the source texts (parse.py, ``digest_of``).
    """

    name: str
    description: str
    apps: tuple[App, ...]
    rules: tuple[Rule, ...]
    audit_allowed: Audit
    audit_denied: Audit
    digest: str
