"""`policyfs audit key`."""

from __future__ import annotations

import json
import os
import resource
import stat
from pathlib import Path

import pytest

from policyfs.cli.audit.keys import checkpoint, key
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.journal.files.reader import find_chains
from policyfs.journal.sealing.checkpoint import checkpoint_of_chain
from policyfs.journal.sealing.keys import KeyStore
from tests.support.mount.trail import MOUNT_ID, an_event, segments, write_trail


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    return tmp_path / "keys"


@pytest.fixture
def trail(tmp_path: Path, keys: Path) -> Path:
    root = tmp_path / "trail"
    root.mkdir()
    write_trail(root, [an_event(), an_event(b"/b")])
    return root


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_new_key_is_signed_by_the_old_one_and_signs_from_then_on(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert key("show", as_json=True) == EXIT_REFUSED
    assert "no key in" in capsys.readouterr().err
    KeyStore(keys).signer()
    assert key("show", as_json=True) == EXIT_OK
    [first] = told(capsys)
    assert first["newest"]
    assert key("rotate", as_json=True) == EXIT_OK
    old, new = told(capsys)
    assert (old["key"], old["newest"], new["newest"]) == (first["key"], False, True)
    assert key("show", as_json=False) == EXIT_OK
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["replaced", "signs"]


def test_keys_that_were_changed_are_told(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = KeyStore(keys)
    store.signer()
    store.rotate()
    public = keys / "keys.public"
    first, _ = public.read_bytes().splitlines(keepends=True)
    public.write_bytes(first * 2)
    assert key("show", as_json=True) == EXIT_REFUSED
    assert "are not valid" in capsys.readouterr().err


def test_keys_out_of_reach_are_told_with_their_place(keys: Path) -> None:
    keys.write_bytes(b"no directory")
    with pytest.raises(PolicyfsError, match=str(keys)):
        key("rotate", as_json=False)
    with pytest.raises(PolicyfsError, match="cannot use the keys"):
        checkpoint([], None)


def test_the_end_of_a_chain_is_printed_or_added_to_a_file(
    trail: Path, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chains = find_chains(trail)
    kept = tmp_path / "kept"
    assert checkpoint(chains, None) == EXIT_OK
    printed = capsys.readouterr().out
    assert json.loads(printed.splitlines()[0])["mount_id"] == MOUNT_ID
    for _ in range(2):
        assert checkpoint(chains, str(kept)) == EXIT_OK
    assert len(kept.read_bytes().splitlines()) == 2, "what was kept before stays"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert checkpoint_of_chain(chains[0], KeyStore(keys).signer()) is not None


def test_a_line_that_could_not_be_written_whole_is_taken_back(
    trail: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chains, kept = find_chains(trail), tmp_path / "kept"
    assert checkpoint(chains, str(kept)) == EXIT_OK
    before = kept.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))  # as on a full disk
    try:
        with pytest.raises(PolicyfsError, match="cannot write"):
            checkpoint(chains, str(kept))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert kept.read_bytes() == before


def test_a_checkpoint_begins_a_line_also_behind_a_cut_one(trail: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b'{"type":"checkp')
    kept.chmod(0o600)
    assert checkpoint(find_chains(trail), str(kept)) == EXIT_OK
    cut, whole = kept.read_bytes().splitlines()
    assert cut == b'{"type":"checkp'
    assert json.loads(whole)["mount_id"] == MOUNT_ID


@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_a_file_that_others_may_use_gets_no_checkpoint(trail: Path, tmp_path: Path, mode: int) -> None:
    (tmp_path / "kept").touch()
    (tmp_path / "kept").chmod(mode)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("kept", "fifo"):
        with pytest.raises(PolicyfsError, match="cannot write"):
            checkpoint(find_chains(trail), str(tmp_path / name))


def test_a_link_is_not_followed(trail: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PolicyfsError):
        checkpoint(find_chains(trail), str(tmp_path / "link"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_broken_chain_has_no_checkpoint(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment = segments(trail / MOUNT_ID)[-1]
    segment.write_bytes(segment.read_bytes().replace(b"/b", b"/c"))
    assert checkpoint(find_chains(trail), None) == EXIT_REFUSED
    captured = capsys.readouterr()
    assert not captured.out
    assert "no checkpoint of" in captured.err
    assert checkpoint([], None) == EXIT_REFUSED
