"""What a sound policy becomes, and what parsing promises of every text."""

from __future__ import annotations

import errno
import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.domain import DENY_UNKNOWN, REDACTIONS, Audit, Op, banned, to_clean
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.model import App, Block, Effect, Where, Who
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.redact.core.categories import WORDS

HEAD = "apiVersion: policyfs/v1\nkind: Policy\n"
APPS = "apps:\n  camera: {uid: 10010}\n  maps: {uid: 10012, grants: [media.location]}\n"


def parse(*texts):
    return parse_policy([SourceText(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)])


def the_rule(body, *, apps=APPS, more=""):
    policy = parse(f"{HEAD}{apps}{more}rules:\n  - id: r\n    {body}\n")
    (rule,) = policy.rules
    return rule


def messages(*texts):
    with pytest.raises(PolicyErrors) as caught:
        parse(*texts)
    return [error.message for error in caught.value.errors]


class TestPolicy:
    def test_whole(self):
        text = (
            f"{HEAD}metadata: {{name: home photos, description: ours}}\n{APPS}"
            "defaults: {audit: off, audit_denied: best_effort}\nrules: []\n"
        )
        policy = parse(text)
        assert policy.name == "home photos"
        assert policy.description == "ours"
        assert policy.audit_allowed is Audit.OFF
        assert policy.audit_denied is Audit.BEST_EFFORT
        assert policy.rules == ()
        assert policy.apps == (
            App("camera", ((10010, 10010),), (), frozenset(), ""),
            App("maps", ((10012, 10012),), (), frozenset({"media.location"}), ""),
        )

    def test_defaults_record_denials_surely(self):
        policy = parse(f"{HEAD}rules: []\n")
        assert (policy.audit_allowed, policy.audit_denied) == (Audit.BEST_EFFORT, Audit.REQUIRED)
        assert policy.name == "0"

    def test_app_without_uid_and_with_ranges(self):
        apps = (
            'apps:\n  tv: {gid: 44}\n  box: {uid: ["10100-10199", 7, 10200, "10150-10160"], description: d}\n'
        )
        box, tv = parse(f"{HEAD}{apps}rules: []\n").apps
        assert tv == App("tv", (), (44,), frozenset(), "")
        assert box == App("box", ((7, 7), (10100, 10200)), (), frozenset(), "d")

    def test_files_merge_whatever_their_order(self):
        one = f"{HEAD}metadata: {{name: a}}\n{APPS}"
        rule = '{id: r, allow: [see], who: {app: maps}, paths: "@m"}'
        two = f"{HEAD}metadata: {{name: b}}\nrules:\n  - {rule}\n"
        three = f'{HEAD}path_sets: {{m: ["/DCIM/**"]}}\n'
        names = ("x/a.yaml", "x/b.yaml", "x/c.yaml")
        files = [SourceText(name, text.encode()) for name, text in zip(names, (one, two, three), strict=True)]
        policy = parse_policy(files)
        assert policy == parse_policy(files[::-1])
        assert policy.name == "a+b+c"
        assert policy.rules[0].paths == ("/DCIM/**",)
        assert policy.rules[0].where == Where("x/b.yaml", 5, 5)

    def test_digest_of_one_file_is_its_sha256(self):
        text = f"{HEAD}rules: []\n".encode()
        assert parse_policy([SourceText("p", text)]).digest == hashlib.sha256(text).hexdigest()

    def test_no_files(self):
        with pytest.raises(PolicyErrors, match="there is no policy file"):
            parse_policy([])


