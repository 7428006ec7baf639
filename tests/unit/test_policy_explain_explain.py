"""Explanations: every rule with its reason."""

from __future__ import annotations

import pytest

from policyfs.domain import Facts, FileType, Need
from policyfs.errors import UsageError, errno_name
from policyfs.policy.decide import Engine
from policyfs.policy.explain.explain import REQUESTS, Explanation, explain, explain_move, kept_by_kernel
from tests.support.models.policies import DIRECTORY, FAMILY, FILE, NOBODYS, Asked, engine_of

CAMERAS = Facts("image/jpeg", "camera")
READS_AND_WRITES = (
    "reads from a private copy, nothing to remove now; writes through the daemon, which checks their content"
)


def explained(
    asked: Asked, name: str, request: str, path: str, ftype=FILE, facts: Facts = NOBODYS
) -> Explanation:
    return explain(asked.engine, asked.who(name), request, path.encode(), ftype, facts)


def said(explanation: Explanation) -> dict[str, str]:
    return {line.rule: f"{line.verdict}: {line.reason}" for line in explanation.lines}


@pytest.fixture(scope="module")
def family() -> Asked:
    return Asked(FAMILY)


def test_every_rule_has_a_line_with_its_reason(family):
    found = said(explained(family, "gallery", "read", "/DCIM/Camera/a.jpg", facts=CAMERAS))
    assert found == {
        "app.private": "no: paths: no glob matches",
        "backup.all": "no: who: gallery does not have the grant manage",
        "media.no-location": "matches: it applies to read, and all its conditions hold",
        "media.own": "no: who: gallery is not camera",
        "media.read": "matches: it applies to see, read, and all its conditions hold",
        "media.types": "no: the rule is about write, create",
    }


def test_the_whole_text(family):
    text = explained(family, "gallery", "read", "/DCIM/Camera/a.jpg", facts=CAMERAS).text()
    assert text.splitlines()[:2] == [
        ("gallery may read /DCIM/Camera/a.jpg: rule media.read allows the request, without location"
        " (media.no-location)."),
        "read /DCIM/Camera/a.jpg by gallery: allowed; redacted: location",
    ]
    told = "rules: backup.all, media.own, media.read"
    assert text.splitlines()[-5:] == [
        "  view: redacted(location)",
        "  depends on: the content kind and the owner",
        "  bytes: reads from a private copy, location removed",
        f"  kernel: asks the daemon each time: not all callers see this path ({told})",
        "  audit: required",
    ]


def test_conditions_that_speak_against_a_rule_are_named():
    asked = Asked("""\
        - {id: a, allow: [all], when: {type: "image/*"}}
        - {id: b, allow: [all], unless: {owner: self}}
        - {id: c, allow: [all], unless: {path: "/x/**"}}
        - {id: d, deny: [read], when: {owner: self}}
        - {id: e, deny: [read], unless: [{type: text/plain}, {owner: none}]}
        """)
    found = said(explained(asked, "camera", "read", "/x/f", facts=Facts("text/plain", "camera")))
    assert found["a"] == "no: when: type image/* does not hold"
    assert found["b"] == "no: unless: owner self holds"
    assert found["c"] == "no: unless: path /x/** holds"
    assert found["d"].startswith("matches")
    assert found["e"] == "no: unless: one of its blocks holds"
    assert (
        said(explained(asked, "stranger", "read", "/f"))["d"] == "no: when: owner self holds for no stranger"
    )


def test_unknown_facts_are_named():
    asked = Asked("""\
        - {id: a, allow: [all], when: {type: "image/*"}}
        - {id: d, deny: [read], when: {owner: camera}}
        """)
    explanation = explained(asked, "camera", "read", "/f", facts=Facts())
    assert said(explanation) == {
        "a": "no: the content kind is unknown, so this allow does not match",
        "d": "may match: the owner is unknown, so the rule counts as matching",
    }
    assert explanation.needs == Need.KIND | Need.OWNER


