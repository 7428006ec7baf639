"""Findings on the rights of apps: too many, too few, or not those that the author probably expects."""

from __future__ import annotations

import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Final

from policyfs.domain import (
    FIXED_KINDS,
    NO_FACTS,
    OWNER_NONE,
    Facts,
    FileType,
    Need,
    Op,
    banned,
    hides_at_least,
    to_clean,
)
from policyfs.formats import REDACTABLE_KINDS
from policyfs.policy.analysis.invariants import breaches
from policyfs.policy.analysis.sides import Side, bits, numbers_of
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.exceptions import ended
from policyfs.policy.explain.exemption import exemption
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.lint.findings import Finding, on_app, on_rule
from policyfs.policy.lint.places import Names, Places, plain_names, shown, sides_by_app
from policyfs.policy.lint.reach import not_searched
from policyfs.policy.model import SELF, App, Block, Effect, Invariant, Policy, Promise, Rule, Who
from policyfs.policy.rules.facts import Truth, fixed_facts

_BACKUPS: Final = re.compile(r"back-?up|sync|restic|borg|rclone|kopia|duplic|mirror", re.IGNORECASE)
_OWN: Final = re.compile(r"(.*/\{(?:app|uid)\})/\*\*")
_DERIVED: Final = re.compile(
    r"/(\.?thumb(?:s|nails?|nail-cache)?|\.@__thumb|@eaDir|previews?|encoded-videos?|transcod(?:e|es|ed|ing))(?:/|$)",
    re.IGNORECASE,
)
"""Directories in which programs keep small or converted copies of files."""
_SNAPSHOTS: Final = re.compile(
    r"/(\.zfs|[.#]?snapshots?|@Recently-Snapshot|\.stversions|[#@]recycle|\.Trash(?:-\d+)?)(?:/|$)",
    re.IGNORECASE,
)
"""Directories in which systems and programs keep old or deleted versions of files."""
_PHOTO: Final = Facts("image/jpeg", OWNER_NONE)
_FIXED: Final = frozenset(FIXED_KINDS.values())
_TRIED: Final = 4
"""Maximum number of apps for which one rule is tried."""


_Concerns = Callable[[Rule], bool]
_Check = Callable[["Rights", Rule, Side], Iterator[Finding]]


def like_backup(name: str) -> bool:
    """Return True if an app's name is like the name of a backup or sync job."""
    return _BACKUPS.search(name) is not None


def of_copies(glob: str) -> bool:
    """Return True if a glob is about a directory in which programs keep small or converted copies."""
    return _DERIVED.search(glob) is not None


def _of_versions(glob: str) -> bool:
    return of_copies(glob) or _SNAPSHOTS.search(glob) is not None