class TestRule:
    def test_allow(self):
        rule = the_rule("allow: [see, read]")
        assert (rule.effect, rule.ops) == (Effect.ALLOW, Op.SEE | Op.READ)
        assert (rule.who, rule.paths, rule.when, rule.unless) == (None, None, None, ())
        assert (rule.errno, rule.audit, rule.monitor, rule.ignore_case) == (None, None, False, False)
        assert rule.where == Where("0.yaml", 7, 5)

    def test_deny(self):
        rule = the_rule(
            "{deny: all, errno: ENOENT, audit: required, mode: monitor, description: d}".strip("{}").replace(
                ", ", "\n    "
            )
        )
        assert (rule.effect, rule.ops, rule.errno) == (Effect.DENY, Op.ALL, errno.ENOENT)
        assert (rule.audit, rule.monitor, rule.description) == (Audit.REQUIRED, True, "d")

    @pytest.mark.parametrize("name", ["EACCES", "EPERM", "EROFS", "ENOENT"])
    def test_errno_without_see(self, name):
        assert the_rule(f"deny: [write]\n    errno: {name}").errno == getattr(errno, name)

    def test_redact(self):
        rule = the_rule("require: {redact: [location]}\n    raw_types: [text/csv, text/*]")
        assert (rule.effect, rule.ops, rule.redact) == (Effect.REDACT, Op.READ, {"location"})
        assert rule.raw_types == {"text/csv", "text/*"}

    def test_content(self):
        rule = the_rule(
            'require: {content: ["@photos", video/*]}', more="sets: {photos: [image/jpeg, image/png]}\n"
        )
        assert (rule.effect, rule.ops) == (Effect.CONTENT, Op.WRITE | Op.CREATE)
        assert rule.content == {"image/jpeg", "image/png", "video/*"}

    def test_who(self):
        rule = the_rule(
            'allow: [see]\n    who: {app: [any, stranger], uid: [5, "7-9", 6], not: {grant: media.location}}'
        )
        inner = Who(None, frozenset({"media.location"}), None, None)
        assert rule.who == Who(frozenset({"any", "stranger"}), None, ((5, 9),), inner)

    def test_one_value_stands_for_a_list_of_one(self):
        one = the_rule(
            'allow: see\n    who: {app: camera}\n    paths: "/a"\n    when: {owner: self}\n'
            "    unless: {type: image/*}"
        )
        many = the_rule(
            'allow: [see]\n    who: {app: [camera]}\n    paths: ["/a"]\n    when: {owner: [self]}\n'
            "    unless: [{type: [image/*]}]"
        )
        assert one == many

    def test_blocks(self):
        rule = the_rule(
            'allow: [see]\n    when: {type: "@p", owner: [self, none, maps], path: ["/a/**", "@m"]}\n'
            "    unless: [{owner: camera}, {type: image/png}]",
            more='sets: {p: [image/jpeg]}\npath_sets: {m: ["/b", "/a/**"]}\n',
        )
        owners = frozenset({"self", "none", "maps"})
        assert rule.when == Block(frozenset({"image/jpeg"}), owners, ("/a/**", "/b"))
        assert rule.unless == (
            Block(None, frozenset({"camera"}), None),
            Block(frozenset({"image/png"}), None, None),
        )

    def test_no(self):
        rule = the_rule("require: {no: [location]}")
        assert (rule.effect, rule.content, rule.redact) == (Effect.CONTENT, {"no location"}, frozenset())

    @pytest.mark.parametrize(
        ("more", "content"),
        [
            ("on_unknown: allow", {"no location"}),
            ("on_unknown: deny", {f"no location, {DENY_UNKNOWN}"}),
            ("raw_types: [application/zip, text/*]", {"no location", "application/zip", "text/*"}),
        ],
    )
    def test_no_of_what_is_not_understood_and_of_kinds_let_through(self, more, content):
        assert the_rule(f"require: {{no: [location]}}\n    {more}").content == content

    def test_clean(self):
        rule = the_rule("require: {clean: [time, location]}\n    raw_types: application/zip")
        assert (rule.effect, rule.ops) == (Effect.CONTENT, Op.WRITE | Op.CREATE)
        assert rule.content == {"clean location, time", "application/zip"}
        assert banned((rule.content,)) == {"clean location", "clean time"}
        assert to_clean(banned((rule.content,))) == {"location", "time"}

    @pytest.mark.parametrize(
        ("rule", "why"),
        [
            ("require: {clean: location}\n    on_unknown: deny", "on_unknown cannot be used with clean"),
            ("require: {clean: location}\n    mode: monitor", "cannot be monitored"),
            ("require: {clean: location, no: location}", "exactly one of redact, content, no, clean"),
            ("require: {no: location}\n    on_unknown: zero", "zero cannot be used with no"),
            ("require: {redact: location}\n    on_unknown: allow", "allow cannot be used with redact"),
            ("require: {content: image/jpeg}\n    on_unknown: deny", "cannot be used with content"),
        ],
    )
    def test_what_goes_with_no(self, rule, why):
        with pytest.raises(PolicyErrors, match=why):
            the_rule(rule)

    @pytest.mark.parametrize(
        ("more", "redact"),
        [
            ("", {"location"}),
            ("on_unknown: zero", {"location"}),
            ("on_unknown: deny", {"location", DENY_UNKNOWN}),
        ],
    )
    def test_on_unknown(self, more, redact):
        assert the_rule(f"require: {{redact: [location]}}\n    {more}").redact == redact

    def test_ignore_case(self):
        assert the_rule('deny: [all]\n    ignore_case: true\n    paths: "/x"').ignore_case is True


