"""`policyfs audit report`: the page has what the trail has, is private, and tells whether the trail holds."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from policyfs.cli.audit import report as audit_report
from policyfs.domain import Audit
from policyfs.errors import EXIT_INCOMPLETE
from policyfs.journal.sealing.keys import KeyStore
from tests.support.mount.audited import EVENTS, Cli, recorded
from tests.support.mount.trail import a_journal, an_event, segments


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


def test_the_page_has_the_events_and_is_private(cli: Cli, file: Path) -> None:
    file.write_text("an older page")
    assert f"{len(EVENTS)} events" in cli("report", "--html", str(file))
    page = file.read_text(encoding="utf-8")
    assert "no-private" in page
    assert "an older page" not in page
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_killed_processes_are_on_it(cli: Cli, file: Path) -> None:
    with a_journal(cli.chain.parent) as journal:
        journal.tell("killed", {"pid": 7, "uid": 10, "exe": "/bin/x", "reason": "waited", "blocked_s": 3})
    cli("report", "--html", str(file))
    assert "killed /bin/x (pid 7, uid 10) after 3 s: waited" in file.read_text(encoding="utf-8")


def test_only_the_selected_events_are_on_it(cli: Cli, file: Path) -> None:
    assert "1 event\n" in cli("report", "--html", str(file), "app:maps")
    assert "/Private" not in file.read_text(encoding="utf-8")
    assert "0 events" in cli("report", "--html", str(file), "since:2026-04-01", code=1)


def test_the_page_has_the_query_and_the_options_that_select(cli: Cli, file: Path) -> None:
    cli("report", "--html", str(file))
    assert "only" not in file.read_text(encoding="utf-8").split("</p>")[0]
    cli("report", "--html", str(file), "not op:stat app:maps", "--until", "2026-03-02")
    told = "only not op:stat app:maps until:2026-03-02"
    assert told in file.read_text(encoding="utf-8").replace("&#34;", "&quot;")


@pytest.mark.parametrize(
    ("words", "most", "checked"), [((), 1 << 20, True), ((), 0, False), (("--verify",), 0, True)]
)
def test_a_broken_trail_is_told_where_it_was_checked(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], most: int, checked: bool
) -> None:
    monkeypatch.setattr(audit_report, "_QUICK_BYTES", most)
    cli("report", "--html", str(file), *words)
    sound = file.read_text(encoding="utf-8")
    assert cli.err == ""
    broken = segments(cli.chain)[-1]
    broken.write_bytes(broken.read_bytes().replace(b'"time":"2026', b'"time":"2027', 1))
    cli("report", "--html", str(file), *words, code=EXIT_INCOMPLETE)
    page = file.read_text(encoding="utf-8")
    assert ("see the page" in cli.err, "0123456789abcdef: BROKEN" in page) == (True, checked)
    assert "not whole" not in sound
    assert "not whole" in page


def test_a_changed_seal_is_told(cli: Cli, file: Path, tmp_path: Path) -> None:
    """Only `verify`, and the page, notice it."""
    with a_journal(cli.root, keys=KeyStore(tmp_path / "keys")) as journal:
        journal.record(an_event(), Audit.REQUIRED)
    cli("report", "--html", str(file))
    seal = segments(cli.chain)[-1].with_suffix(".seal")
    seal.write_bytes(seal.read_bytes().replace(b"0", b"1"))
    cli("report", "--html", str(file), code=EXIT_INCOMPLETE)
    assert "see the page" in cli.err