def test_who_is_explained_key_by_key():
    asked = Asked("""\
        - {id: a, allow: [all], who: {app: [maps]}}
        - {id: g, allow: [all], who: {grant: media.location}}
        - {id: u, allow: [all], who: {uid: 7}}
        - {id: n, allow: [all], who: {not: {app: any}}}
        - {id: s, allow: [all], who: {app: stranger}}
        """)
    found = said(explained(asked, "camera", "read", "/f"))
    assert found["a"] == "no: who: camera is not maps"
    assert found["g"] == "no: who: camera does not have the grant media.location"
    assert found["u"] == "no: who: uid 10010 is not among the uids of the rule"
    assert found["n"] == 'no: who: camera is excluded by "not"'
    assert said(explained(asked, "stranger", "read", "/f"))["a"] == "no: who: stranger is not maps"


def test_what_hides_a_path_from_above_is_named(family):
    explanation = explained(family, "camera", "stat", "/Android/data/maps/cache/x")
    assert explanation.hidden_by == (
        (b"/Android/data/maps", "app.private"),
        (b"/Android/data/maps/cache", "app.private"),
    )
    assert "hidden, because rule app.private hides /Android/data/maps" in explanation.text()


def test_captures_of_another_caller():
    asked = Asked("- {id: a, allow: [all], paths: ['/data/{app}/**']}")
    found = said(explained(asked, "camera", "read", "/data/maps/x"))
    assert found["a"] == "no: paths: {app} or {uid} in the glob does not match this caller"


def test_a_content_rule_for_who_could_not_write_anyway(family):
    found = said(explained(family, "gallery", "write", "/DCIM/a.jpg"))
    assert found["media.types"] == "no: no rule could allow this caller to write or create a file here"


def test_rules_that_are_only_recorded_say_so():
    asked = Asked("- {id: a, allow: [all]}\n- {id: d, deny: [read], mode: monitor}")
    explanation = explained(asked, "camera", "read", "/f")
    assert said(explanation)["d"].endswith("only recorded (mode: monitor)")
    assert "would be denied by d" in explanation.text()


@pytest.mark.parametrize(
    ("name", "request_", "io"),
    [
        ("maps", "read", "passthrough"),
        ("gallery", "read", "reads from a private copy, location removed"),
        ("gallery", "write", "none, because the request is denied"),
        (
            "camera",
            "read",
            READS_AND_WRITES,
        ),
        ("maps", "stat", "none"),
    ],
)
def test_what_becomes_of_the_bytes(family, name, request_, io):
    assert explained(family, name, request_, "/DCIM/a.jpg", facts=CAMERAS).io == io


def test_rules_that_do_not_match_are_counted_and_shown_on_demand(family):
    explanation = explained(family, "gallery", "write", "/DCIM/a.jpg", facts=CAMERAS)
    short, whole = explanation.text(), explanation.text(every=True)
    assert "  nearly    allow   media.own (test.yaml:" in short
    assert "4 other rules do not match (--all)" in short
    assert "app.private" not in short
    assert "  no        deny    app.private" in whole
    assert "--all" not in whole


def test_a_move_is_explained_at_both_ends(family):
    who = family.who("camera")
    found = explain_move(family.engine, who, "rename", b"/DCIM/a.jpg", b"/Pictures/a.jpg", FILE, CAMERAS)
    assert not found.decision.allowed
    assert found.text().splitlines()[0] == (
        "camera may not rename /DCIM/a.jpg to /Pictures/a.jpg (EACCES): the new path needs create, and no"
        " rule allows create; the nearest rule is media.own (test.yaml:16): paths: no glob matches."
    )
    fine = explain_move(family.engine, who, "rename", b"/DCIM/a.jpg", b"/DCIM/b.jpg", FILE, CAMERAS)
    assert fine.cause == "the rules allow both paths, and no app gains rights by the new path"
    over = explain_move(
        family.engine, who, "rename", b"/DCIM/a.jpg", b"/DCIM/b.jpg", FILE, CAMERAS, (FILE, NOBODYS)
    )
    assert [end.request for end in over.ends] == ["delete", "create", "delete"]
    assert over.cause.startswith("the replaced file needs delete, and no rule allows delete")
    assert "replaced file /DCIM/b.jpg (delete): denied (EACCES)" in over.text()


