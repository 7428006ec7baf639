"""As much of JSON Schema as the schemas of policyfs use: to check that they accept what policyfs accepts."""

from __future__ import annotations

import re
from typing import Any

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
}  # fmt: skip
KNOWN = {
    "$schema", "$id", "$defs", "$ref", "title", "description", "type", "properties", "required",
    "additionalProperties", "items", "minItems", "anyOf", "enum", "const", "pattern", "minimum", "maximum",
}  # fmt: skip


def faults(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None, at: str = "") -> list[str]:
    """Where and why a value does not meet a schema."""
    root = root or schema
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    if "$ref" in schema:
        return faults(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root, at)
    if "anyOf" in schema:
        found = [faults(one, value, root, at) for one in schema["anyOf"]]
        return [] if [] in found else [f"{at}: none of the forms: {found}"]
    if "const" in schema and value != schema["const"]:
        return [f"{at}: not {schema['const']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: not one of {schema['enum']}"]
    wanted = TYPES.get(schema.get("type", ""))
    if wanted is not None and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        return [f"{at}: no {schema['type']}"]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return [f"{at}: not like {schema['pattern']}"]
    if isinstance(value, int) and not schema.get("minimum", 0) <= value <= schema.get("maximum", value):
        return [f"{at}: out of range"]
    if isinstance(value, list):
        items = schema.get("items", {})
        short = [f"{at}: empty"] if len(value) < schema.get("minItems", 0) else []
        return short + [
            fault for n, one in enumerate(value) for fault in faults(items, one, root, f"{at}[{n}]")
        ]
    return _of_mapping(schema, value, root, at) if isinstance(value, dict) else []


def _of_mapping(schema: dict[str, Any], value: dict[str, Any], root: dict[str, Any], at: str) -> list[str]:
    found = [f"{at}.{key}: missing" for key in schema.get("required", ()) if key not in value]
    others = schema.get("additionalProperties", True)
    for key, one in value.items():
        under = schema.get("properties", {}).get(key, others)
        if under is False:
            found.append(f"{at}.{key}: unknown")
        elif under is not True:
            found += faults(under, one, root, f"{at}.{key}")
    return found
