"""Bad policies and the exact words they are refused with.

Each case is a file ``policy_errors/NAME.yaml``, or a directory of them, beside NAME.txt: what
the person reads. POLICYFS_UPDATE_GOLDEN=1 writes the .txt anew (and fails, so that it is read).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.errors import EXIT_POLICY
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.parse import SourceText, parse_policy

CASES = Path(__file__).parent / "policy_errors"


def names() -> list[str]:
    return sorted(path.name.removesuffix(".yaml") for path in CASES.iterdir() if path.suffix != ".txt")


def sources(name: str) -> list[SourceText]:
    paths = [CASES / f"{name}.yaml"]
    if (CASES / name).is_dir():
        paths = sorted((CASES / name).glob("*.yaml"))
    return [SourceText(path.name, path.read_bytes()) for path in paths]


def refusal(name: str) -> PolicyErrors:
    with pytest.raises(PolicyErrors) as caught:
        parse_policy(sources(name), redactable=frozenset({"image/jpeg"}))
    return caught.value


@pytest.mark.parametrize("name", names())
def test_exact_words(name):
    expected = CASES / f"{name}.txt"
    told = f"{refusal(name)}\n"
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        expected.write_text(told, "utf-8")
        pytest.fail(f"{expected.name} was written: read it, then run without updating")
    assert told == expected.read_text("utf-8")


@pytest.mark.parametrize("name", names())
def test_every_error_says_where_and_what_to_do(name):
    found = refusal(name)
    assert found.exit_code == EXIT_POLICY
    assert found.errors
    assert list(found.errors) == sorted(
        found.errors, key=lambda e: (e.where.file, e.where.line, e.where.column)
    )
    texts = {source.name: source.text.decode("utf-8", "replace") for source in sources(name)}
    for error in found.errors:
        lines = texts[error.where.file].split("\n")
        assert error.line == (lines[error.where.line - 1] if lines else "")
        assert 1 <= error.where.column <= len(error.line) + 1
        assert error.message
        assert error.help
        assert str(error) in str(found)
        assert str(error).split("\n")[2].rstrip().endswith("^")


def test_there_are_enough_cases():
    assert len(names()) >= 45


def test_no_expectation_is_left_over():
    assert {path.stem for path in CASES.glob("*.txt")} == set(names())
