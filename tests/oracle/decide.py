"""Answer requests by the text of docs/policy-language.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.oracle.globs import FRESH, Glob, State, is_match, live, names_of, sample_names, start, step
from tests.oracle.language import UNKNOWN, Caller, Facts, Policy, Rule, Truth, is_kind

ERRNOS = ("ENOENT", "EACCES", "EPERM", "EROFS")
LEVELS = ("off", "best_effort", "required")
DIRECTORY = "inode/directory"
NO_ALLOW = "(no rule allows it)"
"""What a mount with --monitor records of a request that no rule allows."""


@dataclass(frozen=True)
class Requirement:
    """What a written file must meet by one rule."""

    effect: str
    values: frozenset[str]
    raw_types: frozenset[str] = frozenset()
    strict: bool = False


@dataclass(frozen=True)
class Answer:
    """The answer to one request, with all that the language says of it."""

    errno: str | None
    bare: bool = False
    redact: frozenset[str] = frozenset()
    strict: bool = False
    checks: frozenset[Requirement] = frozenset()
    quarantine: bool = False
    audit: str = ""
    audit_keys: str | None = None
    would_deny: frozenset[str] = frozenset()
    would_allow: frozenset[str] = frozenset()


class Oracle:
    """Answers by one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.kinds = self._kinds()
        self.owners = ["none", "former", *policy.apps]
        self._below: dict[object, bool] = {}
        self._globs: dict[Caller, tuple[Glob, ...]] = {}
        self._visible: dict[object, bool] = {}
        self._matching: dict[object, list[Rule]] = {}
        self._hiding: dict[object, list[Rule]] = {}
        self._views: dict[object, str] = {}
        self._writers: dict[object, bool] = {}

    def _kinds(self) -> list[str]:
        """Collect one kind for each set of conditions on the kind that some file meets."""
        named = {"inode/directory", "inode/symlink", "inode/x-empty", "application/x-other"}
        for rule in self.policy.rules:
            lists = [
                rule.keys["raw_types"],
                *(block.get("type", ()) for block in [rule.when or {}, *rule.unless]),
            ]
            for kind in [one for kinds in lists for one in kinds]:
                named.add(kind.replace("*", "x-other"))
        return sorted(named)

    # Rules

    def matching(self, caller: Caller, path: str, facts: Facts, *operations: str) -> list[Rule]:
        """Return the rules that match; an unknown match counts for deny and require, and not for allow."""
        key = caller, path, facts
        if key not in self._matching:
            self._matching[key] = [
                rule
                for rule in self.policy.rules
                for truth in [rule.match(caller, path, facts)]
                if truth is Truth.TRUE or (truth is Truth.UNKNOWN and rule.effect != "allow")
            ]
        return [rule for rule in self._matching[key] if not rule.operations.isdisjoint(operations)]

    def denying(self, caller: Caller, path: str, facts: Facts, operation: str) -> list[Rule]:
        """Return the rules in force that deny an operation."""
        return [
            rule
            for rule in self.matching(caller, path, facts, operation)
            if rule.effect == "deny" and not rule.monitor
        ]

    def is_allowed(self, caller: Caller, path: str, facts: Facts, operation: str) -> bool:
        """Say whether a rule allows the operation, whatever others deny."""
        return any(
            rule.effect == "allow" and not rule.monitor
            for rule in self.matching(caller, path, facts, operation)
        )

    def facts(self) -> Iterator[Facts]:
        """Iterate over all facts that a file may have."""
        return (Facts(kind, owner) for owner in self.owners for kind in [*self.kinds, None])

    # Seeing

    def hiding(self, caller: Caller, path: str, above: tuple[str, ...]) -> list[Rule]:
        """Return the rules that hide a directory above the path, but the root; `above`: their owners."""
        names = names_of(path)
        key = caller, tuple(names[:-1]), above
        if key in self._hiding:
            return self._hiding[key]
        found = self._hiding[key] = []
        for depth in range(1, len(names)):
            directory = "/" + "/".join(names[:depth])
            found += self.denying(caller, directory, Facts(DIRECTORY, above[depth - 1]), "see")
        return found

    def sees(self, caller: Caller, path: str, facts: Facts, hiding: list[Rule]) -> str | None:
        """Say how the caller sees a path: "allowed", "bare", or None. hiding: see hiding()."""
        if hiding:
            return None
        denied = self.denying(caller, path, facts, "see")
        if not denied and self.is_allowed(caller, path, facts, "see"):
            return "allowed"
        if path == "/" or (facts.kind == DIRECTORY and not denied and self.shows_below(caller, path)):
            return "bare"
        return None

    def globs(self, caller: Caller) -> tuple[Glob, ...]:
        if caller not in self._globs:
            self._globs[caller] = tuple(
                dict.fromkeys(
                    glob for rule in self.policy.rules for glob in rule.written(rule.all_globs(), caller)
                )
            )
        return self._globs[caller]

    def state(self, caller: Caller, path: str) -> tuple[State, ...]:
        states = tuple(start(glob) for glob in self.globs(caller))
        for name in names_of(path):
            states = self.after(caller, states, name)
        return states

    def after(self, caller: Caller, states: tuple[State, ...], name: str) -> tuple[State, ...]:
        return tuple(step(glob, state, name) for glob, state in zip(self.globs(caller), states, strict=True))

    def next_names(self, caller: Caller, states: tuple[State, ...]) -> tuple[str, ...]:
        return sample_names(live(self.globs(caller), states)) or (FRESH,)

    def shows_below(self, caller: Caller, path: str) -> bool:
        """Say whether the caller could see some file below a directory, and the directories on the way."""
        first = self.state(caller, path)
        if (caller, first) in self._below:
            return self._below[caller, first]
        seen, todo, found = set(), [(first, path.rstrip("/"))], False
        for states, directory in todo:
            for name in self.next_names(caller, states):
                below = self.after(caller, states, name)
                if below in seen:
                    continue
                seen.add(below)
                file = f"{directory}/{name}"
                if self._could_see(caller, file, below):
                    found = True
                    break
                if any(
                    not self.denying(caller, file, Facts(DIRECTORY, owner), "see") for owner in self.owners
                ):
                    todo.append((below, file))
            if found:
                break
        self._below[caller, first] = found
        return found

    def _could_see(self, caller: Caller, path: str, states: tuple[State, ...]) -> bool:
        if (caller, states) not in self._visible:
            self._visible[caller, states] = any(
                self.is_allowed(caller, path, facts, "see") and not self.denying(caller, path, facts, "see")
                for facts in self.facts()
            )
        return self._visible[caller, states]

    # Decisions

    def decide(
        self,
        caller: Caller,
        operations: str,
        path: str,
        facts: Facts,
        above: tuple[str, ...] = (),
        *,
        monitor: bool = False,
    ) -> Answer:
        """Answer a request that needs some operations, such as "read" or "read write". above: the owners of
        the directories above the path, from the top. monitor: the mount has --monitor."""
        above = above or ("none",) * len(names_of(path))
        needed = tuple(dict.fromkeys(("see", *operations.split())))
        rules = self.matching(caller, path, facts, *needed)
        watched = [rule for rule in rules if rule.monitor]
        hiding = self.hiding(caller, path, above)
        if monitor and caller.app:
            # a hidden directory is on record where its path, and not its owner, decides
            hidings = [self.hiding(caller, path, (owner,) * len(above)) for owner in [*self.owners, UNKNOWN]]
            hiding = [rule for rule in hiding if all(rule in others for others in hidings)]
        would_deny = frozenset(rule.id for rule in watched if rule.effect == "deny")
        would_allow = frozenset(rule.id for rule in watched if rule.effect == "allow")
        sight = self.sees(caller, path, facts, hiding)
        errno = self._errno(caller, needed[1:], path, facts) if sight else "ENOENT"
        if errno and not (monitor and caller.app):
            if hiding:
                would_deny = would_allow = frozenset()
            level = self._denial_level(caller, needed, path, facts, hiding, sight)
            return Answer(
                errno,
                audit=_recorded(level, would_deny | would_allow),
                audit_keys=level,
                would_deny=would_deny,
                would_allow=would_allow,
            )
        if errno:
            would_deny |= self._dry(caller, needed, path, facts, hiding, sight)
        redacting = self.redacting(caller, path, facts) if "read" in needed else []
        checking = [rule for rule in rules if rule.effect in ("content", "no", "clean")]
        if not self.could_write(caller, path, monitor=monitor):
            rules = [rule for rule in rules if rule not in checking]
            checking = []
        keys = max(self._levels(rules + hiding, redacting), key=LEVELS.index, default=None)
        level = keys or self.policy.audit
        checking = [rule for rule in checking if not rule.monitor]
        return Answer(
            None,
            bare=sight == "bare",
            redact=frozenset(word for rule in redacting for word in rule.values),
            strict=any(rule.keys.get("on_unknown") == "deny" for rule in redacting),
            checks=frozenset(map(requirement, checking)),
            quarantine=any(rule.keys.get("on_refused") == "quarantine" for rule in checking),
            audit=_recorded(level, would_deny | would_allow),
            audit_keys=keys,
            would_deny=would_deny,
            would_allow=would_allow,
        )

    def _errno(self, caller: Caller, needed: tuple[str, ...], path: str, facts: Facts) -> str | None:
        """Return the errno of the denials, without that of `see`: the one that says least."""
        codes = []
        for operation in needed:
            denying = self.denying(caller, path, facts, operation)
            codes += [rule.keys.get("errno", "EACCES") for rule in denying]
            if not denying and not self.is_allowed(caller, path, facts, operation):
                codes.append("EACCES")
        return min(codes, key=ERRNOS.index, default=None)

    def _dry(
        self,
        caller: Caller,
        needed: tuple[str, ...],
        path: str,
        facts: Facts,
        hiding: list[Rule],
        sight: str | None,
    ) -> frozenset[str]:
        """Return what a mount with --monitor records of a denial: rules, or that no rule allows it."""
        found = {rule.id for rule in hiding}
        lacking = not sight and not hiding and not self.denying(caller, path, facts, "see")
        for operation in needed:
            denying = self.denying(caller, path, facts, operation)
            found |= {rule.id for rule in denying}
            lacking |= (
                operation != "see" and not denying and not self.is_allowed(caller, path, facts, operation)
            )
        return frozenset(found | ({NO_ALLOW} if lacking else set()))

    def _denial_level(
        self,
        caller: Caller,
        needed: tuple[str, ...],
        path: str,
        facts: Facts,
        hiding: list[Rule],
        sight: str | None,
    ) -> str:
        default = self.policy.audit_denied
        if hiding:
            return max((rule.audit or default for rule in hiding), key=LEVELS.index)
        levels = []
        for operation in needed:
            if operation == "see" and sight:
                continue  # the root is seen in spite of rules
            denying = self.denying(caller, path, facts, operation)
            levels += [rule.audit or default for rule in denying]
            if not denying and not self.is_allowed(caller, path, facts, operation):
                levels.append(default)
        return max(levels, key=LEVELS.index)

    def _levels(self, rules: list[Rule], redacting: list[Rule]) -> list[str]:
        levels = [rule.audit for rule in rules if rule.audit]
        if redacting:
            levels += [rule.audit or self.policy.audit_denied for rule in redacting]
        return levels

    def required(self, caller: Caller, path: str, facts: Facts) -> frozenset[Requirement]:
        """Return what the caller's files must meet at the path."""
        if not self.could_write(caller, path):
            return frozenset()
        rules = self.matching(caller, path, facts, "write")
        return frozenset(
            requirement(rule)
            for rule in rules
            if rule.effect in ("content", "no", "clean") and not rule.monitor
        )

    def bans(self, caller: Caller, path: str, facts: Facts) -> bool:
        """Say whether a rule keeps the caller from setting user.* attributes."""
        rules = self.matching(caller, path, facts, "write")
        return any(rule.effect in ("no", "clean") for rule in rules)

    def view(self, caller: Caller, path: str, *, monitor: bool = False) -> str:
        """Say in which form the caller sees the bytes of a regular file, whatever its facts are now."""
        key = caller, path, monitor
        if key not in self._views:
            could = {
                rule.effect
                for rule in self.policy.rules
                if self._could_match(rule, caller, path, regular=True)
            }
            checked = could & {"content", "no", "clean"} and self.could_write(caller, path, monitor=monitor)
            parts = (["checked"] if checked else []) + (["redacted"] if "redact" in could else [])
            self._views[key] = "+".join(parts) or "raw"
        return self._views[key]

    def _could_match(self, rule: Rule, caller: Caller, path: str, *, regular: bool = False) -> bool:
        owners = [*self.owners, UNKNOWN]
        kinds = [
            None,
            *(kind for kind in self.kinds if not regular or kind not in (DIRECTORY, "inode/symlink")),
        ]
        truths = (rule.match(caller, path, Facts(kind, owner)) for kind in kinds for owner in owners)
        return any(
            truth is Truth.TRUE or (truth is Truth.UNKNOWN and rule.effect != "allow") for truth in truths
        )

    def redacting(self, caller: Caller, path: str, facts: Facts) -> list[Rule]:
        """Return the rules that redact, if the file may be read."""
        rules = [rule for rule in self.matching(caller, path, facts, "read") if rule.effect == "redact"]
        raw = facts.kind and all(is_kind(rule.keys["raw_types"], facts.kind) for rule in rules)
        return [] if raw else rules

    def could_write(self, caller: Caller, path: str, *, monitor: bool = False) -> bool:
        """Say whether some rule could allow the caller to write or create regular files at the path."""
        if monitor and caller.app is not None:
            return True
        key = caller, path
        if key not in self._writers:
            self._writers[key] = any(
                rule.effect == "allow"
                and not rule.monitor
                and not rule.operations.isdisjoint({"write", "create"})
                and self._could_match(rule, caller, path, regular=True)
                for rule in self.policy.rules
            )
        return self._writers[key]


def _recorded(level: str, watched: frozenset[str]) -> str:
    """Return the level of a decision that a rule in monitor mode would change: never off."""
    return "best_effort" if level == "off" and watched else level


def requirement(rule: Rule) -> Requirement:
    """Return what a rule with content, no or clean asks of a file."""
    return Requirement(
        rule.effect,
        frozenset(rule.values),
        frozenset(rule.keys["raw_types"]),
        rule.keys.get("on_unknown") == "deny",
    )


__all__ = ["Answer", "Oracle", "Requirement", "is_match", "requirement"]
