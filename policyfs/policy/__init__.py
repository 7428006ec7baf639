"""The policy language: text in, decisions out.

Pure (layer 1): knows no file system, no clock, no event loop. The pipeline, in order:
parse (YAML with positions) -> document (pydantic shapes) -> model (frozen values) ->
compile (one automaton and a table) -> decide. The language is docs/policy-language.md.
"""
