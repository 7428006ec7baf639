"""Each question of docs/questions.md has the right answer on a trail of which the truth is known."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from policyfs.cli.main import main
from policyfs.journal.files.reader import find_chains, records
from policyfs.trail.lines.event import Event
from tests.support.machine.documents import CHECKOUT
from tests.support.programs.household import (
    BEGIN_NS,
    DAY_NS,
    FIRST,
    SECOND,
    Household,
    write,
)

PAGE = (CHECKOUT / "docs" / "questions.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.*\?) \| `policyfs (.*)` \|$", PAGE, re.MULTILINE)
SOAK = bool(os.environ.get("POLICYFS_SOAK"))
BEACH = "/DCIM/2026/beach.jpg"
NEW_NS = BEGIN_NS + 21 * DAY_NS


class Asked(NamedTuple):
    """The JSON lines that a command printed, its words on stderr, and its exit code."""

    lines: list[dict[str, Any]]
    err: str
    code: int

    def by(self, *names: str) -> dict[Any, int]:
        found: Counter[Any] = Counter()
        for one in self.lines[0]["by"]:
            found[one[names[0]] if len(names) == 1 else tuple(one[name] for name in names)] += one["count"]
        return dict(found)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Household]]:
    place = tmp_path_factory.mktemp("month")
    place.chmod(0o700)
    truth = write(place / "trail", place / "keys", 300_000 if SOAK else 3000, 16 << 20 if SOAK else 1 << 18)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        for name, where in (("TRAIL", "trail"), ("CACHE", "cache"), ("KEY", "keys")):
            patch.setenv(f"POLICYFS_{name}_DIR", str(place / where))
        time.tzset()
        yield place, truth
    time.tzset()


def counted(truth: Household, key: Callable[[Event], Any], test: Callable[[Event], bool]) -> dict[Any, int]:
    return dict(Counter(key(one) for one in truth.requests if test(one)))


def denied(one: Event) -> bool:
    return one.decision == "deny"


def newness(truth: Household, key: Callable[[Event], Any], test: Callable[[Event], bool]) -> dict[Any, str]:
    before = {key(one) for one in truth.requests if test(one) and one.time_ns < NEW_NS}
    return {
        key(one): "no" if key(one) in before else "yes"
        for one in truth.requests
        if test(one) and one.time_ns >= NEW_NS
    }


def marked(asked: Asked, name: str) -> dict[Any, str]:
    return {one[name]: one["new"] for one in asked.lines[0]["by"]}


def directory(one: Event) -> str:
    return os.path.dirname(one.path.decode()) or "/"


def changes_of_tidy(truth: Household) -> set[tuple[str, str]]:
    found = {(one.path.decode(), one.operation) for one in truth.requests if one.app == "tidy"}
    return found | {("/DCIM/old/beach.jpg", "rename")}


def photo_opens(truth: Household) -> tuple[dict[str, int], int]:
    """Known: opens of photos with their kind. Not known: raw opens under rules that need no kind."""
    known = counted(truth, lambda one: one.app, lambda one: one.kind == "image/jpeg" and one.view == "raw")
    return known, truth.count(kind=None, view="raw", operation="open")


def life_of_beach(truth: Household) -> int:
    gone = next(one.time_ns for one in truth.requests if one.operation == "unlink")
    names = {BEACH.encode(), b"/DCIM/old/beach.jpg"}
    return sum(one.path in names and one.time_ns <= gone for one in truth.requests)


def changes_of_beach(truth: Household) -> list[tuple[str, str, str]]:
    changes = {"create", "rename", "unlink", "release"}
    found = [one for one in truth.requests if BEACH.encode() in {one.path, one.new_path}]
    return [(one.app, one.operation, one.path.decode()) for one in found if one.operation in changes]


def hour(one: Event) -> str:
    return f"2026-03-03T{one.time_ns // 3600 // 10**9 % 24:02}"


def night(one: Event) -> bool:
    begin = BEGIN_NS + 2 * DAY_NS + 2 * 3600 * 10**9
    return begin <= one.time_ns < begin + 3 * 3600 * 10**9 and one.operation == "open" and not denied(one)


def answers(asked: Asked, number: int, truth: Household) -> tuple[object, object]:
    """Return what the command answered to a question, and the true answer."""
    lines = asked.lines
    return [
        lambda: (lines[0]["events"], len(truth.requests)),
        lambda: (asked.by("app"), counted(truth, lambda one: one.app, denied)),
        lambda: (asked.by("rule"), counted(truth, lambda one: (*one.rules, "(no rule)")[0], denied)),
        lambda: (asked.by("app", "uid"), counted(truth, lambda one: (one.app, str(one.uid)),
                 lambda one: one.path.decode() == BEACH and one.operation == "open")),
        lambda: ([(one["app"], one["path"], one["size_before"]) for one in lines],
                 [(one.app, one.path.decode(), one.size_before) for one in truth.requests
                  if one.operation == "unlink"]),
        lambda: ([(one["app"], one["operation"], one["path"]) for one in lines], changes_of_beach(truth)),
        lambda: (sum(one["life"] == 1 for one in lines), life_of_beach(truth)),
        lambda: (set(asked.by("path", "op")), changes_of_tidy(truth)),
        lambda: ([(one["path"], one["size_before"], one["size_after"]) for one in lines],
                 [("/DCIM/2026/wedding.jpg", 4 << 20, 1 << 18)]),
        lambda: ((asked.by("app"), int(re.findall(r"of (\d+) further", asked.err)[0])), photo_opens(truth)),
        lambda: (asked.by("app", "view"),
                 {("gallery", "redacted(location)"): truth.count(view="redacted(location)")}),
        lambda: (marked(asked, "directory"), newness(truth, directory, lambda one: one.app == "sync")),
        lambda: (marked(asked, "app"), newness(truth, lambda one: one.app, lambda one: True)),
        lambda: (asked.by("uid", "op"), {("1500", "list"): truth.count(app="stranger")}),
        lambda: (asked.by("hour"), counted(truth, hour, night)),
        lambda: (lines[0]["bytes_read"], sum(one.bytes_read or 0 for one in truth.requests)),
        lambda: ((lines[0]["dropped"], lines[0]["refused"], lines[0]["crashes"]), (3, 2, [])),
        lambda: ([(one["type"], one["time"][:10]) for one in lines],
                 [("mount", "2026-03-01")] * 2 + [("policy", "2026-03-31")] * 2),
        lambda: ([(one["app"], one["path"]) for one in lines],
                 [next((one.app, one.path.decode()) for one in reversed(truth.requests) if denied(one))]),
        lambda: ((asked.code, {one["mount_id"]: one["breaks"] for one in lines}),
                 (0, {FIRST: [], SECOND: []})),
        lambda: ({one["app"] for one in lines if one["delete"] != "no"}, set()),
    ][number]()  # fmt: skip


@pytest.mark.parametrize(("number", "question", "command"), [(at, *row) for at, row in enumerate(ROWS)])
def test_a_question_has_the_right_answer(
    month: tuple[Path, Household],
    capsys: pytest.CaptureFixture[str],
    number: int,
    question: str,
    command: str,
) -> None:
    _, truth = month
    code = main([*shlex.split(command), "--json"])
    out, err = capsys.readouterr()
    answer, right = answers(Asked([json.loads(line) for line in out.splitlines()], err, code), number, truth)
    assert answer == right, question


def test_the_trail_is_as_a_real_one(month: tuple[Path, Household]) -> None:
    """It is compressed and sealed, and repeats are counted."""
    place, truth = month
    assert len(ROWS) == 21
    assert list(place.rglob("*.zst"))
    assert list(place.rglob("*.seal"))
    lines = sum(len(list(records(chain))) for chain in find_chains(place / "trail"))
    assert lines < len(truth.requests) * 0.95
    assert truth.count(decision="deny", app="gallery") > 100
