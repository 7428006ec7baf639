"""`policyfs audit search`: it imports only what it needs, and finds the same whatever action was named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from policyfs.cli.main import build_parser, main
from policyfs.domain import Audit
from tests.support.mount.trail import MOUNT_ID, SECOND_NS, START_NS, a_denial, a_journal, an_event

PROGRAM = """
import sys
from policyfs.cli.main import main
code = main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""
DEAR = frozenset({
    "concurrent.futures", "logging", "multiprocessing", "random", "ssl", "policyfs.domain",
    "policyfs.cli.audit.could", "policyfs.cli.audit.follow", "policyfs.cli.audit.report",
    "policyfs.cli.audit.verify", "policyfs.cli.mounts.mount", "policyfs.cli.policy.command",
})  # fmt: skip
"""Each takes some milliseconds. (A table names lines of policies, so it has to read them.)"""
ACTIONS = (
    "search", "show", "summary", "timeline", "who-could", "report", "verify", "export", "follow",
    "key",
)  # fmt: skip


def test_a_search_imports_only_what_it_needs(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/DCIM/a.jpg"), Audit.REQUIRED)
    words = [
        sys.executable,
        "-c",
        PROGRAM,
        "audit",
        "search",
        "path:a.jpg",
        "--trail",
        str(tmp_path / MOUNT_ID),
    ]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "/DCIM/a.jpg" in said.stdout
    assert DEAR & set(said.stderr.split()) == set()


def test_an_action_has_the_same_options_beside_all_others(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("search", "verify", "key"):
        told = []
        for known in (("audit", action), ()):
            with pytest.raises(SystemExit):
                build_parser(*known).parse_args(["audit", action, "--help"])
            told.append(capsys.readouterr().out)
        assert told[0] == told[1]
        assert f"audit {action}" in told[0]


@pytest.mark.parametrize(
    ("number", "valid"),
    [("5", True), ("9" * 9, True), ("0", False), ("9" * 10, False), ("9" * 20, False), ("9" * 9999, False)],
)
def test_a_number_of_lines_has_a_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: str, valid: bool
) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/DCIM/a.jpg"), Audit.REQUIRED)
    try:
        code: object = main(["audit", "search", "--last", number, "--trail", str(tmp_path)])
    except SystemExit as ended:
        code = ended.code
    assert code == (0 if valid else 2)
    out, err = capsys.readouterr()
    assert ("a.jpg" in out, "is not a whole number" in err) == (valid, not valid)


def test_the_list_of_actions_is_whole_where_none_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("audit", "--help"), ("audit", "nonsense")):
        with pytest.raises(SystemExit):
            build_parser(*words).parse_args(words)
        said = capsys.readouterr()
        for action in ACTIONS:
            assert action in said.out + said.err


@pytest.mark.parametrize("words", [["search", "--last", "2", "op:*"], ["search", "-n", "2", "decision:deny"]])
def test_the_newest_rows_are_those_with_the_newest_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """The newest event repeats the oldest refusal, so it stands in the first row."""
    with a_journal(tmp_path, fold_ns=0) as journal:
        for minute, name in enumerate((b"/secret", b"/x", b"/y", b"/secret")):
            denial = a_denial(name, time_ns=START_NS + 60 * minute * SECOND_NS)
            journal.record(denial, Audit.REQUIRED)
    assert main(["audit", *words, "--utc", "--trail", str(tmp_path)]) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert "  /secret  " in first
    assert "2 times until" in first
    assert "  /y  " in second
    assert main(["audit", *words, "--each", "--trail", str(tmp_path)]) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert ("  /y  " in first, "  /secret  " in second) == (True, True)


def test_the_trails_of_several_machines_are_read_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both have the same mountpoint, so their chains have the same name."""
    for machine in ("ada", "bob"):
        with a_journal(tmp_path / machine, fold_ns=0) as journal:
            for path in (b"/DCIM/a.jpg", f"/{machine}".encode()):
                journal.record(an_event(path), Audit.REQUIRED)
                journal.record(a_denial(b"/secret"), Audit.REQUIRED)

    def said(*words: str, code: int = 0) -> str:
        assert main(["audit", *words, "--trail", str(tmp_path)]) == code
        return capsys.readouterr().out

    rows = said("search", "path:/DCIM/a.jpg", "--utc").splitlines()[1:]
    short = MOUNT_ID[:8]
    assert [row.split()[2] for row in rows] == [f"ada/{short}:2", f"bob/{short}:2"]
    denials = said("search", "decision:deny").splitlines()[1:]
    assert len(denials) == 2, "repeats of one machine are not those of another"
    assert f"bob/{short}:4" in said("search", "--last", "1", "path:/bob")
    assert "/bob" in said("show", f"bob/{short}:4")
    counts = said("summary", "--by", "mount", "path:/DCIM/a.jpg").splitlines()[1:]
    assert [line.split() for line in counts] == [["ada:/srv/media", "1"], ["bob:/srv/media", "1"]]
    page = tmp_path / "page.html"
    said("report", "--html", str(page))
    assert {"ada:", "bob:"} <= set(page.read_text().replace(">", " ").split())
    (removed,) = (tmp_path / "bob" / MOUNT_ID).glob("*.jsonl")
    removed.rename(removed.with_name("00000002-20260301T080000Z.jsonl"))
    said("search", "path:/DCIM/a.jpg", code=5)
