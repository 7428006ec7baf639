"""The texts of policies, from files and directories."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from policyfs.errors import EXIT_POLICY, PolicyfsError
from policyfs.policy.parse import SourceText

TEST_SUFFIX: Final = ".test.yaml"
"""The end of the names of files of tests, which are no part of the policy in their directory."""


class UnreadableError(PolicyfsError):
    """A policy's file or directory cannot be read."""

    exit_code = EXIT_POLICY


def read_sources(path: str) -> list[SourceText]:
    """Read the texts of a policy: one file, or every `*.yaml` of a directory that is no file of tests.

    Raises UnreadableError.
    """
    where = Path(path)
    try:
        files = [where]
        if where.is_dir():
            files = sorted(file for file in where.glob("*.yaml") if not file.name.endswith(TEST_SUFFIX))
        texts = [SourceText(str(file), file.read_bytes()) for file in files]
    except OSError as error:
        raise UnreadableError(f"cannot read the policy {error.filename}: {error.strerror}") from error
    if not texts:
        raise UnreadableError(f"cannot read the policy {path}: the directory has no *.yaml file")
    return texts
