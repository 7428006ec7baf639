"""Differences of whole policies: blocks, notes and the names of changes."""

from __future__ import annotations

import pytest

from policyfs.domain import Op
from policyfs.policy.analysis.diff import Block, diff
from policyfs.policy.analysis.outcomes import Aspect, Direction
from tests.support.models.policies import APPS
from tests.support.models.whole_policies import policy_of

READ = "- {id: read, allow: [see, read], who: {app: %s}, paths: '%s'}"


def test_callers_with_the_same_change_are_one_block():
    found = diff(policy_of(READ % ("camera", "/a")), policy_of(READ % ("any", "/a")))
    (block,) = found.blocks
    assert block.who == ("gallery", "maps")
    assert found.wider == (block,)


def test_a_change_has_another_name_when_its_rule_changes_again():
    old = policy_of(READ % ("camera", "/a"))
    names = {
        diff(old, policy_of(READ % (who, path))).blocks[0].id
        for who, path in (("gallery", "/a"), ("any", "/a"), ("any", "/**"))
    }
    assert len(names) == 3
    assert all(name.startswith("c") for name in names)
    again = diff(old, policy_of("# moved\n" + READ % ("any", "/**")))
    assert again.blocks[0].id in names


def changes_of(before: str, after: str) -> set[str]:
    rules = READ % ("camera", "/a")
    old, new = (policy_of(rules, apps=APPS.replace("{uid: 10010}", app)) for app in (before, after))
    return {one.id for one in diff(old, new).wider}


@pytest.mark.parametrize(
    ("before", "one", "other"),
    [
        ("{uid: 10110, gid: 100}", "{uid: 10110, gid: [100, 101]}", "{uid: 10110, gid: [100, 0]}"),
        ("{uid: 10110}", "{uid: 10110-10111}", "{uid: 10110-65000}"),
        ("{uid: 10110, gid: 100}", "{uid: 10110, gid: [100, 101]}", "{uid: 10110}"),
        ("{uid: [10110, 10115]}", "{uid: 10110-10115}", "{uid: 10110-10116}"),
    ],
)
def test_other_ids_are_another_change(before: str, one: str, other: str):
    assert changes_of(before, one)
    assert changes_of(before, one).isdisjoint(changes_of(before, other))


def test_notes_on_what_no_request_shows():
    rules = READ % ("any", "/a")
    more = APPS.replace("{uid: 10010}", "{uid: 10010, gid: [10010, 100], modes: policy}")
    found = diff(policy_of(rules), policy_of(rules, apps=more))
    assert not found.blocks
    assert [(note.direction, "gid" in note.text) for note in found.notes] == [
        (Direction.WIDER, True),
        (Direction.OTHER, False),
    ]
    fewer = diff(policy_of(rules, apps=more), policy_of(rules, apps=more.replace("[10010, 100]", "100")))
    assert [note.direction for note in fewer.notes] == [Direction.NARROWER]
    free = policy_of(rules, apps=APPS.replace("{uid: 10010}", "{uid: 10010, moves: free}"))
    notes = [diff(*pair).notes for pair in ((policy_of(rules), free), (free, policy_of(rules)))]
    assert [[note.direction for note in found] for found in notes] == [[WIDER], [NARROWER]]


WIDER, NARROWER = Direction.WIDER, Direction.NARROWER
MAY_CREATE = "- {id: sorter, allow: [see, read, create, delete], who: {app: maps}}\n"
MAY_TAG = "- {id: tagger, allow: [see, read, attr], who: {app: maps}}\n"
NO_READ = "- {id: read, allow: [see, read], who: {app: maps}}\n- {id: no, deny: [read]%s, paths: '/a/**'}\n"


@pytest.mark.parametrize(
    ("rules", "other", "aspect", "op"),
    [
        (MAY_CREATE, "- {id: c, require: {content: image/*}, paths: '/a/**'}", Aspect.CONTENT, Op.CREATE),
        (MAY_CREATE, "- {id: c, require: {no: location}, paths: '/a/**'}", Aspect.CONTENT, Op.CREATE),
        (MAY_TAG, "- {id: c, require: {no: location}, paths: '/a/**'}", Aspect.CONTENT, Op.ATTR),
        (MAY_TAG, "- {id: c, require: {clean: time}, when: {type: image/*}}", Aspect.CONTENT, Op.ATTR),
        (NO_READ % ", audit: off", NO_READ % ", audit: required", Aspect.RECORD, Op.READ),
    ],
)
def test_what_asks_less_is_wider(rules: str, other: str, aspect: Aspect, op: Op):
    less = policy_of(rules)
    more = policy_of(other if "read" in other else rules + other)
    (block,) = diff(more, less).wider
    assert isinstance(block, Block)
    assert (block.aspect, block.ops) == (aspect, (op,))
    assert "maps" in block.who
    back = [(one.direction, one.aspect, one.ops) for one in diff(less, more).blocks]
    assert (NARROWER, aspect, (op,)) in back
    assert WIDER not in [direction for direction, _, _ in back]


