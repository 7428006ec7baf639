"""`policyfs run` around its mount: the place, the user, the command in its own mounts, and the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli import main
from policyfs.errors import EXIT_REFUSED, EXIT_USAGE

APP = 10010
_OF_LIBC = 1 << 31 | 1 << 32
"""Signals 32 and 33 in SigIgn. They belong to the C library (nptl(7)), which lets no program reset them."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "runtime/policyfs"))
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(tmp_path / "trail"))
    for name in ("store", "shown"):
        (tmp_path / name).mkdir()
    return tmp_path


# -- words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--",)])
def test_a_command_is_needed(place: Path, capsys, words: tuple[str, ...]) -> None:
    code = main.main(["run", "--app", "a", "--policy", "p", str(place / "store"), *words])
    assert (code, "write the command behind `--`" in capsys.readouterr().err) == (EXIT_USAGE, True)


def test_a_directory_is_needed(place: Path, capsys) -> None:
    (place / "file").touch()
    fixed = ["run", "--app", "a", "--policy", "p"]
    for more, told in (
        ([str(place / "none")], "none is not a directory"),
        (["--at", str(place / "file"), str(place / "store")], "file is not a directory"),
    ):
        assert main.main([*fixed, *more, "--", "true"]) == EXIT_REFUSED
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a policy with --policy, or paths with --allow-read or --allow-write"),
        (("--allow-read", "../outside"), "../outside is not in the store"),
        (("--allow-read", ".", "--policy", "p"), "--policy has the rules already"),
        (("--policy", "p"), "name an app of the policy with --app"),
    ],
)
def test_a_policy_or_paths_are_needed(place: Path, capsys, words: tuple[str, ...], told: str) -> None:
    assert main.main(["run", *words, str(place / "store"), "--", "true"]) == EXIT_USAGE
    assert told in capsys.readouterr().err
