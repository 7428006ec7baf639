"""Findings of `policy lint` on valid policies: probable mistakes, each with an id, a reason and a place.

A new one is a function in texts.py (text of a rule), rights.py or writers.py (answers at paths of a rule),
named in the table of checks there; a row in docs/policy-tools.md; and ID.yaml, ID.txt in unit/policy_lint.
"""
