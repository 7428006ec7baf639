"""Proofs of the tests are left out only while nothing that they hang on has changed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.machine import proofs
from tests.support.machine.documents import CHECKOUT

TREE = {
    "tests/conftest.py": "",
    "tests/attack/test_doors.py": "from tests.tools import tool\nOPEN = 'tests.opened', 'other,no-doors'\n",
    "tests/tools.py": "",
    "tests/opened.py": "import policyfs.roof\n",
    "tests/attack/guards_doors.py": "import policyfs.doors\ndef no_doors():\n    pass\n",
    "tests/attack/guards_windows.py": "import policyfs.windows\ndef no_windows():\n    pass\n",
    "policyfs/doors.py": "from policyfs import hinges\n",
    "policyfs/windows.py": "",
    "policyfs/roof.py": "",
    "policyfs/hinges.py": "",
}
PROOF = "tests/attack/test_doors.py::test_it_is_open"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(proofs, "CHECKOUT", tmp_path)
    monkeypatch.setattr(proofs, "LIST", tmp_path / "tests/proofs.txt")
    (tmp_path / "tests/proofs.txt").write_text("none tests/attack/test_doors.py test_it_is_open\n")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "is_settled"),
    [(name, name in {"policyfs/windows.py", "policyfs/hinges.py", "tests/attack/guards_windows.py"})
     for name in TREE],
)  # fmt: skip
def test_a_proof_is_settled_until_its_files_change(
    tree: Path, monkeypatch: pytest.MonkeyPatch, changed: str, is_settled: bool
) -> None:
    assert not proofs.settled()
    monkeypatch.setattr("sys.argv", ["proofs", "--write"])
    proofs.main()
    assert proofs.settled() == {PROOF}
    with (tree / changed).open("a") as file:
        file.write("# changed\n")
    assert proofs.settled() == (frozenset([PROOF]) if is_settled else frozenset())


def test_each_proof_on_the_list_is_there() -> None:
    for line in proofs.LIST.read_text("utf-8").splitlines():
        _, file, *names = line.split()
        tree = ast.parse((CHECKOUT / file).read_bytes())
        assert set(names) <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, file
