"""Conversion of YAML nodes to documents (pydantic models). Each app, set and rule is checked alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from policyfs.policy.errors import PolicyError, did_you_mean, quote
from policyfs.policy.model import Where
from policyfs.policy.text.document import (
    API_VERSION,
    KIND,
    AppDoc,
    BlockDoc,
    DefaultsDoc,
    ExceptionDoc,
    FileDoc,
    InvariantDoc,
    LimitDoc,
    MetadataDoc,
    RequireDoc,
    RuleDoc,
    Strict,
    WhoDoc,
)
from policyfs.policy.text.nodes import (
    Absent,
    Items,
    Loc,
    Mapping,
    Node,
    Scalar,
    Source,
    Span,
    data_of,
    node_at,
)
from policyfs.policy.text.values import EXAMPLE_INSTANT, Globs, Kinds, app_name, name, what

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

CHILDREN: Final[dict[tuple[type[Strict], str], type[Strict]]] = {
    (FileDoc, "apps"): AppDoc,
    (FileDoc, "rules"): RuleDoc,
    (FileDoc, "exceptions"): ExceptionDoc,
    (FileDoc, "invariants"): InvariantDoc,
    (FileDoc, "metadata"): MetadataDoc,
    (FileDoc, "defaults"): DefaultsDoc,
    (RuleDoc, "who"): WhoDoc,
    (RuleDoc, "when"): BlockDoc,
    (RuleDoc, "unless"): BlockDoc,
    (RuleDoc, "limit"): LimitDoc,
    (RuleDoc, "require"): RequireDoc,
    (ExceptionDoc, "who"): WhoDoc,
    (ExceptionDoc, "when"): BlockDoc,
    (ExceptionDoc, "unless"): BlockDoc,
    (InvariantDoc, "who"): WhoDoc,
    (InvariantDoc, "when"): BlockDoc,
    (InvariantDoc, "unless"): BlockDoc,
    (WhoDoc, "not"): WhoDoc,
}
"""The model of the document under a key of a model: the known keys come from these."""

_KINDS: Final[TypeAdapter[tuple[str, ...]]] = TypeAdapter(Kinds)
_GLOBS: Final[TypeAdapter[tuple[str, ...]]] = TypeAdapter(Globs)


_STAND_INS: Final[dict[str, object]] = {"until": EXAMPLE_INSTANT, "allow": "see"}
"""Values in the place of missing keys, so that the rest of the part can be checked."""

_PRUNINGS: Final = 4
"""Maximum number of attempts to check a part after its faults were removed."""

_DOCUMENTS: Final = {
    "Policy": "a policy", "Site": "a site", "PolicyTests": "a file of tests",
    "AcceptedChanges": "a file of accepted changes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part(Generic[T_co]):
    """One declaration in a file, such as an app, a set or a rule.

    subject: its name in messages. doc: its document, without its faults, so that the rest can be checked;
    None if nothing is left. sound: True without faults. key: the node of its name, if it has one.
    """

    source: Source
    node: Node
    subject: str
    doc: T_co | None
    sound: bool
    key: Scalar | None = None

    @property
    def where(self) -> Where:
        """The place at which the part begins: at its name, if it has a name."""
        return self.source.where(self.key.span if self.key is not None else self.node.span)

    def name_error(self, message: str, help_: str) -> PolicyError:
        """Return an error at the key that is the part's name, such as the name of an app."""
        span = self.key.span if self.key is not None else self.node.span
        return self.source.error(span, f"{self.subject}: {message}", help_)

    def has(self, *keys: str) -> bool:
        """Return True if the text has a value, right or wrong, at the end of this path of keys."""
        node: Node | None = self.node
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        return node is not None

    def error(self, loc: Loc, message: str, help_: str) -> PolicyError:
        """Return an error at a value of the part. loc: the keys and indices that lead to the value."""
        told = f"{_place(self.subject, loc)}: {message}"
        return self.source.error(node_at(self.node, loc).span, told, help_)

    def key_error(self, key: str, message: str, help_: str) -> PolicyError:
        """Return an error at one of the keys of the part."""
        return _key_error(self.source, self.node, self.subject, (key,), message, help_)


@dataclass(frozen=True, slots=True)
class File:
    """All declarations of one file. A part with faults is listed under its name, too."""

    source: Source
    top: Part[FileDoc]
    apps: dict[str, Part[AppDoc]]
    sets: dict[str, Part[tuple[str, ...]]]
    path_sets: dict[str, Part[tuple[str, ...]]]
    rules: tuple[Part[RuleDoc], ...]
    invariants: tuple[Part[InvariantDoc], ...] = ()
    exceptions: tuple[Part[ExceptionDoc], ...] = ()


