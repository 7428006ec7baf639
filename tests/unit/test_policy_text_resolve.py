"""From documents to rules: what a rule of a policy is once its names are looked up."""

from __future__ import annotations

import errno

import pytest

from policyfs.domain import DENY_UNKNOWN, Audit, Op, ban, cleaning
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.model import Effect, Policy, Rule
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.models.policies import APPS, HEAD


def policy(*texts: str) -> Policy:
    return parse_policy(
        [SourceText(f"{at}.yaml", (HEAD + text).encode()) for at, text in enumerate(texts)],
        redactable=frozenset({"image/jpeg", "image/png"}),
    )


def rule(text: str, more: str = "") -> Rule:
    return policy(f"{APPS}{more}rules:\n  - {{id: r, {text}}}\n").rules[0]


def faults(*texts: str) -> list[tuple[str, int, int]]:
    """The faults of a policy: of each its message, line and column."""
    with pytest.raises(PolicyErrors) as caught:
        policy(*texts)
    return [(error.message, error.where.line, error.where.column) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "effect", "ops"),
    [
        ("allow: [see, read]", Effect.ALLOW, Op.SEE | Op.READ),
        ("allow: [all]", Effect.ALLOW, Op.ALL),
        ("deny: [write]", Effect.DENY, Op.WRITE),
        ("require: {redact: [location]}", Effect.REDACT, Op.READ),
        ("require: {content: [image/jpeg]}", Effect.CONTENT, Op.WRITE | Op.CREATE),
        ("require: {no: [location]}", Effect.CONTENT, Op.WRITE | Op.CREATE),
        ("require: {clean: [location]}", Effect.CONTENT, Op.WRITE | Op.CREATE),
    ],
)
def test_the_effect_and_the_operations_of_a_rule(text: str, effect: Effect, ops: Op) -> None:
    made = rule(text)
    assert (made.effect, made.ops) == (effect, ops)


def test_a_rule_that_says_only_its_effect_has_nothing_else() -> None:
    made = rule("allow: [read]")
    assert (made.who, made.paths, made.when, made.unless, made.errno, made.audit) == (
        None,
        None,
        None,
        (),
        None,
        None,
    )
    assert (made.redact, made.content, made.raw_types) == (frozenset(), frozenset(), frozenset())
    assert (made.monitor, made.quarantine, made.ignore_case) == (False, False, False)


@pytest.mark.parametrize(
    ("text", "redact", "content", "raw_types"),
    [
        ("require: {redact: [location, time]}", {"location", "time"}, set(), set()),
        ("require: {redact: [location]}, on_unknown: deny", {"location", DENY_UNKNOWN}, set(), set()),
        ("require: {redact: [location]}, on_unknown: zero", {"location"}, set(), set()),
        ("require: {redact: [location]}, raw_types: [text/plain]", {"location"}, set(), {"text/plain"}),
        ("require: {content: [image/jpeg, image/png]}", set(), {"image/jpeg", "image/png"}, set()),
        ("require: {no: [people]}", set(), {ban(frozenset({"people"}))}, set()),
        ("require: {no: [time]}, on_unknown: deny", set(), {ban(frozenset({"time", DENY_UNKNOWN}))}, set()),
        ("require: {no: [time]}, on_unknown: allow", set(), {ban(frozenset({"time"}))}, set()),
        ("require: {clean: [device]}", set(), {cleaning(frozenset({"device"}))}, set()),
        (
            "require: {clean: [device]}, raw_types: [text/plain]",
            set(),
            {cleaning(frozenset({"device"})), "text/plain"},
            {"text/plain"},
        ),
    ],
)
def test_words_and_kinds_of_a_requirement(text: str, redact: set, content: set, raw_types: set) -> None:
    made = rule(text)
    assert (made.redact, made.content, made.raw_types) == (redact, content, raw_types)


def test_conditions_and_options_come_through() -> None:
    made = rule(
        "deny: [read], who: {app: [maps, any], not: {grant: media.location, uid: [7, 5-6]}},"
        ' paths: ["/a/**", /b], ignore_case: true, when: {type: "image/*", owner: camera},'
        " unless: [{owner: self}, {path: /a/x}],"
        " errno: EPERM, audit: best_effort, mode: monitor, description: why"
    )
    assert made.who is not None
    assert (made.who.apps, made.who.grants, made.who.uids) == ({"maps", "any"}, None, None)
    assert made.who.not_ is not None
    assert (made.who.not_.grants, made.who.not_.uids) == ({"media.location"}, ((5, 7),))
    assert made.paths == ("/a/**", "/b")
    assert made.when is not None
    assert (made.when.kinds, made.when.owners, made.when.paths) == ({"image/*"}, {"camera"}, None)
    assert [(block.owners, block.paths) for block in made.unless] == [({"self"}, None), (None, ("/a/x",))]
    assert (made.errno, made.audit, made.monitor) == (errno.EPERM, Audit.BEST_EFFORT, True)
    assert (made.ignore_case, made.description) == (True, "why")
    assert rule("require: {content: [image/jpeg]}, on_refused: quarantine").quarantine


