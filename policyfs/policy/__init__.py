"""The policy language: from a policy's text to decisions on requests (docs/policy-language.md).

The package is pure: no files, no clock, no event loop. Its steps: parse (YAML with positions) -> document
(pydantic models) -> model (frozen values) -> compile (one automaton and a table) -> decide.
"""
