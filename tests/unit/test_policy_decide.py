"""Decisions, by the worked cases of docs/policy-language.md first."""

from __future__ import annotations

import gc
import weakref
from errno import EACCES, ENOENT, EPERM, EROFS, EXDEV

import pytest

from policyfs.domain import RAW_VIEW, Audit, Facts, Need, Op, RuleMatch, ban, banned, kinds_only
from policyfs.policy.decide import compile_policy
from policyfs.policy.globs.automaton import MAX_BOUND
from policyfs.policy.rules.facts import content_met
from policyfs.policy.rules.tally import NO_ALLOW
from tests.support.models.policies import DIRECTORY, FAMILY, FILE, NOBODYS, SYMLINK, Asked, engine_of

PHOTO = "/DCIM/Camera/a.jpg"
CAMERAS = Facts("image/jpeg", "camera")
PHOTOS = frozenset({"image/jpeg", "image/heic", "image/png", "image/webp", "image/tiff"})


@pytest.fixture(scope="module")
def family() -> Asked:
    return Asked(FAMILY)


# ---------------------------------------------------------------- the worked cases


def listed(asked: Asked, name: str) -> list[str]:
    found = ("DCIM", "Pictures", "Android", "Music")
    return [n for n in found if asked.ask(name, Op.SEE, "/" + n, DIRECTORY, Facts(None, "none")).allowed]


def test_gallery_lists_the_root(family):
    assert family.ask("gallery", Op.SEE, "/", DIRECTORY).bare
    assert listed(family, "gallery") == ["DCIM", "Pictures"]


def test_a_stranger_lists_nothing(family):
    assert family.ask("stranger", Op.SEE, "/", DIRECTORY).allowed
    assert listed(family, "stranger") == []


def test_gallery_reads_redacted(family):
    decision = family.ask("gallery", Op.READ, PHOTO, FILE, CAMERAS)
    assert decision.allowed
    assert decision.redact == {"location"}
    assert RuleMatch("media.read", "allow", Op.SEE | Op.READ) in decision.rules
    assert RuleMatch("media.no-location", "redact", Op.READ) in decision.rules
    assert decision.audit is Audit.REQUIRED


def test_maps_reads_raw(family):
    decision = family.ask("maps", Op.READ, PHOTO, FILE, CAMERAS)
    assert decision.allowed
    assert not decision.redact
    assert family.engine.view(family.who("maps"), family.engine.state_of(PHOTO.encode())) is RAW_VIEW


def test_camera_reads_its_own_in_a_restricted_view(family):
    decision = family.ask("camera", Op.READ, PHOTO, FILE, CAMERAS)
    assert [match.rule for match in decision.rules] == ["media.own", "media.read"]
    assert not decision.redact
    view = family.engine.view(family.who("camera"), family.engine.state_of(PHOTO.encode()))
    assert (view.redact, view.checked) == ({"location"}, True)


def test_gallery_writes_nothing(family):
    assert family.code("gallery", Op.WRITE, PHOTO, FILE, CAMERAS) == EACCES


def test_a_stranger_sees_no_file(family):
    assert family.code("stranger", Op.SEE, PHOTO, FILE, CAMERAS) == ENOENT


def test_camera_creates_photos_only(family):
    decision = family.ask("camera", Op.CREATE | Op.WRITE, "/DCIM/b.jpg", FILE, Facts(None, "camera"))
    assert decision.allowed
    assert decision.content == (PHOTOS,)
    assert not content_met(decision.content, Facts("text/plain"))
    assert content_met(decision.content, Facts("image/png"))


def test_camera_deletes_only_its_own(family):
    assert family.code("camera", Op.DELETE, "/DCIM/x.png", FILE, Facts("image/png", "none")) == EACCES
    assert family.code("camera", Op.DELETE, "/DCIM/x.png", FILE, Facts("image/png", "camera")) == 0


def test_gallery_sees_nothing_of_its_own_data(family):
    assert family.code("gallery", Op.SEE, "/Android/data/gallery", DIRECTORY) == ENOENT


def test_backup_reads_private_data(family):
    decision = family.ask("backup", Op.READ, "/Android/data/camera/db")
    assert decision.allowed
    assert [match.rule for match in decision.rules] == ["backup.all"]


def test_a_kind_let_through_reads_raw(family):
    facts = Facts("text/csv", "none")
    assert not family.ask("gallery", Op.READ, "/Pictures/list.csv", FILE, facts).redact
    other = Facts("application/octet-stream", "none")
    assert family.ask("gallery", Op.READ, "/Pictures/unknown.bin", FILE, other).redact == {"location"}


# ---------------------------------------------------------------- the decision


def test_nothing_is_allowed_unless_a_rule_allows_it():
    asked = Asked("- {id: r, deny: [read], paths: ['/x']}")
    assert asked.code("gallery", Op.SEE, "/a") == ENOENT


