"""`policyfs audit show`: one record by its id, and the records around it; the policies that a trail names."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from policyfs.cli.audit.verify import wrong_texts
from policyfs.errors import UsageError
from policyfs.trail.chain.restarts import KILLED
from policyfs.trail.lines.record import Place
from tests.support.mount.audited import DIGEST, POLICY, Cli, kill_copy, recorded
from tests.support.mount.trail import MOUNT_ID, a_journal, read_all

HERE = Place("0123456789abcdef", "a segment", 3)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


def test_show_has_the_rules_text_and_what_was_around(cli: Cli) -> None:
    (denial, _) = cli.json("search", "path:/Private/**", "--each")
    out = cli("show", str(denial["id"]))
    advice = "to exempt app gallery, write who: {not: {app: gallery}}"
    assert f"rule no-private (home.yaml:7) denies the request; {advice}" in out
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


def kept(cli: Cli) -> Path:
    """The one kept file of the policy."""
    [file] = (cli.chain / "policies").rglob("*.yaml")
    return file


def test_the_changes_of_policy_are_listed(cli: Cli) -> None:
    (start,) = cli.json("show", "--policy")
    assert (start["type"], start["policy"]) == ("mount", DIGEST)
    assert DIGEST[:8] in cli("show", "--policy")


def test_times_are_in_utc_if_the_option_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """cli passes --utc."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert cli("show", "--policy").startswith("2026-03-01 08:00:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_text_of_a_policy_is_found_by_its_first_digits(cli: Cli) -> None:
    assert cli("show", "--policy", DIGEST[:6]).encode() == POLICY
    assert cli("show", "--policy", "x" + DIGEST[:6], code=1) == ""
    assert "keeps no policy" in cli.err


def test_a_changed_text_is_not_shown(cli: Cli) -> None:
    kept(cli).write_bytes(POLICY.replace(b"deny: [all]", b"deny: [see]"))
    assert cli("show", "--policy", DIGEST, code=1) == ""
    assert "was changed" in cli.err


def test_a_good_copy_in_another_chain_is_shown(cli: Cli) -> None:
    for other in ("0" * 32, "f" * 32):
        shutil.copytree(cli.chain, cli.root / other)
        [copy] = (cli.root / other / "policies").rglob("*.yaml")
        copy.write_bytes(POLICY.replace(b"deny: [all]", b"deny: [see]"))
    assert cli("show", "--policy", DIGEST).encode() == POLICY


def test_a_verification_tells_changed_texts_from_missing_ones(cli: Cli) -> None:
    named = {DIGEST: HERE}
    assert wrong_texts(cli.chain, named) == ([], [])
    kept(cli).write_bytes(POLICY + b"# more")
    [changed], missing = wrong_texts(cli.chain, named)
    assert "was changed" in changed.what
    assert (changed.place, missing) == (HERE, [])
    shutil.rmtree(kept(cli).parent)
    changed_now, [gone] = wrong_texts(cli.chain, named)
    assert changed_now == []
    assert "is missing" in gone.what


def test_two_policies_of_the_same_first_digits_are_not_mixed_up(cli: Cli) -> None:
    assert cli("show", "--policy", DIGEST[0]).encode() == POLICY, "one is kept"
    twin = kept(cli).parent.parent / (DIGEST[0] + "0" * 63)
    twin.mkdir()
    (twin / "other.yaml").write_bytes(b"rules: []")
    assert cli("show", "--policy", DIGEST[0], code=1) == ""
    assert "more than one" in cli.err