class Rights:
    """The checks of apps' rights in one policy."""

    def __init__(self, places: Places, groups: Sequence[Group]) -> None:
        self._places: Final = places
        self._compiled: Final = places.compiled
        self._policy: Final[Policy] = self._compiled.engine.policy
        self._rules: Final = self._compiled.table.rules
        self._enforced: Final[dict[Effect, int]] = {
            effect: self._bits(functools.partial(_enforced, effect)) for effect in Effect
        }
        self._reading: Final = self._bits(lambda rule: bool(rule.ops & Op.READ))
        self._shielding: Final = self._bits(lambda rule: bool(rule.ops & (Op.READ | Op.SEE)))
        self._replacing: Final = self._bits(lambda rule: bool(rule.ops & (Op.WRITE | Op.DELETE)))
        self._copies: Final = self._bits(lambda rule: any(map(_of_versions, _derived_globs(rule))))
        """The rules about directories with small or converted copies of files."""
        self._by_app: Final = sides_by_app(groups)

    def _bits(self, chosen: Callable[[Rule], bool]) -> int:
        return bits(number for number, rule in enumerate(self._rules) if chosen(rule))

    def findings(self) -> Iterator[Finding]:
        """Yield all findings."""
        for app in self._policy.apps:
            yield from self._of_app(app)
            yield from self._derived(app)
            yield from self._replaced(app)
        yield from self._raw_sensitive()
        sides = [sides[0] for sides in self._by_app.values()]
        about = self._compiled.callers_by_rule([side.caller for side in sides])
        for rule, callers in zip(self._rules, about, strict=True):
            if rule.monitor or rule.effect not in (Effect.ALLOW, Effect.DENY):
                continue
            for concerns, check in self._checks:
                if concerns(rule):
                    tried = (sides[at] for at in itertools.islice(numbers_of(callers), _TRIED))
                    finding = next((found for side in tried for found in check(self, rule, side)), None)
                    if finding is not None:
                        yield finding

    def _fitting(self, app: App, *kinds: int) -> list[Rule]:
        about = functools.reduce(operator.or_, (side.bits for side in self._by_app.get(app.name, ())), 0)
        return [self._rules[number] for number in numbers_of(functools.reduce(operator.and_, kinds, about))]

    def _of_app(self, app: App) -> Iterator[Finding]:
        allows = self._fitting(app, self._enforced[Effect.ALLOW])
        if not allows:
            told = "no allow is about this app, so the app sees an empty mount"
            yield on_app("app-without-allow", self._policy, app, told, "add an allow, or remove the app")
        if like_backup(app.name) and self._fitting(app, self._enforced[Effect.REDACT]):
            side = self._by_app[app.name][0]
            for rule in allows:
                names = self._names(rule, side)
                if not names or not rule.ops & Op.READ:
                    continue
                here, known = self._places.at(names, side), fixed_facts(FileType.REGULAR, _PHOTO)
                decision = here.answer(Op.READ, _PHOTO)
                if decision.allowed and decision.redact:
                    told = (
                        f"the app looks like a backup or a sync job, and reads {shown(names)} without its"
                        f" {', '.join(sorted(decision.redact))}: the copies lack these data, and so do the"
                        " files that the app restores or syncs"
                    )
                    lives = [one for one in here.lives if one.rule.effect is Effect.REDACT]
                    redactions = [one.rule for one in lives if one.match(known) is not Truth.NO]
                    todo = _spare(app.name, redactions)
                    yield on_app("backup-redacted", self._policy, app, told, todo)
                    return

    def _derived(self, app: App) -> Iterator[Finding]:
        """Yield a finding if an app reads copies of files whose originals are restricted for it."""
        denies = self._fitting(app, self._enforced[Effect.DENY], self._shielding)
        restricted = denies or self._fitting(app, self._enforced[Effect.REDACT])
        if not restricted:
            return
        side = self._by_app[app.name][0]
        for rule in self._fitting(app, self._reading, self._copies):
            for glob in _derived_globs(rule):
                names = plain_names(glob, side.caller) if _of_versions(glob) else None
                answer = self._places.at(names, side).answer(Op.READ, _PHOTO) if names else None
                # a preview shows its original, also if its own metadata are removed
                if names and answer is not None and answer.allowed and (of_copies(glob) or not answer.redact):
                    yield on_rule(
                        "derived-copies",
                        rule,
                        f"{app.name} reads {shown(names)}: thumbnails, transcodes and snapshots show their"
                        f" originals, and {restricted[0].id} forbids or redacts some of these originals for"
                        " this app",
                        "let the app read no files of this directory, or let it make copies of its own",
                    )
                    return

    def _replaced(self, app: App) -> Iterator[Finding]:
        if not self._fitting(app, self._enforced[Effect.REDACT]):
            return
        side = self._by_app[app.name][0]
        for rule in self._fitting(app, self._enforced[Effect.ALLOW], self._replacing):
            for glob in rule.paths or ("/**",):
                names = plain_names(glob, side.caller)
                lost = self._lost(names, side) if names else []
                if names and lost:
                    words = ", ".join(lost)
                    told = (
                        f"the app reads {shown(names)} (of another owner) without its {words}, and may"
                        " replace the file: if the app edits a photo, or copies and deletes it (as mv to"
                        f" another file system does), the photo loses its {words} for all apps"
                    )
                    todo = (
                        "exempt the app from the redaction, or let the app change only its own files (owner:"
                        " self)"
                    )
                    yield on_app("redacted-editor", self._policy, app, told, todo)
                    return

    def _lost(self, names: Names, side: Side) -> list[str]:
        """Return the words of the data that a photo loses if the app reads it redacted and saves it again."""
        here, own = self._places.at(names, side), Facts(None, side.caller.app)
        read, written = here.answer(Op.READ, _PHOTO), here.answer(Op.WRITE, _PHOTO)
        created = here.answer(Op.CREATE, own).allowed and here.answer(Op.DELETE, _PHOTO).allowed
        if not read.allowed or not (written.allowed or created):
            return []
        refused = banned(written.content)
        kept_out = refused | to_clean(refused)  # no writer can bring these data into the store
        return sorted(word for word in read.redact if " " not in word and word not in kept_out)

    # ---- sensitive kinds

    def _raw_sensitive(self) -> Iterator[Finding]:
        """Find each app that reads files redacted at some paths, and unchanged at other paths."""
        promised = []
        for app in self._policy.apps:
            redactions = self._fitting(app, self._enforced[Effect.REDACT])
            words = frozenset(word for rule in redactions for word in rule.redact if " " not in word)
            if words:
                promised.append(_never_raw(app, words, redactions[0]))
        if not promised:
            return
        try:
            in_force = tuple(one for one in self._policy.exceptions if one not in ended(self._policy))
            rules, invariants = _with_tops(self._rules), tuple(promised)
            found = breaches(replace(self._policy, rules=rules, invariants=invariants, exceptions=in_force))
        except TooHardError:
            yield not_searched(self._policy.rules[0])
            return
        by_id = {rule.id: rule for rule in self._policy.rules}
        for invariant, request, decision in found:
            allows = [match.rule for match in decision.rules if match.effect == Effect.ALLOW.value]
            rule = next((by_id[name] for name in allows if by_id[name].ops & Op.READ), invariant.rule)
            words = invariant.words
            missing = sorted(word for word in words if not hides_at_least(decision.redact, frozenset({word})))
            yield on_rule(
                "raw-sensitive",
                rule,
                f"{invariant.id} reads files with their {', '.join(missing)}, such as {request.shown_path}"
                f" ({request.file}); rule {invariant.rule.id} removes these data at other paths",
                "let the redaction cover these paths, too, or exempt the app from it:"
                f" {_spare(invariant.id, [one for one in self._rules if one.id == invariant.rule.id])}",
            )

    # ---- single rules, by a plain path

    @staticmethod
    def _names(rule: Rule, side: Side) -> Names | None:
        return plain_names((rule.paths or ("/**",))[0], side.caller)

    def _by_fact(self, rule: Rule, side: Side) -> Iterator[Finding]:
        names = self._names(rule, side)
        if not names:
            return
        need = self._places.at(names, side).needs(Op.SEE)
        kinds, owners = _asked(rule)
        app = next((app for app in self._policy.apps if app.name == side.caller.app), None)
        by_kind, by_owner = kinds and need & Need.KIND, owners and need & Need.OWNER
        if by_owner and not by_kind and app is not None and app.uids:
            return  # the check hidden-beside-visible reports this case
        if by_kind or by_owner:
            fact = "kind" if by_kind else "owner"
            cost = "; to list files, policyfs opens each file to find its kind" if by_kind else ""
            yield on_rule(
                "see-by-fact",
                rule,
                f"whether {side.caller.app} sees {shown(names)} depends on the file's {fact}, so the app can"
                f" find out that a hidden file has this name (creating a file of this name fails){cost}",
                "if the name itself is a secret, hide the name by a rule on its path",
            )

    def _own_directory(self, rule: Rule, side: Side) -> Iterator[Finding]:
        for glob in rule.paths or ():
            top = _OWN.fullmatch(glob)
            names = plain_names(top[1], side.caller) if top is not None else None
            if top is None or not names:
                continue
            facts, path = Facts(None, side.caller.app), shown(names)
            if not self._places.at(names, side).answer(Op.CREATE, facts, FileType.DIRECTORY).allowed:
                yield on_rule(
                    "own-directory",
                    rule,
                    f"{side.caller.app} may create files below {path}, but cannot make the directory itself",
                    f'write "{top[1]}/***", or make the directories in the store yourself',
                )
                return

    def _one_level(self, rule: Rule, side: Side) -> Iterator[Finding]:
        for glob in rule.paths or ():
            if not glob.endswith("/*") or glob.endswith("\\*"):
                continue
            names = plain_names(glob, side.caller)
            if names is None:
                continue
            names = (*names, "\ue000")
            if not self._places.at(names, side).answer(Op.READ, NO_FACTS).allowed:
                yield on_rule(
                    "one-level",
                    rule,
                    f"{glob} is one level: {side.caller.app} cannot read {shown(names)}",
                    f'to match everything below, write "{glob}*"',
                )
                return

    _checks: ClassVar[tuple[tuple[_Concerns, _Check], ...]] = (
        (lambda rule: bool(rule.ops & Op.SEE) and any(_asked(rule)), _by_fact),
        (lambda rule: rule.effect is Effect.ALLOW and bool(rule.ops & Op.CREATE), _own_directory),
        (lambda rule: rule.effect is Effect.ALLOW and bool(rule.ops & Op.READ), _one_level),
    )
    """The checks of one rule for one caller, each with a function that says if it can concern a rule."""


