"""Parts of a file: what is sound of a faulty part is kept, and each fault is told once, at its place."""

from __future__ import annotations

import pytest

from policyfs.policy.errors import PolicyError
from policyfs.policy.text.compose import compose, decode
from policyfs.policy.text.document import RuleDoc
from policyfs.policy.text.shape import File, file_of

HEAD = "apiVersion: policyfs/v1\nkind: Policy\n"


def place(error: PolicyError) -> tuple[int, int]:
    return error.where.line, error.where.column


def shaped(text: str) -> tuple[File, list[PolicyError]]:
    errors: list[PolicyError] = []
    source = decode("p", text.encode(), errors)
    return file_of(source, compose(source, errors), errors), errors


def rule(text: str) -> tuple[RuleDoc | None, list[str]]:
    """The document of the only rule, and the messages about it."""
    file, errors = shaped(f"{HEAD}rules:\n  - {text}\n")
    (part,) = file.rules
    assert part.sound == (not errors)
    return part.doc, [error.message for error in errors]


def test_a_sound_file_has_its_parts_by_name_and_in_order() -> None:
    file, errors = shaped(
        HEAD + 'apps: {camera: {uid: 5}}\nsets: {photos: image/png}\npath_sets: {media: ["/DCIM/**"]}\n'
        "rules:\n- {id: b, allow: see}\n- {id: a, deny: see}\ninvariants: [{id: i, never: read}]\n"
    )
    assert errors == []
    assert file.apps["camera"].doc is not None
    assert file.apps["camera"].doc.uid == ((5, 5),)
    assert file.sets["photos"].doc == ("image/png",)
    assert file.path_sets["media"].doc == ("/DCIM/**",)
    assert [part.subject for part in file.rules] == ['rule "b"', 'rule "a"']
    assert [part.subject for part in file.invariants] == ['invariant "i"']
    assert all(part.sound for part in (file.top, *file.apps.values(), *file.rules, *file.invariants))


@pytest.mark.parametrize("text", ["- a\n", "text\n", "7\n"])
def test_a_top_level_that_is_no_mapping_has_no_parts(text: str) -> None:
    file, errors = shaped(text)
    assert [error.message.split(",")[0] for error in errors] == ["the top level must be a mapping"]
    assert (file.top.doc, file.top.sound, file.apps, file.rules) == (None, False, {}, ())


def test_another_document_of_policyfs_is_the_only_fault_told() -> None:
    _, errors = shaped("apiVersion: policyfs/v1\nkind: Site\nstore: /srv\nrules: 7\n")
    assert [(error.message, error.help) for error in errors] == [
        ("this file is a site, but a policy is needed", "name a file with kind: Policy")
    ]


def test_another_version_is_the_only_fault_told() -> None:
    """Its other keys may mean something else."""
    file, errors = shaped("apiVersion: policyfs/v2\nkind: Other\nrules: [{no: id}]\n")
    assert [(error.message, error.help) for error in errors] == [
        ('apiVersion "policyfs/v2" is not known', "write apiVersion: policyfs/v1")
    ]
    assert (file.rules, file.top.sound) == ((), False)


def test_another_kind_is_told_beside_other_faults() -> None:
    file, errors = shaped("apiVersion: policyfs/v1\nkind: Pod\nrules: [{id: r, alow: see}]\n")
    assert [error.message for error in errors] == ['kind "Pod" is not known', 'rule "r": unknown key "alow"']
    assert len(file.rules) == 1


def test_a_version_and_a_kind_must_be_there() -> None:
    _, errors = shaped("rules: []\n")
    assert [(error.message, error.help) for error in errors] == [
        ("apiVersion is missing", "write apiVersion: policyfs/v1"),
        ("kind is missing", "write kind: Policy"),
    ]


def test_what_is_sound_of_a_faulty_rule_is_kept() -> None:
    doc, told = rule("{id: r, allow: [see, raed], paths: DCIM, who: {app: [a], uid: x}, when: {}}")
    assert doc is not None
    assert (doc.id, doc.allow, doc.paths, doc.when) == ("r", ("see",), None, None)
    assert doc.who is not None
    assert (doc.who.app, doc.who.uid) == (("a",), None)
    assert [message.split(":")[0] for message in told] == [
        'rule "r", allow', 'rule "r", who.uid', 'rule "r", paths', 'rule "r", when'
    ]  # fmt: skip


def test_a_block_of_which_nothing_is_sound_is_left_out() -> None:
    doc, told = rule("{id: r, allow: see, unless: [{owner: [5]}, {type: image/png}]}")
    assert doc is not None
    assert [block.type for block in doc.unless or ()] == [("image/png",)]
    assert len(told) == 1