@pytest.mark.parametrize(
    ("before", "after", "direction"),
    [
        ("{uid: 10110}", "{uid: [10110, 10120]}", WIDER),
        ("{uid: [10110, 10120]}", "{uid: 10120}", NARROWER),
        ("{uid: 10110-10120}", "{uid: 10110-10115}", NARROWER),
        ("{uid: 10110-10115}", "{uid: 10110-10120}", WIDER),
        ("{uid: [10110-10115, 10116-10120]}", "{uid: 10114-10118}", NARROWER),
        ("{uid: 10110-10120}", "{uid: [10110-10115, 10130]}", WIDER),
        # without uids, the app mount admits every uid
        ("{uid: 10110}", "{description: d}", WIDER),
        ("{description: d}", "{uid: 10110}", NARROWER),
    ],
)
def test_other_uids_are_told_with_the_direction_for_app_mounts(before: str, after: str, direction: Direction):
    rules = READ % ("gallery", "/a")
    old, new = (policy_of(rules, apps=APPS.replace("{uid: 10010}", uids)) for uids in (before, after))
    assert [note.direction for note in diff(old, new).notes if "uids" in note.text] == [direction]


def test_defaults_are_told_once():
    rules = READ % ("any", "/a")
    louder = "defaults: {audit: required}\n" + APPS
    found = diff(policy_of(rules), policy_of(rules, apps=louder))
    assert not found.blocks
    assert [note.direction for note in found.notes] == [Direction.NARROWER]


ALL = "- {id: all, allow: [all]%s}\n"
REQUIRED = ", audit: required"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((ALL % REQUIRED, ""), (ALL % "", "audit: required")),
        ((ALL % REQUIRED, "audit: off"), (ALL % REQUIRED, "audit: best_effort")),
        ((ALL % "", "audit_denied: off"), (ALL % "", "audit_denied: required")),  # nothing is denied
        ((ALL % REQUIRED + MAY_TAG, ""), (ALL % "" + MAY_TAG, "audit: required")),
    ],
)
def test_a_level_of_record_that_only_moves_is_no_difference(before: tuple[str, str], after: tuple[str, str]):
    old, new = (
        policy_of(rules, apps=f"defaults: {{{levels}}}\n{APPS}" if levels else APPS)
        for rules, levels in (before, after)
    )
    assert diff(old, new) == diff(new, old) == ((), ())


def test_a_rule_whose_level_became_the_default_is_not_wider():
    """Only what no rule recorded so is told, and the other way round the default is wider, not the rule."""
    old = policy_of(f"- {{id: r, allow: [see, read], who: {{app: any}}, paths: '/a'{REQUIRED}}}")
    new = policy_of(READ % ("any", "/a"), apps="defaults: {audit: required}\n" + APPS)
    assert [note.direction for note in diff(old, new).notes] == [NARROWER]
    back = diff(new, old)
    assert [note.text for note in back.notes] == ["defaults.audit: required before, best_effort now"]
    assert (diff(old, new).blocks, back.blocks) == ((), ())


def test_another_default_is_another_change_of_a_record():
    """An accepted change of a rule's level does not accept a weaker default, too."""
    old = policy_of(f"- {{id: r, allow: [see, read], who: {{app: any}}, paths: '/a'{REQUIRED}}}")
    apps = (APPS, "defaults: {audit: off}\n" + APPS)
    ids = {diff(old, policy_of(READ % ("any", "/a"), apps=one)).blocks[0].id for one in apps}
    assert len(ids) == 2


def test_the_order_of_groups_and_an_app_that_is_gone_are_no_change_of_the_record():
    apps = [APPS.replace("{uid: 10010}", f"{{uid: 10010, gid: {gids}}}") for gids in ("[5, 6]", "[6, 5]")]
    old, new = (policy_of(READ % ("any", "/a"), apps=one) for one in apps)
    assert diff(old, new) == ((), ())
    more = "defaults: {audit_denied: off}\n" + APPS
    rules = READ % ("camera", "/a")
    gone = diff(policy_of(rules, apps=more + "  tv: {}\n"), policy_of(rules, apps=more))
    assert [(block.aspect, block.who) for block in gone.blocks] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("redact: all-metadata", "redact: [all-metadata, location]"),
        ("content: image/*", "content: [image/*, image/jpeg]"),
        ("no: all-metadata", "no: [all-metadata, time]"),
    ],
)
def test_words_that_say_the_same_are_no_difference(before: str, after: str):
    every = ALL % ""
    old, new = (policy_of(every + f"- {{id: r, require: {{{text}}}}}") for text in (before, after))
    assert diff(old, new) == diff(new, old) == ((), ())


def test_a_limit_that_counts_less_is_wider():
    limit = "- {id: brake, limit: {changes: %d, within: %s}, who: {app: %s}}"
    old = policy_of(ALL % "" + limit % (200, "10m", "camera"))
    for rules, wider, words in (
        (limit % (300, "10m", "camera"), True, "200 files within 10m before, 300 files within 10m now"),
        (limit % (200, "5m", "camera"), True, "200 files within 10m before, 200 files within 5m now"),
        (limit % (100, "1h", "camera"), False, "200 files within 10m before, 100 files within 1h now"),
        (limit % (200, "10m", "gallery"), True, "counts other changes than before"),
        ("", True, "the limit brake is removed"),
    ):
        new = policy_of(ALL % "" + rules)
        [note] = diff(old, new).notes
        assert (note.direction is Direction.WIDER, words in note.text) == (wider, True), note
    [note] = diff(policy_of(ALL % ""), old).notes
    assert (note.direction, note.text) == (Direction.NARROWER, "the limit brake is new")
