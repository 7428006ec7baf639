"""Names that a policy declares: taken twice, shared by two apps, and looked up in rules."""

from __future__ import annotations

import pytest

from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.models.policies import HEAD


def faults(*texts: str) -> list[tuple[str, str, int, str]]:
    """The faults of a policy: of each its message, file, line, and what to do."""
    sources = [SourceText(f"{at}.yaml", (HEAD + text).encode()) for at, text in enumerate(texts)]
    with pytest.raises(PolicyErrors) as caught:
        parse_policy(sources)
    return [(one.message, one.where.file, one.where.line, one.help) for one in caught.value.errors]


def test_a_name_that_two_files_declare_is_taken() -> None:
    text = "apps: {a: {}}\nsets: {a: [image/png]}\npath_sets: {a: [/x]}\n"
    assert [found[:3] for found in faults(text + "rules: []\n", text)] == [
        ('app "a": this name is taken already by 0.yaml, line 4', "1.yaml", 4),
        ('set "a": this name is taken already by 0.yaml, line 5', "1.yaml", 5),
        ('path set "a": this name is taken already by 0.yaml, line 6', "1.yaml", 6),
    ]


def test_a_set_holds_no_set() -> None:
    text = 'sets: {a: [image/png], b: ["@a", image/gif]}\npath_sets: {c: [/x], d: ["@c"]}\nrules: []\n'
    assert [found[0] for found in faults(text)] == [
        'set "b": a set cannot hold another set', 'path set "d": a set cannot hold another set',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("apps", "said"),
    [
        ("{a: {uid: 5}, b: {uid: 5}}", ['app "b", uid: uid 5 belongs to app "a" already']),
        ("{b: {uid: 5-9}, a: {uid: 7}}", ['app "a", uid: uid 7 belongs to app "b" already']),
        ("{b: {uid: 7}, a: {uid: 5-9}}", ['app "a", uid: uid 7 belongs to app "b" already']),
        ("{a: {uid: [5, 5]}}", None),
        ("{a: {uid: 5-8}, b: {uid: 9}}", None),
        # the first range reaches over the second and into the third
        (
            "{a: {uid: 1-20}, b: {uid: 3}, c: {uid: 10}}",
            [
                'app "b", uid: uid 3 belongs to app "a" already',
                'app "c", uid: uid 10 belongs to app "a" already',
            ],
        ),
    ],
)
def test_uids_that_two_apps_share_are_a_fault_of_the_later_one(apps: str, said: list[str] | None) -> None:
    text = f"apps: {apps}\nrules: []\n"
    if said is None:
        parse_policy([SourceText("0.yaml", (HEAD + text).encode())])
    else:
        assert [found[0] for found in faults(text)] == said


APPS = (
    "apps: {camera: {uid: 5, grants: [media.location]}}\nsets: {pics: [image/png]}\npath_sets: {dirs: [/x]}\n"
)


@pytest.mark.parametrize(
    ("rule", "help_"),
    [
        ("who: {app: camara}", 'did you mean "camera"? known here: any, stranger; apps: camera'),
        ("when: {owner: zzz}", "known here: self, none; apps: camera"),
        (
            "who: {grant: media.locaton}",
            'did you mean "media.location"? add the grant to an app; grants of the apps: media.location',
        ),
        ('paths: ["@dir"]', 'did you mean "dirs"? known here: dirs'),
        ('paths: ["@pics"]', "pics is a set; write a path set here: dirs"),
        ('when: {type: "@dirs"}', "dirs is a path set; write a set here: pics"),
    ],
)
def test_an_unknown_name_is_answered_with_those_that_are_known(rule: str, help_: str) -> None:
    assert [found[3] for found in faults(f"{APPS}rules:\n  - {{id: r, allow: [read], {rule}}}\n")] == [help_]


def test_a_grant_is_not_missed_while_an_app_cannot_be_read() -> None:
    text = "apps: {a: {uid: x}}\nrules:\n  - {id: r, allow: [read], who: {grant: g}}\n"
    assert ["uid" in found[0] for found in faults(text)] == [True]
