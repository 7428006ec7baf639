"""Answer renames and links by the text of docs/policy-language.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.oracle.decide import DIRECTORY, ERRNOS, Answer, Oracle, Requirement
from tests.oracle.globs import FRESH, live, names_of, sample_names
from tests.oracle.language import OPERATIONS, UNKNOWN, Caller, Facts, Policy, Truth, is_kind, is_who

WORDS = ("location", "device", "time", "people", "all-metadata")
CLEANABLE = ("image/jpeg", "image/png", "video/mp4", "application/pdf")
"""Kinds of drawn files that policyfs can clean."""

MAX_PAIRS = 120
"""Pairs of paths that are compared for the rename of a directory."""


def _fits(check: Requirement, facts: Facts) -> bool:
    """Say whether a file meets a requirement as it is."""
    kind = facts.kind
    if kind in (DIRECTORY, "inode/symlink", "inode/x-empty"):
        return True
    if check.effect == "content":
        return kind is not None and is_kind(tuple(check.values), kind)
    if kind is not None and is_kind(tuple(check.raw_types), kind):
        return True
    if check.effect == "clean":
        return False  # nobody knows that it is clean already
    if facts.free_of is None:
        return kind in CLEANABLE
    return check.values | ({"on_unknown: deny"} if check.strict else set()) <= facts.free_of


def _fits_copy(check: Requirement, mine: frozenset[Requirement]) -> bool:
    """Say whether a copy would meet a requirement, because the copy is cleaned."""
    cleaned = {word for one in mine if one.effect == "clean" for word in one.values}
    return check.effect == "clean" or (check.effect == "no" and not check.strict and check.values <= cleaned)


def _compared(answer: Answer) -> tuple[object, ...]:
    """Return what must be the same where a directory was and where it goes."""
    return answer.errno, answer.bare, answer.redact, answer.strict, answer.checks, answer.audit_keys


class TooLargeError(Exception):
    """The rules tell so many paths below a directory apart that the oracle does not compare them."""


@dataclass(frozen=True)
class Move:
    """A rename or link of a file (or directory) to a name that is free."""

    caller: Caller
    old: str
    new: str
    facts: Facts
    is_link: bool = False
    names: int = 1


class Mover:
    """Answers moves by one policy, for the callers that could ask."""

    def __init__(
        self, oracle: Oracle, callers: list[Caller], above: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self.oracle = oracle
        self.above = above or {}
        self.callers = list(callers)
        self.owners = [*oracle.owners, UNKNOWN]

    def answer(self, move: Move, replaced: Facts | None = None, *, exchange: bool = False) -> str | None:
        """Return the errno of a move, or None. replaced: the file that has the new name, if there is one."""
        if move.caller not in self.callers:
            self.callers.append(move.caller)  # {uid} may tell it from all others
        ways, denials = [move], []
        if replaced is not None and exchange:
            ways.append(Move(move.caller, move.new, move.old, replaced))
        elif replaced is not None:
            denials.append(self.decide(move.caller, "delete", move.new, replaced).errno)
        for way in ways:
            denials += self._denials(way)
        codes = [code for code in denials if code]
        if codes:
            return min(codes, key=ERRNOS.index)
        if all(map(self._is_moved, ways)):
            return None
        return "EACCES" if not move.is_link and any(map(self.loses, ways)) else "EXDEV"

    def _denials(self, move: Move) -> list[str | None]:
        needs = (
            [("read", move.old), ("write", move.old), ("create", move.new)]
            if move.is_link
            else [("delete", move.old), ("create", move.new)]
        )
        denials = [self.decide(move.caller, operation, path, move.facts).errno for operation, path in needs]
        mine = self.oracle.required(move.caller, move.new, move.facts)
        fits = (_fits(one, move.facts) or _fits_copy(one, mine) for one in mine)
        if self._is_checked(move) and not all(fits):
            denials.append("EPERM")
        return denials

    def _is_checked(self, move: Move) -> bool:
        return move.facts.kind not in (DIRECTORY, "inode/symlink") and self._requires_more(move)

    def decide(self, caller: Caller, operation: str, path: str, facts: Facts) -> Answer:
        return self.oracle.decide(caller, operation, path, facts, self.above.get(path, ()))

    def _is_moved(self, move: Move) -> bool:
        if move.facts.kind == DIRECTORY:
            return not self._directory_differs(move)
        mine = self.oracle.required(move.caller, move.new, move.facts)
        if self._is_checked(move) and not all(_fits(one, move.facts) for one in mine):
            return False
        if not self._requirements_differ(move) and not self._gains(move):
            return True
        return not move.is_link and move.names == 1 and self._could_copy(move)

    def _could_copy(self, move: Move) -> bool:
        read = self.decide(move.caller, "read", move.old, move.facts)
        needs = [("write", move.old), ("delete", move.old), ("create", move.new), ("write", move.new)]
        return (
            read.errno is None
            and not read.redact
            and all(
                self.decide(move.caller, operation, path, move.facts).errno is None
                for operation, path in needs
            )
        )

    # Rights

    def _gains(self, move: Move) -> bool:
        return any(
            self._hides_by_owner(caller, move.old, move.new)
            or any(self._gain(caller, move.old, move.new, facts) for facts in self._all_facts(move.facts))
            for caller in self.callers
        )

    def _all_facts(self, facts: Facts) -> list[Facts]:
        if facts.kind in (DIRECTORY, "inode/symlink"):
            return [Facts(facts.kind, owner) for owner in self.owners]
        return [one for one in self._facts() if one.kind not in (DIRECTORY, "inode/symlink")]

    def _facts(self) -> list[Facts]:
        """Return all facts that a file may have; its kind and owner may be unknown."""
        return [Facts(kind, owner) for owner in self.owners for kind in [*self.oracle.kinds, None]]

    def _gain(self, caller: Caller, old: str, new: str, facts: Facts) -> bool:
        above = self._seen_above(caller, new)
        for operation in OPERATIONS:
            near = above if names_of(old)[:-1] == names_of(new)[:-1] else self.above.get(old, ())
            before = self.oracle.decide(caller, operation, old, facts, near)
            after = self.oracle.decide(caller, operation, new, facts, above)
            if after.errno is None and (
                before.errno is not None
                or before.redact - after.redact
                or (before.strict and not after.strict)
            ):
                return True
        return False

    def _seen_above(self, caller: Caller, path: str) -> tuple[str, ...]:
        """Return owners of the directories above a path with which the caller sees as many as possible."""
        if path in self.above:
            return self.above[path]
        names = names_of(path)
        found = []
        for depth in range(1, len(names)):
            directory = "/" + "/".join(names[:depth])
            seen = (
                owner
                for owner in self.owners
                if not self.oracle.denying(caller, directory, Facts(DIRECTORY, owner), "see")
            )
            found.append(next(seen, "none"))
        return (*found, "none")

    def _hides_by_owner(self, caller: Caller, old: str, new: str) -> bool:
        """Say whether a directory above the old path is hidden or not by its owner."""
        if names_of(old)[:-1] == names_of(new)[:-1]:
            return False
        names, found = names_of(old), False
        for depth in range(1, len(names)):
            directory = "/" + "/".join(names[:depth])
            hiding = [
                {one.id for one in self.oracle.denying(caller, directory, Facts(DIRECTORY, owner), "see")}
                for owner in self.owners
            ]
            if set.intersection(*hiding):
                return False  # one rule hides it, whoever owns it
            found |= any(hiding)
        return found

    # Requirements

    def _requirements_differ(self, move: Move) -> bool:
        # a symlink has no content, but its new path must have the same requirements
        return (move.facts.kind != "inode/symlink" and self._requires_more(move)) or any(
            self.oracle.required(caller, move.old, facts) != self.oracle.required(caller, move.new, facts)
            for caller in self.callers
            for facts in self._all_facts(move.facts)
        )

    def _requires_more(self, move: Move) -> bool:
        for facts in self._all_facts(move.facts):
            asked = frozenset().union(
                *(self.oracle.required(caller, move.new, facts) for caller in self.callers)
            )
            for caller in self.callers:
                before = self.oracle.required(caller, move.old, facts)
                if self.oracle.required(caller, move.new, facts) - before:
                    return True
                writes = self.oracle.could_write(caller, move.old) and not self.oracle.could_write(
                    caller, move.new
                )
                if writes and asked - before:
                    return True
        return False

    # Losses

    def loses(self, move: Move) -> bool:
        if move.facts.kind == DIRECTORY:
            return self._directory_loses(move)
        if move.facts.kind == "inode/symlink":
            return False
        read = self.decide(move.caller, "read", move.old, move.facts)
        return read.errno is None and bool(
            read.redact - self._cleaned(move.caller, move.new, move.facts.kind)
        )

    def _cleaned(self, caller: Caller, path: str, kind: str | None) -> frozenset[str]:
        """Return the words that are certainly cleaned from a copy of a file of a kind at the path."""
        if not self.oracle.could_write(caller, path):
            return frozenset()
        words = []
        for owner in (caller.app or "none", "none"):
            rules = [
                one
                for one in self.oracle.policy.rules
                if one.effect == "clean" and one.match(caller, path, Facts(kind, owner)) is Truth.TRUE
            ]
            cleaned = {word for one in rules for word in one.values}
            words.append(frozenset(WORDS if "all-metadata" in cleaned else cleaned))
        return words[0] & words[1]

    # Directories

    def _pairs(self, move: Move) -> list[tuple[str, str]]:
        """Return a pair of paths for each class of paths below the two names of a directory."""
        oracle, found = self.oracle, []
        first = tuple(
            (oracle.state(caller, move.old), oracle.state(caller, move.new)) for caller in self.callers
        )
        seen: set[object] = set()
        todo = [(first, move.old, move.new)]
        for states, old, new in todo:
            names = self._names(states)
            for name in names:
                after = tuple(
                    (oracle.after(caller, one, name), oracle.after(caller, other, name))
                    for caller, (one, other) in zip(self.callers, states, strict=True)
                )
                if after in seen:
                    continue
                seen.add(after)
                if len(seen) > MAX_PAIRS:
                    raise TooLargeError
                pair = f"{old}/{name}", f"{new}/{name}"
                found.append(pair)
                todo.append((after, *pair))
        return found

    def _names(self, states: tuple[tuple[object, object], ...]) -> tuple[str, ...]:
        segments = frozenset().union(
            *(
                live(self.oracle.globs(caller), one)
                for caller, pair in zip(self.callers, states, strict=True)
                for one in pair
            )  # type: ignore[arg-type]
        )
        return sample_names(segments) or (FRESH,)

    def _directory_differs(self, move: Move) -> bool:
        if any(self._differ(move.old, move.new, facts) for facts in self._all_facts(move.facts)):
            return True
        if any(
            self._hides_by_owner(caller, move.old, move.new)
            or self._hides_by_owner(caller, move.new, move.old)
            for caller in self.callers
        ):
            return True
        for old, new in self._pairs(move):
            for facts in self._facts():
                if self.decide(move.caller, "delete", old, facts).errno is not None:
                    return True
                if self._differ(old, new, facts):
                    return True
        return False

    def _differ(self, old: str, new: str, facts: Facts) -> bool:
        """Say whether some caller gets another answer for some operation, or has other requirements."""
        return any(
            self.oracle.required(caller, old, facts) != self.oracle.required(caller, new, facts)
            for caller in self.callers
        ) or any(
            _compared(self.decide(caller, operation, old, facts))
            != _compared(self.decide(caller, operation, new, facts))
            for caller in self.callers
            for operation in OPERATIONS
        )

    def _directory_loses(self, move: Move) -> bool:
        for old, new in self._pairs(move):
            for facts in self._facts():
                if facts.kind in (DIRECTORY, "inode/symlink"):
                    continue
                read = self.decide(move.caller, "read", old, facts)
                if (
                    read.errno is None
                    and read.redact - self._cleaned(move.caller, new, facts.kind)
                    and self.decide(move.caller, "delete", old, facts).errno is None
                ):
                    return True
        return False


def callers(policy: Policy, uids: Iterable[int], names: Iterable[str]) -> list[Caller]:
    """Return a caller for each set of callers that a policy treats alike: apps under any uid, and strangers.
    names: the names that paths may have; a uid may be one of them."""
    everyone = [policy.caller(None, uid) for uid in uids]
    return apart(policy, everyone + [policy.caller(app, uid) for app in policy.apps for uid in uids], names)


def apart(policy: Policy, everyone: Iterable[Caller], names: Iterable[str]) -> list[Caller]:
    """Return one of each set of callers that a policy treats alike."""
    uses_uid = any("{uid}" in glob for rule in policy.rules for glob in rule.all_globs())
    found: dict[object, Caller] = {}
    for caller in everyone:
        fits = tuple(is_who(rule.keys.get("who"), caller) for rule in policy.rules)
        name = caller.uid if uses_uid and caller.app and str(caller.uid) in names else None
        found.setdefault((caller.app, fits, name), caller)
    return list(found.values())
