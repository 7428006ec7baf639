"""`policyfs audit verify`: a whole trail is whole, and each change of it is found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli import main
from policyfs.cli.audit import verify as audit_verify
from policyfs.cli.common.on_record import record
from policyfs.domain import Audit
from policyfs.errors import EXIT_OK, PolicyfsError, UsageError
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.recorders import open_journal
from policyfs.trail.chain import chain
from tests.support.mount.audited import Cli, recorded
from tests.support.mount.trail import MOUNT_ID, SECOND_NS, a_journal, an_event, read_all, segments, verified


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


def test_a_whole_trail_is_whole(cli: Cli) -> None:
    (report,) = cli.json("verify")
    assert (report["mount_id"], report["breaks"]) == (MOUNT_ID, [])


@pytest.mark.parametrize("number", [0, -1])
def test_a_changed_line_is_found(cli: Cli, number: int) -> None:
    file = segments(cli.chain)[number]
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"time":"2026', b'"time":"2027', 1))
    assert file.read_bytes() != whole
    (report,) = cli.json("verify", code=1)
    assert report["breaks"]


def test_a_missing_line_is_found(cli: Cli) -> None:
    file = segments(cli.chain)[0]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2] + lines[3:]))
    (report,) = cli.json("verify", code=1)
    assert report["breaks"]


@pytest.mark.parametrize(("output", "lost"), [("| (exec <&-; sleep 1)", ""), (">/dev/full", "output")])
def test_a_break_gives_exit_code_1_also_if_nobody_reads_the_report(cli: Cli, output: str, lost: str) -> None:
    file = segments(cli.chain)[0]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2] + lines[3:]))
    script = f'{{ "$0" -m policyfs.cli.main audit verify --trail "$1"; echo "exit $?" >&2; }} {output}'
    command = ["sh", "-c", script, sys.executable, str(cli.root)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env)
    assert done.stderr.splitlines()[-1] == "exit 1"
    assert "cannot read the trail" not in done.stderr
    assert ("cannot write the output" in done.stderr) == bool(lost)


def test_a_changed_policy_is_found(cli: Cli) -> None:
    [file] = (cli.chain / "policies").rglob("*.yaml")
    file.write_bytes(file.read_bytes() + b"#")
    assert "was changed" in cli("verify", code=1)


def test_an_expected_digest_must_be_there(cli: Cli) -> None:
    (report,) = cli.json("verify")
    last = read_all(cli.chain)[-1].seq
    name, head = f"{MOUNT_ID[:8]}:{last}", str(report["head"])
    cli("verify", "--expect", f"{name}={head}")
    assert cli.json("verify", "--expect", f"{name}={'0' * 64}", code=1)[0]["breaks"]
    cli("verify", "--expect", f"ffffffff:1={head}", code=1)
    assert "the mount that wrote the record ffffffff:1 (--expect) has no trail at" in cli.err
    for wrong in (name, f"{name}=0", f"last={head}"):
        with pytest.raises(UsageError, match="--expect"):
            cli("verify", "--expect", wrong)


def test_an_expected_digest_of_a_removed_line_is_told_and_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "trail"
    with a_journal(root, segment_bytes=4096, keep=2) as journal:
        journal.record(an_event(), Audit.REQUIRED)
        first = journal.stats()
        for _ in range(30):
            journal.record(an_event(), Audit.REQUIRED)
            journal._writer.prune()
    cli = Cli(root, capsys)
    assert not [file for file in segments(root / MOUNT_ID) if file.name.startswith("00000001-")]
    least = read_all(root / MOUNT_ID)[0].seq
    name, gone = f"{MOUNT_ID}:{first.seq}", f"rotation has removed the line with seq {first.seq}"
    assert gone in cli("verify", "--expect", f"{name}={first.head}")
    cli("verify", "--expect", f"{MOUNT_ID}:{least}={first.head}", code=1)
    cli("verify", "--expect", f"{MOUNT_ID}:{least + 1000}={first.head}", code=1)
    segments(root / MOUNT_ID)[0].unlink()
    assert gone not in cli("verify", "--expect", f"{name}={first.head}", code=1)


def test_two_expected_digests_of_one_record_are_an_error(cli: Cli) -> None:
    """Else the second would take the place of the first."""
    (report,) = cli.json("verify")
    last, head, other = read_all(cli.chain)[-1].seq, str(report["head"]), "0" * 64
    for one, another in ((8, 8), (8, 12), (12, 8)):
        for digests in ((head, other), (other, head)):
            pairs = [
                f"{MOUNT_ID[:length]}:{last}={digest}"
                for length, digest in zip((one, another), digests, strict=True)
            ]
            with pytest.raises(UsageError, match="two digests"):
                cli("verify", "--expect", pairs[0], "--expect", pairs[1])
        same = [f"{MOUNT_ID[:length]}:{last}={head}" for length in (one, another)]
        cli("verify", "--expect", same[0], "--expect", same[1])


def test_a_checkpoint_tells_of_a_trail_that_was_cut(cli: Cli, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    open_journal(cli.root, MOUNT_ID, keep=0, segment_bytes=1 << 20, keys=tmp_path / "keys")[0].close()
    cli("key", "checkpoint", "--append", str(kept))
    cli("verify", "--checkpoint", str(kept), "--keys", str(tmp_path / "keys/keys.public"))
    file = segments(cli.chain)[-1]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-2]))
    cli("verify", "--checkpoint", str(kept), "--keys", str(tmp_path / "keys/keys.public"), code=1)


OTHER_ID = "fedcba9876543210"


def forget_last_seals(keys: Path) -> None:
    """Leave the machine without its own note of the last seals, so that other evidence alone tells."""
    for last_seal in keys.glob("*.end"):
        last_seal.unlink()


def kept_and_verified(cli: Cli, tmp_path: Path, *names: str, code: int) -> str:
    forget_last_seals(tmp_path / "keys")
    keys = ["--keys", str(tmp_path / "keys/keys.public")]
    files = [word for name in names for word in ("--checkpoint", str(tmp_path / name))]
    return cli("verify", *keys, *files, code=code)


def test_an_older_checkpoint_also_tells_of_an_end_that_was_replaced(cli: Cli, tmp_path: Path) -> None:
    """The regular checkpoint after the replacement agrees with the new end."""
    with a_journal(cli.root, keys=KeyStore(tmp_path / "keys")) as journal:
        journal.record(an_event(b"/true"), Audit.REQUIRED)
        cli("key", "checkpoint", "--append", str(tmp_path / "kept"))
    kept_and_verified(cli, tmp_path, "kept", code=EXIT_OK)
    shutil.rmtree(cli.chain)
    with a_journal(cli.root, keys=KeyStore(tmp_path / "keys")) as journal:
        for number in range(40):
            journal.record(an_event(b"/another/%d" % number), Audit.REQUIRED)
        cli("key", "checkpoint", "--append", str(tmp_path / "kept"))
    assert "has another digest in the checkpoint" in kept_and_verified(cli, tmp_path, "kept", code=1)


def test_an_old_checkpoint_after_a_newer_one_hides_no_cut_end(cli: Cli, tmp_path: Path) -> None:
    for name in ("old", "new"):
        with a_journal(cli.root, keys=KeyStore(tmp_path / "keys")) as journal:
            journal.record(an_event(), Audit.REQUIRED)
            before = segments(cli.chain)[-1].read_bytes()
            if name == "new":
                journal.record(an_event(), Audit.REQUIRED)
            cli("key", "checkpoint", "--append", str(tmp_path / name))
    file = segments(cli.chain)[-1]
    file.write_bytes(before)
    file.with_suffix(".seal").unlink()
    kept_and_verified(cli, tmp_path, "old", code=EXIT_OK)
    for names in (("old", "new"), ("new", "old")):
        assert "the end of the chain was cut off" in kept_and_verified(cli, tmp_path, *names, code=1)


def test_a_checkpoint_tells_of_a_whole_chain_that_is_missing(cli: Cli, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.rmtree(cli.chain)
    for name in (MOUNT_ID, OTHER_ID):
        open_journal(cli.root, name, keep=0, segment_bytes=1 << 20, keys=tmp_path / "keys")[0].close()
    cli("key", "checkpoint", "--append", str(kept))
    kept_and_verified(cli, tmp_path, "kept", code=EXIT_OK)
    shutil.rmtree(cli.root / OTHER_ID)
    kept_and_verified(cli, tmp_path, "kept", code=1)
    assert f"the whole chain {OTHER_ID} is missing" in cli.err
    assert main.main(["audit", "verify", "--trail", str(cli.chain), "--checkpoint", str(kept)]) == EXIT_OK
    kept.write_bytes(kept.read_bytes().replace(OTHER_ID.encode(), b"0" * 16))
    kept_and_verified(cli, tmp_path, "kept", code=EXIT_OK)  # no key of this machine signed this line


def test_another_chain_tells_of_a_cut_chain_whatever_the_clock_says(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may start with a clock that is behind."""
    open_journal(cli.root, OTHER_ID, keep=0, segment_bytes=1 << 20)[0].close()
    cli("verify")
    file = segments(cli.chain)[-1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    monkeypatch.setattr("policyfs.cli.audit.verify.time.time_ns", lambda: SECOND_NS)
    (report, other) = cli.json("verify", code=1)
    assert "lines at the end were removed" in str(report["breaks"])
    assert not other["breaks"]


def test_what_is_recorded_during_the_check_is_no_damage(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain is read first. Then it goes on, and another daemon records its new end."""
    open_journal(cli.root, OTHER_ID, keep=0, segment_bytes=1 << 20)[0].close()
    read, after = audit_verify._read_chain, iter([MOUNT_ID, OTHER_ID])

    def read_and_go_on(*args: Any) -> object:
        found = read(*args)
        for name in after:
            open_journal(cli.root, name, keep=0, segment_bytes=1 << 20)[0].close()
        return found

    monkeypatch.setattr(audit_verify, "_read_chain", read_and_go_on)
    before = len(read_all(cli.root / OTHER_ID))
    assert [report["breaks"] for report in cli.json("verify")] == [[], []]
    assert len(read_all(cli.root / OTHER_ID)) > before


def test_a_chain_with_a_damaged_end_still_tells_of_another_chain(cli: Cli) -> None:
    open_journal(cli.root, OTHER_ID, keep=0, segment_bytes=1 << 20)[0].close()
    end = segments(cli.root / OTHER_ID)[-1]
    end.write_bytes(end.read_bytes() + b"{}\n")
    file = segments(cli.chain)[-1]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    (report, _) = cli.json("verify", code=1)
    assert "lines at the end were removed" in str(report["breaks"])


def sealed(root: Path, keys: Path) -> Path:
    """Record a chain of several segments with seals, and return its directory."""
    with a_journal(root, segment_bytes=4096, keys=KeyStore(keys)) as journal:
        for number in range(30):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    assert len(segments(root / MOUNT_ID)) > 2
    return root / MOUNT_ID


def forge(directory: Path) -> None:
    """Change a line, and make all digests anew, without seals: as somebody without a key can."""
    head, seq = chain.GENESIS, 0
    for file in segments(directory):
        forged = []
        for line in file.read_bytes().splitlines():
            fields = json.loads(line)
            if fields["type"] == "sealed":
                continue
            seq += 1
            fields |= {"seq": seq} | ({"previous": head} if fields["type"] == "header" else {})
            if fields.get("path") == "/7":
                fields["path"] = "/another"
            del fields["chain"]
            raw, head = chain.seal(head, json.dumps(fields, separators=(",", ":"))[:-1].encode())
            forged.append(raw)
        file.write_bytes(b"".join(forged))
        file.with_suffix(".seal").unlink()
    (directory / "keys.public").unlink()


def test_a_chain_made_anew_without_any_seal_is_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, keys, page = tmp_path / "trail", tmp_path / "keys", tmp_path / "page.html"
    root.mkdir()
    directory = sealed(root, keys)
    cli = Cli(root, capsys)
    for name, value in (("TRAIL", root), ("KEY", keys), ("CACHE", tmp_path / "cache")):
        monkeypatch.setenv(f"POLICYFS_{name}_DIR", str(value))
    cli("verify")
    forge(directory)
    assert verified(directory).whole, "the lines alone prove nothing"
    forget_last_seals(keys)
    (report,) = cli.json("verify", code=1)
    breaks: Any = report["breaks"]
    assert [one["segment"] for one in breaks] == [file.name for file in segments(directory)[:-1]]
    assert {(one["kind"], report["proven"]) for one in breaks} == {("deleted", 0)}
    Cli(directory, capsys)("verify", code=1)
    cli("report", "--html", str(page), code=5)
    assert "this closed segment has no seal" in page.read_text()
    monkeypatch.delenv("POLICYFS_TRAIL_DIR")
    cli("verify")  # of a copy nobody knows the keys, if they are not named
    cli("verify", "--keys", str(keys / "keys.public"), code=1)


def test_keys_from_before_a_rotation_of_keys_are_the_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, keys, old = tmp_path / "trail", tmp_path / "keys", tmp_path / "old"
    root.mkdir()
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(keys))
    sealed(root, keys)
    shutil.copyfile(keys / "keys.public", old)
    cli = Cli(root, capsys)
    assert main.main(["audit", "key", "rotate"]) == EXIT_OK
    directory = sealed(root, keys)
    beside = (directory / "keys.public").read_bytes()
    assert beside.count(b"\n") == 2
    for accepted in (old, keys / "keys.public"):
        cli("verify", "--keys", str(accepted))
    for wrong in (b"", beside.splitlines(keepends=True)[1], KeyStore(tmp_path / "other").signer().lines):
        old.write_bytes(wrong)
        assert "has other keys than the machine" in cli("verify", "--keys", str(old), code=1)


def test_only_the_newest_segments_need_no_seal_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, keys = tmp_path / "trail", tmp_path / "keys"
    root.mkdir()
    directory = sealed(root, keys)
    for file in segments(directory)[-2:]:
        file.with_suffix(".seal").unlink()
    newest = segments(directory)[-1]
    newest.write_bytes(b"".join(newest.read_bytes().splitlines(keepends=True)[:1]))  # no record of its seal
    cli = Cli(root, capsys)
    cli("verify", code=1)
    begun_ns = read_all(directory)[-1].time_ns
    monkeypatch.setattr("policyfs.cli.audit.verify.time.time_ns", lambda: begun_ns + 30 * SECOND_NS)
    cli("verify")
    monkeypatch.setattr("policyfs.cli.audit.verify.time.time_ns", lambda: begun_ns + 90 * SECOND_NS)
    cli("verify", code=1)


def test_an_empty_checkpoint_or_an_absent_file_is_an_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for option, name in (("--checkpoint", "empty"), ("--checkpoint", "absent"), ("--keys", "absent")):
        with pytest.raises(PolicyfsError, match=name):
            cli("verify", option, str(tmp_path / name))


def test_without_a_chain_nothing_is_whole(cli: Cli) -> None:
    shutil.rmtree(cli.chain)
    assert cli("verify", code=1) == ""
    assert "no mount has recorded anything" in cli.err


def test_lines_of_a_mount_that_did_not_start_are_no_sign_of_a_crash_alone(tmp_path: Path, capsys) -> None:
    root = tmp_path / "trail"
    root.mkdir()
    end = {"cause": "error", "how": "the mount did not start"}
    record(root, "mnt", "failed", {"reason": "no room"}, end=end)
    journal, _ = open_journal(root, "mnt", keep=0, segment_bytes=1 << 20, keys=tmp_path / "keys")
    journal.close({"cause": "command"})
    assert main.main(["audit", "verify", "--trail", str(root)]) == EXIT_OK
    told = capsys.readouterr().out
    assert "the next daemon sealed the lines to seq " in told
    assert (
        "The writer of these lines crashed, or was a command without keys (such as a mount that did not"
        " start)" in told
    )


def _two_of_one_key(tmp_path: Path) -> tuple[Path, Path]:
    """Two trails with other lines in their first of several segments, sealed with the same key: whoever has
    the key can replace one by the other."""
    roots = tmp_path / "trail", tmp_path / "forged"
    for root, name in zip(roots, (b"/true", b"/false"), strict=True):
        with a_journal(root, segment_bytes=4096, keys=KeyStore(tmp_path / "keys")) as journal:
            journal.record(an_event(name), Audit.REQUIRED)
            for number in range(40):
                journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    assert len(segments(roots[1] / MOUNT_ID)) > 4
    return roots


def test_no_line_is_proven_beyond_what_an_expected_digest_contradicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true, forged = _two_of_one_key(tmp_path)
    seqs = [one.seq for one in read_all(true / MOUNT_ID)]
    lines = b"".join(file.read_bytes() for file in segments(true / MOUNT_ID)).splitlines()
    digest = json.loads(lines[30])["chain"]
    (report,) = Cli(forged, capsys).json("verify", "--expect", f"{MOUNT_ID}:{seqs[30]}={digest}", code=1)
    assert (report["proven"], report["signed"]) == (0, 0), "the seals are by a key that somebody misused"


def test_no_line_is_proven_beyond_what_another_chain_contradicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true, forged = _two_of_one_key(tmp_path)
    open_journal(true, OTHER_ID, keep=0, segment_bytes=1 << 20)[0].close()
    shutil.rmtree(true / MOUNT_ID)
    shutil.copytree(forged / MOUNT_ID, true / MOUNT_ID)
    reports = {report["mount_id"]: report for report in Cli(true, capsys).json("verify", code=1)}
    report = reports[MOUNT_ID]
    assert [one["kind"] for one in report["breaks"]] == ["re-sealed"]
    assert (report["proven"], report["signed"]) == (0, 0)
    with a_journal(true, segment_bytes=4096, keys=KeyStore(tmp_path / "keys")) as journal:
        for number in range(40):
            journal.record(an_event(b"/more-%d" % number), Audit.REQUIRED)
    file = next(one for one in segments(true / MOUNT_ID) if b"/more-39" in one.read_bytes())
    file.write_bytes(file.read_bytes().replace(b"/more-39", b"/more-38"))
    reports = {report["mount_id"]: report for report in Cli(true, capsys).json("verify", code=1)}
    assert reports[MOUNT_ID]["proven"] == 0, "also if the chain has a damage of its own, further on"
