"""The shape of a policy document: strict, frozen pydantic models. values.py checks the values."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from policyfs.policy.text.values import (
    Age,
    AppGid,
    AppUids,
    AuditName,
    CallingApps,
    Changes,
    ErrnoName,
    Globs,
    Instant,
    Kinds,
    Mode,
    ModesName,
    MovesName,
    Name,
    OnRefused,
    OnUnkept,
    OnUnknown,
    Operation,
    OwningApps,
    Redaction,
    Text,
    Texts,
    Truth,
    Uids,
    Words,
    _blocks,
    _maybe_none,
    _several,
    refuse,
)  # fmt: skip

API_VERSION: Final = "policyfs/v1"
KIND: Final = "Policy"


class Strict(BaseModel):
    """Base of all parts of the document."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class MetadataDoc(Strict):
    """The value of ``metadata``."""

    name: Text = ""
    description: Text = ""


class DefaultsDoc(Strict):
    """The value of ``defaults``: the audit level of events for which no rule sets one."""

    audit: AuditName | None = None
    audit_denied: AuditName | None = None


class AppDoc(Strict):
    """One app of ``apps``."""

    uid: Annotated[tuple[AppUids, ...], BeforeValidator(_several)] = ()
    gid: Annotated[tuple[AppGid, ...], BeforeValidator(_several)] = ()
    grants: Annotated[tuple[Name, ...], BeforeValidator(_maybe_none)] = ()
    modes: ModesName | None = None
    moves: MovesName | None = None
    description: Text = ""


D = TypeVar("D", bound=Strict)


def _says_something(doc: D) -> D:
    """Refuse an empty block (such as ``when: {}``), because people would not agree on its meaning."""
    if not doc.model_fields_set:
        refuse("the block is empty", "write a condition, or remove the key")
    return doc


class WhoDoc(Strict):
    """The value of ``who``, and of ``not`` in it."""

    app: CallingApps | None = None
    grant: Texts | None = None
    uid: Annotated[tuple[Uids, ...], BeforeValidator(_several)] | None = None
    not_: Annotated[WhoDoc, AfterValidator(_says_something)] | None = Field(default=None, alias="not")


class BlockDoc(Strict):
    """The value of ``when``, and each block of ``unless``."""

    type: Kinds | None = None
    owner: OwningApps | None = None
    path: Globs | None = None


SomeBlock = Annotated[BlockDoc, AfterValidator(_says_something)]


class RequireDoc(Strict):
    """The value of ``require``."""

    redact: Annotated[tuple[Redaction, ...], BeforeValidator(_several)] | None = None
    content: Kinds | None = None
    no: Annotated[tuple[Redaction, ...], BeforeValidator(_several)] | None = None
    clean: Annotated[tuple[Redaction, ...], BeforeValidator(_several)] | None = None
    keep: Age | None = None


class LimitDoc(Strict):
    """The value of ``limit``."""

    changes: Changes
    within: Age


class RuleDoc(Strict):
    """One item of ``rules``."""

    id: Name
    allow: Annotated[tuple[Operation, ...], BeforeValidator(_several)] | None = None
    deny: Annotated[tuple[Operation, ...], BeforeValidator(_several)] | None = None
    limit: LimitDoc | None = None
    require: RequireDoc | None = None
    who: Annotated[WhoDoc, AfterValidator(_says_something)] | None = None
    paths: Globs | None = None
    ignore_case: Truth = False
    when: SomeBlock | None = None
    unless: Annotated[tuple[SomeBlock, ...], BeforeValidator(_blocks)] | None = None
    errno: ErrnoName | None = None
    raw_types: Kinds | None = None
    on_unknown: OnUnknown | None = None
    on_refused: OnRefused | None = None
    on_unkept: OnUnkept | None = None
    audit: AuditName | None = None
    mode: Mode | None = None
    description: Text = ""


class ExceptionDoc(Strict):
    """One item of ``exceptions``: an allow with an end, a reason and the name of the approver."""

    id: Name
    allow: Annotated[tuple[Operation, ...], BeforeValidator(_several)]
    until: Instant
    reason: Words
    approved_by: Words = Field(alias="approved-by")
    who: Annotated[WhoDoc, AfterValidator(_says_something)] | None = None
    paths: Globs | None = None
    ignore_case: Truth = False
    when: SomeBlock | None = None
    unless: Annotated[tuple[SomeBlock, ...], BeforeValidator(_blocks)] | None = None
    audit: AuditName | None = None
    description: Text = ""


class InvariantDoc(Strict):
    """One item of ``invariants``."""

    id: Name
    never: Annotated[tuple[Operation, ...], BeforeValidator(_several)] | None = None
    only: Annotated[tuple[Operation, ...], BeforeValidator(_several)] | None = None
    never_raw: Annotated[tuple[Redaction, ...], BeforeValidator(_several)] | None = None
    who: Annotated[WhoDoc, AfterValidator(_says_something)] | None = None
    paths: Globs | None = None
    ignore_case: Truth = False
    when: SomeBlock | None = None
    unless: Annotated[tuple[SomeBlock, ...], BeforeValidator(_blocks)] | None = None
    description: Text = ""


class FileDoc(Strict):
    """The top level of a policy file. The entries of its lists and dictionaries are checked one by one."""

    api_version: Text = Field(alias="apiVersion")
    kind: Text
    metadata: MetadataDoc = MetadataDoc()
    apps: dict[str, object] = {}
    sets: dict[str, object] = {}
    path_sets: dict[str, object] = {}
    defaults: DefaultsDoc = DefaultsDoc()
    rules: list[object] | None = None
    exceptions: list[object] | None = None
    invariants: list[object] | None = None
