"""A file of tests: its keys, and the cases that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, BeforeValidator

from policyfs.domain import FileType
from policyfs.policy.errors import PolicyError, did_you_mean, quote
from policyfs.policy.exceptions import PREFIX
from policyfs.policy.explain.explain import MOVES, REQUESTS
from policyfs.policy.model import Where
from policyfs.policy.text.companions import Head, Reader, sound
from policyfs.policy.text.document import Strict
from policyfs.policy.text.nodes import Mapping, Node, Scalar
from policyfs.policy.text.parse import SourceText
from policyfs.policy.text.shape import Part
from policyfs.policy.text.values import (
    ERRNOS,
    AuditName,
    Instant,
    Name,
    Redaction,
    Text,
    Texts,
    Truth,
    Uids,
    _maybe_none,
    _one_of,
    _several,
    name,
    refuse,
    text,
)  # fmt: skip

KIND: Final = "PolicyTests"
OPERATIONS: Final = {**dict.fromkeys(REQUESTS), **dict.fromkeys(MOVES)}
TYPES: Final = {ftype.value: ftype for ftype in FileType if ftype is not FileType.SPECIAL}
DECISIONS: Final = {"allow": True, "deny": False}
VIEWS: Final = ("raw", "checked", "redacted", "checked+redacted")


def _path(value: str) -> str:
    if not value.startswith("/"):
        refuse(f"{quote(value)} is not a path", "write it from the root of the mount, such as /DCIM/a.jpg")
    return value


def _rule_name(value: object) -> str:
    word = text(value)
    name(word.removeprefix(PREFIX))
    return word


Path = Annotated[Text, AfterValidator(_path)]
RuleName = Annotated[str, BeforeValidator(_rule_name)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_several)]
Operation = Annotated[str, BeforeValidator(_one_of(OPERATIONS))]
Operations = Annotated[tuple[Operation, ...], BeforeValidator(_several)]
TypeName = Annotated[str, BeforeValidator(_one_of(TYPES))]
DecisionName = Annotated[str, BeforeValidator(_one_of(DECISIONS))]
ViewName = Annotated[str, BeforeValidator(_one_of(dict.fromkeys(VIEWS)))]
ErrnoName = Annotated[str, BeforeValidator(_one_of({**ERRNOS, "EXDEV": None}))]


class ExpectDoc(Strict):
    """The value of ``expect``: the expected parts of the answer. An absent key is not compared."""

    decision: DecisionName
    errno: ErrnoName | None = None
    redact: Annotated[tuple[Redaction, ...], BeforeValidator(_maybe_none)] | None = None
    view: ViewName | None = None
    rules: Annotated[tuple[RuleName, ...], BeforeValidator(_maybe_none)] | None = None
    audit: AuditName | None = None
    bare: Truth | None = None
    quarantine: Truth | None = None


class CaseDoc(Strict):
    """One item of ``tests``: one request for every combination of its apps, operations and paths."""

    id: Name
    app: Texts | None = None
    uid: Annotated[tuple[Uids, ...], BeforeValidator(_several)] | None = None
    operation: Operations
    path: Paths
    to: Path | None = None
    at: Instant | None = None
    type: TypeName | None = None
    kind: Text | None = None
    content: Text | None = None
    owner: Text | None = None
    expect: ExpectDoc
    description: Text = ""


class _Top(Head):
    tests: list[object]


CASE_MODELS: Final = ("tests", CaseDoc)
"""The key of the list in a file of tests, and the pydantic model of the list's items."""


class Case(NamedTuple):
    """One test of a file: a request, and the expected answer."""

    where: Where
    doc: CaseDoc


def _subject(node: Node, number: int) -> str:
    found = node.get("id") if isinstance(node, Mapping) else None
    named = isinstance(found, Scalar) and isinstance(found.value, str)
    return f"test {quote(found.raw)}" if named and isinstance(found, Scalar) else f"test number {number}"


_READER: Final = Reader(KIND, _Top, CaseDoc, "tests", _subject)


def parse_cases(sources: Sequence[SourceText], apps: Sequence[str], rules: frozenset[str]) -> list[Case]:
    """Return the tests in some files. apps, rules: names that the policy has. Raise PolicyErrors."""
    errors: list[PolicyError] = []
    found: list[Case] = []
    seen: set[tuple[str, str]] = set()
    for source in sources:
        file = _READER.read(source, errors)
        for part in file.items if file is not None else ():
            if part.doc is None:
                continue
            _check(part, part.doc, apps, rules, errors)
            if (source.name, part.doc.id) in seen:
                errors.append(part.error(("id",), "this id is taken already", "give each test its own id"))
            seen.add((source.name, part.doc.id))
            found.append(Case(part.where, part.doc))
    sound(errors, "the tests have errors")
    return found


def _check(
    part: Part[CaseDoc], doc: CaseDoc, apps: Sequence[str], rules: frozenset[str], errors: list[PolicyError]
) -> None:
    if (doc.app is None) == (doc.uid is None) and part.sound:
        help_ = "write app: gallery, app: stranger or uid: 10011"
        errors.append(part.error((), "needs exactly one of the keys app and uid", help_))
    for index, app in enumerate(doc.app or ()):
        if app not in apps and app != "stranger":
            help_ = f"{did_you_mean(app, apps)}the policy has: {', '.join(apps)}, stranger"
            errors.append(part.error(("app", index), f"no app is named {quote(app)}", help_))
    for index, rule in enumerate(doc.expect.rules or ()):
        if rule not in rules:
            help_ = f"{did_you_mean(rule, rules)}name a rule of the policy"
            errors.append(part.error(("expect", "rules", index), f"no rule has the id {quote(rule)}", help_))
    moves = [operation for operation in doc.operation if operation in MOVES]
    if moves and doc.to is None:
        errors.append(
            part.error(
                ("operation",), f'{moves[0]} needs the key "to"', "add the new path, such as to: /DCIM/b.jpg"
            )
        )
    if doc.to is not None and len(moves) != len(doc.operation):
        help_ = f'put {" and ".join(moves)} into a separate test, with the key "to"' if moves else "remove it"
        errors.append(part.key_error("to", '"to" is for rename and link only', help_))
    if doc.kind is not None and doc.content is not None:
        errors.append(
            part.key_error("content", "kind and content cannot be used together", "keep one of them")
        )
    if doc.expect.decision == "allow" and doc.expect.errno is not None:
        help_ = "remove errno, or expect decision: deny"
        errors.append(part.error(("expect", "errno"), "an allowed request has no errno", help_))
