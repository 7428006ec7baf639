"""The rules at one path for one caller: which of them hide, which facts matter, what they could allow."""

from __future__ import annotations

import errno

import pytest

from policyfs.domain import Audit, Facts, FileType, Need, Op
from policyfs.policy.rules.profile import Profile, hidden_by
from tests.support.models.policies import Asked

FILE, DIRECTORY, SYMLINK = FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK
ALL = '- {id: all, allow: [all], who: {app: any}, paths: "/**"}\n'


def profile(rules: str, path: str, who: str = "gallery") -> Profile:
    asked = Asked(rules)
    return asked.engine.profile(asked.who(who), asked.engine.state_of(path.encode()))


def ids(lives) -> list[str]:
    return [live.rule.id for live in lives]


@pytest.mark.parametrize(
    ("rule", "path", "hiding", "maybe"),
    [
        ("deny: [see], paths: /a", "/a/b", ["r"], []),
        ("deny: [all], paths: /a", "/a/b/c", ["r"], []),
        ("deny: [see], paths: /a", "/a", [], []),
        ("deny: [read], paths: /a", "/a/b", [], []),
        ("allow: [see], paths: /a", "/a/b", [], []),
        ("deny: [see], paths: /a, mode: monitor", "/a/b", [], []),
        ("deny: [see], paths: /a, who: {app: maps}", "/a/b", [], []),
        ("deny: [see], paths: /a, when: {owner: camera}", "/a/b", [], ["r"]),
        ("deny: [see], paths: /a, unless: {owner: self}", "/a/b", [], ["r"]),
        ("deny: [see], paths: /a, when: {type: inode/directory}", "/a/b", ["r"], []),
        ("deny: [see], paths: /a, when: {type: image/jpeg}", "/a/b", [], []),
        ("deny: [see], paths: /a, unless: {type: inode/directory}", "/a/b", [], []),
    ],
)
def test_denies_of_see_above_hide_always_or_by_an_owner(
    rule: str, path: str, hiding: list[str], maybe: list[str]
) -> None:
    made = profile(f"{ALL}- {{id: r, {rule}}}\n", path)
    assert (ids(made.hiding), ids(made.hiding_maybe)) == (hiding, maybe)


def test_a_rule_that_hides_from_several_directories_is_named_once() -> None:
    made = profile(
        f'{ALL}- {{id: r, deny: [see], paths: "/a/**"}}\n- {{id: s, deny: [see], paths: /a/b}}\n', "/a/b/c/d"
    )
    assert ids(made.hiding) == ["r", "s"]


@pytest.mark.parametrize(
    ("rule", "fills"),
    [
        ("allow: [write]", True),
        ("allow: [create]", True),
        ("allow: [see, read, delete, attr]", False),
        ("deny: [write]", False),
        ("allow: [write], mode: monitor", False),
        ("allow: [write], who: {app: maps}", False),
        ("allow: [write, create], when: {type: [inode/directory, inode/symlink]}", False),
        ("allow: [create], when: {type: inode/*}", True),
        ("allow: [write], when: {owner: self}", True),
        ("allow: [write], paths: /other", False),
    ],
)
def test_content_matters_only_to_callers_that_could_bring_bytes(rule: str, fills: bool) -> None:
    rules = f"- {{id: r, {rule}}}\n- {{id: kinds, require: {{content: [image/png]}}}}\n"
    made = profile(rules, "/a")
    assert made.can_fill is fills
    assert made.content_possible() is fills
    assert ids(made.content(Facts("text/plain", "none"))) == (["kinds"] if fills else [])


def test_content_that_is_only_recorded_is_possible_and_not_required() -> None:
    made = profile(f"{ALL}- {{id: kinds, require: {{content: [image/png]}}, mode: monitor}}\n", "/a")
    assert made.content_possible()
    assert made.content(Facts(None, None)) == ()


def test_content_of_another_owner_is_not_required() -> None:
    made = profile(
        f"{ALL}- {{id: kinds, require: {{content: [image/png]}}, unless: {{owner: self}}}}\n", "/a"
    )
    assert made.content_possible()
    assert made.content(Facts(None, "gallery")) == ()
    assert ids(made.content(Facts(None, "camera"))) == ids(made.content(Facts(None, None))) == ["kinds"]