def test_a_deny_wins_over_any_allow():
    asked = Asked("""\
        - {id: a, allow: [all], paths: ["/**"]}
        - {id: d, deny: [write], paths: ["/a/**"]}
        """)
    assert asked.code("gallery", Op.WRITE, "/a/x") == EACCES
    assert asked.code("gallery", Op.WRITE, "/b/x") == 0


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (["EROFS", "EPERM"], EPERM),
        (["EROFS"], EROFS),
        (["EPERM", "EACCES"], EACCES),
        (["EROFS", "ENOENT"], ENOENT),
    ],
)
def test_of_several_denies_the_errno_that_says_least(codes, said):
    denies = "\n".join(f"- {{id: d{n}, deny: [write], errno: {code}}}" for n, code in enumerate(codes))
    assert Asked(f"- {{id: a, allow: [all]}}\n{denies}").code("gallery", Op.WRITE, "/x") == said


def test_over_all_that_a_request_needs_the_errno_that_says_least():
    asked = Asked("""\
        - {id: a, allow: [see, write], paths: ["/**"]}
        - {id: d, deny: [write], errno: EROFS, paths: ["/**"]}
        """)
    assert asked.code("gallery", Op.WRITE, "/x") == EROFS
    # read is merely not allowed, and EACCES says less
    assert asked.code("gallery", Op.READ | Op.WRITE, "/x") == EACCES


def test_what_is_not_seen_is_not_there_for_any_operation():
    asked = Asked("""\
        - {id: a, allow: [read, write, delete], paths: ["/**"]}
        - {id: d, deny: [write], errno: EROFS, paths: ["/**"]}
        """)
    for op in Op:
        assert asked.code("gallery", op, "/x") == ENOENT


def test_an_unknown_fact_allows_nothing_and_denies():
    asked = Asked("""\
        - {id: a, allow: [all], paths: ["/a/**"], when: {type: image/jpeg}}
        - {id: b, allow: [all], paths: ["/b/**"]}
        - {id: d, deny: [read], paths: ["/b/**"], when: {type: image/jpeg}}
        """)
    assert asked.code("gallery", Op.READ, "/a/x", FILE, Facts(None, "none")) == ENOENT
    assert asked.code("gallery", Op.READ, "/b/x", FILE, Facts(None, "none")) == EACCES
    assert asked.code("gallery", Op.READ, "/b/x", FILE, Facts("text/plain", "none")) == 0
    unsure = asked.ask("gallery", Op.READ, "/b/x", FILE, Facts(None, "none"))
    assert RuleMatch("d", "deny", Op.READ, certain=False) in unsure.rules


def test_false_and_unknown_is_false():
    asked = Asked("""\
        - {id: a, allow: [all]}
        - {id: d, deny: [read], when: {type: image/jpeg, owner: camera}}
        """)
    assert asked.code("gallery", Op.READ, "/x", FILE, Facts(None, "none")) == 0
    assert asked.code("gallery", Op.READ, "/x", FILE, Facts(None, "camera")) == EACCES


def test_directories_and_symlinks_have_a_kind_nobody_needs_to_look_up():
    asked = Asked("""\
        - {id: a, allow: [all]}
        - {id: d, deny: [delete], when: {type: inode/directory}}
        """)
    state = asked.engine.state_of(b"/x")
    assert asked.code("gallery", Op.DELETE, "/x", DIRECTORY, Facts()) == EACCES
    assert asked.code("gallery", Op.DELETE, "/x", SYMLINK, Facts()) == 0
    assert asked.code("gallery", Op.DELETE, "/x", FILE, Facts()) == 0
    assert asked.engine.needs(asked.who("gallery"), Op.DELETE, state, FILE) is Need.NOTHING


def test_a_stranger_owns_nothing():
    asked = Asked("""\
        - {id: a, allow: [all]}
        - {id: d, deny: [read], when: {owner: self}}
        """)
    state = asked.engine.state_of(b"/x")
    assert asked.code("stranger", Op.READ, "/x", FILE, Facts(None, None)) == 0
    assert asked.engine.needs(asked.who("stranger"), Op.READ, state, FILE) is Need.NOTHING
    assert asked.engine.needs(asked.who("camera"), Op.READ, state, FILE) is Need.OWNER


def test_any_unless_block_spares():
    asked = Asked("""\
        - {id: a, allow: [all]}
        - {id: d, deny: [read], unless: [{owner: self}, {type: "image/*", path: "/a/**"}]}
        """)
    assert asked.code("camera", Op.READ, "/b/x", FILE, CAMERAS) == 0
    assert asked.code("gallery", Op.READ, "/a/x", FILE, CAMERAS) == 0
    assert asked.code("gallery", Op.READ, "/b/x", FILE, CAMERAS) == EACCES
    assert asked.code("gallery", Op.READ, "/a/x", FILE, Facts("text/plain", "none")) == EACCES


