"""Read a policy, and say which of its rules match a request: true, false or unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from tests.oracle.globs import Glob, matches

OPERATIONS = ("see", "read", "write", "create", "delete", "attr")
UNKNOWN = "?"
"""The owner of a file of which nobody said who owns it."""


class Truth(IntEnum):
    """A value of the logic with three values; `and` is the minimum, `or` the maximum."""

    FALSE = 0
    UNKNOWN = 1
    TRUE = 2


@dataclass(frozen=True)
class Caller:
    """A caller: the app that it is (None for a stranger), its uid, and the grants of the app."""

    app: str | None
    uid: int | None
    grants: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.app or 'stranger'}:{self.uid}"


@dataclass(frozen=True)
class Facts:
    """What is known of a file: its kind (None if unknown), and its owner (an app, "none" or UNKNOWN).

    free_of: words of which a search found no data; None: all, if policyfs can clean files of the kind.
    """

    kind: str | None
    owner: str
    free_of: frozenset[str] | None = None


@dataclass
class Rule:
    """A rule or an exception, with its names of sets replaced by what they stand for."""

    id: str
    effect: str
    values: tuple[str, ...]
    keys: dict[str, Any]
    operations: frozenset[str]
    globs: tuple[str, ...] | None
    when: dict[str, tuple[str, ...]] | None
    unless: list[dict[str, tuple[str, ...]]]
    until: datetime | None = None
    seen: dict[Any, Any] = field(default_factory=dict)

    @property
    def monitor(self) -> bool:
        return self.keys.get("mode") == "monitor"

    @property
    def audit(self) -> str | None:
        return self.keys.get("audit", "required" if self.until else None)

    def match(self, caller: Caller, path: str, facts: Facts) -> Truth:
        """Say whether all conditions of the rule hold, whatever the operation."""
        fixed = self._fixed(caller, path)
        if fixed is None:
            return Truth.FALSE
        when, unless = fixed
        answer = Truth.TRUE if when is None else _block(when, caller, facts)
        for block in unless:
            if answer is Truth.FALSE:
                break
            answer = min(answer, Truth(2 - _block(block, caller, facts)))
        return answer

    def _fixed(self, caller: Caller, path: str) -> tuple[Any, list[Any]] | None:
        """Decide what hangs on caller and path alone: the blocks that are left, or None if one is false."""
        key = caller, path
        if key not in self.seen:
            self.seen[key] = self._fix(caller, path)
        return self.seen[key]  # type: ignore[no-any-return]

    def _fix(self, caller: Caller, path: str) -> tuple[Any, list[Any]] | None:
        if not is_who(self.keys.get("who"), caller):
            return None
        if self.globs is not None and not self._is_path(self.globs, caller, path):
            return None
        if self.when and "path" in self.when and not self._is_path(self.when["path"], caller, path):
            return None
        unless = [
            block
            for block in self.unless
            if "path" not in block or self._is_path(block["path"], caller, path)
        ]
        return self.when, unless

    def _is_path(self, globs: tuple[str, ...], caller: Caller, path: str) -> bool:
        return any(matches(glob, path) for glob in self.written(globs, caller))

    def written(self, globs: tuple[str, ...], caller: Caller) -> list[Glob]:
        """Return globs of the rule as they stand for a caller."""
        fold = self.keys.get("ignore_case") == "true"
        return [
            Glob(text, fold, caller.app, caller.uid)
            if "{app}" in text or "{uid}" in text
            else Glob(text, fold)
            for text in globs
        ]

    def all_globs(self) -> tuple[str, ...]:
        """Return every glob of the rule."""
        blocks = [*([self.when] if self.when else []), *self.unless]
        return tuple(
            dict.fromkeys(
                [*(self.globs or ()), *(glob for block in blocks for glob in block.get("path", ()))]
            )
        )


def _block(block: dict[str, tuple[str, ...]], caller: Caller, facts: Facts) -> Truth:
    """Evaluate the conditions of a block on type and owner; its paths are true."""
    answer = Truth.TRUE
    if "type" in block:
        answer = min(answer, is_type(block["type"], facts.kind))
    if "owner" in block:
        answer = min(answer, _is_owner(block["owner"], caller, facts.owner))
    return answer


def is_kind(patterns: tuple[str, ...], kind: str) -> bool:
    """Say whether a known kind is one of these."""
    return any(kind == one or (one.endswith("/*") and kind.startswith(one[:-1])) for one in patterns)


def is_type(patterns: tuple[str, ...], kind: str | None) -> Truth:
    if kind is None:
        return Truth.FALSE if set(patterns) <= {"inode/directory", "inode/symlink"} else Truth.UNKNOWN
    return Truth.TRUE if is_kind(patterns, kind) else Truth.FALSE


def _is_owner(owners: tuple[str, ...], caller: Caller, owner: str) -> Truth:
    wanted = {caller.app if one == "self" else one for one in owners} - {None}
    if not wanted:
        return Truth.FALSE
    if owner == UNKNOWN:
        return Truth.UNKNOWN
    return Truth.TRUE if owner in wanted else Truth.FALSE


def is_who(who: dict[str, Any] | None, caller: Caller) -> bool:
    """Say whether a caller matches `who`."""
    if who is None:
        return True
    return all(_is_who_key(key, who[key], caller) for key in who)


def _is_who_key(key: str, value: Any, caller: Caller) -> bool:
    if key == "not":
        return not is_who(value, caller)
    if key == "app":
        return any(
            one == caller.app
            or (one == "any" and caller.app is not None)
            or (one == "stranger" and caller.app is None)
            for one in listed(value)
        )
    if key == "grant":
        return bool(caller.grants & set(listed(value)))
    return caller.uid is not None and any(caller.uid in uids for uids in map(uid_range, listed(value)))


def listed(value: Any) -> list[Any]:
    """Return a list for a value that may stand alone."""
    return value if isinstance(value, list) else [value]


def uid_range(text: str) -> range:
    """Return the uids that a number or range stands for."""
    first, _, last = text.partition("-")
    return range(int(first, 0), int(last or first, 0) + 1)


@dataclass
class Policy:
    """A policy: its apps, the rules in force at a time, and its defaults of recording."""

    apps: dict[str, dict[str, Any]]
    rules: list[Rule]
    audit: str
    audit_denied: str

    def caller(self, app: str | None = None, uid: int | None = None) -> Caller:
        """Return the caller of an app mount (by the app), or of a shared mount (by the uid)."""
        if app is None and uid is not None:
            app = next((name for name in self.apps if any(uid in uids for uids in self.uids(name))), None)
        grants = (
            frozenset(listed((self.apps[app] or {}).get("grants", []))) if app is not None else frozenset()
        )
        return Caller(app, uid, grants)

    def uids(self, app: str) -> list[range]:
        """Return the uids of an app."""
        return [uid_range(one) for one in listed((self.apps[app] or {}).get("uid", []))]


def read_policy(text: str, at: datetime | None = None) -> Policy:
    """Read a policy without mistakes. at: exceptions count until their end; None: no exception counts."""
    document = _plain(YAML(pure=True).compose(text))
    sets = {f"@{name}": listed(value) for name, value in document.get("sets", {}).items()}
    path_sets = {f"@{name}": listed(value) for name, value in document.get("path_sets", {}).items()}
    rules = [_rule(keys, sets, path_sets) for keys in document["rules"]]
    for keys in document.get("exceptions", []):
        rule = _rule({**keys, "id": f"exception:{keys['id']}"}, sets, path_sets)
        rule.until = datetime.fromisoformat(keys["until"])
        if at is not None and at < rule.until:
            rules.append(rule)
    defaults = document.get("defaults", {})
    return Policy(
        {name: (keys if isinstance(keys, dict) else {}) for name, keys in document.get("apps", {}).items()},
        rules,
        defaults.get("audit", "best_effort"),
        defaults.get("audit_denied", "required"),
    )


def _plain(node: Node) -> Any:
    """Return the mappings, lists and texts of a document; `off`, `no` and numbers stay texts."""
    if isinstance(node, MappingNode):
        return {key.value: _plain(value) for key, value in node.value}
    return [_plain(one) for one in node.value] if isinstance(node, SequenceNode) else node.value


def _rule(keys: dict[str, Any], sets: dict[str, list[str]], path_sets: dict[str, list[str]]) -> Rule:
    def kinds(value: Any) -> tuple[str, ...]:
        return tuple(kind for one in listed(value) for kind in sets.get(one, [one]))

    def globs(value: Any) -> tuple[str, ...]:
        return tuple(glob for one in listed(value) for glob in path_sets.get(one, [one]))

    def block(value: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        convert = {"type": kinds, "path": globs, "owner": lambda one: tuple(listed(one))}
        return {key: convert[key](value[key]) for key in value}

    effect = next(key for key in ("allow", "deny", "require") if key in keys)
    values = keys[effect]
    if effect == "require":
        effect, values = next(iter(values.items()))
        operations = frozenset({"read"} if effect == "redact" else {"write"})
    else:
        values = OPERATIONS if "all" in listed(values) else values
        operations = frozenset(listed(list(values) if isinstance(values, tuple) else values))
    return Rule(
        keys["id"],
        effect,
        kinds(values)
        if effect == "content"
        else tuple(listed(list(values) if isinstance(values, tuple) else values)),
        {**keys, "raw_types": kinds(keys.get("raw_types", []))},
        operations,
        globs(keys["paths"]) if "paths" in keys else None,
        block(keys["when"]) if "when" in keys else None,
        [block(one) for one in listed(keys.get("unless", []))],
    )
