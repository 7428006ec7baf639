"""Conversion of the documents of all files to one policy, with checks that need more than one value.

Names are looked up, sets are expanded. The checks continue after a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from policyfs.domain import DENY_UNKNOWN, Audit, Keep, Op, ban, cleaning
from policyfs.policy.errors import PolicyError, listed
from policyfs.policy.exceptions import PREFIX
from policyfs.policy.model import (
    App,
    Effect,
    ExceptionRule,
    Invariant,
    Limit,
    Policy,
    Promise,
    Rule,
    Who,
)
from policyfs.policy.text.conditions import Conditions
from policyfs.policy.text.declarations import Declarations, already
from policyfs.policy.text.document import AppDoc, ExceptionDoc, InvariantDoc, RuleDoc
from policyfs.policy.text.nodes import Scalar, node_at
from policyfs.policy.text.shape import File, Part
from policyfs.policy.text.values import AUDITS, ERRNOS, MODES, OPERATIONS, merged


def resolve(
    files: Sequence[File],
    *,
    complete: bool,
    redactable: frozenset[str],
    digest: str,
    errors: list[PolicyError],
) -> Policy:
    """Return the policy that the files declare together, valid if no error was added to *errors*.

    complete: False if a file could not be read: it may declare unknown names. redactable: kinds that policyfs
    redacts.
    """
    names = Declarations(files, complete, errors)
    rules = _Rules(names, redactable, errors)
    made = [rules.rule(part, part.doc) for file in files for part in file.rules if part.doc is not None]
    promised = [
        rules.invariant(part, part.doc) for file in files for part in file.invariants if part.doc is not None
    ]
    dated = [
        rules.exception(part, part.doc) for file in files for part in file.exceptions if part.doc is not None
    ]
    _check_ids((part for file in files for part in file.rules), errors)
    _check_ids((part for file in files for part in file.invariants), errors)
    _check_ids((part for file in files for part in file.exceptions), errors)
    if complete and not any(_has_rules(file) for file in files):
        top = files[0].top
        help_ = "add rules: without rules nothing is allowed (to allow nothing on purpose, write rules: [])"
        errors.append(top.source.error(top.node.span, "the policy has no rules", help_))
    return Policy(
        name="+".join(dict.fromkeys(_title(file) for file in files)),
        description="\n".join(
            file.top.doc.metadata.description
            for file in files
            if file.top.doc is not None and file.top.doc.metadata.description
        ),
        apps=tuple(_app(name, part) for name, part in sorted(names.apps.items()) if part.doc),
        rules=tuple(rule for rule in made if rule is not None),
        audit_allowed=_default(files, "audit", Audit.BEST_EFFORT, errors),
        audit_denied=_default(files, "audit_denied", Audit.REQUIRED, errors),
        digest=digest,
        invariants=tuple(one for one in promised if one is not None),
        exceptions=tuple(dated),
    )


def _check_ids(parts: Iterable[Part[object]], errors: list[PolicyError]) -> None:
    seen: dict[str, Part[object]] = {}
    for part in parts:
        node = node_at(part.node, ("id",))
        if isinstance(node, Scalar) and isinstance(node.value, str):
            first = seen.setdefault(node.raw, part)
            if first is not part:
                noun = part.subject.split(maxsplit=1)[0]
                message = already("this id is taken", first.where)
                errors.append(part.error(("id",), message, f"give each {noun} its own id"))


def _has_rules(file: File) -> bool:
    return not file.top.sound or file.top.has("rules")


def _title(file: File) -> str:
    named = file.top.doc.metadata.name if file.top.doc is not None else ""
    return named or file.source.name.rsplit("/", 1)[-1].removesuffix(".yaml")


def _default(files: Sequence[File], key: str, otherwise: Audit, errors: list[PolicyError]) -> Audit:
    chosen: tuple[File, str] | None = None
    for file in files:
        word = getattr(file.top.doc.defaults, key) if file.top.doc is not None else None
        if word is None:
            continue
        if chosen is not None:
            loc = ("defaults", key)
            first = chosen[0].source.where(node_at(chosen[0].top.node, loc).span)
            errors.append(file.top.error(loc, already("this default is set", first), "keep one of them"))
        chosen = chosen or (file, word)
    return AUDITS[chosen[1]] if chosen is not None else otherwise


def _app(name: str, part: Part[AppDoc]) -> App:
    doc = part.doc or AppDoc()
    modes = None if doc.modes is None else MODES[doc.modes]
    gids = tuple(dict.fromkeys(doc.gid))
    grants = frozenset(doc.grants)
    free = doc.moves is not None
    return App(name, merged(doc.uid), gids, grants, doc.description, modes, part.where, free)


class _Rules:
    __slots__ = ("conditions", "errors", "names", "redactable")

    def __init__(self, names: Declarations, redactable: frozenset[str], errors: list[PolicyError]) -> None:
        self.names = names
        self.conditions = Conditions(names)
        self.redactable = redactable
        self.errors = errors

    def rule(self, part: Part[RuleDoc], doc: RuleDoc) -> Rule | None:
        effect = self._effect(part)
        self._check_companions(part, doc, effect)
        conditions = self.conditions.of(part, doc)
        words = _words(doc)
        named = self._raw_types(part, doc) if _is_about_words(part, effect) else frozenset()
        raw_types = named - self.redactable
        required = doc.require.content if doc.require is not None else None
        content = self.conditions.kinds(part, ("require", "content"), required)
        if effect is None:
            return None
        return Rule(
            id=doc.id,
            effect=effect,
            ops=_ops(doc, effect),
            errno=ERRNOS[doc.errno] if doc.errno is not None else None,
            limit=None if doc.limit is None else Limit(doc.limit.changes, doc.limit.within),
            redact=words if effect is Effect.REDACT else frozenset(),
            content=content or _about(doc, words, raw_types),
            raw_types=raw_types,
            overridden=named & self.redactable,
            audit=AUDITS[doc.audit] if doc.audit is not None else None,
            monitor=doc.mode is not None,
            where=part.where,
            quarantine=doc.on_refused == "quarantine",
            keep=_keep(doc),
            **conditions,
        )

    def invariant(self, part: Part[InvariantDoc], doc: InvariantDoc) -> Invariant | None:
        given = [promise for promise in Promise if part.has(promise.value)]
        help_ = "write exactly one of never, only, never_raw; make one invariant for each"
        if len(given) != 1:
            if given:
                message = f"has {' and '.join(promise.value for promise in given)}"
                self.errors.append(part.key_error(given[1].value, message, help_))
            elif part.sound:
                message = f"{part.subject}: has none of never, only, never_raw"
                self.errors.append(part.source.error(part.node.span, message, help_))
            return None
        (promise,) = given
        conditions = self.conditions.of(part, doc)
        if promise is Promise.ONLY:
            if conditions["who"] is None and part.sound:
                told = "add who, with the callers that may do this; if no caller may, write never"
                self.errors.append(part.key_error("only", '"only" needs the key "who"', told))
            conditions["who"] = Who(None, None, None, conditions["who"])
        ops = Op.READ if promise is Promise.NEVER_RAW else _named(doc.never or doc.only or ())
        span = part.node.span
        rule = Rule(
            id=doc.id,
            effect=Effect.DENY,
            ops=ops,
            monitor=True,
            where=part.source.where(span),
            **conditions,
        )
        line = part.source.lines[span.line - 1]
        return Invariant(doc.id, promise, rule, frozenset(doc.never_raw or ()), line, span.width)

    def exception(self, part: Part[ExceptionDoc], doc: ExceptionDoc) -> ExceptionRule:
        conditions = self.conditions.of(part, doc)
        rule = Rule(
            id=PREFIX + doc.id,
            effect=Effect.ALLOW,
            ops=_named(doc.allow),
            audit=Audit.REQUIRED if doc.audit is None else AUDITS[doc.audit],
            where=part.where,
            **conditions,
        )
        return ExceptionRule(rule, doc.until, doc.reason, doc.approved_by)

    def _effect(self, part: Part[RuleDoc]) -> Effect | None:
        given = [key for key in ("allow", "deny", "limit", "require") if part.has(key)]
        if len(given) != 1:
            help_ = "write exactly one of allow, deny, limit, require; make one rule for each"
            if given:
                message = f"has {' and '.join(given)}"
                self.errors.append(part.key_error(given[1], message, help_))
            elif part.sound:
                message = "has none of allow, deny, limit, require"
                self.errors.append(part.source.error(part.node.span, f"{part.subject}: {message}", help_))
            return None
        if given != ["require"]:
            return Effect(given[0])
        required = [key for key in _REQUIRED if part.has("require", key)]
        if len(required) != 1:
            if not part.sound and not required:
                return None
            message = f"must have exactly one of {', '.join(_REQUIRED)}"
            help_ = (
                "write require: {redact: [location]}, require: {content: [image/jpeg]},"
                " require: {no: [location]} or require: {clean: [location]}"
            )
            self.errors.append(part.error(("require",), message, help_))
            return None
        return {"redact": Effect.REDACT, "keep": Effect.KEEP}.get(required[0], Effect.CONTENT)

    def _check_companions(self, part: Part[RuleDoc], doc: RuleDoc, effect: Effect | None) -> None:
        if effect is None:
            return
        report = self.errors.append
        if doc.errno is not None and effect is not Effect.DENY:
            help_ = "remove it; only a deny rule has an errno"
            report(part.key_error("errno", f"errno cannot be used with {effect.value}", help_))
        elif doc.errno not in (None, "ENOENT") and Op.SEE in _ops(doc, effect):
            message = f"{doc.errno} on a deny of see would reveal that the name exists"
            help_ = (
                "remove errno (a denied see ends in ENOENT), or deny the other operations in a second rule"
            )
            report(part.error(("errno",), message, help_))
        if effect is Effect.LIMIT:
            self._check_limit(part, doc)
        if doc.raw_types is not None and not _is_about_words(part, effect):
            help_ = 'remove it; only rules with "redact", "no" or "clean" have raw_types'
            report(part.key_error("raw_types", f"raw_types cannot be used with {effect.value}", help_))
        self._check_on_unknown(part, doc, effect)
        if doc.on_refused is not None and effect is not Effect.CONTENT:
            help_ = 'remove it; only rules with "content", "no" or "clean" have on_refused'
            report(part.key_error("on_refused", f"on_refused cannot be used with {effect.value}", help_))
        if doc.on_unkept is not None and effect is not Effect.KEEP:
            help_ = 'remove it; only rules with "keep" have on_unkept'
            report(part.key_error("on_unkept", f"on_unkept cannot be used with {effect.value}", help_))
        if doc.mode is not None and doc.require is not None and (doc.require.no or doc.require.clean):
            help_ = 'remove mode; only rules with "allow", "deny" or "content" can be monitored'
            message = 'a rule with "no" or "clean" cannot be monitored, only enforced'
            report(part.key_error("mode", message, help_))
        if doc.mode is not None and effect in (Effect.REDACT, Effect.KEEP):
            help_ = 'remove mode; only rules with "allow", "deny" or "content" can be monitored'
            noun = "a redaction" if effect is Effect.REDACT else 'a rule with "keep"'
            report(part.key_error("mode", f"{noun} cannot be monitored, only enforced", help_))

    def _check_limit(self, part: Part[RuleDoc], doc: RuleDoc) -> None:
        for key in ("mode", "audit"):
            if getattr(doc, key) is not None:
                help_ = f"remove it; a limit has no {key}"
                self.errors.append(part.key_error(key, f"{key} cannot be used with limit", help_))
        for key, blocks in (("when", (doc.when,)), ("unless", doc.unless or ())):
            if any(block is not None and block.type is not None for block in blocks):
                help_ = "write path or owner; no file's content is examined before it is counted"
                self.errors.append(part.key_error(key, "type cannot be used with limit", help_))

    def _check_on_unknown(self, part: Part[RuleDoc], doc: RuleDoc, effect: Effect) -> None:
        if doc.on_unknown is None:
            return
        required = next((key for key in _REQUIRED if part.has("require", key)), effect.value)
        words = _ON_UNKNOWN.get(required)
        if words is None:
            help_ = 'remove it; only rules with "redact" or "no" have on_unknown'
            message = f"on_unknown cannot be used with {required}"
            self.errors.append(part.key_error("on_unknown", message, help_))
        elif doc.on_unknown not in words:
            message = f"on_unknown: {doc.on_unknown} cannot be used with {required}"
            self.errors.append(part.error(("on_unknown",), message, f"known here: {', '.join(words)}"))

    def _raw_types(self, part: Part[RuleDoc], doc: RuleDoc) -> frozenset[str]:
        """Return the kinds of ``raw_types``. Add an error for each pattern of kinds that policyfs can redact.

        A kind of its own is no error: a later release can redact it, and must mount an older policy.
        """
        loc = ("raw_types",)
        members = self.names.expand(part, loc, doc.raw_types or (), globs=False)
        for index, kind in members:
            stem = kind.removesuffix("*")
            known = [r for r in self.redactable if kind != stem and r.startswith(stem)]
            if known:
                message = f"{kind} covers {listed(known)}, which policyfs can redact"
                help_ = "write the kinds that policyfs cannot redact, or exclude an app with who"
                self.errors.append(part.error((*loc, index), message, help_))
        return frozenset(kind for _, kind in members)


_REQUIRED: Final = ("redact", "content", "no", "clean", "keep")
_ON_UNKNOWN: Final = {"redact": ("zero", "deny"), "no": ("allow", "deny")}
"""The permitted values of ``on_unknown`` for each requirement. The first value is the default."""


def _about(doc: RuleDoc, words: frozenset[str], raw_types: frozenset[str]) -> frozenset[str]:
    if doc.require is None or not (doc.require.no or doc.require.clean):
        return frozenset()
    return frozenset({ban(words) if doc.require.no else cleaning(words), *raw_types})


def _is_about_words(part: Part[RuleDoc], effect: Effect | None) -> bool:
    """Return True if the rule's requirement has words: then it may have ``raw_types``."""
    return effect is Effect.REDACT or part.has("require", "no") or part.has("require", "clean")


def _words(doc: RuleDoc) -> frozenset[str]:
    required = doc.require
    given = () if required is None else (required.redact, required.no, required.clean)
    words = frozenset(word for words in given for word in words or ())
    return words | {DENY_UNKNOWN} if words and doc.on_unknown == "deny" else words


def _keep(doc: RuleDoc) -> Keep | None:
    if doc.require is None or doc.require.keep is None:
        return None
    return Keep(doc.require.keep, strict=doc.on_unkept != "record")


def _ops(doc: RuleDoc, effect: Effect) -> Op:
    if effect is Effect.REDACT:
        return Op.READ
    if effect is Effect.CONTENT:
        return Op.WRITE | Op.CREATE
    if effect is Effect.LIMIT:
        return Op.WRITE | Op.DELETE
    if effect is Effect.KEEP:
        return Op.WRITE | Op.DELETE | Op.ATTR
    return _named(doc.allow or doc.deny or ())


def _named(words: Iterable[str]) -> Op:
    ops = Op(0)
    for word in words:
        ops |= OPERATIONS[word]
    return ops
