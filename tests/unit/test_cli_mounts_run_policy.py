"""The policy of `policyfs run` without --policy."""

from __future__ import annotations

import pytest

from policyfs.cli.mounts.run_policy import policy_text
from policyfs.domain import Facts, FileType, Op
from policyfs.policy.decide import compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy

APP = "my-app"


@pytest.mark.parametrize(
    ("path", "read", "write"),
    [
        (b"/a*b/[c]", True, False), (b"/a*b/[c]/d/e", True, False), (b"/axb/[c]", False, False),
        (b"/a*b/c", False, False), (b"/d", True, True), (b"/d/e", True, True), (b"/de", False, False),
    ],
)  # fmt: skip
def test_names_of_paths_stand_for_themselves(path: bytes, read: bool, write: bool) -> None:
    text = policy_text(APP, "/store", ["a*b/[c]"], ["/store/d/"])
    engine = compile_policy(parse_policy([SourceText("p", text.encode())]))
    who, state = engine.app_principal(APP, 0), engine.state_of(path)

    def may(ops: Op) -> bool:
        return engine.decide(who, ops, state, FileType.REGULAR, Facts(None, None)).allowed

    assert (may(Op.SEE | Op.READ), may(Op.WRITE)) == (read, write)


def test_the_store_itself_can_be_named() -> None:
    for path in (".", "/store"):
        assert '["/***"]' in policy_text("a", "/store", [path], [])
