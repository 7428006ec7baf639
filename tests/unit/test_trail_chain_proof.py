"""Proofs of one line: they hold without the trail, and for no other line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policyfs.cli.main import main
from policyfs.domain import Audit
from policyfs.journal.sealing.keys import KeyStore, is_signed
from policyfs.journal.writing.journal import Journal
from policyfs.trail.chain.proof import check_proof
from tests.support.mount.trail import MOUNT_ID, ROOMY, an_event, read_all


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """A trail root whose segments are all sealed."""
    journal = Journal(
        str(tmp_path / MOUNT_ID), MOUNT_ID, keep=0, segment_bytes=4096, limits=ROOMY,
        keys=KeyStore(tmp_path / "keys"),
    )  # fmt: skip
    for number in range(20):
        journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    journal.close()
    return tmp_path


def proof_of(trail: Path, seq: int, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["audit", "show", "--proof", "--trail", str(trail), f"{MOUNT_ID[:8]}:{seq}"]) == 0
    return capsys.readouterr().out


def test_every_line_has_a_proof_that_stands_alone(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for record in read_all(trail / MOUNT_ID):
        found = check_proof(proof_of(trail, record.seq, capsys), is_signed)
        assert found.wrong == ""
        assert json.loads(found.line)["seq"] == record.seq


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("line", lambda text: text.replace("/2", "/9")),
        ("previous", lambda text: "0" * 64),
        ("index", lambda number: number + 1),
        ("path", lambda path: path[:-1]),
        ("seal", lambda text: text.replace('"lines":', '"lines":1')),
        ("keys", lambda keys: []),
    ],
)
def test_a_changed_proof_proves_nothing(
    trail: Path, capsys: pytest.CaptureFixture[str], name: str, change, tmp_path: Path
) -> None:
    proof = json.loads(proof_of(trail, 4, capsys))
    proof[name] = change(proof[name])
    (tmp_path / "proof").write_text(json.dumps(proof))
    assert main(["audit", "verify", "--proof", str(tmp_path / "proof")]) == 1
    assert "not proven" in capsys.readouterr().err


def test_a_proof_is_checked_without_the_trail(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trail / "proof").write_text(proof_of(trail, 4, capsys))
    assert main(["audit", "verify", "--trail", "/nowhere", "--proof", str(trail / "proof")]) == 0
    assert "proven: in 0000000" in capsys.readouterr().out


def test_what_has_no_proof_is_an_error(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", "--proof", "--trail", str(trail), f"{MOUNT_ID[:8]}:999"]) == 1
    assert main(["audit", "show", "--proof", "--trail", str(trail), "nonsense"]) == 2
    assert main(["audit", "show", "--proof", "--trail", str(trail)]) == 2
    for text in ("", "{}", "[1]", '{"line":1,"previous":2,"index":"x"}'):
        (trail / "proof").write_text(text)
        assert main(["audit", "verify", "--proof", str(trail / "proof")]) == 1