def test_a_move_that_would_gain_says_so():
    asked = Asked("""\
        - {id: a, allow: [all], who: {app: camera}, paths: ["/a/**", "/b/**"]}
        - {id: b, allow: [see, read], who: {app: maps}, paths: "/b/**"}
        - {id: c, require: {content: [image/png]}, paths: "/b/**"}
        """)
    who = asked.who("camera")
    found = explain_move(asked.engine, who, "link", b"/a/x", b"/b/x", FILE, Facts("image/png", "camera"))
    assert errno_name(found.decision.errno) == "EXDEV"
    assert "mv then copies the file instead" in found.cause
    found = explain_move(asked.engine, who, "rename", b"/a/x", b"/b/x", FILE, Facts("text/plain", "camera"))
    assert errno_name(found.decision.errno) == "EPERM"
    assert found.cause == "the file does not have the content that the new path requires"


REDACTED = """\
- {id: a, allow: [all], who: {app: camera}, paths: "/a/**"}
- {id: b, deny: [see], who: {app: camera}, paths: "/**/.stversions/***"}
- {id: c, require: {redact: location}, who: {app: camera}, unless: {owner: self}}
- {id: d, allow: [see, read], who: {app: maps}, paths: "/a/maps/**"}
"""
ADVICE = (
    " so the copy would lack these data, and the data would be lost when mv deletes the original. Exempt the"
    " app from the redaction (give it the grant), or let the app delete only its own files (owner: self)"
)


def test_a_move_that_would_lose_hidden_data_names_the_rule_and_the_remedy():
    asked = Asked(REDACTED)
    who, facts = asked.who("camera"), Facts("image/jpeg", "maps")
    found = explain_move(asked.engine, who, "rename", b"/a/x", b"/a/maps/x", FILE, facts)
    assert errno_name(found.decision.errno) == "EACCES"
    assert found.cause == (
        "some app or user would have more rights to the file at the new path, or the new path requires"
        " other content; only a copy could have the new path. The app reads the file without its"
        f" location (c at test.yaml:11),{ADVICE}"
    )
    assert found.text().startswith("camera may not rename /a/x to /a/maps/x (EACCES): some app or user would")
    found = explain_move(asked.engine, who, "rename", b"/a/x", b"/a/y", DIRECTORY, facts)
    assert errno_name(found.decision.errno) == "EACCES"
    assert found.cause == (
        "the rules below the new path differ from those below the old path, or the app may not delete"
        " some file below the directory; only a copy could have the new path. The app reads a file"
        f" below the directory without its location (c at test.yaml:11),{ADVICE}"
    )


@pytest.mark.parametrize(
    ("new", "code", "cause"),
    [
        (
            b"/a/maps/x",
            "EXDEV",
            "content; mv then copies the file instead, and the policy decides on the copy",
        ),
        (b"/b/x", "ENOENT", "the new path needs create, and no rule allows the caller to see the path"),
    ],
)
def test_a_refused_link_loses_no_hidden_data(new: bytes, code: str, cause: str) -> None:
    """The redact rule belongs to the read that a link needs, and nothing deletes the original."""
    asked = Asked(REDACTED)
    facts = Facts("image/jpeg", "maps")
    found = explain_move(asked.engine, asked.who("camera"), "link", b"/a/x", new, FILE, facts)
    assert errno_name(found.decision.errno) == code
    assert "c" not in [match.rule for match in found.decision.rules]
    assert cause in found.cause
    assert "only a copy could have the new path" not in found.cause


def test_a_directory_of_which_mv_loses_nothing_says_that_mv_copies():
    asked = Asked(REDACTED.replace('paths: "/a/**"}', 'paths: "/a/**", when: {owner: self}}'))
    facts = Facts("inode/directory", "camera")
    found = explain_move(asked.engine, asked.who("camera"), "rename", b"/a/x", b"/a/y", DIRECTORY, facts)
    assert errno_name(found.decision.errno) == "EXDEV"
    assert found.cause == (
        "the rules below the new path differ from those below the old path, or the app may not delete"
        " some file below the directory; mv then copies the files instead, and the policy decides on the copy"
    )


