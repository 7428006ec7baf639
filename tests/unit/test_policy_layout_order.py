"""The order of keys follows the models of the documents."""

from __future__ import annotations

import pytest

from policyfs.policy.layout.order import order_of


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