def test_a_set_stands_for_its_members_once() -> None:
    more = "sets: {photos: [image/jpeg, image/png]}\npath_sets: {both: [/a, /b]}\n"
    made = rule('require: {content: ["@photos", image/png]}, paths: [/b, "@both", /c]', more)
    assert (made.content, made.paths) == ({"image/jpeg", "image/png"}, ("/b", "/a", "/c"))


def test_uids_of_an_app_are_joined_where_they_touch() -> None:
    apps = policy(
        "apps:\n"
        "  b: {uid: [20-30, 5, 31, 25-28, 7], gid: [9, 8, 9]}\n"
        "  a: {uid: 6, modes: policy}\n"
        "rules: []\n"
    ).apps
    assert [(app.name, app.uids, app.gids) for app in apps] == [
        ("a", ((6, 6),), ()), ("b", ((5, 5), (7, 7), (20, 31)), (9, 8)),
    ]  # fmt: skip
    assert (apps[0].modes is None, apps[1].modes is None) == (False, True)


def test_files_are_one_policy() -> None:
    made = policy(
        "defaults: {audit: required}\n"
        "apps: {a: {uid: 5}}\n"
        "rules:\n  - {id: x, allow: [read], who: {app: b}}\n",
        "defaults: {audit_denied: best_effort}\n"
        "apps: {b: {uid: 6}}\n"
        "rules:\n  - {id: y, deny: [read], who: {app: a}}\n",
    )
    assert [app.name for app in made.apps] == ["a", "b"]
    assert [one.id for one in made.rules] == ["x", "y"]
    assert (made.audit_allowed, made.audit_denied) == (Audit.REQUIRED, Audit.BEST_EFFORT)
    assert made.name == "test"  # both files have this name: it is told once


def test_the_levels_of_the_trail_have_defaults() -> None:
    made = policy("rules: []\n")
    assert (made.audit_allowed, made.audit_denied) == (Audit.BEST_EFFORT, Audit.REQUIRED)


def test_what_two_files_both_set_is_a_fault_of_the_later_one() -> None:
    text = "defaults: {audit: required}\nrules:\n  - {id: same, allow: [read]}\n"
    assert faults(text, text) == [
        ("defaults.audit: this default is set already by 0.yaml, line 4", 4, 19),
        ('rule "same", id: this id is taken already by 0.yaml, line 6', 6, 10),
    ]


def test_a_limit_has_a_number_and_a_time() -> None:
    made = rule("limit: {changes: 200, within: 10m}, when: {owner: none}, unless: {path: /a}")
    assert (made.effect, made.limit, made.ops) == (Effect.LIMIT, (200, 600), Op.WRITE | Op.DELETE)
    assert [str(rule(f"limit: {{changes: 1, within: {told}}}").limit) for told in ("90m", "24h", "14d")] == [
        "1 files within 90m", "1 files within 1d", "1 files within 2w",
    ]  # fmt: skip
    assert faults("""\
rules:
  - {id: a, limit: {changes: 0, within: 10m}}
  - {id: b, limit: {changes: 200}}
  - {id: c, limit: {changes: 200, within: 10}}
  - {id: d, limit: {changes: true, within: 10s}}
  - {id: e, limit: {changes: 200, within: 1h}, mode: monitor}
  - {id: f, limit: {changes: 200, within: 1h}, when: {type: image/*}, errno: EPERM}
  - {id: g, limit: {changes: 200, within: 1h}, audit: required}
""") == [
        ('rule "a", limit.changes: must be a number from 1 to 100,000, not the number 0', 5, 30),
        ('rule "b", limit: within is missing', 6, 21),
        ('rule "c", limit.within: "10" is not a time span', 7, 43),
        ('rule "d", limit.changes: must be a number from 1 to 100,000, not true or false', 8, 30),
        ('rule "d", limit.within: "10s" is not a time span', 8, 44),
        ('rule "e": mode cannot be used with limit', 9, 48),
        ('rule "f": type cannot be used with limit', 10, 48),
        ('rule "f": errno cannot be used with limit', 10, 71),
        ('rule "g": audit cannot be used with limit', 11, 48),
    ]


