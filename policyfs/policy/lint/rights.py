"""Findings on the rights of apps: too many, too few, or other than the rules seem to give."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.domain import FIXED_KINDS, NO_FACTS, OWNER_NONE, Decision, Facts, FileType, Need, Op
from policyfs.formats import REDACTABLE_KINDS
from policyfs.policy.analysis.invariants import breaches
from policyfs.policy.analysis.outcomes import hides_at_least
from policyfs.policy.analysis.sides import Compiled, Side, bits, numbers_of
from policyfs.policy.analysis.subjects import Group
from policyfs.policy.automaton import Position
from policyfs.policy.classes import TooHardError
from policyfs.policy.lint.findings import Finding, on_app, on_rule
from policyfs.policy.lint.reach import not_searched, plain_names
from policyfs.policy.model import SELF, App, Block, Effect, Invariant, Policy, Promise, Rule, Who
from policyfs.policy.paths import parse_glob

_BACKUPS: Final = re.compile(r"back-?up|sync|restic|borg|rclone|kopia|duplic|mirror", re.IGNORECASE)
_OWN: Final = re.compile(r"(.*/\{app\})/\*\*")
_DERIVED: Final = re.compile(
    r"/(\.?thumb(?:s|nails?|nail-cache)?|\.@__thumb|@eaDir|previews?|encoded-videos?|transcod(?:e|es|ed|ing))(?:/|$)",
    re.IGNORECASE,
)
"""Directories in which programs keep small or converted copies of files."""
_PHOTO: Final = Facts("image/jpeg", OWNER_NONE)


class Rights:
    """The checks of one policy."""

    def __init__(self, compiled: Compiled, groups: Sequence[Group]) -> None:
        self._compiled: Final = compiled
        self._policy: Final[Policy] = compiled.engine.policy
        self._rules: Final = compiled.table.rules
        self._enforced: Final[dict[Effect, int]] = {
            effect: bits(
                number
                for number, rule in enumerate(self._rules)
                if rule.effect is effect and not rule.monitor
            )
            for effect in Effect
        }
        self._by_app: Final[dict[str, list[Side]]] = {}
        for group in groups:
            for subject in group.subjects:
                app = subject.apps[0]
                if app is not None:
                    self._by_app.setdefault(app, []).append(group.sides[0])

    def findings(self) -> Iterator[Finding]:
        """Yield all findings."""
        for app in self._policy.apps:
            yield from self._of_app(app)
            yield from self._derived(app)
        yield from self._raw_sensitive()
        for number, rule in enumerate(self._rules):
            if rule.monitor or rule.effect not in (Effect.ALLOW, Effect.DENY):
                continue
            sides = [sides[0] for sides in self._by_app.values() if sides[0].bits >> number & 1]
            for check in (self._by_fact, self._own_directory, self._one_level, self._unchecked):
                finding = next((found for side in sides[:4] for found in check(rule, side)), None)
                if finding is not None:
                    yield finding

    def _fitting(self, app: App, effect: Effect) -> list[Rule]:
        """Return the enforced rules of an effect that are about an app."""
        about = functools.reduce(operator.or_, (side.bits for side in self._by_app.get(app.name, ())), 0)
        return [self._rules[number] for number in numbers_of(about & self._enforced[effect])]

    def _of_app(self, app: App) -> Iterator[Finding]:
        allows = self._fitting(app, Effect.ALLOW)
        if not allows:
            told = "no allow is about this app, so it sees an empty mount"
            yield on_app("app-without-allow", self._policy, app, told, "add an allow, or remove the app")
        if _BACKUPS.search(app.name) and self._fitting(app, Effect.REDACT):
            side = self._by_app[app.name][0]
            for rule in allows:
                path, position = self._at(rule, side)
                if position is None or not rule.ops & Op.READ:
                    continue
                decision = self._answer(side, position, Op.READ, _PHOTO)
                if decision.allowed and decision.redact:
                    told = (
                        f"it looks like a backup or a sync job, and reads {path} without its"
                        f" {', '.join(sorted(decision.redact))}: its copies are not full copies, and what it"
                        " restores or syncs has none either"
                    )
                    todo = "give it the grant that the redaction spares"
                    yield on_app("backup-redacted", self._policy, app, told, todo)
                    return

    def _derived(self, app: App) -> Iterator[Finding]:
        """Find directories of thumbnails and transcodes that an app reads, of which originals are kept."""
        denies = [rule for rule in self._fitting(app, Effect.DENY) if rule.ops & Op.READ]
        restricted = [*denies, *self._fitting(app, Effect.REDACT)]
        if not restricted:
            return
        side = self._by_app[app.name][0]
        for rule in self._fitting(app, Effect.ALLOW):
            for glob in (rule.paths or ()) if rule.ops & Op.READ else ():
                names = plain_names(parse_glob(glob), side) if _DERIVED.search(glob) else None
                path, position = self._position(names or (), side)
                if position is not None and self._answer(side, position, Op.READ, _PHOTO).allowed:
                    yield on_rule(
                        "derived-copies",
                        rule,
                        f"{app.name} reads {path}: thumbnails and transcodes show what their originals show,"
                        f" also of those that {restricted[0].id} keeps from it or shows it without data",
                        "take this directory out of the allow, or let the app make copies of its own",
                    )
                    break
            else:
                continue
            return

    # ---- sensitive kinds

    def _raw_sensitive(self) -> Iterator[Finding]:
        """Find apps that are under redaction somewhere and read such files unchanged elsewhere."""
        promised = []
        for app in self._policy.apps:
            redactions = self._fitting(app, Effect.REDACT)
            words = frozenset(word for rule in redactions for word in rule.redact if " " not in word)
            if words:
                promised.append(_never_raw(app, words, redactions[0]))
        if not promised:
            return
        try:
            found = breaches(_with(self._policy, promised))
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
                f" ({request.file}); rule {invariant.rule.id} removes that elsewhere",
                "let the redaction cover these paths, or give the app the grant",
            )

    # ---- single rules, by a plain path

    def _at(self, rule: Rule, side: Side) -> tuple[str, Position | None]:
        """Return a plain path that the rule's first glob matches, and its position."""
        names = plain_names(parse_glob((rule.paths or ("/**",))[0]), side)
        return self._position(names or (), side) if names is not None else ("", None)

    @staticmethod
    def _position(names: tuple[str, ...], side: Side) -> tuple[str, Position | None]:
        position = side.root
        for name in names:
            position = side.step(position, name)
        shown = "/" + "/".join(name.replace("\ue000", "x") for name in names)
        return shown, position if names else None

    @staticmethod
    def _answer(
        side: Side, position: Position, op: Op, facts: Facts, ftype: FileType = FileType.REGULAR
    ) -> Decision:
        return side.profile(position, top=False).answer(
            int(op), ftype, facts, below=lambda: side.below(position)
        )

    def _by_fact(self, rule: Rule, side: Side) -> Iterator[Finding]:
        asked = [*rule.unless, *(() if rule.when is None else (rule.when,))]
        kinds = any((block.kinds or frozenset()) - set(FIXED_KINDS.values()) for block in asked)
        owners = any(block.owners is not None for block in asked)
        if not rule.ops & Op.SEE or not (kinds or owners):
            return
        path, position = self._at(rule, side)
        if position is None:
            return
        need = side.profile(position, top=False).needs(
            int(Op.SEE), FileType.REGULAR, below=lambda: side.below(position), lenient=False
        )
        app = next((app for app in self._policy.apps if app.name == side.caller.app), None)
        by_kind, by_owner = kinds and need & Need.KIND, owners and need & Need.OWNER
        if by_owner and not by_kind and app is not None and app.uids:
            return  # hidden-beside-visible says so
        if by_kind or by_owner:
            fact = "kind" if by_kind else "owner"
            cost = "; every name in a listing is opened to find its kind" if by_kind else ""
            yield on_rule(
                "see-by-fact",
                rule,
                f"whether {side.caller.app} sees {path} depends on the file's {fact}, so it can find out that"
                f" such a name exists (creating it fails){cost}",
                "hide by path where the name itself is a secret",
            )

    def _own_directory(self, rule: Rule, side: Side) -> Iterator[Finding]:
        if rule.effect is not Effect.ALLOW or not rule.ops & Op.CREATE:
            return
        for glob in rule.paths or ():
            top = _OWN.fullmatch(glob)
            names = plain_names(parse_glob(top[1]), side) if top is not None else None
            if top is None or names is None:
                continue
            path, position = self._position(names, side)
            if position is None:
                continue
            facts = Facts(None, side.caller.app)
            if not self._answer(side, position, Op.CREATE, facts, FileType.DIRECTORY).allowed:
                yield on_rule(
                    "own-directory",
                    rule,
                    f"{side.caller.app} may create files below {path}, and cannot make {path} itself",
                    f'write "{top[1]}/***", or make the directories in the store yourself',
                )
                return

    def _one_level(self, rule: Rule, side: Side) -> Iterator[Finding]:
        if rule.effect is not Effect.ALLOW or not rule.ops & Op.READ:
            return
        for glob in rule.paths or ():
            if not glob.endswith("/*") or glob.endswith("\\*"):
                continue
            names = plain_names(parse_glob(glob), side)
            if names is None:
                continue
            path, position = self._position((*names, "\ue000"), side)
            if position is not None and not self._answer(side, position, Op.READ, NO_FACTS).allowed:
                yield on_rule(
                    "one-level",
                    rule,
                    f"{glob} is one level: {side.caller.app} cannot read {path}",
                    f'write "{glob}*" if all that is below is meant',
                )
                return

    def _unchecked(self, rule: Rule, side: Side) -> Iterator[Finding]:
        if rule.effect is not Effect.ALLOW or not rule.ops & Op.WRITE or len(rule.paths or ()) < 2:
            return
        checked: dict[bool, str] = {}
        for glob in rule.paths or ():
            names = plain_names(parse_glob(glob), side)
            path, position = self._position(names or (), side)
            if position is not None:
                own = self._answer(side, position, Op.WRITE, Facts(None, side.caller.app))
                if own.allowed:
                    checked.setdefault(bool(own.content), path)
        if len(checked) == 2:
            yield on_rule(
                "unchecked-write",
                rule,
                f"what {side.caller.app} writes is checked at {checked[True]}, and not at {checked[False]}",
                "let the content requirement cover all paths of this allow",
            )


def _never_raw(app: App, words: frozenset[str], redaction: Rule) -> Invariant:
    rule = Rule(
        id=redaction.id, effect=Effect.DENY, ops=Op.READ, who=Who(frozenset({app.name}), None, None, None),
        paths=None, ignore_case=False, when=Block(REDACTABLE_KINDS, None, None),
        unless=(Block(None, frozenset({SELF}), None),), errno=None, redact=frozenset(), content=frozenset(),
        raw_types=frozenset(), audit=None, monitor=True, description="", where=redaction.where,
    )  # fmt: skip
    return Invariant(app.name, Promise.NEVER_RAW, rule, words, "", 1)


def _with(policy: Policy, invariants: list[Invariant]) -> Policy:
    return Policy(
        policy.name, policy.description, policy.apps, policy.rules, policy.audit_allowed, policy.audit_denied,
        policy.digest, tuple(invariants),
    )  # fmt: skip