def test_redaction_adds_up_and_raw_types_must_agree():
    asked = Asked("""\
        - {id: a, allow: [all]}
        - {id: r1, require: {redact: [location]}, raw_types: [text/csv, application/zip]}
        - {id: r2, require: {redact: [location]}, raw_types: [application/zip], paths: ["/a/**"]}
        """)
    archive, table = Facts("application/zip", "none"), Facts("text/csv", "none")
    assert asked.ask("gallery", Op.READ, "/a/x", FILE, archive).redact == frozenset()
    assert asked.ask("gallery", Op.READ, "/a/x", FILE, table).redact == {"location"}
    assert asked.ask("gallery", Op.READ, "/b/x", FILE, table).redact == frozenset()
    assert asked.ask("gallery", Op.READ, "/b/x", FILE, Facts(None, "none")).redact == {"location"}
    # a directory is one, whatever is claimed of it
    assert asked.ask("gallery", Op.READ, "/b/x", DIRECTORY, table).redact == {"location"}


def test_content_counts_where_an_allow_of_write_could_apply():
    asked = Asked("""\
        - {id: a, allow: [see, read]}
        - {id: w, allow: [write], who: {app: camera}, when: {owner: self}}
        - {id: c, require: {content: [image/jpeg]}}
        - {id: c2, require: {content: ["image/*"]}, paths: ["/two/**"]}
        """)
    assert asked.ask("camera", Op.WRITE, "/two/x", FILE, CAMERAS).content == (
        frozenset({"image/jpeg"}),
        frozenset({"image/*"}),
    )
    state = asked.engine.state_of(b"/x")
    assert asked.engine.view(asked.who("camera"), state).checked
    assert not asked.engine.view(asked.who("gallery"), state).checked


def test_content_counts_where_bytes_can_come_by_a_move_alone():
    rules = """\
        - {id: a, allow: [see, read]}
        - {id: c, allow: [create, delete], who: {app: camera}, paths: ["/in/**", "/p/**"]}
        - {id: p, require: {content: [image/jpeg]}, paths: ["/p/**"]}
        """
    asked = Asked(rules)
    state = asked.engine.state_of(b"/p/x")
    assert asked.engine.view(asked.who("camera"), state).checked
    assert not asked.engine.view(asked.who("gallery"), state).checked
    assert asked.engine.asks_more(asked.engine.state_of(b"/in/x"), state)
    assert not asked.engine.asks_more(state, asked.engine.state_of(b"/p/y"))
    assert not asked.engine.asks_more(state, asked.engine.state_of(b"/in/x"))


def test_content_stays_in_force_under_the_mounts_dry_run():
    rules = """\
        - {id: c, require: {content: [image/jpeg]}, paths: ["/p/**"]}
        - {id: n, require: {no: [location]}, paths: ["/n/**"]}
        """
    dry, wet = Asked(rules, monitor=True), Asked(rules)
    answer = dry.ask("camera", Op.WRITE, "/p/x")
    assert answer.allowed
    assert answer.content == (frozenset({"image/jpeg"}),)
    assert dry.ask("stranger", Op.WRITE, "/p/x").content == ()
    for who, asked, checked in (("camera", dry, True), ("stranger", dry, False), ("camera", wet, False)):
        view = asked.engine.view(asked.who(who), asked.engine.state_of(b"/n/x"))
        assert (view.checked, bool(view.bans)) == (checked, checked)
    text = Facts("text/plain", "none")
    assert dry.rename("camera", "/q/a", "/p/b", facts=text) == EPERM
    assert dry.rename("camera", "/p/a", "/p/b") == 0
    assert dry.rename("camera", "/q", "/p/d", DIRECTORY) == EXDEV


def test_a_ban_counts_for_attributes_of_who_may_bring_no_bytes():
    asked = Asked("""\
        - {id: a, allow: [see, attr]}
        - {id: n, require: {no: [location, time]}, paths: ["/n/**"], unless: {owner: self}}
        - {id: m, require: {content: [image/jpeg]}, paths: ["/n/**"]}
        """)
    engine, who = asked.engine, asked.who("camera")
    bans = {
        owner: engine.bans(who, engine.state_of(b"/n/x"), FILE, Facts("image/jpeg", owner))
        for owner in ("camera", "gallery", None)
    }
    words = frozenset({"location", "time"})
    assert bans == {"camera": frozenset(), "gallery": words, None: words}
    assert engine.bans(who, engine.state_of(b"/x"), FILE, Facts()) == frozenset()


NO_PLACE = frozenset({ban(frozenset({"location", "time"}))})


