"""`policyfs policy check|explain`: what a policy says, before anything is mounted."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from policyfs.errors import EXIT_OK, EXIT_POLICY, PolicyfsError
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.model import Effect, Policy
from policyfs.policy.parse import SourceText, parse_policy


class PolicyUnreadable(PolicyfsError):
    """A policy's file or directory cannot be read."""

    exit_code = EXIT_POLICY


def read_sources(path: str) -> list[SourceText]:
    """The texts of a policy: one file, or every `*.yaml` of a directory.

    Raises PolicyUnreadable.
    """
    where = Path(path)
    try:
        files = sorted(where.glob("*.yaml")) if where.is_dir() else [where]
        return [SourceText(str(file), file.read_bytes()) for file in files]
    except OSError as error:
        raise PolicyUnreadable(f"cannot read the policy {error.filename}: {error.strerror}") from error
