"""The digest of the installed code follows every module, and nothing else."""

from __future__ import annotations

from pathlib import Path

from policyfs.linux.code_digest import code_digest


def test_it_is_of_modules_and_extensions_by_name_and_content(tmp_path: Path) -> None:
    def digest() -> str:
        code_digest.cache_clear()
        return code_digest(str(tmp_path))

    (tmp_path / "part").mkdir()
    seen = [digest()]
    for name, data in (("a.py", "1"), ("part/b.py", ""), ("part/c.so", "2"), ("a.py", "12"), ("b.py", "")):
        (tmp_path / name).write_text(data)
        seen.append(digest())
    assert len(set(seen)) == len(seen)
    (tmp_path / "__pycache__").mkdir()
    for name in ("__pycache__/a.cpython-311.pyc", "__pycache__/d.py", "notes.txt"):
        (tmp_path / name).touch()
    assert digest() == seen[-1]
    assert len(seen[-1]) == 12


def test_a_process_keeps_what_it_found_first(tmp_path: Path) -> None:
    """A daemon is told apart from the code that is installed while it runs."""
    before = code_digest(str(tmp_path))
    (tmp_path / "a.py").touch()
    assert code_digest(str(tmp_path)) == before