def test_a_ban_is_met_by_what_was_looked_through() -> None:
    assert frozenset({"no location, time"}) == NO_PLACE
    people = frozenset({ban(frozenset({"people"}))})
    assert banned((PHOTOS, NO_PLACE, people)) == {"location", "time", "people"}
    assert kinds_only((PHOTOS, NO_PLACE)) == (PHOTOS,)
    looked = Facts("image/png", None, frozenset({"location"}))
    assert not content_met((PHOTOS, NO_PLACE), looked)
    assert content_met((PHOTOS, NO_PLACE), looked._replace(free_of=frozenset({"location", "time", "device"})))
    assert not content_met((PHOTOS, NO_PLACE), Facts("text/plain", None, frozenset({"location", "time"})))


def test_nothing_is_looked_for_again_where_it_was_kept_out_already() -> None:
    asked = Asked(
        """
        - {id: all, allow: [all], paths: "/**"}
        - {id: share, require: {no: location}, paths: "/Share/**"}
        """
    )
    for old, new, free_of, answer in (
        ("/a.jpg", "/Share/a.jpg", frozenset(), EPERM),
        ("/a.jpg", "/Share/a.jpg", frozenset({"location"}), 0),
        ("/Share/a.jpg", "/Share/b.jpg", frozenset(), 0),
        ("/Share/a.jpg", "/b.jpg", frozenset(), 0),
    ):
        facts = Facts("image/jpeg", "camera", free_of)
        assert asked.rename("camera", old, new, facts=facts) == answer, (old, new)


def test_an_empty_file_meets_every_content_requirement():
    assert content_met((PHOTOS, frozenset({ban(frozenset({"location"}))})), Facts("inode/x-empty"))
    assert not content_met((PHOTOS,), Facts())
    assert content_met((frozenset({"image/*"}),), Facts("image/webp"))
    assert not content_met((PHOTOS, frozenset({"image/png"})), Facts("image/webp"))


@pytest.mark.parametrize(
    ("allow", "redact", "level"),
    [
        ("", None, Audit.BEST_EFFORT),
        (", audit: 'off'", None, Audit.OFF),
        (", audit: required", None, Audit.REQUIRED),
        (", audit: 'off'", "", Audit.REQUIRED),
        (", audit: 'off'", ", audit: best_effort", Audit.BEST_EFFORT),
        (", audit: required", ", audit: best_effort", Audit.REQUIRED),
    ],
)
def test_the_strongest_audit_wins(allow, redact, level):
    rules = f"- {{id: a, allow: [all]{allow}}}\n"
    if redact is not None:
        rules += f"- {{id: r, require: {{redact: [location]}}{redact}}}\n"
    assert Asked(rules).ask("gallery", Op.READ, "/x").audit is level


def test_an_allow_silences_no_denial():
    asked = Asked("""\
        - {id: a, allow: [see], audit: 'off'}
        - {id: d, deny: [write], paths: ["/d"]}
        - {id: q, deny: [write], paths: ["/q"], audit: 'off'}
        """)
    assert asked.ask("gallery", Op.SEE, "/x").audit is Audit.OFF
    assert asked.ask("gallery", Op.READ, "/x").audit is Audit.REQUIRED
    assert asked.ask("gallery", Op.WRITE, "/d").audit is Audit.REQUIRED
    assert asked.ask("gallery", Op.WRITE, "/q").audit is Audit.OFF


# ---------------------------------------------------------------- seeing


def test_hiding_a_directory_hides_all_below():
    asked = Asked("""\
        - {id: a, allow: [all], paths: ["/**"]}
        - {id: d, deny: [see], paths: ["/a/b"], who: {app: gallery}}
        """)
    for path in ("/a/b", "/a/b/c", "/a/b/c/d"):
        assert asked.code("gallery", Op.SEE, path, DIRECTORY) == ENOENT
        assert asked.code("gallery", Op.READ, path) == ENOENT
        assert asked.code("camera", Op.READ, path) == 0
    assert asked.code("gallery", Op.SEE, "/a", DIRECTORY) == 0
    below = asked.ask("gallery", Op.SEE, "/a/b/c")
    assert RuleMatch("d", "deny", Op.SEE) in below.rules


def test_the_root_is_seen_whatever_denies_it():
    asked = Asked("""\
        - {id: a, allow: [see], paths: ["/a"]}
        - {id: d, deny: [see], paths: ["/"]}
        """)
    assert asked.ask("stranger", Op.SEE, "/", DIRECTORY).bare
    assert asked.code("stranger", Op.SEE, "/a") == 0


