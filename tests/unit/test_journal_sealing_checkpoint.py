"""Checkpoints: the signed end of a chain, also of one that is being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.main import main
from policyfs.domain import Audit
from policyfs.journal.files.segments import Chain
from policyfs.journal.sealing.checkpoint import checkpoint_of_chain
from policyfs.journal.sealing.keys import KeyStore, is_signed
from policyfs.journal.sealing.verification import kept_checkpoints
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain.seal import read_keys
from tests.support.mount.trail import MOUNT_ID, ROOMY, an_event, segments

CHECKPOINTS = "kept"


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trail root with one chain of several segments, and its keys."""
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(tmp_path / "trail"))
    (tmp_path / "trail").mkdir(mode=0o700)
    record(tmp_path, 30)
    return tmp_path


def record(root: Path, count: int) -> None:
    journal = opened(root)
    for number in range(count):
        journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    journal.close()


def opened(root: Path) -> Journal:
    return Journal(
        str(root / "trail" / MOUNT_ID), MOUNT_ID, keep=0, segment_bytes=4096, limits=ROOMY,
        keys=KeyStore(root / "keys"),
    )  # fmt: skip


def verify(trail: Path, *options: str) -> int:
    return main(["audit", "verify", *options])


def test_a_checkpoint_names_the_last_line_of_a_chain_that_is_being_written(trail: Path) -> None:
    journal = opened(trail)
    journal.record(an_event(), Audit.REQUIRED)
    signer = KeyStore(trail / "keys").signer()
    line = checkpoint_of_chain(Chain(MOUNT_ID, trail / "trail" / MOUNT_ID), signer)
    assert line is not None
    keys = read_keys(signer.lines.splitlines(keepends=True), is_signed)
    [kept] = kept_checkpoints([b"noise\n", line, b"{}\n"], MOUNT_ID, keys)
    stats = journal.stats()
    assert (kept.checkpoint.seq, kept.checkpoint.head, kept.distrust) == (stats.seq, stats.head, "")
    assert kept_checkpoints([line], "another", keys) == []
    [changed] = kept_checkpoints([line.replace(b'"lines":', b'"lines":1')], MOUNT_ID, keys)
    assert "signature" in changed.distrust
    journal.close()


def test_what_is_cut_off_afterwards_is_named(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = str(trail / CHECKPOINTS)
    assert main(["audit", "key", "checkpoint", "--append", kept]) == 0
    assert (trail / CHECKPOINTS).stat().st_mode & 0o777 == 0o600
    record(trail, 3)
    assert verify(trail, "--checkpoint", kept) == 0, "it has grown since"
    assert main(["audit", "key", "checkpoint", "--append", kept]) == 0
    newest = segments(trail / "trail" / MOUNT_ID)[-1]
    newest.unlink()
    newest.with_suffix(".seal").unlink()
    capsys.readouterr()
    for last_seal in trail.rglob("*.end"):
        last_seal.unlink()
    assert verify(trail) == 0, "nothing else tells"
    assert verify(trail, "--checkpoint", kept) == 1
    assert "truncated: " in capsys.readouterr().out


def test_no_checkpoint_is_made_of_a_broken_end(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = segments(trail / "trail" / MOUNT_ID)[-1]
    newest.write_bytes(newest.read_bytes().replace(b'"type":"event"', b'"type":"evxnt"', 1))
    assert main(["audit", "key", "checkpoint"]) == 1
    assert "no checkpoint of" in capsys.readouterr().err


def test_a_file_without_a_checkpoint_is_an_error(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data in (b"", b"\n"):
        (trail / CHECKPOINTS).write_bytes(data)
        assert verify(trail, "--checkpoint", str(trail / CHECKPOINTS)) == 1
        assert "there is no checkpoint in" in capsys.readouterr().err
    assert verify(trail, "--checkpoint", str(trail / "missing")) == 1


def test_a_line_that_is_no_checkpoint_is_told(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as two lines that a crash has made one: it may be the one that tells of a cut."""
    kept = trail / CHECKPOINTS
    for _ in range(2):
        assert main(["audit", "key", "checkpoint", "--append", str(kept)]) == 0
    assert verify(trail, "--checkpoint", str(kept)) == 0
    first, second = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(first + first[:100] + second)
    capsys.readouterr()
    assert verify(trail, "--checkpoint", str(kept)) == 1
    captured = capsys.readouterr()
    assert f"line 2 of {kept} is no checkpoint" in captured.err
    assert MOUNT_ID in captured.out, "the trail is checked nevertheless"
    other = second.replace(MOUNT_ID.encode(), b"f" * len(MOUNT_ID))
    kept.write_bytes(first + first[:100] + second + other)
    assert verify(trail, "--checkpoint", str(kept)) == 1, "the later one is about another chain"
    for cut in (first[:100] + second, first[:100] + b"\n", b"{\n"):
        kept.write_bytes(first + cut + second)
        assert verify(trail, "--checkpoint", str(kept)) == 0, "a later one proves more"
    kept.write_bytes(first + b"{")
    assert verify(trail, "--checkpoint", str(kept)) == 1


def test_the_keys_are_shown_and_renewed(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "key", "show"]) == 0
    [first] = capsys.readouterr().out.splitlines()
    assert main(["audit", "key", "rotate"]) == 0
    old, new = capsys.readouterr().out.splitlines()
    assert old == first.replace("signs", "replaced")
    assert new.endswith("signs")
    record(trail, 30)
    assert verify(trail) == 0
    assert main(["audit", "key", "show", "--json"]) == 0


def test_keys_of_another_machine_are_noticed(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = KeyStore(trail / "stranger").signer()
    (trail / "public").write_bytes(stranger.lines)
    assert verify(trail, "--keys", str(trail / "public")) == 1
    assert "re-sealed" in capsys.readouterr().out
