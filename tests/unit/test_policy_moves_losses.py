"""Renames that only a copy could do: EXDEV, or EACCES where the copy would lose hidden data."""

from __future__ import annotations

from errno import EACCES, EPERM, EXDEV
from typing import Any

import pytest

from policyfs.domain import Audit, Decision, Facts, FileType, Op, RuleMatch
from policyfs.policy.decide import End
from policyfs.policy.moves.losses import MAX_FACTS, MAX_PAIRS, Losses, rules_that_hide
from policyfs.policy.rules.profile import Profiles
from policyfs.policy.rules.states import Paths
from tests.support.models.policies import DIRECTORY, FILE, NOBODYS, SYMLINK, Asked

OWN = Facts("image/jpeg", "camera")
BASE = """\
- {id: all, allow: [all], who: {app: camera}, paths: ["/**"]}
- {id: gain, allow: [see, read], who: {app: gallery}, paths: ["/b/**"]}
"""
PLACES = "- {id: places, require: {redact: [location]}, who: {app: camera}, unless: {owner: self}}\n"
MINE = """\
- {id: look, allow: [see, read, create, write], who: {app: camera}, paths: ["/**"]}
- {id: mine, allow: [delete], who: {app: camera}, paths: ["/**"], when: {owner: self}}
- {id: gain, allow: [see, read], who: {app: gallery}, paths: ["/b/**"]}
"""


def refused(asked: Asked, old: str, new: str, ftype: FileType = FILE, facts: Facts = NOBODYS) -> Decision:
    ends = (asked.end(old, ftype, facts), asked.end(new, ftype, facts))
    return asked.engine.rename(asked.who("camera"), *ends, None, False)


# ---------------------------------------------------------------- files


def test_a_file_that_is_read_redacted_stays():
    asked = Asked(BASE + PLACES)
    decision = refused(asked, "/a/x", "/b/x")
    assert decision.errno == EACCES
    assert RuleMatch("places", "redact", Op.READ) in decision.rules
    assert rules_that_hide(decision) == ("places",)
    assert asked.rename("camera", "/a/x", "/b/x", facts=Facts(None, "none")) == EACCES
    assert asked.rename("camera", "/a/x", "/a/y") == 0, "without a gain nothing is copied"
    assert asked.rename("camera", "/a/x", "/b/x", SYMLINK) == EXDEV, "a symlink hides nothing"
    assert asked.rename("camera", "/a/x", "/b/x", FileType.SPECIAL) == EXDEV


def test_a_file_that_is_read_unredacted_may_be_copied():
    no_write = "- {id: no-write, deny: [write], who: {app: camera}, paths: ['/b/**']}\n"
    assert Asked(BASE + no_write).rename("camera", "/a/x", "/b/x") == EXDEV
    asked = Asked(BASE + PLACES + no_write)
    assert asked.rename("camera", "/a/x", "/b/x", facts=OWN) == EXDEV
    assert asked.rename("camera", "/a/x", "/b/x") == EACCES
    assert Asked(BASE + PLACES).rename("camera", "/a/x", "/b/x", facts=OWN) == 0
    raw = PLACES.replace("}}\n", "}, raw_types: [text/csv]}\n")
    table = Facts("text/csv", "none")
    assert Asked(BASE + raw + no_write).rename("camera", "/a/x", "/b/x", facts=table) == EXDEV


def test_a_file_that_cannot_be_read_is_not_copied():
    asked = Asked(BASE + PLACES + "- {id: no-read, deny: [read], who: {app: camera}, paths: ['/a/**']}\n")
    assert asked.rename("camera", "/a/x", "/b/x") == EXDEV


def test_a_needed_right_that_is_denied_is_told_first():
    asked = Asked(BASE + PLACES + "- {id: kept, deny: [delete], errno: EPERM, who: {app: camera}}\n")
    decision = refused(asked, "/a/x", "/b/x")
    assert (decision.errno, rules_that_hide(decision)) == (EPERM, ())


def test_others_that_read_it_redacted_lose_nothing():
    others = PLACES.replace("camera", "maps")
    assert Asked(BASE + others).rename("camera", "/a/x", "/b/x") == 0


