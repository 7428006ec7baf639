"""The names that the files of a policy declare (apps, grants, sets), and checks of names in rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from policyfs.policy.errors import PolicyError, did_you_mean, harmless, listed, quote
from policyfs.policy.model import UidRange, Where
from policyfs.policy.text.nodes import Loc, Mapping
from policyfs.policy.text.shape import File, Part

T = TypeVar("T")


class Declarations:
    """The names that all files of a policy together declare. Names in rules are looked up here."""

    __slots__ = ("apps", "complete", "errors", "grants", "path_sets", "sets", "sound")

    def __init__(self, files: Sequence[File], complete: bool, errors: list[PolicyError]) -> None:
        self.errors = errors
        self.apps = self._declared(files, lambda file: file.apps)
        self.sets = self._declared(files, lambda file: file.sets)
        self.path_sets = self._declared(files, lambda file: file.path_sets)
        self.complete = complete and all(_names_are_known(file) for file in files)
        self.sound = all(part.sound for part in self.apps.values())
        self.grants = {g for part in self.apps.values() if part.doc for g in part.doc.grants}
        self._check_uids()
        for part in (*self.sets.values(), *self.path_sets.values()):
            for index, member in enumerate(part.doc or ()):
                if member.startswith("@"):
                    help_ = "write the members of that set here; a rule may name several sets in a list"
                    errors.append(part.error((index,), "a set cannot hold another set", help_))

    def _declared(
        self, files: Sequence[File], pick: Callable[[File], dict[str, Part[T]]]
    ) -> dict[str, Part[T]]:
        found: dict[str, Part[T]] = {}
        for file in files:
            for name, part in pick(file).items():
                first = found.setdefault(name, part)
                if first is not part:
                    message = already("this name is taken", first.where)
                    self.errors.append(part.name_error(message, "rename one of them"))
        return found

    def _check_uids(self) -> None:
        claims = sorted(
            (uids, (part.source.name, part.node.span, index), name)
            for name, part in self.apps.items()
            for index, uids in enumerate(part.doc.uid if part.doc else ())
        )
        holder: tuple[UidRange, tuple[str, tuple[int, int, int], int], str] | None = None
        for claim in claims:
            (first, last), _, name = claim
            if holder is not None and first <= holder[0][1] and name != holder[2]:
                later, earlier = (claim, holder) if claim[1] > holder[1] else (holder, claim)
                self.errors.append(
                    self.apps[later[2]].error(
                        ("uid", later[1][2]),
                        f"uid {first} belongs to app {quote(earlier[2])} already",
                        "give each uid to one app; to give two apps the same rights, name both in a rule",
                    )
                )
            if holder is None or last > holder[0][1]:
                holder = claim

    def check_app(
        self, part: Part[object], loc: Loc, name: str, also: tuple[str, ...], hint: Callable[[str], str]
    ) -> None:
        """Report a name in a rule that is no app's and not in *also*. hint: a function that returns a help
        text for the name, or "": then the error names a similar app."""
        if name in self.apps or name in also or not self.complete:
            return
        meant = hint(name)
        near = f"{meant}; " if meant else did_you_mean(name, (*self.apps, *also))
        help_ = f"{near}known here: {', '.join(also)}; apps: {listed(self.apps)}"
        self.errors.append(part.error(loc, f"no app is named {quote(name)}", help_))

    def check_grant(self, part: Part[object], loc: Loc, grant: str) -> None:
        """Report a grant in a rule if no app has this grant."""
        if grant in self.grants or not self.complete or not self.sound:
            return
        near = did_you_mean(grant, self.grants)
        known = f"; grants of the apps: {listed(self.grants)}" if self.grants else ""
        help_ = f"{near}add the grant to an app{known}"
        self.errors.append(part.error(loc, f"no app holds the grant {quote(grant)}", help_))

    def expand(
        self, part: Part[object], loc: Loc, members: Iterable[str], *, globs: bool
    ) -> list[tuple[int, str]]:
        """Return pairs of an index in *members* and a kind or glob (globs), also those of named sets."""
        here, other = (self.path_sets, self.sets) if globs else (self.sets, self.path_sets)
        noun, other_noun = ("path set", "set") if globs else ("set", "path set")
        out: list[tuple[int, str]] = []
        for index, member in enumerate(members):
            if not member.startswith("@"):
                out.append((index, member))
                continue
            name = member[1:]
            found = here.get(name)
            if found is not None:
                out.extend((index, kind) for kind in found.doc or ())
            elif self.complete:
                key = "path_sets" if globs else "sets"
                none = f"the policy has no {noun}s; add the {noun} under the key {key}"
                help_ = f"{did_you_mean(name, here)}known here: {listed(here)}" if here else none
                if name in other:
                    known = f"write a {noun} here: {listed(here)}" if here else none
                    help_ = f"{name} is a {other_noun}; {known}"
                message = f"no {noun} is named {quote(name)}"
                self.errors.append(part.error((*loc, index), message, help_))
        return out


def already(told: str, first: Where) -> str:
    """Return the message with the place of the first declaration."""
    return f"{told} already by {harmless(first.file)}, line {first.line}"


def _names_are_known(file: File) -> bool:
    if not isinstance(file.top.node, Mapping) or file.top.doc is None:
        return False
    named = (file.top.node.get(key) for key in ("apps", "sets", "path_sets"))
    return all(node is None or isinstance(node, Mapping) for node in named)
