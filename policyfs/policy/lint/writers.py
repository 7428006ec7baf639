"""Findings on the rights of apps to write: too few for their work, or more than a restriction suggests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.domain import KIND_EMPTY, OWNER_NONE, Facts, FileType, Op, banned
from policyfs.formats import REDACTABLE_KINDS
from policyfs.policy.analysis.files import FileClasses
from policyfs.policy.analysis.sides import Side
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.globs.paths import End, parse_glob
from policyfs.policy.lint.findings import Finding, on_rule
from policyfs.policy.lint.places import Here, Names, Places, plain_names, shown, sides_by_app
from policyfs.policy.model import ANY, Effect, Rule
from policyfs.policy.rules.facts import Kinds, Truth, fixed_facts

_PHOTO: Final = Facts("image/jpeg", OWNER_NONE)
_ALL: Final = frozenset({"/**", "/***"})
_GLOBS: Final = 64
"""Maximum number of globs of allows that are tried for a restriction on all paths."""
_TRIED: Final = 4
"""Maximum number of apps for which one rule is tried."""
_CALLERS: Final = 8
"""Maximum number of classes of callers of an allow that is called unseen: all of them are tried."""


class Writers:
    """The checks of apps that write, at plain paths (one path that a glob matches) of one policy."""

    def __init__(self, places: Places, groups: Sequence[Group]) -> None:
        self._places: Final = places
        self._everyone: Final = [group.sides[0] for group in groups]
        self._sides: Final = {app: sides[0] for app, sides in sides_by_app(groups).items()}
        rules = (one for one in places.compiled.table.rules if one.effect is Effect.ALLOW)
        written = (glob for one in rules if one.ops & Op.WRITE for glob in one.paths or ())
        self._written: Final = tuple(itertools.islice(dict.fromkeys(written), _GLOBS))

    def findings(self) -> Iterator[Finding]:
        """Yield at most one finding of each sort for each rule."""
        checks = {
            Effect.ALLOW: (self._half, self._unchecked),
            Effect.DENY: (self._half, self._overwrite),
            Effect.CONTENT: (self._unmet, self._left_out),
        }
        for rule in self._places.compiled.table.rules:
            if rule.monitor:
                continue
            of = self._sides.values()
            about = (side for side in of if rule.who is None or side.caller.of.within(rule.who))
            sides = list(itertools.islice(about, _TRIED))
            yield from self._unseen(rule)
            for check in checks.get(rule.effect, ()):
                yield from itertools.islice((one for side in sides for one in check(rule, side)), 1)

    def _paths(self, rule: Rule, side: Side) -> Iterator[tuple[str, Names, Here]]:
        """Yield a plain path for each glob; for restrictions on all paths also those of allows."""
        globs = rule.paths or ("/**",)
        if rule.effect is not Effect.ALLOW and not _ALL.isdisjoint(globs):
            globs = (*globs, *self._written)
        for glob in globs:
            names = plain_names(glob, side.caller)
            if names:
                yield glob, names, self._places.at(names, side)

    def _unseen(self, rule: Rule) -> Iterator[Finding]:
        """Yield a finding if an allow is about paths that none of its callers sees."""
        if rule.effect is not Effect.ALLOW or rule.ops & Op.SEE or rule.paths is None:
            return
        sides = [side for side in self._everyone if rule.who is None or side.caller.of.within(rule.who)]
        for glob in rule.paths if 0 < len(sides) <= _CALLERS else ():
            at = [plain_names(glob, side.caller) for side in sides]
            seen = (
                here.answer(Op.SEE, facts, ftype).allowed
                for names, side in zip(at, sides, strict=True)
                if names
                for here in (self._places.at(names, side),)
                for ftype in (FileType.REGULAR, FileType.DIRECTORY)
                for facts in FileClasses(here.lives).samples(ftype, unknown=False)
            )
            if at[0] and not any(seen):
                told = f"the rule has no effect at {shown(at[0])}: none of its callers sees this path"
                yield on_rule("unseen", rule, told, "add see to the allow, or correct its paths")
                return

    def _half(self, rule: Rule, side: Side) -> Iterator[Finding]:
        """Yield a finding if the app may create files, but not write to them, or the reverse."""
        app, new = side.caller.app, Facts(None, side.caller.app)
        if rule.ops & (Op.WRITE | Op.CREATE) in (Op(0), Op.WRITE | Op.CREATE):
            return
        allows = rule.effect is Effect.ALLOW
        for glob, names, here in self._paths(rule, side):
            created = here.answer(Op.CREATE, new).allowed
            written = here.answer(Op.WRITE, new).allowed
            if bool(rule.ops & Op.CREATE) is allows and created and not written:
                told = f"{app} may create {shown(names)}, but not write to it, so its new files stay empty"
                todo = "allow write, too; for the app's own files only, add when: {owner: self}"
                todo = todo if allows else "deny create, too"
                yield on_rule("create-and-write", rule, told, todo)
            written = written or here.answer(Op.WRITE, _PHOTO).allowed
            if allows and rule.ops & Op.WRITE and written and not created and _of_many(glob):
                told = (
                    f"{app} may write to {shown(names)}, but not create files there; most programs save a"
                    " file by creating a new one"
                )
                yield on_rule("create-and-write", rule, told, "allow create, too")

    def _overwrite(self, rule: Rule, side: Side) -> Iterator[Finding]:
        """Yield a finding if a rule denies delete or read of files that the app may overwrite."""
        if rule.ops & (Op.WRITE | Op.SEE) or not rule.ops & (Op.DELETE | Op.READ):
            return
        what = "delete" if rule.ops & Op.DELETE else "read"
        for _, names, here in self._paths(rule, side):
            lives = [live for live in here.lives if live.rule.id == rule.id]
            for facts in (_PHOTO, Facts("image/jpeg", side.caller.app)):
                known = fixed_facts(FileType.REGULAR, facts)
                if any(live.match(known) for live in lives) and here.answer(Op.WRITE, facts).allowed:
                    told = (
                        f"{side.caller.app} may not {what} {shown(names)}, but may overwrite it: an overwrite"
                        " destroys the content, too"
                    )
                    yield on_rule("overwrite", rule, told, "deny write, too")
                    return

    def _unmet(self, rule: Rule, side: Side) -> Iterator[Finding]:
        for _, names, here in self._paths(rule, side):
            asked = [live.rule for live in here.lives if live.rule.effect is Effect.CONTENT]
            named = {kind for one in asked for kind in one.content if " " not in kind}
            tried = {kind.replace("*", "x") for kind in named} | {*REDACTABLE_KINDS, "application/x-other"}
            facts = [Facts(kind, side.caller.app) for kind in sorted(tried - {KIND_EMPTY})]
            writable = [one for one in facts if here.answer(Op.WRITE, one).allowed]
            if not writable or any(_meets(here, one) for one in writable):
                continue
            others = sorted({one.id for one in asked if one.id != rule.id})
            also = f" and of {', '.join(others)}" if others else ""
            told = f"no file meets the content requirements of this rule{also} at {shown(names)}"
            yield on_rule("unmet-content", rule, told, "name kinds that all these rules accept")
            return

    def _left_out(self, rule: Rule, side: Side) -> Iterator[Finding]:
        """Yield a finding if a requirement names some writers of a directory, and leaves out another."""
        if rule.who is None or rule.who.apps is None or ANY in rule.who.apps:
            return
        new, words = Facts(None, side.caller.app), _words(rule.content)
        for _, names, here in self._paths(rule, side):
            if not here.answer(Op.WRITE, new).allowed:
                continue
            for app, other in self._sides.items():
                answer = self._places.at(names, other).answer(Op.WRITE, Facts(None, app))
                met = [_words(one) for one in answer.content]
                covered = words <= frozenset[str]().union(*met) if words else frozenset() in met
                if answer.allowed and not covered and not other.caller.of.within(rule.who):
                    told = f"{app} may write at {shown(names)}, too, but this requirement leaves {app} out"
                    todo = f"remove who; if {app} is meant to be exempt, write who: {{not: {{app: {app}}}}}"
                    yield on_rule("unchecked-write", rule, told, todo)
                    return

    def _unchecked(self, rule: Rule, side: Side) -> Iterator[Finding]:
        """Yield a finding if files are checked at some paths, and not at others that another app reads."""
        if not rule.ops & Op.WRITE or len(rule.paths or ()) < 2:
            return
        checked: dict[bool, Names] = {}
        own = Facts(None, side.caller.app)
        for _, names, here in self._paths(rule, side):
            answer = here.answer(Op.WRITE, own)
            if answer.allowed and (answer.content or self._read_by_others(names, side)):
                checked.setdefault(bool(answer.content), names)
        if len(checked) == 2:
            told = (
                f"files that {side.caller.app} writes are checked at {shown(checked[True])}, but not at"
                f" {shown(checked[False])}, where another app reads them"
            )
            todo = "let the content requirement cover all paths of this allow"
            yield on_rule("unchecked-write", rule, told, todo)

    def _read_by_others(self, names: Names, side: Side) -> bool:
        photo = Facts("image/jpeg", side.caller.app)
        return any(
            self._places.at(names, other).answer(Op.READ, photo).allowed
            for other in self._sides.values()
            if other.caller.app != side.caller.app
        )


def _of_many(glob: str) -> bool:
    return parse_glob(glob).end is not End.HERE or "*" in glob


def _words(content: frozenset[str]) -> frozenset[str]:
    return frozenset(word.removeprefix("clean ") for word in banned((content,)))


def _meets(here: Here, facts: Facts) -> bool:
    known = fixed_facts(FileType.REGULAR, facts)
    kind = facts.kind or ""
    for live in here.lives:
        rule = live.rule
        if rule.effect is not Effect.CONTENT or rule.monitor or live.match(known) is not Truth.YES:
            continue
        if _words(rule.content):
            if kind not in REDACTABLE_KINDS and not Kinds(rule.content | rule.raw_types).hold(kind):
                return False
        elif not Kinds(rule.content).hold(kind):
            return False
    return True