def test_in_an_exchange_both_files_count():
    asked = Asked(BASE + PLACES + "- {id: no-write, deny: [write], who: {app: camera}, paths: ['/b/**']}\n")
    for one, other in ((OWN, NOBODYS), (NOBODYS, OWN)):
        assert asked.rename("camera", "/a/x", "/b/x", facts=one, replaced=other, exchange=True) == EACCES
    assert asked.rename("camera", "/a/x", "/b/x", facts=OWN, replaced=OWN, exchange=True) == EXDEV
    assert asked.rename("camera", "/a/x", "/b/x", facts=OWN, replaced=NOBODYS) == EXDEV, "it is to go"


def test_a_link_deletes_nothing():
    assert Asked(BASE + PLACES).link("camera", "/a/x", "/b/x") == EXDEV


@pytest.mark.parametrize(
    ("clean", "code"),
    [
        ("{clean: [location]}", EXDEV),
        ("{clean: [location, device]}", EXDEV),
        ("{clean: [all-metadata]}", EXDEV),
        ("{clean: [device]}", EACCES),
        ("{clean: [location]}, when: {type: image/jpeg}", EXDEV),
        ("{clean: [location]}, when: {type: image/png}", EACCES),
        # not of the copy, which the app owns, or not where it replaces another's file
        ("{clean: [location]}, unless: {owner: self}", EACCES),
        ("{clean: [location]}, when: {owner: self}", EACCES),
        ("{no: [location]}", EPERM),
    ],
)
def test_a_copy_may_lose_what_the_policy_removes_there(clean: str, code: int):
    asked = Asked(BASE + PLACES + f"- {{id: c, require: {clean}, paths: ['/b/**']}}\n")
    assert asked.rename("camera", "/a/x", "/b/x") == code


def test_what_is_hidden_beside_the_cleaned_words_is_lost():
    more = PLACES.replace("location", "location, people")
    asked = Asked(BASE + more + "- {id: c, require: {clean: [location]}, paths: ['/b/**']}\n")
    assert asked.rename("camera", "/a/x", "/b/x") == EACCES


def test_an_unknown_kind_is_cleaned_only_if_every_kind_is():
    always = "- {id: c, require: {clean: [location]}, paths: ['/b/**']}\n"
    unknown = Facts(None, "none")
    assert Asked(BASE + PLACES + always).rename("camera", "/a/x", "/b/x", facts=unknown) == EXDEV
    photos = always.replace("['/b/**']", "['/b/**'], when: {type: image/*}")
    assert Asked(BASE + PLACES + photos).rename("camera", "/a/x", "/b/x", facts=unknown) == EACCES


def test_the_refusal_is_recorded_as_strictly_as_the_redaction():
    off = "defaults: {audit_denied: off}\n"
    apps = "apps: {camera: {uid: 10010}, gallery: {uid: 10011}}\n"
    strict = PLACES.replace("}}\n", "}, audit: required}\n")
    for rule, level in ((PLACES, Audit.OFF), (strict, Audit.REQUIRED)):
        assert refused(Asked(BASE + rule, apps=apps + off), "/a/x", "/b/x").audit is level
    assert refused(Asked(BASE + PLACES), "/a/x", "/b/x").audit is Audit.REQUIRED


# ---------------------------------------------------------------- directories


def test_a_directory_stays_if_a_file_below_would_be_lost():
    decision = refused(Asked(BASE + PLACES), "/a/x", "/b/x", DIRECTORY)
    assert (decision.errno, rules_that_hide(decision)) == (EACCES, ("places",))


def test_a_directory_is_copied_if_the_app_deletes_only_what_it_reads_unredacted():
    asked = Asked(MINE + PLACES)
    assert asked.rename("camera", "/a/x", "/b/x", DIRECTORY, OWN) == EXDEV
    assert (
        Asked(MINE + PLACES.replace(", unless: {owner: self}", "")).rename(
            "camera", "/a/x", "/b/x", DIRECTORY, OWN
        )
        == EACCES
    )


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("who: {app: camera}, paths: ['/a/x/*/tmp']", EACCES),
        ("who: {app: camera}, paths: ['/a/y/*/tmp']", EXDEV),
        ("who: {app: gallery}, paths: ['/a/x/*/tmp']", EXDEV),
        ("who: {app: camera}, paths: ['/a/x/*/tmp'], mode: monitor", EXDEV),
        ("who: {app: camera}, paths: ['/a/**'], when: {type: image/png}", EACCES),
        ("who: {app: camera}, paths: ['/a/**'], when: {type: inode/directory}", EXDEV),
    ],
)
def test_one_path_and_one_sort_of_file_is_enough(more: str, code: int):
    asked = Asked(f"{MINE}{PLACES}- {{id: m, allow: [delete], {more}}}\n")
    assert asked.rename("camera", "/a/x", "/b/x", DIRECTORY, OWN) == code