class TestWhatRedactionKnows:
    """policy/ and redact/ never import each other: what they both say is held together here."""

    def test_what_can_be_redacted(self):
        assert WORDS.keys() >= REDACTIONS

    def test_kinds_to_refuse_can_be_given(self):
        text = f"{HEAD}rules:\n  - {{id: a, require: {{redact: location}}, raw_types: image/*}}\n"
        source = [SourceText("p", text.encode())]
        assert parse_policy(source, redactable=frozenset({"video/mp4"})).rules[0].raw_types == {"image/*"}
        with pytest.raises(PolicyErrors, match="covers image/png"):
            parse_policy(source, redactable=frozenset({"image/png"}))


class TestYaml:
    def test_aliases_within_reason_are_fine(self):
        text = f"{HEAD}rules:\n  - {{id: a, allow: &ops [see, read]}}\n  - {{id: b, allow: *ops}}\n"
        assert [rule.ops for rule in parse(text).rules] == [Op.SEE | Op.READ] * 2

    def test_words_of_yaml_1_1_are_text(self):
        assert parse(f"{HEAD}metadata: {{name: on, description: 'no'}}\nrules: []\n").name == "on"

    @pytest.mark.parametrize(("written", "uid"), [("0x10", 16), ("0o17", 15), ("+5", 5), ("0", 0)])
    def test_numbers(self, written, uid):
        assert parse(f"{HEAD}apps: {{a: {{uid: {written}}}}}\nrules: []\n").apps[0].uids == ((uid, uid),)

    @pytest.mark.parametrize("mark", ["\r\n", "\n"])
    def test_line_ends_and_byte_order_mark(self, mark):
        text = "\ufeff" + f"{HEAD}{APPS}rules:\n  - {{id: r, allow: [se]}}\n".replace("\n", mark)
        with pytest.raises(PolicyErrors) as caught:
            parse(text)
        (error,) = caught.value.errors
        assert (error.where.line, error.where.column) == (7, 21)
        assert error.line == "  - {id: r, allow: [se]}"

    def test_quoted_globs_keep_their_backslashes(self):
        assert the_rule(r"""allow: [see]
    paths: ['/a\*b', "/c\\?d"]""").paths == (r"/a\*b", r"/c\?d")

    def test_huge_numbers_do_no_harm(self):
        started = time.monotonic()
        assert (
            len(messages(f"{HEAD}apps: {{a: {{uid: {'9' * 100_000}}}, b: {{uid: 1e999}}}}\nrules: []\n")) == 2
        )
        assert time.monotonic() - started < 5

    def test_names_that_undeclared_files_may_declare_are_not_blamed(self):
        found = messages(
            "apps: [", f"{HEAD}rules:\n  - {{id: a, allow: [see], who: {{app: x, grant: y}}, paths: '@z'}}\n"
        )
        assert len(found) == 1

    def test_names_of_faulty_apps_are_known(self):
        apps = "apps:\n  camera: {uid: x, grants: [g]}\n"
        text = f"{HEAD}{apps}rules:\n  - {{id: a, allow: [see], who: {{app: camera, grant: g}}}}\n"
        assert len(messages(text)) == 1

    def test_no_control_character_reaches_the_terminal(self):
        text = f'{HEAD}apps: {{"a\\e[31m\\u202e": {{uid: 1}}}}\nrules: [{{id: "\\e", allow: [see]}}]\n'
        with pytest.raises(PolicyErrors) as caught:
            parse(text)
        told = str(caught.value)
        assert all(character.isprintable() or character == "\n" for character in told.replace("\ufffd", "?"))


def faults(text):
    try:
        parse_policy([SourceText("any.yaml", text)])
    except PolicyErrors as refused:
        return refused.errors
    return ()


SIGNS = list("{}[]:,*&!|>'\"#%@`-? \n\t\\\u00e4\U0001f4f7")
PIECES = ["\n  ", "\n- ", "---\n", "<<", "*a", "&a ", "0x1", "~", "camera", "/DCIM/**", "unless: ", "redact"]
KEYS = ["apps:", "rules:", "id: a", "allow: [see]", "who:", "require:", "paths: ", "deny: all"]
fragments = st.sampled_from(SIGNS + PIECES + KEYS)


@settings(max_examples=300, deadline=None)
@given(st.lists(fragments | st.text(max_size=3), max_size=25).map("".join), st.booleans())
def test_any_text_is_a_policy_or_is_refused_with_places(text, headed):
    """Nothing but PolicyErrors ever comes out of a text, and each error shows a line of it."""
    whole = (HEAD if headed else "") + text
    for error in faults(whole.encode("utf-8", "surrogatepass")):
        assert error.where.line >= 1
        assert error.where.column >= 1
        assert str(error).startswith(f"any.yaml:{error.where.line}:{error.where.column}: ")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_with_places(data):
    assert faults(data)
