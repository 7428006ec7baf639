"""Views: one number for callers with the same possible obligations."""

from __future__ import annotations

from policyfs.domain import RAW_VIEW, View
from tests.support.models.policies import Asked

ALL = "- {id: all, allow: [all]}\n"


def view(asked: Asked, name: str, path: str = "/DCIM/a") -> View:
    return asked.engine.view(asked.who(name), asked.engine.state_of(path.encode()))


def test_callers_with_the_same_obligations_share_a_view():
    asked = Asked(ALL + "- {id: hide, require: {redact: [location]}, who: {app: [camera, maps]}}\n")
    assert view(asked, "camera") is view(asked, "maps")
    assert view(asked, "camera").redact == {"location"}
    assert view(asked, "gallery") is RAW_VIEW
    assert view(asked, "camera", "/other/b") is view(asked, "camera")


def test_the_same_words_under_other_facts_are_another_view():
    asked = Asked(
        "- {id: all, allow: [all]}\n"
        "- {id: a, require: {redact: [location]}, who: {app: camera}, when: {type: image/*}}\n"
        "- {id: b, require: {redact: [location]}, who: {app: maps}}\n"
        "- {id: c, require: {redact: [location]}, who: {app: gallery}, raw_types: [text/csv]}\n"
    )
    keys = {view(asked, name).key for name in ("camera", "maps", "gallery")}
    assert len(keys) == 3
    assert 0 not in keys


def test_two_rules_that_oblige_alike_are_one_view():
    asked = Asked(
        "- {id: all, allow: [all]}\n"
        "- {id: a, require: {redact: [time]}, who: {app: camera}}\n"
        "- {id: b, require: {redact: [time]}, who: {app: maps}}\n"
    )
    assert view(asked, "camera") is view(asked, "maps")


def test_own_files_are_anothers_own():
    asked = Asked(
        ALL + "- {id: a, require: {redact: [time]}, who: {app: [camera, maps]}, unless: {owner: self}}\n"
    )
    assert view(asked, "camera") is not view(asked, "maps")


def test_content_is_checked_for_who_can_write():
    asked = Asked(
        "- {id: in, allow: [see, write, create], who: {app: camera}}\n- {id: out, allow: [see, read]}\n"
        "- {id: types, require: {content: [image/*]}}\n"
    )
    assert view(asked, "camera").checked
    assert view(asked, "maps") is RAW_VIEW


def test_bans_are_told():
    asked = Asked(ALL + "- {id: no, require: {no: [location]}, who: {app: camera}}\n")
    assert view(asked, "camera").bans == {"location"}
    assert view(asked, "camera").checked
