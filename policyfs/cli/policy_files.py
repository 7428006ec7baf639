"""The texts of policies, from files and directories."""

from __future__ import annotations

from pathlib import Path

from policyfs.errors import EXIT_POLICY, PolicyfsError
from policyfs.policy.parse import SourceText


class UnreadableError(PolicyfsError):
    """A policy's file or directory cannot be read."""

    exit_code = EXIT_POLICY


def read_sources(path: str) -> list[SourceText]:
    """Read the texts of a policy: one file, or every `*.yaml` of a directory.

    Raises UnreadableError.
    """
    where = Path(path)
    try:
        files = sorted(where.glob("*.yaml")) if where.is_dir() else [where]
        texts = [SourceText(str(file), file.read_bytes()) for file in files]
    except OSError as error:
        raise UnreadableError(f"cannot read the policy {error.filename}: {error.strerror}") from error
    if not texts:
        raise UnreadableError(f"cannot read the policy {path}: the directory has no *.yaml file")
    return texts