@pytest.mark.parametrize(
    ("rules", "possible"),
    [
        ("allow: [see, read, write, attr]", Op.READ | Op.WRITE | Op.ATTR),
        ("allow: [see, create, delete]", Op(0)),
        ("allow: [see, read], when: {owner: self}", Op.READ),
        ("allow: [see, read], when: {type: image/png}", Op.READ),
        ("allow: [see, read], when: {type: inode/directory}", Op(0)),
        ("allow: [all], unless: {owner: self}", Op.READ | Op.WRITE | Op.ATTR),
    ],
)
def test_what_some_facts_would_allow(rules: str, possible: Op) -> None:
    made = profile(f"- {{id: r, {rules}}}\n", "/a")
    assert made.possible(FILE, below=lambda: False, lenient=False) == possible


HIDES_CAMERAS = "- {id: s, deny: [read], errno: ENOENT, when: {owner: camera}}\n"
RECORDS_CAMERAS = "- {id: s, deny: [read], audit: required, when: {owner: camera}}\n"
READS = Op.SEE | Op.READ
EPERM = "- {id: r, deny: [read], errno: EPERM}\n"
OFF = "- {id: r, deny: [read], audit: off}\n"
TEXTS = "- {id: r, require: {redact: [location]}, raw_types: [text/plain]}\n"
READ = "- {id: all, allow: [read]}\n"


@pytest.mark.parametrize(
    ("rules", "ops", "ftype", "need"),
    [
        (ALL, Op.ALL, FILE, Need.NOTHING),
        (f"{ALL}- {{id: r, deny: [read], when: {{owner: camera}}}}\n", READS, FILE, Need.OWNER),
        (f"{ALL}- {{id: r, deny: [read], when: {{owner: camera}}}}\n", Op.WRITE, FILE, Need.NOTHING),
        (f"{ALL}- {{id: r, deny: [read], when: {{type: image/png}}}}\n", READS, FILE, Need.KIND),
        (f"{ALL}- {{id: r, deny: [read], when: {{type: image/png}}}}\n", READS, DIRECTORY, Need.NOTHING),
        (f"{ALL}- {{id: r, deny: [read], when: {{owner: camera}}}}\n", READS, DIRECTORY, Need.OWNER),
        (
            f"{ALL}- {{id: r, deny: [read], when: {{type: image/png, owner: camera}}}}\n",
            READS, FILE, Need.KIND | Need.OWNER,
        ),
        # one deny says the same as the other, whoever owns it
        (
            f"{ALL}- {{id: r, deny: [read]}}\n- {{id: s, deny: [read], when: {{owner: camera}}}}\n",
            READS, FILE, Need.NOTHING,
        ),
        # but with another errno
        (ALL + EPERM + HIDES_CAMERAS, READS, FILE, Need.OWNER),
        (ALL + TEXTS, READS, FILE, Need.KIND),
        (f"{ALL}- {{id: r, require: {{redact: [location]}}}}\n", READS, FILE, Need.NOTHING),
        (ALL + OFF + RECORDS_CAMERAS, READS, FILE, Need.OWNER),
    ],
)  # fmt: skip
def test_only_facts_that_change_the_answer_are_needed(
    rules: str, ops: Op, ftype: FileType, need: Need
) -> None:
    made = profile(rules, "/a")
    assert made.needs(int(ops), ftype, below=lambda: False, lenient=False) == need