def test_the_same_file_must_be_both_redacted_and_deletable():
    by_kind = PLACES.replace("unless: {owner: self}", "when: {type: image/jpeg}")
    own = MINE.replace("when: {owner: self}", "when: {type: [image/png, inode/directory]}")
    assert Asked(own + by_kind).rename("camera", "/a/x", "/b/x", DIRECTORY, OWN) == EXDEV
    both = own.replace("image/png", "image/*")
    assert Asked(both + by_kind).rename("camera", "/a/x", "/b/x", DIRECTORY, OWN) == EACCES


def test_a_directory_goes_where_all_is_cleaned_that_is_hidden():
    clean = "- {id: c, require: {clean: [location]}, paths: ['/b/**']}\n"
    asked = Asked(BASE + PLACES + clean)
    assert asked.rename("camera", "/a/x", "/b/x", DIRECTORY) == EXDEV
    part = clean.replace("/b/**", "/b/x/*")
    assert Asked(BASE + PLACES + part).rename("camera", "/a/x", "/b/x", DIRECTORY) == EACCES


def test_under_a_dry_run_a_missing_allow_protects_nothing():
    for monitor, code in ((False, EACCES), (True, EACCES)):
        asked = Asked(BASE + PLACES, monitor=monitor)
        assert asked.rename("camera", "/a/x", "/b/x", DIRECTORY) == code
    asked = Asked(MINE + PLACES, monitor=True)
    assert asked.rename("camera", "/a/x", "/b/x", DIRECTORY, OWN) == EACCES
    assert asked.rename("camera", "/a/x", "/b/x") == EACCES


def test_too_many_paths_below_count_as_a_loss_only_under_redaction():
    many = "".join(f"- {{id: d{n}, deny: [attr], paths: ['/**/n{n}/**']}}\n" for n in range(14))
    assert MAX_PAIRS < 2**14
    assert Asked(BASE + many).rename("camera", "/a/x", "/c/x", DIRECTORY) == EXDEV
    decision = refused(Asked(MINE + PLACES + many), "/a/x", "/c/x", DIRECTORY, OWN)
    assert decision.errno == EACCES
    assert [match.certain for match in decision.rules if match.rule == "places"] == [False]


def test_an_allowed_decision_hides_nothing():
    match = RuleMatch("places", "redact", Op.READ)
    assert rules_that_hide(Decision(True, 0, (match,))) == ()
    assert rules_that_hide(Decision(False, EACCES, (match,))) == ("places",)


class Counted:
    """An engine's answers, counted."""

    def __init__(self, asked: Asked) -> None:
        self.caller, self.needs = asked.engine.caller, asked.engine.needs
        self._decide, self.count = asked.engine.decide, 0

    def decide(self, *request: Any) -> Decision:
        self.count += 1
        return self._decide(*request)


def tried(text: str) -> tuple[Decision, int]:
    asked = Asked(MINE + PLACES + text)
    counted = Counted(asked)
    table = asked.engine.table
    paths, profiles = Paths(table, 1000), Profiles(table, 1000, dry_run=False)
    old = End(paths.state_of(b"/a/x"), DIRECTORY, OWN)
    found = Losses(table, paths, profiles, 1000).refusal(
        counted, asked.who("camera"), [(old, paths.state_of(b"/b/x"))]
    )
    return found, counted.count


def test_many_sets_of_facts_count_as_a_loss_and_paths_of_one_cause_are_tried_once():
    """A rename is decided while all other requests of the mount wait."""
    rules = [
        f"- {{id: k{n}, deny: [read], paths: ['/**/n{n % 6}/**'], when: {{type: x/k{n}, owner: none}}}}\n"
        for n in range(120)
    ]
    found, count = tried("".join(rules))
    assert (found.errno, found.rules[0].certain) == (EACCES, False)
    assert count <= MAX_FACTS
    found, few = tried("".join(rules[:6]))
    assert (found.errno, found.rules) == (EXDEV, ())
    found, none = tried("".join(rule.replace("deny: [read]", "deny: [attr]") for rule in rules))
    assert (found.errno, found.rules) == (EXDEV, ())
    assert none < few, "rules on attributes tell no files apart"
