"""Sample requests as commands."""

from __future__ import annotations

import errno
import shlex

import pytest

from policyfs.cli.main import build_parser
from policyfs.domain import NO_FACTS, Facts, FileType, Op
from policyfs.policy.analysis.requests import Request
from policyfs.policy.analysis.subjects import Subject
from tests.support.models.policies import Asked

CAMERA = Subject(None, 10010, ("camera",), True, (False,))
STRANGER = Subject(None, 7, (None,), False, (False,))
MOUNTED = Subject("camera", 5, ("camera",), False, (False,))
APPS = frozenset({"camera", "maps"})


def command(subject=CAMERA, op=Op.READ, path=b"/a", ftype=FileType.REGULAR, facts=NO_FACTS) -> list[str]:
    text = Request(subject, op, path, ftype, facts).command("p.yaml", APPS)
    words = shlex.split(text)
    build_parser().parse_args(words[1:])
    assert words[:4] == ["policyfs", "policy", "explain", "p.yaml"]
    return words[4:]


@pytest.mark.parametrize(
    ("more", "want"),
    [
        ({}, "/a --app camera --op read"),
        ({"subject": STRANGER, "op": Op.SEE}, "/a --uid 7 --op see"),
        ({"subject": MOUNTED}, "/a --app camera --uid 5 --op read"),
        ({"op": Op.CREATE, "ftype": FileType.DIRECTORY}, "/a --app camera --op mkdir --directory"),
        ({"op": Op.CREATE}, "/a --app camera --op mknod"),
        ({"facts": Facts("image/png", "maps")}, "/a --app camera --op read --kind image/png --owner maps"),
        ({"facts": Facts(None, "gone")}, "/a --app camera --op read --former-owner gone"),
    ],
)
def test_commands(more, want):
    assert command(**more) == want.split()


def test_any_name_can_be_pasted():
    assert command(path=b"/it's a $(file)")[0] == "/it's a $(file)"
    odd = Request(CAMERA, Op.READ, b"/a\xff'\n", FileType.REGULAR, Facts()).command("p", APPS)
    assert "$'/a\\xff\\x27\\x0a'" in odd


def test_owners_of_the_directories_above_count():
    asked = Asked("""
        - {id: all, allow: [all], paths: "/**"}
        - {id: hide, deny: [see], paths: "/d", when: {owner: maps}}
        """)
    request = Request(STRANGER, Op.READ, b"/d/x", FileType.REGULAR, Facts(), ("maps",))
    assert list(request.above()) == [("/d", "maps")]
    decision = request.decide(asked.engine)
    assert decision is not None
    assert decision.errno == errno.ENOENT
    seen = Request(STRANGER, Op.READ, b"/d/x", FileType.REGULAR, Facts(), ("none",)).decide(asked.engine)
    assert seen is not None
    assert seen.allowed


def test_an_app_that_is_not_there_gets_no_answer():
    asked = Asked("- {id: all, allow: [all], paths: '/**'}")
    nobody = Subject("kiosk", 0, (None, "kiosk"), True, (True, False))
    assert Request(nobody, Op.READ, b"/a", FileType.REGULAR, Facts()).decide(asked.engine) is None