def test_a_bare_directory_is_called_one(family):
    asked = Asked("- {id: a, allow: [see], paths: ['/a/b']}")
    assert "bare directory" in explained(asked, "camera", "list", "/a", DIRECTORY).text()


def test_an_unknown_request_names_those_there_are(family):
    with pytest.raises(UsageError, match="lookup"):
        explained(family, "camera", "fly", "/x")


def test_every_request_can_be_explained(family):
    for request in REQUESTS:
        assert explained(family, "backup", request, "/x").text()


def test_names_that_are_not_utf8_can_be_shown(family):
    assert "\\xff" in explain(family.engine, family.who("maps"), "stat", b"/\xff", FILE, NOBODYS).text()


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("", "a mount without --posix refuses fifos, sockets and devices (EPERM)"),
        (
            "- {id: c, require: {redact: location}}\n",
            "the mount refuses fifos, sockets and devices here (EPERM), whatever the rules allow",
        ),
    ],
)
def test_mknod_is_allowed_only_for_regular_files(rules: str, told: str) -> None:
    asked = Asked("- {id: all, allow: [all], paths: '/**'}\n" + rules)
    found = explain(asked.engine, asked.who("camera"), "mknod", b"/d/x", FILE, Facts(None, "camera"))
    assert f"allows the request, but only for a regular file: {told}." in found.text().splitlines()[0]


RULES = """\
- {id: a, allow: [all]}
- {id: d, deny: [see], who: {app: maps}, paths: "/a/b/**"}
- {id: w, deny: [write], who: {app: maps}, paths: "/w/**"}
- {id: r, require: {redact: [location]}, who: {app: maps}, paths: "/p/**"}
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return engine_of(RULES)


HERE = "keeps the name and the attributes: either all callers see this path, or none"
ALL = "keeps the name, the attributes and the listing: no rule distinguishes callers here or below"
NO_LISTING = "keeps the name and the attributes, not the listing: not all callers see all names (rules: d)"
NO_NAME = (
    "keeps the attributes, and asks the daemon for the name each time: not all callers have the same view"
)


@pytest.mark.parametrize(
    ("path", "ftype", "said"),
    [
        ("/x", FileType.REGULAR, HERE),
        ("/w/x", FileType.REGULAR, HERE),
        ("/x", FileType.DIRECTORY, ALL),
        ("/a/b", FileType.DIRECTORY, NO_LISTING),
        ("/a/b/c", FileType.REGULAR, "asks the daemon each time: not all callers see this path (rules: d)"),
        ("/p/c", FileType.REGULAR, f"{NO_NAME} (rules: r)"),
    ],
)
def test_what_is_kept_and_why_the_rest_is_not(engine: Engine, path: str, ftype: FileType, said: str) -> None:
    assert kept_by_kernel(engine, engine.state_of(path.encode()), ftype) == said


def test_only_some_of_many_rules_are_named() -> None:
    many = "".join(f"- {{id: d{n}, deny: [see], who: {{app: maps}}, paths: '/x'}}\n" for n in range(5))
    engine = engine_of(RULES + many)
    said = kept_by_kernel(engine, engine.state_of(b"/x"), FileType.REGULAR)
    assert said.endswith("(rules: d0, d1, d2 and 2 more)")


def test_under_a_dry_run_nothing_is_kept() -> None:
    engine = engine_of(RULES, monitor=True)
    assert "--monitor" in kept_by_kernel(engine, engine.state_of(b"/x"), FileType.REGULAR)


def test_a_limit_counts_changes_of_what_exists():
    limit = "- {id: brake, limit: {changes: 200, within: 10m}, who: {app: camera}}"
    asked = Asked('- {id: all, allow: [all], paths: "/**"}\n' + limit)
    for request, counts in (("unlink", True), ("write", True), ("create", False), ("read", False)):
        found = explained(asked, "camera", request, "/a")
        assert said(found)["brake"].startswith("matches: " if counts else "no: "), request
        assert ("rule brake may stop the app" in found.cause) == counts, request