def test_a_rule_without_an_id_keeps_its_number_and_the_rest() -> None:
    file, errors = shaped(f"{HEAD}rules:\n  - {{id: a, allow: see}}\n  - {{deny: write}}\n")
    assert [error.message for error in errors] == ["rule number 2: has no id"]
    assert file.rules[1].doc is not None
    assert file.rules[1].doc.deny == ("write",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{id: r, who: [a]}", 'rule "r", who: must be a mapping, not a list'),
        ("{id: r, who: }", 'rule "r", who: has no value'),
        ("{id: r, ignore_case: maybe}", 'rule "r", ignore_case: must be true or false, not text'),
        ("{id: r, description: 5}", 'rule "r", description: must be text, not the number 5'),
        ("{id: 7, allow: see}", "rule number 1, id: must be text, not the number 7"),
        ("[id]", "rule number 1: must be a mapping, not a list"),
        ("text", "rule number 1: must be a mapping, not text"),
    ],
)
def test_a_value_of_another_sort_is_told_in_a_yaml_authors_words(text: str, told: str) -> None:
    assert rule(text)[1] == [told]


def test_lists_and_mappings_of_parts_must_be_lists_and_mappings() -> None:
    file, errors = shaped(f"{HEAD}apps: [a]\nsets: text\nrules: {{a: b}}\n")
    assert [error.message for error in errors] == [
        "apps: must be a mapping, not a list",
        "sets: must be a mapping, not text",
        "rules: must be a list, not a mapping",
    ]
    assert (file.apps, file.sets, file.rules) == ({}, {}, ())


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("{id: r, x: 1}", "id, allow, deny, limit, require"),
        ("{id: r, who: {x: 1}}", "app, grant, uid, not"),
        ("{id: r, who: {not: {app: a, x: 1}}}", "app, grant, uid, not"),
        ("{id: r, unless: [{owner: a}, {x: 1}]}", "type, owner, path"),
        ("{id: r, require: {x: 1}}", "redact, content, no, clean"),
    ],
)
def test_help_lists_the_keys_that_are_known_at_that_place(text: str, known: str) -> None:
    _, errors = shaped(f"{HEAD}rules:\n  - {text}\n")
    assert [error.message.endswith('unknown key "x"') for error in errors] == [True]
    assert f"known keys: {known}" in errors[0].help


def test_bad_names_are_told_at_their_keys_and_known_all_the_same() -> None:
    file, errors = shaped(f"{HEAD}apps: {{any: {{}}, Camera: {{}}}}\nsets:\n  b c: [image/png]\n")
    assert [(error.where.line, error.where.column, error.message) for error in errors] == [
        (3, 8, 'app: "any" is reserved and cannot name an app'),
        (3, 17, 'app: "Camera" is not a name for an app'),
        (5, 3, 'set: "b c" is not a name'),
    ]
    assert (*file.apps, *file.sets) == ("any", "Camera", "b c")


def test_what_the_composer_told_is_not_told_again() -> None:
    """A tag is refused before its value has a place in a document."""
    _, errors = shaped(f"{HEAD}rules:\n  - {{id: r, allow: !x see}}\n")
    assert len(errors) == 1


def test_a_part_points_at_its_own_values() -> None:
    file, _ = shaped(f"{HEAD}apps:\n  camera: {{uid: 5}}\nrules:\n  - id: r\n    who: {{app: [a, b]}}\n")
    (part,) = file.rules
    error = part.error(("who", "app", 1), "is wrong", "mend it")
    assert (error.where.line, error.where.column, error.message) == (7, 20, 'rule "r", who.app: is wrong')
    assert place(part.error(("who", "grant"), "x", "")) == (7, 10), "the last thing that is there"
    assert place(part.key_error("who", "x", "")) == (7, 5)
    assert place(part.key_error("when", "x", "")) == (6, 5), "the part: it has no such key"
    assert part.has("who", "app")
    assert not part.has("who", "app", "a")
    assert not part.has("who", "uid")
    app = file.apps["camera"]
    assert (app.where.line, app.where.column) == (4, 3)
    named = app.name_error("is taken", "choose another")
    assert (named.message, named.width) == ('app "camera": is taken', len("camera"))
    assert (part.where.line, part.where.column) == (6, 5)


def test_a_fault_inside_a_value_is_at_its_character() -> None:
    _, errors = shaped(f'{HEAD}rules:\n  - {{id: r, paths: ["/a/b**"]}}\n')
    assert len(errors) == 1
    column = '  - {id: r, paths: ["/a/b**"]}'.index("**") + 1
    assert place(errors[0]) == (4, column)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("    who:", (5, 5)),  # the key: what is not there has no place
        ("    who:\n      app:", (6, 7)),
        ("    allow:\n      -", (5, 5)),
        ("    unless:\n      - owner: a\n      - owner:", (7, 9)),
        ("    who: ~", (5, 10)),
    ],
)
def test_a_value_that_is_not_there_is_told_at_its_key(text: str, at: tuple[int, int]) -> None:
    _, errors = shaped(f"{HEAD}rules:\n  - id: r\n{text}\n")
    assert [place(error) for error in errors] == [at]
