"""Proofs, and tests of redaction, are left out only while nothing that they hang on has changed."""

from __future__ import annotations

import ast
import re
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
WHAT_IS_KEPT = (
    proofs._imported,
    proofs._nodes,
    proofs._strings,
    proofs._functions,
    proofs._of_bytes,
    proofs._of_redaction,
)
PROOF = "tests/attack/test_doors.py::test_it_is_open"
WHOLE = "tests/redaction/test_doors.py"


def settled_anew() -> frozenset[str]:
    """What is settled, of files as they are now."""
    for function in WHAT_IS_KEPT:
        function.cache_clear()
    return proofs.settled()


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
    assert not settled_anew()
    monkeypatch.setattr("sys.argv", ["proofs", "--write"])
    proofs.main()
    assert settled_anew() == {PROOF}
    with (tree / changed).open("a") as file:
        file.write("# changed\n")
    assert settled_anew() == (frozenset([PROOF]) if is_settled else frozenset())


@pytest.mark.parametrize("file", [PROOF.replace("::", " "), WHOLE])
def test_another_python_runs_all_anew(tree: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    (tree / WHOLE).parent.mkdir()
    (tree / WHOLE).write_text("")
    proofs.LIST.write_text(f"none {file}\n")
    monkeypatch.setattr("sys.argv", ["proofs", "--write"])
    for name in proofs._TOOLS:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    proofs._of_redaction.cache_clear()
    proofs.main()
    assert settled_anew()
    monkeypatch.setattr("platform.python_version_tuple", lambda: ("3", "15", "0"))
    assert not settled_anew()


def test_each_proof_on_the_list_is_there() -> None:
    for line in proofs.LIST.read_text("utf-8").splitlines():
        _, file, *names = line.split()
        tree = ast.parse((CHECKOUT / file).read_bytes())
        assert set(names) <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, file


@pytest.mark.parametrize(
    ("changed", "is_settled"),
    [("tests/tools.py", False), ("policyfs/hinges.py", False), ("policyfs/windows.py", True),
     ("policyfs/redact/gif.py", False), ("tests/fuzz/corpora/gif", False), ("requirements.lock", False)],
)  # fmt: skip
def test_a_whole_file_hangs_on_all_that_it_reaches_and_on_all_of_redaction(
    tree: Path, monkeypatch: pytest.MonkeyPatch, changed: str, is_settled: bool
) -> None:
    for name, text in {
        WHOLE: "from tests.tools import (\n    tool,\n)\n",
        "tests/tools.py": "def tool():\n    import policyfs.hinges\n",
        "policyfs/redact/gif.py": "", "tests/fuzz/corpora/gif": "", "requirements.lock": "",
        "packaging/setup/packages.sh": "",
    }.items():  # fmt: skip
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    proofs.LIST.write_text(f"none {WHOLE}\n")
    assert not settled_anew()
    monkeypatch.setattr("sys.argv", ["proofs", "--write"])
    proofs.main()
    assert settled_anew() == {WHOLE}
    with (tree / changed).open("a") as file:
        file.write("# changed\n")
    assert settled_anew() == (frozenset([WHOLE]) if is_settled else frozenset())


def test_whole_files_look_at_bytes_and_nothing_else() -> None:
    """What reads pages, settings or a mount is none of these: nothing here would notice a change of it."""
    pure = [CHECKOUT / name for name in proofs.PURE]
    for line in proofs.LIST.read_text("utf-8").splitlines():
        _, file, *names = line.split()
        if not names:
            for path in proofs.reached_by(CHECKOUT / file):
                assert any(one in (path, *path.parents) for one in pure), (file, path)
            assert not re.search(r'"docs|\bmounts\b|_mount\b', (CHECKOUT / file).read_text("utf-8")), file
