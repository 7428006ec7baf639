"""Rights under all facts at once. The property test compares them with the rights under each of the facts."""

from __future__ import annotations

import errno

from policyfs.domain import FileType, Op
from policyfs.policy.rules.fact_sets import FactSpace
from policyfs.policy.rules.rights_map import RightsMap, RightsTally, asks_more, differs, gains
from policyfs.policy.rules.table import told_apart
from tests.support.models.policies import Asked

SEEN = "- {id: s, allow: [see], paths: ['/**']}\n"


def rights(rules: str, ftype: FileType = FileType.REGULAR, *, below: bool = False) -> RightsMap:
    """The camera's rights at /a, over facts that are the same for all rules of these tests."""
    asked = Asked(
        rules + "- {id: z, deny: [attr], who: {app: maps}, when: {type: image/*, owner: gallery}}\n"
    )
    camera, maps = asked.who("camera"), asked.who("maps")
    state = asked.engine.state_of(b"/a")
    space = FactSpace(*told_apart(asked.engine.profile(maps, state).lives), ftype)
    return RightsTally(asked.engine.profile(camera, state), space).rights(below=below)


def test_more_of_a_right_is_a_gain_and_less_of_it_only_a_difference():
    none = rights(SEEN)
    some = rights(SEEN + "- {id: r, allow: [read], paths: ['/**'], when: {type: image/*}}\n")
    every = rights(SEEN + "- {id: r, allow: [read], paths: ['/**']}\n")
    assert gains(none, some)
    assert gains(some, every)
    assert not gains(every, some)
    assert differs(every, some)
    assert not differs(some, some)


def test_a_lost_redaction_is_a_gain():
    read = SEEN + "- {id: r, allow: [read], paths: ['/**']}\n"
    redacted = rights(read + "- {id: p, require: {redact: [location]}}\n")
    assert gains(redacted, rights(read))
    assert not gains(rights(read), redacted)


def test_other_content_requirements_are_a_gain_and_new_ones_ask_more():
    write = SEEN + "- {id: w, allow: [write], paths: ['/**']}\n"
    checked = rights(write + "- {id: c, require: {content: [image/*]}, when: {owner: gallery}}\n")
    assert gains(rights(write), checked)
    assert gains(checked, rights(write))
    assert asks_more(rights(write), checked)
    assert not asks_more(checked, rights(write))
    assert not asks_more(checked, checked)


def test_a_directory_is_seen_if_something_below_it_is():
    """It is refused as a missing name otherwise; of a file below makes no difference."""
    allow = "- {id: r, allow: [read], paths: ['/**']}\n"
    hidden = rights(allow, FileType.DIRECTORY)
    bare = rights(allow, FileType.DIRECTORY, below=True)
    assert [dict.keys(codes) for codes in hidden.refused] == [{errno.ENOENT}] * len(Op.ALL)
    assert (hidden.bare, hidden.allowed) == (0, (0,) * len(Op.ALL))
    assert bare.bare == bare.allowed[0] != 0
    assert rights(allow) == rights(allow, below=True)