def test_a_directory_on_the_way_is_bare_and_nothing_more():
    asked = Asked("- {id: a, allow: [see, read], who: {app: camera}, paths: ['/a/*/c/**']}")
    for path in ("/a", "/a/x", "/a/x/c"):
        decision = asked.ask("camera", Op.SEE, path, DIRECTORY)
        assert decision.allowed
        assert decision.bare
        assert asked.code("camera", Op.ATTR, path, DIRECTORY) == EACCES
        assert asked.code("camera", Op.SEE, path) == ENOENT  # as a file it leads nowhere
        assert asked.code("gallery", Op.SEE, path, DIRECTORY) == ENOENT
    assert asked.code("camera", Op.SEE, "/a/x/d", DIRECTORY) == ENOENT
    assert asked.code("camera", Op.SEE, "/b", DIRECTORY) == ENOENT


def test_a_directory_that_leads_only_to_the_denied_is_not_shown():
    asked = Asked("""\
        - {id: a, allow: [see], paths: ["/a/b/*", "/c/d/*"]}
        - {id: d, deny: [see], paths: ["/a/**"]}
        - {id: e, deny: [see], paths: ["/c/**"], when: {type: text/plain}}
        """)
    assert asked.code("camera", Op.SEE, "/a", DIRECTORY) == ENOENT
    assert asked.code("camera", Op.SEE, "/c", DIRECTORY) == 0


def test_a_way_that_avoids_the_deny_is_found():
    asked = Asked("""\
        - {id: a, allow: [see], paths: ["/a/**"]}
        - {id: d, deny: [see], paths: ["/a/?", "/a/*/*"]}
        - {id: e, deny: [see], paths: ["/{app}/*"], who: {app: gallery}}
        - {id: f, allow: [see], paths: ["/gallery/x/y"]}
        """)
    assert asked.code("camera", Op.SEE, "/a", DIRECTORY) == 0
    assert asked.code("camera", Op.SEE, "/gallery", DIRECTORY) == 0
    assert asked.code("gallery", Op.SEE, "/gallery", DIRECTORY) == ENOENT


def test_an_allow_of_see_that_is_only_recorded_shows_nothing():
    asked = Asked("- {id: a, allow: [see], paths: ['/a/b'], mode: monitor}")
    assert asked.code("camera", Op.SEE, "/a", DIRECTORY) == ENOENT
    decision = asked.ask("camera", Op.SEE, "/a/b")
    assert decision.errno == ENOENT
    assert decision.would_allow == ("a",)


def test_an_ancestor_hidden_by_its_owner():
    asked = Asked("""\
        - {id: a, allow: [all], paths: ["/**"]}
        - {id: d, deny: [see], paths: ["/a/*"], when: {owner: camera}, who: {app: gallery}}
        """)
    engine = asked.engine
    root, top, middle, leaf = map(engine.state_of, (b"/", b"/a", b"/a/b", b"/a/b/c"))
    assert not engine.owner_matters_above(middle)
    assert engine.owner_matters_above(leaf)
    assert engine.decide(asked.who("gallery"), Op.READ, leaf, FILE, NOBODYS).allowed

    def above(name: str, owner: str | None):
        chain = [(root, Facts()), (top, Facts(None, "none")), (middle, Facts(None, owner))]
        return engine.hidden_above(asked.who(name), chain)

    assert above("gallery", "none") is None
    assert above("gallery", "camera").errno == ENOENT
    assert above("gallery", None).rules == (RuleMatch("d", "deny", Op.SEE, certain=False),)
    assert above("maps", "camera") is None


# ---------------------------------------------------------------- captures and callers


def test_captures_are_the_callers_own():
    asked = Asked("- {id: a, allow: [all], who: {app: any}, paths: ['/data/{app}/***', '/run/u{uid}/***']}")
    assert asked.code("camera", Op.WRITE, "/data/camera/x") == 0
    assert asked.code("camera", Op.SEE, "/data/gallery/x") == ENOENT
    assert asked.code("camera", Op.SEE, "/data", DIRECTORY) == 0
    assert asked.code("camera", Op.WRITE, "/run/u10010/x/y") == 0
    assert asked.code("camera", Op.SEE, "/run/u10011/x/y") == ENOENT
    assert asked.code("stranger", Op.SEE, "/data", DIRECTORY) == ENOENT


def test_captures_in_conditions_are_the_callers_own():
    asked = Asked("""\
        - {id: a, allow: [all]}
        - {id: d, deny: [all], paths: ["/data/*/***"], unless: {path: "/data/{app}/***"}}
        - {id: e, deny: [write], when: {path: "/uid/{uid}/**"}}
        """)
    assert asked.code("camera", Op.WRITE, "/data/camera/x") == 0
    assert asked.code("gallery", Op.WRITE, "/data/camera/x") == ENOENT
    assert asked.code("stranger", Op.WRITE, "/data/stranger/x") == ENOENT
    assert asked.code("camera", Op.WRITE, "/uid/10010/x") == EACCES
    assert asked.code("camera", Op.WRITE, "/uid/10011/x") == 0


