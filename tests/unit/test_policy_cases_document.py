"""Files of tests: all their faults at once, at their places."""

from __future__ import annotations

import pytest

from policyfs.policy.cases.document import parse_cases
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.parse import SourceText

HEAD = "apiVersion: policyfs/v1\nkind: PolicyTests\ntests:\n"
GOOD = "  - {id: a, app: camera, operation: read, path: /a, expect: {decision: allow}}\n"


def parsed(text: str):
    source = SourceText("p.test.yaml", (HEAD + text).encode())
    return parse_cases([source], ["camera", "maps"], frozenset({"look"}))


def test_one_value_or_several():
    (case,) = parsed(GOOD)
    assert (case.doc.app, case.doc.operation, case.doc.path) == (("camera",), ("read",), ("/a",))
    (case,) = parsed(GOOD.replace("read", "[see, read]").replace("/a,", "[/a, /b],"))
    assert (case.doc.operation, case.doc.path) == (("see", "read"), ("/a", "/b"))
    assert case.where.line == 4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("camera", "camra"), 'test "a", app: no app is named "camra"'),
        (("read", "eat"), '"eat" is not known here'),
        (("/a,", "a,"), '"a" is not a path'),
        (("app: camera", "app: camera, uid: 5"), "needs exactly one of the keys app and uid"),
        (("read", "rename"), 'rename needs the key "to"'),
        (("/a,", "/a, to: /b,"), '"to" is for rename and link only'),
        (("read, path: /a,", "[rename, read], path: /a, to: /b,"), "put rename into a separate test"),
        (("decision: allow", "decision: allow, errno: EACCES"), "an allowed request has no errno"),
        (("decision: allow", "decision: deny, errno: EROFSS"), "one of: ENOENT, EACCES, EPERM, EROFS, EXDEV"),
        (("decision: allow", "decision: allow, rules: [loook]"), 'no rule has the id "loook"'),
        (("decision: allow", "decision: allow, redactions: []"), 'expect: unknown key "redactions"'),
        (("decision: allow", "decision: allow, view: rawer"), '"rawer" is not known here'),
        (("decision: allow", "errno: EACCES"), "decision is missing"),
        (("/a,", "/a, kind: image/png, content: a.png,"), "kind and content cannot be used together"),
    ],
)
def test_faults(change, complaint):
    with pytest.raises(PolicyErrors) as caught:
        parsed(GOOD.replace(*change))
    assert str(caught.value).startswith("the tests have errors: 1 error")
    assert complaint in str(caught.value)


def test_each_id_once():
    with pytest.raises(PolicyErrors, match="this id is taken already"):
        parsed(GOOD + GOOD)
