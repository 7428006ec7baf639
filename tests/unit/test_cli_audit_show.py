"""`policyfs audit show`: one record by its id, and the records around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.errors import UsageError
from policyfs.trail.chain.restarts import KILLED
from tests.support.mount.audited import Cli, kill_copy, recorded
from tests.support.mount.trail import MOUNT_ID, a_journal, read_all


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


def test_show_has_the_rules_text_and_what_was_around(cli: Cli) -> None:
    (denial, _) = cli.json("search", "path:/Private/**", "--each")
    out = cli("show", str(denial["id"]))
    assert (
        "rule no-private (home.yaml:7) denies the request; an `unless` in this rule could exclude app gallery"
        in out
    )
    assert '\nhome.yaml:7\n    - id: no-private\n      deny: [all]\n      paths: "/Private/***"\n' in out
    assert "Around this record, the same process:" in out
    assert "Around this record, the same file:" in out
    assert f"> 2026-03-02 08:00:00.000  {denial['id']}" in out


def test_each_record_is_found_by_its_id(cli: Cli) -> None:
    """Also those of the journal's own, and those in sealed segments."""
    for record in read_all(cli.chain):
        (found,) = cli.json("show", f"{MOUNT_ID[:8]}:{record.seq}")
        assert found == {"id": record.id, **record.fields}


def test_no_other_record_is_shown_for_an_unknown_id(cli: Cli) -> None:
    last = read_all(cli.chain)[-1].seq
    for name in (f"{MOUNT_ID[:8]}:{last + 1}", "ffffffff:1"):
        assert cli("show", name, code=1) == ""
        assert "no record" in cli.err
    with pytest.raises(UsageError, match="not an event id"):
        cli("show", "first")


def test_of_what_is_around_it_only_the_same_file_and_process_are_shown(cli: Cli) -> None:
    opened = next(one for one in cli.json("search", "app:maps", "--each"))
    out = cli("show", str(opened["id"]))
    file = out[out.index("the same file:") :]
    assert "the same process" not in out, "it did nothing else"
    assert "/in/" not in file.replace("/in/a.jpg -> ", "")
    assert file.count("/DCIM/a.jpg") >= 2
    assert "/Private" not in file


def test_a_start_after_a_kill_says_so(cli: Cli) -> None:
    kill_copy(cli.root)
    with a_journal(cli.root):
        pass
    *_, killed, last = [one for one in read_all(cli.chain) if one.kind in {"header", "resume"}]
    assert KILLED not in cli("show", killed.id)
    assert KILLED in cli("show", last.id)