def _enforced(effect: Effect, rule: Rule) -> bool:
    return rule.effect is effect and not rule.monitor


def _with_tops(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules; redactions of X/** also apply to X (X is a directory without content)."""
    return tuple(
        replace(rule, paths=tuple(f"{glob}*" if glob.endswith("/**") else glob for glob in rule.paths or ()))
        if rule.effect is Effect.REDACT and any(glob.endswith("/**") for glob in rule.paths or ())
        else rule
        for rule in rules
    )


def _derived_globs(rule: Rule) -> tuple[str, ...]:
    if rule.effect is Effect.ALLOW:
        return rule.paths or ()
    spared = rule.unless if rule.effect is Effect.REDACT else ()
    return tuple(glob for block in spared for glob in block.paths or ())


def _asked(rule: Rule) -> tuple[bool, bool]:
    """Return True for each of kind (of a regular file) and owner if conditions of the rule ask for it."""
    kinds = any((block.kinds or frozenset()) - _FIXED for block in rule.blocks)
    return kinds, any(block.owners is not None for block in rule.blocks)


def _spare(app: str, redactions: Sequence[Rule]) -> str:
    """Return how the rules would no more be about an app."""
    return ", and ".join(f"in rule {rule.id} {exemption(rule, app, 0)}" for rule in redactions)


def _never_raw(app: App, words: frozenset[str], redaction: Rule) -> Invariant:
    rule = Rule(
        id=redaction.id, effect=Effect.DENY, ops=Op.READ, who=Who(frozenset({app.name}), None, None, None),
        paths=None, when=Block(REDACTABLE_KINDS, None, None),
        unless=(Block(None, frozenset({SELF}), None),), monitor=True, where=redaction.where,
    )  # fmt: skip
    return Invariant(app.name, Promise.NEVER_RAW, rule, words, "", 1)
