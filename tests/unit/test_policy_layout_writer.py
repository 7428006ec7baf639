"""Single points of the canonical form; tests/unit/policy_layouts has whole files."""

from __future__ import annotations

import pytest

from policyfs.policy.layout.canonical import canonical
from policyfs.policy.layout.writer import order_of

HEAD = "apiVersion: policyfs/v1\nkind: Policy\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules: []\n", "\nrules: []\n"),
        ("apps: {a: {}}\n", "\napps:\n  a: {}\n"),
        ("defaults: {audit_denied: off, audit: off}\n", "\ndefaults: {audit: off, audit_denied: off}\n"),
        ("metadata: {description: d, name: n}\n", "metadata:\n  name: n\n  description: d\n"),
        ("sets:\n  a: [x/y,\n  z/z]\n\n\n  b: x/y\n", "\nsets:\n  a: [x/y, z/z]\n\n  b: x/y\n"),
        ("rules:\n- id: a\n\n\n- id: b\n", "\nrules:\n  - id: a\n\n  - id: b\n"),
        ("rules:\n- # c\n  id: a\n", "\nrules:\n  # c\n  - id: a\n"),
        (
            "rules:\n- id: a\n  when: {type: [a/b]} # c\n",
            "\nrules:\n  - id: a\n    when: {type: [a/b]}  # c\n",
        ),
        ("rules:\n- id: a\n  who: {app: # c\n    b}\n", "\nrules:\n  - id: a\n    who:\n      app: b  # c\n"),
        ("rules:\n- id: a\n# end\n", "\nrules:\n  - id: a\n  # end\n"),
    ],
)
def test_form(text: str, expected: str):
    assert canonical(HEAD + text) == HEAD + expected
    assert canonical(HEAD + expected) == HEAD + expected


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ((), ("apiVersion", "kind", "metadata", "apps")),
        (("metadata",), ("name", "description")),
        (("rules", "*"), ("id", "description", "allow", "deny", "require")),
        (("rules", "*", "who"), ("app", "grant", "uid", "not")),
        (("rules", "*", "who", "not"), ("app", "grant", "uid", "not")),
        (("rules", "*", "unless", "*"), ("type", "owner", "path")),
        (("invariants", "*"), ("id", "description", "never")),
        (("tests", "*"), ("id", "description", "app")),
        (("tests", "*", "expect"), ("decision", "errno")),
        (("apps", "*"), ("uid", "gid", "grants")),
        (("apps",), ()),
        (("sets",), ()),
        (("*",), ()),
    ],
)
def test_orders(path: tuple[str, ...], keys: tuple[str, ...]):
    assert order_of(path)[: len(keys)] == keys
    assert bool(order_of(path)) == bool(keys)
