"""Documents of a policy: strict, frozen, no key that is unknown, no block that says nothing."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from policyfs.policy.text.document import (
    AppDoc,
    BlockDoc,
    FileDoc,
    InvariantDoc,
    RequireDoc,
    RuleDoc,
    Strict,
    WhoDoc,
)
from policyfs.policy.text.nodes import Absent


def faults(model: type[Strict], value: object) -> set[tuple[tuple[int | str, ...], str]]:
    """The places of a value's faults, and their sorts."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return {(fault["loc"], fault["type"]) for fault in caught.value.errors()}


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (AppDoc, {"uids": 5}),
        (BlockDoc, {"kind": "image/png"}),
        (RequireDoc, {"redacts": "location"}),
        (RuleDoc, {"id": "r", "not_": {}}),
        (InvariantDoc, {"id": "i", "allow": "see"}),
        (FileDoc, {"apiVersion": "a", "kind": "b", "api_version": "c"}),
        (WhoDoc, {"not_": {"app": "a"}}),
    ],
)
def test_an_unknown_key_is_a_fault(model: type[Strict], value: dict[str, object]) -> None:
    unknown = list(value)[-1]
    assert faults(model, value) == {((unknown,), "extra_forbidden")}


def test_no_document_changes_once_it_is_made() -> None:
    rule = RuleDoc.model_validate({"id": "r"})
    with pytest.raises(ValidationError):
        rule.id = "other"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"id": "r", "who": {}}, ("who",)),
        ({"id": "r", "who": {"not": {}}}, ("who", "not")),
        ({"id": "r", "when": {}}, ("when",)),
        ({"id": "r", "unless": [{"owner": "a"}, {}]}, ("unless", 1)),
    ],
)
def test_an_empty_block_is_a_fault_at_its_place(value: object, place: tuple[int | str, ...]) -> None:
    """Nobody could say whether it matches everything or nothing."""
    assert faults(RuleDoc, value) == {(place, "policy")}


def test_a_value_stands_for_a_list_of_one() -> None:
    rule = RuleDoc.model_validate(
        {"id": "r", "allow": "see", "who": {"app": "a", "uid": 7}, "unless": {"type": "text/plain"}}
    )
    assert rule.allow == ("see",)
    assert rule.who is not None
    assert (rule.who.app, rule.who.uid) == (("a",), ((7, 7),))
    assert [block.type for block in rule.unless or ()] == [("text/plain",)]
    app = AppDoc.model_validate({"uid": "1-3", "gid": 44, "grants": "g"})
    assert (app.uid, app.gid, app.grants) == (((1, 3),), (44,), ("g",))


def test_only_grants_may_be_an_empty_list() -> None:
    assert AppDoc.model_validate({"grants": []}).grants == ()
    for key in ("uid", "gid"):
        assert faults(AppDoc, {key: []}) == {((key,), "policy")}
    for key in ("allow", "deny", "unless", "paths", "raw_types"):
        assert faults(RuleDoc, {"id": "r", key: []}) == {((key,), "policy")}


def test_a_key_without_a_value_is_a_fault_also_where_the_key_may_be_absent() -> None:
    for key in ("allow", "require", "who", "paths", "errno", "mode", "ignore_case"):
        assert {place[0] for place, _ in faults(RuleDoc, {"id": "r", key: Absent.NULL})} == {key}


def test_each_fault_has_its_own_place() -> None:
    value = {"id": "", "allow": ["see", "list"], "who": {"uid": [1, "x"], "not": {"app": 5}}}
    assert {place for place, _ in faults(RuleDoc, value)} == {
        ("id",), ("allow", 1), ("who", "uid", 1), ("who", "not", "app", 0),
    }  # fmt: skip


def test_a_file_needs_its_version_and_its_kind_and_leaves_its_parts_to_others() -> None:
    assert faults(FileDoc, {"apps": {}}) == {(("apiVersion",), "missing"), (("kind",), "missing")}
    file = FileDoc.model_validate({"apiVersion": "v", "kind": "k", "apps": {"A!": 3}, "rules": [7]})
    assert (file.apps, file.rules, file.invariants) == ({"A!": 3}, [7], None)