@pytest.mark.parametrize(
    ("rules", "path", "ftype", "below", "code", "bare"),
    [
        (ALL, "/a", FILE, False, 0, False),
        (READ, "/a", FILE, False, errno.ENOENT, False),
        (READ, "/a", DIRECTORY, True, 0, True),
        (READ, "/a", SYMLINK, True, errno.ENOENT, False),
        (READ, "/a", DIRECTORY, False, errno.ENOENT, False),
        (f"{ALL}- {{id: r, deny: [see], paths: /a}}\n", "/a", DIRECTORY, True, errno.ENOENT, False),
        (f"{ALL}- {{id: r, deny: [see], paths: /a}}\n", "/a/b", FILE, True, errno.ENOENT, False),
        # the root stays, whatever a rule says
        (READ + '- {id: r, deny: [see], paths: "/***"}\n', "/", DIRECTORY, False, 0, True),
    ],
)  # fmt: skip
def test_the_path_is_seen_bare_or_not_at_all(
    rules: str, path: str, ftype: FileType, below: bool, code: int, bare: bool
) -> None:
    answer = profile(rules, path).answer(int(Op.SEE), ftype, Facts(None, None), below=lambda: below)
    assert (answer.errno, answer.bare) == (code, bare)


def test_the_dry_run_of_a_mount_tells_which_rules_would_have_hidden() -> None:
    made = profile(f"{ALL}- {{id: r, deny: [see], paths: /a}}\n", "/a/b")
    answer = made.answer(int(READS), FILE, Facts(None, None), below=lambda: False, lenient=True)
    assert (answer.allowed, answer.would_deny) == (True, ("r",))


OWNED = f"""\
{ALL}- {{id: r, deny: [see], paths: /a, when: {{owner: camera}}, audit: off}}
- {{id: s, deny: [all], paths: /a, when: {{owner: [camera, maps]}}, audit: required}}
- {{id: t, deny: [see], paths: /a, mode: monitor}}
"""


@pytest.mark.parametrize(
    ("owner", "named", "audit"),
    [
        ("camera", [("r", True), ("s", True)], Audit.REQUIRED),
        ("maps", [("s", True)], Audit.REQUIRED),
        ("none", None, None),
        (None, [("r", False), ("s", False)], Audit.REQUIRED),
    ],
)
def test_a_directory_is_hidden_by_its_facts(
    owner: str | None, named: list | None, audit: Audit | None
) -> None:
    denial = hidden_by([(profile(OWNED, "/a"), Facts(None, owner))])
    if named is None:
        assert denial is None
    else:
        assert denial is not None
        assert (denial.allowed, denial.errno, denial.audit) == (False, errno.ENOENT, audit)
        assert [(match.rule, match.certain) for match in denial.rules] == named


def test_profiles_are_shared_by_callers_that_names_do_not_tell_apart() -> None:
    asked = Asked(
        f'{ALL}- {{id: r, deny: [read], paths: "/home/{{uid}}/*"}}\n', apps="apps: {a: {uid: 5-9}}\n"
    )
    engine = asked.engine
    elsewhere, home = engine.state_of(b"/x/7/f"), engine.state_of(b"/home/7/f")
    assert engine.profile(asked.who(5), elsewhere) is engine.profile(asked.who(6), elsewhere)
    assert engine.profile(asked.who(5), home) is engine.profile(asked.who(6), home)
    assert engine.profile(asked.who(5), home) is not engine.profile(asked.who(7), home)


HOMES = """\
- {id: own, allow: [see], who: {app: gallery}, paths: "/users/{uid}/x"}
- {id: closed, deny: [see], who: {app: gallery}, paths: "/users/10011/***"}
- {id: tidy, allow: [delete], who: {app: gallery}, paths: "/users", when: {owner: none}}
- {id: theirs, deny: [see], who: {app: gallery}, paths: "/users", when: {owner: maps}}
"""


@pytest.mark.parametrize("ops", [Op.SEE, Op.SEE | Op.DELETE])
def test_what_one_uid_needs_is_not_what_another_uid_needs(ops: Op) -> None:
    """Nothing below /users is to be seen by 10011, so for it no fact matters. The other sees a path below."""
    engine = Asked(HOMES).engine
    state = engine.state_of(b"/users")
    blind, sees = (engine.app_principal("gallery", uid) for uid in (10011, 10013))
    assert engine.profile(blind, state) is engine.profile(sees, state), "no name tells them apart here"
    assert engine.needs(blind, ops, state, DIRECTORY) is Need.NOTHING
    assert engine.needs(sees, ops, state, DIRECTORY) is Need.OWNER
    assert engine.decide(sees, ops, state, DIRECTORY, Facts(None, "none")).allowed