def test_a_rule_has_one_effect() -> None:
    assert faults("""\
rules:
  - {id: r, allow: [read], deny: [see]}
  - {id: s}
  - {id: t, require: {redact: [time], content: [image/png]}}
  - {id: u, require: {}}
""") == [
        ('rule "r": has allow and deny', 5, 28),
        ('rule "s": has none of allow, deny, limit, require', 6, 5),
        ('rule "t", require: must have exactly one of redact, content, no, clean, keep', 7, 22),
        ('rule "u", require: must have exactly one of redact, content, no, clean, keep', 8, 22),
    ]


def test_a_kind_that_can_be_redacted_is_not_let_through() -> None:
    text = "rules:\n  - {id: r, require: {redact: [time]}, raw_types: ['image/*', text/plain, image/png]}\n"
    assert faults(text) == [
        ('rule "r", raw_types: image/* covers image/jpeg, image/png, which policyfs can redact', 5, 52),
    ]


@pytest.mark.parametrize("word", ["redact", "no", "clean"])
def test_a_policy_from_before_a_kind_could_be_redacted_redacts_it(word: str) -> None:
    sets = "sets: {odd: [image/png, text/x-odd]}\n"
    made = rule(f"require: {{{word}: [time]}}, raw_types: [text/plain, image/jpeg, '@odd']", sets)
    assert made.raw_types == {"text/plain", "text/x-odd"}
    assert made.overridden == {"image/jpeg", "image/png"}
    assert not made.content & made.overridden


@pytest.mark.parametrize(
    ("text", "fault", "column"),
    [
        ("allow: [read], errno: EPERM", ": errno cannot be used with allow", 28),
        (
            "deny: [see, read], errno: EACCES",
            ", errno: EACCES on a deny of see would reveal that the name exists",
            39,
        ),
        ("deny: [read], raw_types: [text/plain]", ": raw_types cannot be used with deny", 27),
        ("allow: [read], on_refused: quarantine", ": on_refused cannot be used with allow", 28),
        (
            "require: {no: [time]}, mode: monitor",
            ': a rule with "no" or "clean" cannot be monitored, only enforced',
            36,
        ),
        ("require: {redact: [time]}, mode: monitor", ": a redaction cannot be monitored, only enforced", 40),
        ("require: {content: [image/png]}, on_unknown: deny", ": on_unknown cannot be used with content", 46),
        (
            "require: {redact: [time]}, on_unknown: allow",
            ", on_unknown: on_unknown: allow cannot be used with redact",
            52,
        ),
        (
            "require: {no: [time]}, on_unknown: zero",
            ", on_unknown: on_unknown: zero cannot be used with no",
            48,
        ),
        ("allow: [read], who: {app: nobody}", ', who.app: no app is named "nobody"', 39),
        ("allow: [read], who: {not: {app: nobody}}", ', who.not.app: no app is named "nobody"', 45),
        ("allow: [read], when: {owner: nobody}", ', when.owner: no app is named "nobody"', 42),
        ("allow: [read], who: {grant: nothing}", ', who.grant: no app holds the grant "nothing"', 41),
        ("allow: [read], paths: ['@none']", ', paths: no path set is named "none"', 36),
        ("allow: [read], unless: {path: '@none'}", ', unless.path: no path set is named "none"', 43),
        ("require: {content: ['@none']}", ', require.content: no set is named "none"', 33),
    ],
)
def test_keys_and_names_that_do_not_go_together(text: str, fault: str, column: int) -> None:
    assert faults(f"rules:\n  - {{id: r, {text}}}\n") == [(f'rule "r"{fault}', 5, column)]


def test_errno_of_a_hidden_name_may_be_written_out() -> None:
    assert rule("deny: [all], errno: ENOENT").errno == errno.ENOENT


def test_names_are_no_fault_where_a_file_that_may_declare_them_cannot_be_read() -> None:
    broken = "apps: 5\nrules: []\n"
    found = faults("rules:\n  - {id: r, allow: [read], who: {app: b, grant: g}, paths: ['@none']}\n", broken)
    assert [line for _, line, _ in found] == [4]
    assert "apps" in found[0][0]


def test_a_policy_says_that_it_has_no_rules() -> None:
    assert faults("apps: {a: {uid: 1}}\n") == [("the policy has no rules", 1, 1)]
    assert policy("rules: []\n").rules == ()
    assert policy("rules: []\n", "apps: {a: {uid: 1}}\n").rules == ()
