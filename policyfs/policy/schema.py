"""JSON Schemas of policies, tests and accepted changes, for editors, made from the pydantic models.

A schema accepts every file that policyfs accepts. policyfs checks more, such as the names of apps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from policyfs.policy.analysis.accepted import ACCEPTED_MODELS
from policyfs.policy.analysis.accepted import KIND as ACCEPTED
from policyfs.policy.cases.document import CASE_MODELS
from policyfs.policy.cases.document import KIND as TESTS
from policyfs.policy.text import values
from policyfs.policy.text.document import (
    API_VERSION,
    KIND,
    AppDoc,
    DefaultsDoc,
    ExceptionDoc,
    InvariantDoc,
    MetadataDoc,
    RuleDoc,
    Strict,
)

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_GLOB: Final = {"type": "string", "pattern": "^[/@]"}
_UID: Final = {"type": "integer", "minimum": 0, "maximum": values.MAX_UID}
_UIDS: Final = {"anyOf": [_UID, {"type": "string", "pattern": "^[0-9]+-[0-9]+$"}]}
_PLAIN: Final[Mapping[Callable[..., object], JsonSchemaValue]] = {
    values.text: {"type": "string"},
    values._calling_app: {"type": "string"},  # noqa: SLF001 - the schema belongs to the values
    values._owning_app: {"type": "string"},  # noqa: SLF001 - likewise
    values.name: {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*$"},
    values._words: {"type": "string", "pattern": r"\S"},  # noqa: SLF001 - likewise
    values.instant: {"type": "string", "pattern": values.INSTANT_PATTERN},
    values.age: {"type": "string", "pattern": values.AGE_PATTERN},
    values._truth: {"type": "boolean"},  # noqa: SLF001 - likewise
    values._changes: {"type": "integer", "minimum": 1, "maximum": values.MOST_CHANGES},  # noqa: SLF001 - likewise
    values._operation: {"enum": list(values.OPERATIONS)},  # noqa: SLF001 - likewise
    values._kind: {"type": "string", "pattern": "^@|/"},  # noqa: SLF001 - likewise
    values._glob: _GLOB,  # noqa: SLF001 - likewise
    values._uids: _UIDS,  # noqa: SLF001 - likewise
    values._app_uids: _UIDS,  # noqa: SLF001 - likewise
    values._gid: _UID,  # noqa: SLF001 - likewise
}
"""A dictionary from each function that checks a single value to the schema of the value."""

_LISTS: Final = (values._several, values._maybe_none, values._blocks)  # noqa: SLF001 - likewise


class _Generator(GenerateJsonSchema):
    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        return self._of(schema["function"]["function"])

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        function = schema["function"]["function"]
        if function in values.CHOICES:
            return self._of(function)
        inner = self.generate_inner(schema["schema"])
        if function in _LISTS and "items" in inner:
            several = dict(inner)
            if function is not values._maybe_none:  # noqa: SLF001 - likewise
                several["minItems"] = 1
            return {"anyOf": [inner["items"], several]}
        return inner

    @staticmethod
    def _of(function: Callable[..., object]) -> JsonSchemaValue:
        words = {choice: listed for choice, listed in values.CHOICES.items() if choice is function}
        return {"enum": list(words.popitem()[1])} if words else dict(_PLAIN[function])


def schema(kind: str = KIND) -> dict[str, object]:
    """Return the schema of a kind of file. kind: Policy, PolicyTests or AcceptedChanges."""
    properties: dict[str, object] = {"apiVersion": {"const": API_VERSION}, "kind": {"const": kind}}
    required = ["apiVersion", "kind"]
    definitions: dict[str, object] = {}
    if kind == KIND:
        properties |= {
            "metadata": _ref(MetadataDoc, definitions),
            "apps": {"type": "object", "additionalProperties": _ref(AppDoc, definitions)},
            "sets": _named(values.Kinds),
            "path_sets": _named(values.Globs),
            "defaults": _ref(DefaultsDoc, definitions),
            "rules": {"type": "array", "items": _ref(RuleDoc, definitions)},
            "exceptions": {"type": "array", "items": _ref(ExceptionDoc, definitions)},
            "invariants": {"type": "array", "items": _ref(InvariantDoc, definitions)},
        }
    else:
        key, model = _BESIDE[kind]
        properties[key] = {"type": "array", "items": _ref(model, definitions)}
        required.append(key)
    return {
        "$schema": DIALECT,
        "title": f"policyfs {kind}",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


_BESIDE: Final[Mapping[str, tuple[str, type[Strict]]]] = {TESTS: CASE_MODELS, ACCEPTED: ACCEPTED_MODELS}
KINDS: Final = (KIND, *_BESIDE)


def _ref(model: type[Strict], definitions: dict[str, object]) -> dict[str, object]:
    made = _plain(model.model_json_schema(by_alias=True, schema_generator=_Generator))
    if isinstance(made, dict):
        definitions.update(made.pop("$defs", {}))
        if "$ref" not in made:
            definitions[model.__name__] = made
    return {"$ref": f"#/$defs/{model.__name__}"}


def _plain(value: object) -> object:
    """Return a schema without what only the code needs: titles, defaults, and None for absent keys."""
    if isinstance(value, list):
        return [_plain(one) for one in value if one != {"type": "null"}]
    if not isinstance(value, dict):
        return value
    kept = {
        key: _plain(one)
        for key, one in value.items()
        if key != "default" and not (key == "title" and isinstance(one, str))
    }
    options = kept.get("anyOf")
    return options[0] if isinstance(options, list) and len(options) == 1 and len(kept) == 1 else kept


def _named(kind: type[tuple[str, ...]]) -> dict[str, object]:
    adapter: TypeAdapter[tuple[str, ...]] = TypeAdapter(kind)
    return {"type": "object", "additionalProperties": adapter.json_schema(schema_generator=_Generator)}