def file_of(source: Source, root: Node, errors: list[PolicyError]) -> File:
    """Return the declarations in a file's tree of nodes. errors: a list to which faults are added."""
    if not isinstance(root, Mapping) and not _broken(root):
        message = f"the top level must be a mapping, not {what(data_of(root))}"
        errors.append(source.error(root.span, message, f"start with: apiVersion: {API_VERSION}"))
    if not isinstance(root, Mapping):
        return File(source, Part(source, root, "", None, sound=False), {}, {}, {}, ())
    if not check_head(source, root, KIND, errors):
        return File(source, Part(source, root, "", None, sound=False), {}, {}, {}, ())
    shaper = Shaper(source, errors)
    return File(
        source,
        shaper.part(root, "", FileDoc.model_validate, FileDoc),
        shaper.named(root.get("apps"), "app", AppDoc.model_validate, AppDoc),
        shaper.named(root.get("sets"), "set", _KINDS.validate_python, None),
        shaper.named(root.get("path_sets"), "path set", _GLOBS.validate_python, None),
        shaper.listed(root.get("rules"), "rule", RuleDoc.model_validate, RuleDoc),
        shaper.listed(root.get("invariants"), "invariant", InvariantDoc.model_validate, InvariantDoc),
        shaper.listed(root.get("exceptions"), "exception", ExceptionDoc.model_validate, ExceptionDoc),
    )


def check_head(source: Source, root: Mapping, kind: str, errors: list[PolicyError]) -> bool:
    """Add an error for a wrong apiVersion or kind. Return False if the other keys mean something else: then
    the file is of another version, or another document of policyfs."""
    for key, value in (("apiVersion", API_VERSION), ("kind", kind)):
        given = root.get(key)
        if not isinstance(given, Scalar) or given.value in (value, Absent.BROKEN):
            continue
        if other := _DOCUMENTS.get(given.value) if key == "kind" and isinstance(given.value, str) else None:
            message = f"this file is {other}, but {_DOCUMENTS[kind]} is needed"
            errors.append(source.error(given.span, message, f"name a file with kind: {kind}"))
            return False
        message = f"{key} {quote(given.raw)} is not known"
        errors.append(source.error(given.span, message, f"write {key}: {value}"))
        if key == "apiVersion":
            return False
    return True


class Shaper:
    """Checker of the parts (apps, sets, rules) of one file. It uses the pydantic models."""

    __slots__ = ("errors", "source")

    def __init__(self, source: Source, errors: list[PolicyError]) -> None:
        self.source = source
        self.errors = errors

    def part(
        self,
        node: Node,
        subject: str,
        validate: Callable[[object], T],
        model: type[Strict] | None,
    ) -> Part[T]:
        """Check one part of the file, and report its faults at their nodes. validate: makes the document; it
        raises pydantic's errors. model: has the known keys; None if there are none."""
        data = data_of(node)
        try:
            return Part(self.source, node, subject, validate(data), sound=True)
        except ValidationError as fault:
            details = fault.errors(include_url=False, include_input=False)
        for detail in details:
            error = self.told(detail, node, subject, model)
            if error is not None:
                self.errors.append(error)
        rest = _without_faults(data, validate, details)
        return Part(self.source, node, subject, rest, sound=False)

    def listed(
        self, node: Node | None, noun: str, validate: Callable[[object], T], model: type[Strict]
    ) -> tuple[Part[T], ...]:
        """Check the items of a list, such as ``rules``. noun: the word for an item in messages."""
        items = node.items if isinstance(node, Items) else ()
        return tuple(
            self.part(item, _subject(noun, item, number), validate, model)
            for number, item in enumerate(items, 1)
        )

    def named(
        self,
        node: Node | None,
        noun: str,
        validate: Callable[[object], T],
        model: type[Strict] | None,
    ) -> dict[str, Part[T]]:
        """Check the parts of a mapping from names to parts, such as ``apps``. noun: a part in messages."""
        if not isinstance(node, Mapping):
            return {}
        parts = {}
        for key, value in node.pairs:
            try:
                (app_name if model is AppDoc else name)(key.raw)
            except PydanticCustomError as fault:
                context = fault.context or {}
                self.errors.append(
                    self.source.error(key.span, f"{noun}: {context['message']}", context["help"])
                )
            part = self.part(value, f"{noun} {quote(key.raw)}", validate, model)
            parts[key.raw] = replace(part, key=key)
        return parts

    def told(
        self, detail: ErrorDetails, node: Node, subject: str, model: type[Strict] | None
    ) -> PolicyError | None:
        """Return an error that pydantic has found, in policyfs's words; None if the place has one already."""
        loc = detail["loc"]
        if detail["type"] == "extra_forbidden":
            known = _known_keys(model, loc[:-1])
            key = str(loc[-1])
            help_ = f"{did_you_mean(key, known)}known keys: {', '.join(known)}"
            message = f"unknown key {quote(key)}"
            return _key_error(self.source, node, subject, loc, message, help_)
        if detail["type"] == "missing":
            message, help_ = _missing(str(loc[-1]))
            place = _place(subject, loc[:-1])
            at = node_at(node, loc[:-1])
            span = at.span if not isinstance(at, Mapping) or not at.pairs else at.pairs[0][0].span
            return self.source.error(span, f"{place}: {message}" if place else message, help_)
        at = node_at(node, loc)
        if _broken(at):
            return None
        span = at.span
        if isinstance(at, Scalar) and at.value is Absent.NULL and not at.raw:
            span = _span_of_key(node, loc)
        context = detail.get("ctx", {})
        if detail["type"] == "policy":
            message, help_ = str(context["message"]), str(context["help"])
            offset = context.get("offset")
            if isinstance(at, Scalar) and isinstance(offset, int):
                span = self.source.inside(at, offset)
        else:
            message, help_ = _misshapen(detail["type"], data_of(at), detail["msg"])
        place = _place(subject, loc)
        return self.source.error(span, f"{place}: {message}" if place else message, help_)


