"""YAML is read by the rules that Compose has: YAML 1.2, with merge keys, and repeated keys an error."""

from __future__ import annotations

import json

import pytest

from policyfs.cli.site.compose_yaml import documents


def read(text: str) -> object:
    (document,) = documents(text.encode())
    return document[0]


def test_types_are_those_of_yaml_1_2() -> None:
    text = (
        "a: [yes, on, Off, true, FALSE, ~, null, '', 12, 0o7, 0x1F, 010, 1.5, 1_000, 2001-01-01, 22:22, '1']"
    )
    assert read(f"{text}\n1: x") == {
        "a": ["yes", "on", "Off", True, False, None, None, "", 12, 7, 31, "010", "1.5", "1_000", "2001-01-01",
              "22:22", "1"],
        "1": "x",
    }  # fmt: skip


def test_what_libyaml_does_not_read() -> None:
    assert read("a: [./db:/var/lib/mysql, a:b]") == {"a": ["./db:/var/lib/mysql", "a:b"]}
    ((tree, tags),) = documents(b"a: !override [1]\nb: {c: !reset null, d: &e {f: !reset [2]}}\ng: *e\n")
    assert tree == {"a": [1], "b": {"c": "null", "d": {"f": [2]}}, "g": {"f": [2]}}
    assert tags == [
        (["a"], "!override"), (["b", "c"], "!reset"), (["b", "d", "f"], "!reset"), (["g", "f"], "!reset"),
    ]  # fmt: skip
    ((_, tags),) = documents(b"a: !override {b: !reset [1]}\nc: !reset 2")
    assert tags == [(["a"], "!override"), (["c"], "!reset")], "none within another, as in Compose"
    assert [tree for tree, _ in documents(b"a: 1\n---\nb: 2\n---\n")][:2] == [{"a": 1}, {"b": 2}]
    assert documents(b"") == []


def test_merge_keys() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\n"
    both = {"x": {"a": 1, "b": 2}, "y": {"b": 3, "c": 4}}
    assert read(f"{text}z: {{c: 5, <<: [*x, *y]}}") == both | {"z": {"a": 1, "b": 2, "c": 5}}
    assert read(f"{text}z: {{<<: *y, '<<': 6}}") == both | {"z": {"b": 3, "c": 4, "<<": 6}}
    ((_, tags),) = documents(b"x: &x {a: !reset 1, b: !reset 2}\nz: {<<: *x, a: 3}")
    assert [path for path, _ in tags] == [["x", "a"], ["x", "b"], ["z", "b"]]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2", "a: {<<: 3}", "a: {<<: [3]}", "[a]: b", "a: !!python/name:os.system x", "a: [",
        "a: b: c", "\ta: 1", "a: *none",
    ],
)  # fmt: skip
def test_what_compose_refuses_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|line 2"):
        documents(text.encode())


def test_an_error_has_no_content_of_the_file() -> None:
    with pytest.raises(ValueError, match=r"line 3: could") as error:
        documents(b"root: secret\ndaemon:secret:x\nsecret: [")
    assert "secret" not in json.dumps(str(error.value))
