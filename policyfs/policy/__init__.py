"""The policy language: from a policy's text to decisions on requests.

The package is pure (layer 1): it uses no files, no clock and no event loop. The steps, in order: parse (YAML
with positions) -> document (pydantic models) -> model (frozen values) -> compile (one automaton and a table)
-> decide. docs/policy-language.md defines the language.
"""