def test_two_uids_of_one_app_are_told_apart_where_a_capture_asks():
    apps = "apps:\n  many: {uid: '100-200'}\n"
    asked = Asked("- {id: a, allow: [all], paths: ['/home/{uid}/***']}", apps=apps)
    for uid, path in ((100, "/home/100/f"), (101, "/home/100/f"), (101, "/home/101/f"), (100, "/home/101/f")):
        assert asked.code(uid, Op.WRITE, path) == (0 if str(uid) in path else ENOENT)


def test_a_capture_names_one_caller_throughout():
    asked = Asked("- {id: a, allow: [see], paths: ['/{app}/x/{app}/**']}")
    assert asked.code("camera", Op.SEE, "/camera/x/camera/f") == 0
    assert asked.code("camera", Op.SEE, "/camera/x/gallery/f") == ENOENT
    assert asked.code("gallery", Op.SEE, "/camera/x/gallery/f") == ENOENT


def test_a_wide_range_of_uids_is_one_class():
    apps = "apps:\n  many: {uid: '100000-2000000000'}\n"
    asked = Asked("- {id: a, allow: [all], paths: ['/home/{uid}/***']}", apps=apps)
    for uid in (100000, 1_000_000_000, 2_000_000_000):
        assert asked.code(uid, Op.WRITE, f"/home/{uid}/f") == 0
        assert asked.code(uid, Op.SEE, f"/home/{uid - 1}/f") == ENOENT
    assert asked.code(99_999, Op.SEE, "/home/99999/f") == ENOENT
    assert asked.code(100_000, Op.SEE, "/home/0100000/f") == ENOENT


def test_without_uid_captures_all_uids_of_an_app_are_one_principal():
    asked = Asked("- {id: a, allow: [all]}", apps="apps:\n  many: {uid: '100000-200000'}\n")
    assert asked.engine.principal(100000).key == asked.engine.principal(150000).key
    assert asked.engine.principal(100000).key != asked.engine.principal(99999).key


def test_who_keys_all_hold_and_not_turns_them():
    asked = Asked("""\
        - {id: a, allow: [all], who: {app: [camera, maps], grant: media.location}, paths: ["/a/**"]}
        - {id: b, allow: [all], who: {app: any, not: {app: camera}}, paths: ["/b/**"]}
        - {id: c, allow: [all], who: {uid: "4000-5000"}, paths: ["/c/**"]}
        - {id: d, allow: [all], who: {app: stranger}, paths: ["/d/**"]}
        """)
    names = ("camera", "gallery", "maps", "stranger")
    may = {t: [n for n in names if not asked.code(n, Op.WRITE, f"/{t}/x")] for t in "abcd"}
    assert may == {"a": ["maps"], "b": ["gallery", "maps"], "c": ["stranger"], "d": ["stranger"]}


def test_an_app_mount_makes_any_uid_the_app():
    asked = Asked("- {id: a, allow: [all], who: {app: camera}}")
    who = asked.engine.app_principal("camera", 0)
    assert who.label == "camera"
    assert asked.engine.decide(who, Op.WRITE, asked.engine.state_of(b"/x"), FILE, NOBODYS).allowed
    with pytest.raises(KeyError):
        asked.engine.app_principal("nobody", 0)


# ---------------------------------------------------------------- views


def test_a_view_is_shared_by_those_whose_duties_are_one_function_of_the_facts():
    asked = Asked("""\
        - {id: a, allow: [all]}
        - {id: r, require: {redact: [location]}, unless: {owner: self}, paths: ["/self/**"]}
        - {id: s, require: {redact: [location]}, when: {type: image/jpeg}, paths: ["/kind/**"]}
        """)
    engine = asked.engine

    def keys(path: bytes) -> list[int]:
        return [
            engine.view(asked.who(n), engine.state_of(path)).key for n in ("camera", "gallery", "stranger")
        ]

    assert len(set(keys(b"/self/x"))) == 3
    assert len(set(keys(b"/kind/x"))) == 1
    assert 0 not in keys(b"/kind/x")
    assert set(keys(b"/other")) == {0}


# ---------------------------------------------------------------- dry runs


def test_a_rule_in_monitor_mode_blocks_nothing():
    asked = Asked("""\
        - {id: a, allow: [all]}
        - {id: d, deny: [write], mode: monitor}
        - {id: c, require: {content: [image/jpeg]}, mode: monitor}
        """)
    decision = asked.ask("camera", Op.WRITE, "/x")
    assert decision.allowed
    assert decision.would_deny == ("d",)
    assert decision.content == ()
    assert decision.monitored_content == (("c", frozenset({"image/jpeg"})),)
    assert RuleMatch("d", "deny", Op.WRITE, monitor=True) in decision.rules


