"""`policyfs audit show --proof` and `verify --proof`: a proof holds by itself, and of nothing else."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.audit.prove import check, prove
from policyfs.cli.main import build_parser
from policyfs.domain import Audit
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.reader import find_chains
from policyfs.journal.sealing.keys import KeyStore
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, read_all, segments, write_trail

PATHS = [b"/DCIM/%d.jpg" % number for number in range(60)]


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """A trail whose first segments are full, and so sealed."""
    root = tmp_path / "trail"
    root.mkdir()
    options = {"segment_bytes": 8192, "keys": KeyStore(tmp_path / "keys")}
    write_trail(root, [an_event(path) for path in PATHS], **options)  # type: ignore[arg-type]
    assert len(segments(root / MOUNT_ID)) > 1
    return root


def proof_of(trail: Path, seq: int, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = prove(find_chains(trail), f"{MOUNT_ID[:8]}:{seq}")
    return code, capsys.readouterr().out


def test_a_sealed_record_is_proven_without_the_trail(
    trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "proof"
    for record in read_all(trail / MOUNT_ID)[:3]:
        code, proof = proof_of(trail, record.seq, capsys)
        assert code == EXIT_OK
        file.write_text(proof, encoding="utf-8")
        assert check(str(file)) == EXIT_OK
        told = capsys.readouterr().out
        assert f'"seq":{record.seq}' in told.splitlines()[0]
        assert "proven: in" in told


def test_another_line_under_the_same_proof_is_not_proven(
    trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seq = next(one.seq for one in read_all(trail / MOUNT_ID) if one.event is not None)
    _, proof = proof_of(trail, seq, capsys)
    file = tmp_path / "proof"
    assert "/DCIM/0.jpg" in proof
    file.write_text(proof.replace("/DCIM/0.jpg", "/DCIM/x.jpg"), encoding="utf-8")
    assert check(str(file)) == EXIT_REFUSED
    assert "not proven" in capsys.readouterr().err


def test_a_record_that_is_not_sealed_yet_has_no_proof(
    trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys: Any = KeyStore(trail.parent / "keys")
    with a_journal(trail, keys=keys) as journal:
        journal.record(an_event(b"/new"), Audit.REQUIRED)
        [new] = [one.seq for one in read_all(trail / MOUNT_ID) if one.event and one.event.path == b"/new"]
        for seq in (new, new + 1000, 0):
            assert proof_of(trail, seq, capsys) == (EXIT_REFUSED, "")
    assert prove(find_chains(trail), "ffffffff:1") == EXIT_REFUSED


def test_an_id_is_needed(trail: Path) -> None:
    for name in ("0123", "0123:first"):
        with pytest.raises(UsageError):
            prove(find_chains(trail), name)


def test_what_is_no_proof_is_told_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"no proof")
    for name in ("none", "absent"):
        with pytest.raises(PolicyfsError, match=f"cannot check .*{name}"):
            check(str(tmp_path / name))


def test_a_check_reads_no_trail(tmp_path: Path) -> None:
    parser = build_parser("audit")
    for error, words in (
        ("cannot check", ["verify", "--proof", str(tmp_path / "absent")]),
        ("no trail", ["show", "01234567:1", "--proof"]),
    ):
        args = parser.parse_args(["audit", *words, "--trail", str(tmp_path / "no trail")])
        with pytest.raises(PolicyfsError, match=error):
            args.run(args)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/DCIM/9.jpg", b"/DCIM/x.jpg"),
        (b"/DCIM/9.jpg", b"/DCIM/\xff.jpg"),
        (b'"chain":"', b'"other":"'),
        (b"\n", b""),
    ],
)
def test_a_line_that_was_changed_or_cut_off_has_no_proof(trail: Path, old: bytes, new: bytes) -> None:
    file = segments(trail / MOUNT_ID)[0]
    number, line = next(
        (number, line)
        for number, line in enumerate(file.read_bytes().splitlines(keepends=True), start=1)
        if b"/DCIM/9.jpg" in line
    )
    before, _, after = file.read_bytes().partition(line)
    file.write_bytes(before + (line.replace(old, new) + after if new else b""))
    with pytest.raises(PolicyfsError, match="Run `policyfs audit verify`"):
        prove(find_chains(trail), f"{MOUNT_ID[:8]}:{number}")


@pytest.mark.parametrize("index", ["Infinity", "-1", "99", "null", "[" * 100_000])
def test_a_proof_with_an_impossible_index_proves_nothing(
    trail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], index: str
) -> None:
    _, proof = proof_of(trail, 3, capsys)
    file = tmp_path / "proof"
    file.write_text(proof.replace('"index": 2', f'"index": {index}'), encoding="utf-8")
    assert f'"index": {index}' in file.read_text()
    with (
        pytest.raises(PolicyfsError, match="form of a proof") if index not in {"-1", "99"} else nullcontext()
    ):
        assert check(str(file)) == EXIT_REFUSED
