"""The configuration of `policyfs audit forward`: a YAML file, read as strictly as a policy (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple, TypeVar

from pydantic import BeforeValidator, PlainValidator

from policyfs.errors import EXIT_USAGE
from policyfs.policy.errors import PolicyError, PolicyErrors, listed, quote
from policyfs.policy.text.companions import Head
from policyfs.policy.text.compose import UnreadableError, compose, decode
from policyfs.policy.text.document import API_VERSION, Strict
from policyfs.policy.text.nodes import Items, Node, Scalar, data_of
from policyfs.policy.text.nodes import Mapping as Node_
from policyfs.policy.text.parse import SourceText
from policyfs.policy.text.shape import Part, Shaper, check_head
from policyfs.policy.text.values import Name, Texts, _one_of, refuse, text, what
from policyfs.trail.query.parser import QueryError
from policyfs.trail.query.selection import Selection, parse_query
from policyfs.trail.query.terms import Clock

KIND: Final = "Forward"

DENIALS: Final = "denials"
RULE: Final = "rule"
QUERY: Final = "query"
POLICY: Final = "policy"
DEGRADED: Final = "degraded"
TAMPERED: Final = "tampered"
WORKER: Final = "worker"
UNREDACTABLE: Final = "unredactable"
ENDED: Final = "ended"
KILLED: Final = "killed"
CLASSES: Final = (RULE, QUERY, DENIALS, DEGRADED, TAMPERED, POLICY, WORKER, UNREDACTABLE, ENDED, KILLED)
"""The possible values of the key ``on`` of an alert. docs/audit.md explains each value."""

_DURATION: Final = re.compile(r"(\d{1,6})(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class ForwardErrors(PolicyErrors):
    """All errors in the configuration of `policyfs audit forward`, each with file, line and column."""

    exit_code = EXIT_USAGE


# -- values


def _duration(value: object) -> float:
    word = text(value)
    match = _DURATION.fullmatch(word)
    if match is None:
        refuse(f"{quote(word)} is not a duration", "write a number and a unit: 500ms, 10s, 5m, 1h, 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _longer(value: object) -> float:
    seconds = _duration(value)
    if not seconds:
        refuse("must be longer than 0", "write a number and a unit: 500ms, 10s, 5m, 1h, 7d")
    return seconds


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1_000_000_000:
        refuse("must be a whole number of at least 1", "write a plain number, such as 100")
    return value


def _file(value: object) -> str:
    word = text(value)
    if not word.startswith("/"):
        refuse(f"{quote(word)} is not an absolute path", "begin the path with /")
    return word


def _words(value: object) -> object:
    if not isinstance(value, list) or not value:
        refuse(
            f"must be a list, not {what(value)}",
            "write the command and its arguments: [/usr/bin/logger, -t, x]",
        )
    return tuple(value)


Duration = Annotated[float, PlainValidator(_longer)]
"""A duration in seconds, longer than 0. The file has a number with a unit, such as ``500ms`` or ``5m``."""
DurationOrZero = Annotated[float, PlainValidator(_duration)]
"""A duration in seconds, which may be 0."""
Count = Annotated[int, PlainValidator(_count)]
File = Annotated[str, PlainValidator(_file)]
Words = Annotated[tuple[Annotated[str, PlainValidator(text)], ...], BeforeValidator(_words)]
Text = Annotated[str, PlainValidator(text)]
Start = Annotated[str, PlainValidator(_one_of({"begin": None, "now": None}))]
Format = Annotated[str, PlainValidator(_one_of({"line": None, "text": None}))]
ClassName = Annotated[str, PlainValidator(_one_of(dict.fromkeys(CLASSES)))]


# -- documents


class TargetDoc(Strict):
    """The keys that items of ``sinks`` and ``alerts`` share. file, command: the destination, one of the two.
    timeout: the limit for one run of the command."""

    id: Name
    file: File | None = None
    command: Words | None = None
    format: Format = "line"
    timeout: Duration = 10.0


class SinkDoc(TargetDoc):
    """One item of ``sinks``: a destination that gets lines of the trail."""

    query: Text = ""
    start: Start = "begin"


class AlertDoc(TargetDoc):
    """One item of ``alerts``: a condition, and a destination for messages about lines that match it."""

    on: ClassName
    rules: Texts | None = None
    query: Text = ""
    more_than: Count = 100
    within: Duration = 60.0
    every: DurationOrZero = 60.0


class TopDoc(Head):
    """The keys at the top level of the configuration file of `policyfs audit forward`."""

    user: Text = ""
    state: File = "/var/lib/policyfs-forward"
    sinks: list[object] | None = None
    alerts: list[object] | None = None


class Config(NamedTuple):
    """A valid configuration of `policyfs audit forward`. user: the user that delivers. state: the directory
    of cursors (how far each sink has got) and status."""

    user: str
    state: str
    sinks: tuple[SinkDoc, ...]
    alerts: tuple[AlertDoc, ...]


# -- reading

T = TypeVar("T", bound=TargetDoc)


def parse_config(source_text: SourceText) -> Config:
    """Parse and check a configuration file. Raises ForwardErrors with all errors of the file."""
    errors: list[PolicyError] = []
    config = _read(source_text, errors)
    if errors or config is None:
        raise ForwardErrors(errors, "the configuration has errors")
    return config


def _read(source_text: SourceText, errors: list[PolicyError]) -> Config | None:
    try:
        source = decode(source_text.name, source_text.text, errors)
        root = compose(source, errors)
    except UnreadableError:
        return None
    if not isinstance(root, Node_):
        message = f"the top level must be a mapping, not {what(data_of(root))}"
        errors.append(source.error(root.span, message, f"start with: apiVersion: {API_VERSION}"))
        return None
    if not check_head(source, root, KIND, errors):
        return None
    shaper = Shaper(source, errors)
    top = shaper.part(root, "", TopDoc.model_validate, TopDoc)
    ids: set[str] = set()

    def parts(noun: str, model: type[T]) -> Iterator[T]:
        found = root.get(f"{noun}s")
        for number, item in enumerate(found.items if isinstance(found, Items) else (), 1):
            part = shaper.part(item, _subject(noun, item, number), model.model_validate, model)
            if part.doc is not None and part.sound:
                _check(part, part.doc, ids, errors)
                yield part.doc

    sinks, alerts = tuple(parts("sink", SinkDoc)), tuple(parts("alert", AlertDoc))
    if not (sinks or alerts or errors):
        errors.append(
            source.error(root.span, "there is nothing to forward", "add sinks or alerts")
        )
    return None if top.doc is None else Config(top.doc.user, top.doc.state, sinks, alerts)


def _subject(noun: str, node: Node, number: int) -> str:
    found = node.get("id") if isinstance(node, Node_) else None
    if isinstance(found, Scalar) and isinstance(found.value, str):
        return f"{noun} {quote(found.raw)}"
    return f"{noun} number {number}"


def _check(part: Part[T], doc: TargetDoc, ids: set[str], errors: list[PolicyError]) -> None:
    if doc.id in ids:
        errors.append(
            part.error(
                ("id",),
                "this id is taken already",
                "give each sink and alert its own id: policyfs stores a position in the trail under the id",
            )
        )
    ids.add(doc.id)
    if (doc.file is None) == (doc.command is None):
        help_ = "add file: /path, or command: [/path/of/the/command]"
        errors.append(part.error((), 'one of "file" and "command" is needed, and not both', help_))
    if doc.command is not None and not doc.command[0].startswith("/"):
        message = f"{quote(doc.command[0])} is not an absolute path"
        errors.append(part.error(("command", 0), message, "write the whole path"))
    if doc.command is None and part.has("timeout"):
        errors.append(part.key_error("timeout", '"timeout" is for commands only', "remove it"))
    if isinstance(doc, AlertDoc):
        _check_alert(part, doc, errors)
    if isinstance(doc, SinkDoc | AlertDoc) and doc.query:
        try:
            selection_of(doc.query)
        except QueryError as wrong:
            errors.append(part.error(("query",), wrong.plain, "docs/audit.md, Queries, has the language"))


def _check_alert(part: Part[T], doc: AlertDoc, errors: list[PolicyError]) -> None:
    if doc.on == RULE and doc.rules is None:
        errors.append(part.error(("on",), '"on: rule" needs the key "rules"', "add rules: [the.id]"))
    if doc.on != RULE and doc.rules is not None:
        errors.append(part.key_error("rules", '"rules" is for "on: rule" only', "remove it"))
    if doc.on == QUERY and not doc.query:
        errors.append(
            part.error(("on",), '"on: query" needs the key "query"', "add query: 'app:gallery decision:deny'")
        )
    if doc.on in {DEGRADED, TAMPERED, POLICY, WORKER, ENDED, KILLED} and doc.query:
        help_ = f"remove it: {doc.on} is about records of the journal; queries are for {listed(_EVENTS)}"
        errors.append(part.key_error("query", f"an alert on {doc.on} has no query", help_))
    for key in ("more_than", "within"):
        if doc.on != DENIALS and part.has(key):
            errors.append(part.key_error(key, f"{key} is for on: denials only", "remove it"))


_EVENTS: Final = (RULE, QUERY, DENIALS, UNREDACTABLE)


def selection_of(query: str) -> Selection:
    """Return a query, ready to test events. An empty query matches all events. Raises QueryError."""
    return Selection(parse_query(query), Clock(datetime.now(UTC), UTC), query)