def _without_faults(
    data: object, validate: Callable[[object], T], details: Sequence[ErrorDetails]
) -> T | None:
    for _ in range(_PRUNINGS):
        for detail in sorted(details, key=lambda detail: len(detail["loc"]), reverse=True):
            if detail["type"] == "missing" and isinstance(data, dict):
                data[str(detail["loc"][-1])] = _STAND_INS.get(str(detail["loc"][-1]), "missing")
            else:
                data = _pruned(data, detail["loc"])
        data = _swept(data)
        try:
            return validate(data)
        except ValidationError as fault:
            details = fault.errors(include_url=False, include_input=False)
    return None


def _pruned(data: object, loc: Loc) -> object:
    if not loc or not isinstance(data, dict | list):
        return Absent.BROKEN
    step = loc[0]
    if isinstance(data, dict) and step in data:
        data[step] = _pruned(data[step], loc[1:])
    elif isinstance(data, dict) and isinstance(step, int):
        return _pruned(data, loc[1:])
    elif isinstance(data, list) and isinstance(step, int) and step < len(data):
        data[step] = _pruned(data[step], loc[1:])
    return data


def _swept(data: object) -> object:
    if isinstance(data, dict):
        swept = {key: _swept(value) for key, value in data.items()}
        return {key: value for key, value in swept.items() if not _nothing(value)} or Absent.BROKEN
    if isinstance(data, list):
        return [item for item in map(_swept, data) if not _nothing(item)] or Absent.BROKEN
    return data


def _nothing(value: object) -> bool:
    return value is Absent.BROKEN or value is Absent.NULL


def _misshapen(kind: str, value: object, message: str) -> tuple[str, str]:
    """Return message and help text for a wrong value. message: pydantic's."""
    if value is Absent.NULL:
        return "has no value", "write a value, or remove the key"
    if kind in ("model_type", "dict_type"):
        return f"must be a mapping, not {what(value)}", 'write keys with values: "key: value"'
    if kind == "list_type":
        return f"must be a list, not {what(value)}", 'start each item with "- "'
    return message[:1].lower() + message[1:], "see docs/policy-language.md"


def _missing(key: str) -> tuple[str, str]:
    if key == "id":
        return "has no id", 'add an id, such as "id: media.read"; the audit trail uses the id'
    known = {"apiVersion": API_VERSION, "kind": KIND, "until": EXAMPLE_INSTANT, "allow": "[see, read]"}
    known |= {"changes": "200", "within": "10m"}
    value = known.get(key, "...")
    return f"{key} is missing", f"write {key}: {value}"


def _known_keys(model: type[Strict] | None, loc: Loc) -> list[str]:
    for step in loc:
        if isinstance(step, str) and model is not None:
            model = CHILDREN.get((model, step)) or _plain_child(model, step)
    fields = model.model_fields if model is not None else {}
    return [field.alias or name_ for name_, field in fields.items()]


def _plain_child(model: type[Strict], key: str) -> type[Strict] | None:
    field = model.model_fields.get(key)
    kind = field.annotation if field is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, Strict) else None


def _key_error(source: Source, node: Node, subject: str, loc: Loc, message: str, help_: str) -> PolicyError:
    place = _place(subject, loc[:-1])
    return source.error(_span_of_key(node, loc), f"{place}: {message}" if place else message, help_)


def _span_of_key(node: Node, loc: Loc) -> Span:
    """Return the place of the last key in *loc*: empty text cannot be marked; or of the mapping or node."""
    while loc and not isinstance(loc[-1], str):
        loc = loc[:-1]
    if not loc:
        return node.span
    parent = node_at(node, loc[:-1])
    key = parent.key(str(loc[-1])) if isinstance(parent, Mapping) else None
    return key.span if key is not None else parent.span


def _place(subject: str, loc: Loc) -> str:
    keys = ".".join(str(step) for step in loc if isinstance(step, str))
    return ", ".join(part for part in (subject, keys) if part)


def _subject(noun: str, node: Node, number: int) -> str:
    found = node.get("id") if isinstance(node, Mapping) else None
    if isinstance(found, Scalar) and isinstance(found.value, str):
        return f"{noun} {quote(found.raw)}"
    return f"{noun} number {number}"


def _broken(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is Absent.BROKEN
