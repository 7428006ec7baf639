"""Draw policies with all keys of the language, and questions about them."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.oracle.decide import DIRECTORY
from tests.oracle.globs import names_of
from tests.oracle.language import OPERATIONS, UNKNOWN, Facts, Policy
from tests.oracle.moves import CLEANABLE, WORDS, Move

NOW = datetime(2026, 11, 27, tzinfo=UTC)
OTHERS = ("text/plain", "application/zip", "text/csv", "inode/x-empty")
KINDS = (*CLEANABLE, *OTHERS)
NAMES = (
    "a",
    "b",
    "c",
    "A",
    "a.jpg",
    "B.JPG",
    ".h",
    "ä",
    "a*",
    "1000",
    "1005",
    "cam",
    "CAM",
    "gal",
    "n\udcff",
    "x y",
)
PIECES = (
    "a",
    "b",
    "c",
    "ä",
    "*",
    "?",
    "*.jpg",
    ".*",
    "{a,b}",
    "{a,b{,c}}",
    "{app}",
    "{uid}",
    "x{app}",
    "?*",
    "a*",
    r"a\*",
    "1005",
)


def _list(rng: random.Random, values: tuple[str, ...], most: int = 3) -> Any:
    """Draw a list of one to `most` of the values, or one value alone."""
    found = rng.sample(values, rng.randint(1, min(most, len(values))))
    return found[0] if len(found) == 1 and rng.random() < 0.5 else found


def glob(rng: random.Random) -> str:
    """Draw a glob."""
    if rng.random() < 0.03:
        return "/"
    pieces = [("**" if rng.random() < 0.12 else rng.choice(PIECES)) for _ in range(rng.randint(0, 2))]
    pieces.append(
        rng.choice(("**", "***", *PIECES[:8], rng.choice(PIECES)))
        if rng.random() < 0.7 or not pieces
        else rng.choice(PIECES)
    )
    return "/" + "/".join(pieces)


class Draw:
    """Draws one policy, as a document; `text` is its YAML."""

    def __init__(self, rng: random.Random, *, moves: bool = False) -> None:
        self.rng = rng
        self.apps = rng.sample(("cam", "gal", "map", "bak"), rng.randint(1, 3))
        self.grants: dict[str, list[str]] = {}
        self.document: dict[str, Any] = {"apiVersion": "policyfs/v1", "kind": "Policy"}
        if rng.random() < 0.3:
            self.document["metadata"] = {"name": "drawn", "description": "by chance"}
        self.document["apps"] = {
            name: self._app(name, 1000 + 10 * number) for number, name in enumerate(self.apps)
        }
        self.held = dict(self.grants)
        self.sets = {}
        self.path_sets = {}
        if rng.random() < 0.5:
            self.sets["photos"] = _list(rng, CLEANABLE)
            self.sets["odd"] = _list(rng, OTHERS)
        if rng.random() < 0.4:
            self.path_sets["places"] = [glob(rng) for _ in range(rng.randint(1, 3))]
        if self.sets:
            self.document["sets"] = self.sets
        if self.path_sets:
            self.document["path_sets"] = self.path_sets
        if rng.random() < 0.4:
            keys = rng.sample(("audit", "audit_denied"), rng.randint(1, 2))
            self.document["defaults"] = {key: rng.choice(("off", "best_effort", "required")) for key in keys}
        count = rng.choice((1, 2, 3, 4, 5, 6, 7, 9))
        self.document["rules"] = [self._rule(f"r{number}") for number in range(count)]
        if moves or rng.random() < 0.6:
            # without a wide rule most answers would be ENOENT, and most moves denied
            wide = {
                "id": "wide",
                "allow": ["all"] if moves else rng.choice((["all"], ["see", "read"], ["see"])),
            }
            self.document["rules"].insert(0, wide | ({"paths": "/**"} if rng.random() < 0.5 else {}))
        if rng.random() < 0.3:
            self.document["exceptions"] = [
                self._exception(f"r{number}") for number in range(rng.randint(1, 2))
            ]

    @property
    def text(self) -> str:
        """The policy as YAML (each JSON text is one)."""
        return json.dumps(self.document, ensure_ascii=False, indent=1)

    def changed(self) -> dict[str, Any]:
        """Return the document of this policy with one to three changes."""
        rng, document = self.rng, copy.deepcopy(self.document)
        rules = document["rules"]
        for number in range(rng.randint(1, 3)):
            change = rng.choice(("remove", "add", "replace", "key", "app", "defaults"))
            if change == "add":
                rules.append(self._rule(f"n{number}"))
            elif change == "app":
                name = rng.choice(self.apps)
                document["apps"][name] = self._app(name, 1000 + 10 * self.apps.index(name))
                document["apps"][name]["grants"] = self.grants[name] = self.held[name]
            elif change == "defaults":
                document["defaults"] = {"audit": "off"}
            elif rules:
                at = rng.randrange(len(rules))
                if change == "remove":
                    del rules[at]
                elif change == "replace":
                    rules[at] = self._rule(rules[at]["id"])
                else:
                    rules[at] |= self._conditions()
        return document

    def _app(self, name: str, uid: int) -> dict[str, Any]:
        rng = self.rng
        self.grants[name] = rng.sample(["places", "manage"], rng.randint(0, 2))
        choices: tuple[Any, ...] = (uid, f"{uid}-{uid + 7}", [uid, f"{uid + 4}-{uid + 6}"], None)
        uids = rng.choice(choices)
        keys: dict[str, Any] = {} if uids is None else {"uid": uids}
        if self.grants[name] or rng.random() < 0.3:
            keys["grants"] = self.grants[name]
        if rng.random() < 0.1:
            keys |= {"gid": 100, "description": "an app", "modes": rng.choice(("policy", "store"))}
        return keys

    def _who(self, negated: bool = False) -> dict[str, Any]:
        rng = self.rng
        held = tuple(sorted({grant for grants in self.grants.values() for grant in grants}))
        keys: dict[str, Any] = {}
        if rng.random() < 0.65:
            keys["app"] = _list(rng, (*self.apps, "any", "stranger"))
        if held and rng.random() < 0.25:
            keys["grant"] = _list(rng, held)
        if rng.random() < 0.15:
            keys["uid"] = rng.choice((1000, "1000-1005", ["1010-1013", 1024], 0, "1002-4000", 77))
        if not negated and (not keys or rng.random() < 0.15):
            keys["not"] = self._who(negated=True)
        return keys or {"app": rng.choice(self.apps)}

    def _kinds(self) -> Any:
        rng = self.rng
        if self.sets and rng.random() < 0.25:
            return rng.choice(("@photos", ["@odd", "image/png"], ["@photos", "@odd"]))
        return _list(rng, (*KINDS, "image/*", "video/*", "inode/directory", "inode/symlink", "inode/*"))

    def _paths(self) -> Any:
        rng = self.rng
        if self.path_sets and rng.random() < 0.2:
            return rng.choice(("@places", ["@places", glob(rng)]))
        found = [glob(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        found = list(dict.fromkeys(found))
        return found[0] if len(found) == 1 and rng.random() < 0.5 else found

    def _block(self) -> dict[str, Any]:
        rng = self.rng
        keys: dict[str, Any] = {}
        if rng.random() < 0.45:
            keys["type"] = self._kinds()
        if rng.random() < 0.45:
            keys["owner"] = _list(rng, ("self", "none", *self.apps))
        if rng.random() < 0.25 or not keys:
            keys["path"] = self._paths()
        return keys

    def _conditions(self) -> dict[str, Any]:
        rng = self.rng
        keys: dict[str, Any] = {}
        if rng.random() < 0.6:
            keys["who"] = self._who()
        if rng.random() < 0.85:
            keys["paths"] = self._paths()
        if rng.random() < 0.25:
            keys["when"] = self._block()
        if rng.random() < 0.2:
            blocks = [self._block() for _ in range(rng.randint(1, 2))]
            keys["unless"] = blocks[0] if len(blocks) == 1 and rng.random() < 0.5 else blocks
        if rng.random() < 0.1 and ("paths" in keys or "path" in json.dumps(keys)):
            keys["ignore_case"] = rng.choice((True, True, False))
        if rng.random() < 0.3:
            keys["audit"] = rng.choice(("off", "best_effort", "required"))
        if rng.random() < 0.05:
            keys["description"] = "drawn"
        return keys

    def _operations(self) -> Any:
        rng = self.rng
        if rng.random() < 0.2:
            return ["all"]
        found = rng.sample(OPERATIONS, rng.randint(1, 5))
        return found[0] if len(found) == 1 and rng.random() < 0.5 else found

    def _rule(self, name: str) -> dict[str, Any]:
        rng = self.rng
        keys: dict[str, Any] = {"id": name}
        effect = rng.choices(("allow", "deny", "redact", "content", "no", "clean"), (10, 5, 3, 2, 1, 1))[0]
        if effect in ("allow", "deny"):
            keys[effect] = self._operations()
            if effect == "allow" and rng.random() < 0.4:
                keys[effect] = sorted(
                    {"see", "read", *(keys[effect] if isinstance(keys[effect], list) else [keys[effect]])}
                    - {"all"}
                )
            if effect == "deny" and rng.random() < 0.35:
                sees = "see" in keys[effect] or "all" in keys[effect]
                keys["errno"] = "ENOENT" if sees else rng.choice(("ENOENT", "EACCES", "EPERM", "EROFS"))
        else:
            keys["require"] = {effect: self._kinds() if effect == "content" else _list(rng, WORDS)}
            if effect != "content" and rng.random() < 0.3:
                keys["raw_types"] = "@odd" if self.sets and rng.random() < 0.3 else _list(rng, OTHERS)
            if effect in ("redact", "no") and rng.random() < 0.3:
                keys["on_unknown"] = rng.choice(("deny", "zero" if effect == "redact" else "allow"))
            if effect != "redact" and rng.random() < 0.3:
                keys["on_refused"] = rng.choice(("drop", "quarantine"))
        if effect in ("allow", "deny", "content") and rng.random() < 0.15:
            keys["mode"] = "monitor"
        return {**keys, **self._conditions()}

    def _exception(self, name: str) -> dict[str, Any]:
        until = NOW + timedelta(days=self.rng.choice((-1, 1, 30)))
        ends = until.strftime(self.rng.choice(("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M+00:00")))
        return {
            "id": name,
            "allow": self._operations(),
            "until": ends,
            "reason": "a party",
            "approved-by": "Ann",
            **self._conditions(),
        }


@dataclass(frozen=True)
class Question:
    """A question: who asks (by the app of an app mount, or else by the uid), what, where, of which file."""

    app: str | None
    uid: int
    operation: str
    path: str
    facts: Facts
    above: tuple[str, ...]


def path(rng: random.Random, policy: Policy) -> str:
    """Draw a path, half of the time one that is like a glob of the policy."""
    globs = [one for rule in policy.rules for one in rule.all_globs()]
    if globs and rng.random() < 0.6:
        names = []
        for piece in names_of(rng.choice(globs)):
            if piece in ("**", "***"):
                names += [rng.choice(NAMES) for _ in range(rng.randint(0, 2))]
            elif any(char in piece for char in "*?{\\"):
                names.append(rng.choice(NAMES))
            else:
                names.append(piece)
        names = names[: rng.randint(max(1, len(names) - 1), len(names) + 1)] if names else names
        if rng.random() < 0.2:
            names.append(rng.choice(NAMES))
    else:
        names = [rng.choice(NAMES) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))]
    return "/" + "/".join(names)


def facts(rng: random.Random, policy: Policy, kinds: list[str]) -> Facts:
    """Draw the facts of a file."""
    kind = rng.choice((None, DIRECTORY, DIRECTORY, "inode/symlink", *KINDS, *kinds))
    return Facts(kind, rng.choice(("none", "none", "former", UNKNOWN, *policy.apps)))


def who(rng: random.Random, policy: Policy) -> tuple[str | None, int]:
    """Draw a caller of an app mount (app and uid) or of a shared mount (uid alone)."""
    uid = rng.choice((0, 77, 1000, 1002, 1005, 1010, 1013, 1014, 1020, 1024, 5000))
    if rng.random() < 0.4:
        return rng.choice(list(policy.apps)), uid
    return None, uid


def question(rng: random.Random, policy: Policy, kinds: list[str]) -> Question:
    """Draw a question."""
    app, uid = who(rng, policy)
    where = path(rng, policy)
    of = facts(rng, policy, kinds)
    if where == "/":
        of = Facts(DIRECTORY, of.owner)
    operation = rng.choice(("see", "see", *OPERATIONS, "read write", "write create", "write delete attr"))
    if "read" in operation and of.kind in (DIRECTORY, "inode/symlink"):
        operation = "see"
    if rng.random() < 0.3:
        above = tuple(rng.choice(("none", "former", UNKNOWN, *policy.apps)) for _ in names_of(where)[:-1])
    else:
        above = tuple("none" for _ in names_of(where)[:-1])
    return Question(app, uid, operation, where, of, above)


UIDS = (0, 77, 1000, 1002, 1005, 1007, 1010, 1013, 1014, 1017, 1020, 1024, 1027, 5000)
"""A uid of each sort that rules and apps tell apart."""


def move(rng: random.Random, policy: Policy, kinds: list[str]) -> Move | None:
    """Draw a rename or link; None if one path is above the other."""
    app, uid = who(rng, policy)
    old, new = path(rng, policy), path(rng, policy)
    if rng.random() < 0.4:
        new = old.rsplit("/", 1)[0] + "/" + rng.choice(NAMES)
    is_link, of = rng.random() < 0.3, facts(rng, policy, kinds)
    if of.kind == DIRECTORY and (is_link or rng.random() < 0.5):
        of = Facts("image/jpeg", of.owner)
    if "/" in (old, new) or f"{new}/".startswith(f"{old}/") or f"{old}/".startswith(f"{new}/"):
        return None
    return Move(policy.caller(app, uid), old, new, of, is_link)