def test_a_dry_run_of_the_mount_is_for_listed_apps_only():
    asked = Asked(FAMILY, monitor=True)
    decision = asked.ask("gallery", Op.WRITE, PHOTO)
    assert decision.allowed
    assert decision.would_deny == (NO_ALLOW,)
    hidden = asked.ask("gallery", Op.READ, "/Android/data/camera/db")
    assert hidden.allowed
    assert hidden.would_deny[0] == "app.private"
    assert hidden.redact == {"location"}
    assert asked.code("stranger", Op.SEE, PHOTO) == ENOENT
    allowed = asked.ask("maps", Op.READ, PHOTO)
    assert (allowed.allowed, allowed.would_deny) == (True, ())
    assert asked.engine.caller_matters_below(asked.engine.root)


# ---------------------------------------------------------------- needs, caches, sameness


def test_needs_names_only_what_the_answer_hangs_on(family):
    engine = family.engine
    state = engine.state_of(PHOTO.encode())
    assert engine.needs(family.who("maps"), Op.READ, state, FILE) is Need.NOTHING
    assert engine.needs(family.who("gallery"), Op.SEE, state, FILE) is Need.NOTHING
    assert engine.needs(family.who("gallery"), Op.READ, state, FILE) == Need.KIND | Need.OWNER
    assert engine.needs(family.who("camera"), Op.WRITE, state, FILE) is Need.OWNER
    assert engine.needs(family.who("stranger"), Op.READ, state, FILE) is Need.NOTHING


def test_where_it_does_not_matter_who_asks():
    asked = Asked("""\
        - {id: a, allow: [see, read], paths: ["/**"]}
        - {id: b, deny: [all], who: {app: gallery}, paths: ["/private/***"]}
        - {id: c, allow: [write], paths: ["/own/**"], when: {owner: self}}
        - {id: d, allow: [write], paths: ["/typed/**"], when: {type: image/jpeg}}
        """)
    engine = asked.engine

    def matters(path: bytes) -> tuple[bool, bool]:
        state = engine.state_of(path)
        return engine.caller_matters(state), engine.caller_matters_below(state)

    assert matters(b"/") == (False, True)
    assert matters(b"/public") == (False, False)
    assert matters(b"/public/x") == (False, False)
    assert matters(b"/typed/x") == (False, False)
    assert matters(b"/private") == (True, True)
    assert matters(b"/private/x/y") == (True, True)
    assert matters(b"/own") == (False, True)
    assert matters(b"/own/x") == (True, True)


def test_path_states_are_one_object_each(family):
    engine = family.engine
    state = engine.state_of(b"/DCIM/Camera")
    assert state is engine.state_of(b"/DCIM/Other")
    assert engine.child(state, b"a.jpg") is engine.child(state, b"b.jpg")
    assert engine.root is engine.state_of(b"/")


def test_answers_outlive_what_the_engine_remembers():
    asked = Asked("- {id: a, allow: [all], paths: ['/data/{uid}/***', '/x/**']}", remembered=8)
    who = asked.who("camera")
    kept = asked.engine.state_of(b"/data/10010/x")
    for number in range(200):
        state = asked.engine.state_of(b"/data/%d" % number)
        assert not asked.engine.decide(who, Op.WRITE, state, FILE, NOBODYS).allowed
    assert asked.engine.state_of(b"/data/10010/x") is kept
    assert asked.engine.decide(who, Op.WRITE, kept, FILE, NOBODYS).allowed


def test_a_path_of_too_many_captures_is_lost_to_everyone():
    asked = Asked("- {id: a, allow: [all], paths: ['/**']}\n- {id: b, deny: [see], paths: ['/**/{uid}/**']}")
    state = asked.engine.root
    for number in range(600):
        state = asked.engine.child(state, b"%d" % number)
    assert asked.engine.decide(asked.who("stranger"), Op.SEE, state, FILE, NOBODYS).errno == ENOENT


def test_the_order_of_rules_never_matters():
    rules = ["- {id: b, allow: [all]}", "- {id: a, deny: [write], errno: EPERM}", "- {id: c, deny: [write]}"]
    one = Asked("\n".join(rules)).ask("camera", Op.WRITE, "/x")
    assert one == Asked("\n".join(reversed(rules))).ask("camera", Op.WRITE, "/x")


def test_an_engine_says_which_policy_it_is(family):
    assert family.engine.digest == family.engine.policy.digest
    assert compile_policy(family.engine.policy).root is not family.engine.root


def test_an_engine_that_nobody_has_any_more_is_gone_at_once():
    """Not when the collector comes by: each reload leaves one behind."""
    gc.collect()
    gc.disable()
    try:
        engine = Asked("- {id: all, allow: [all], paths: ['/**']}").engine
        who = engine.principal(10010)
        engine.decide(who, Op.SEE, engine.state_of(b"/a/b"), FILE, Facts())
        gone = weakref.ref(engine)
        del engine, who
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("rules", "plainly"),
    [
        ('- {id: r, allow: [see], paths: "/a/**"}', True),
        ('- {id: r, allow: [see], paths: "/a/***"}', True),
        ('- {id: r, allow: [see], paths: "/a/*"}', False),
        ('- {id: r, allow: [see], paths: "/a/*/**"}', False),
        ('- {id: r, allow: [read], paths: "/a/**"}', False),
        ('- {id: r, allow: [see], who: {app: gallery}, paths: "/a/**"}', False),
        ('- {id: r, allow: [see], paths: "/a/{uid}/**"}\n- {id: s, allow: [see], paths: "/a/**"}', False),
        ('- {id: r, allow: [see], paths: "/a/**"}\n- {id: s, deny: [see], paths: "/a/b/c/d"}', False),
        ('- {id: r, allow: [see], paths: "/a/**/*a*"}', False),
        ('- {id: r, allow: [see], paths: "/a/**"}\n- {id: s, allow: [see], paths: "/b/{app}/**"}', True),
        ('- {id: r, allow: [see], paths: "/a/**"}\n- {id: s, allow: [see], paths: "/a/b/{app}/**"}', False),
    ],
)
def test_everything_below_is_shown_plainly(rules: str, *, plainly: bool) -> None:
    engine = engine_of(rules + "\n")
    who = engine.principal(10010)
    assert engine.shows_plainly_below(who, engine.state_of(b"/a")) is plainly


@pytest.mark.parametrize(
    ("rules", "everything"),
    [
        ('- {id: r, allow: [see], paths: "/***"}', True),
        ('- {id: r, allow: [see], paths: ["/a/*", "/a/s*"]}', True),
        ('- {id: r, allow: [see], paths: "/a/*a*"}', False),
        ('- {id: r, allow: [see], paths: "/a/?????*"}', False),
        ('- {id: r, allow: [see], paths: "/a/s*"}', False),
        ('- {id: r, allow: [see], paths: "/***", unless: {path: "/a/s*"}}', False),
        ('- {id: r, allow: [see], paths: "/***", unless: {path: "/a/s/***"}}', False),
        ('- {id: r, allow: [see], paths: "/***", unless: {path: "/**/s"}}', False),
        ('- {id: r, allow: [see], paths: "/***", unless: {path: "/a/b/s"}}', True),
        ('- {id: r, allow: [see], paths: "/***", unless: {path: "/b/***"}}', True),
        ('- {id: r, allow: [see], paths: "/***", unless: {path: ["/a/s"], owner: self}}', False),
        ('- {id: r, allow: [see], paths: "/***", when: {path: "/a/s*"}}', False),
        ('- {id: r, allow: [see], paths: "/***", when: {path: "/a/**"}}', True),
        ('- {id: r, allow: [see], paths: "/a/{app}*"}', False),
        ('- {id: r, allow: [see], paths: "/***"}\n- {id: s, deny: [read], paths: "/a/s"}', True),
        ('- {id: r, allow: [see], paths: "/***"}\n- {id: s, deny: [see], paths: "/a/b/s"}', False),
    ],
)
def test_all_names_in_a_directory_are_shown(rules: str, *, everything: bool) -> None:
    engine = engine_of(rules + "\n")
    who = engine.principal(10010)
    assert engine.shows_all_in(who, engine.state_of(b"/a")) is everything


def test_not_all_names_are_shown_where_some_may_be_lost() -> None:
    captured = '- {id: s, allow: [see], paths: "/**/{uid}/**"}\n'
    engine = engine_of('- {id: r, allow: [see], paths: "/***"}\n' + captured)
    who, state = engine.principal(10010), engine.root
    for number in range(MAX_BOUND + 1):
        shown = all(
            engine.decide(who, Op.SEE, engine.child(state, name), FILE, Facts()).allowed
            for name in (b"12", b"99999", b"a")
        )
        assert shown or not engine.shows_all_in(who, state), number
        state = engine.child(state, str(number).encode())
    assert not shown


def test_a_denial_names_no_requirement():
    """A requirement is not the cause if no rule allows the request."""
    asked = Asked("""\
        - {id: look, allow: [see, read], paths: "/**"}
        - {id: clean, require: {redact: [location]}, paths: "/**"}
        - {id: types, require: {content: image/jpeg}, paths: "/**"}
        - {id: add, allow: [create], paths: "/**"}
        """)
    decision = asked.ask("camera", Op.SEE | Op.READ | Op.WRITE, "/a.jpg")
    assert decision.errno == EACCES
    assert {match.rule for match in decision.rules} == {"look"}
