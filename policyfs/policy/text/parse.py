"""The only parser of policies: it makes a Policy from texts, or raises all faults of all files at once."""

from __future__ import annotations

from collections.abc import Sequence

from policyfs.formats import REDACTABLE_KINDS
from policyfs.policy.collector import paused
from policyfs.policy.errors import PolicyError, PolicyErrors
from policyfs.policy.model import Policy, Where
from policyfs.policy.text.compose import UnreadableError, compose, decode
from policyfs.policy.text.resolve import resolve
from policyfs.policy.text.shape import File, file_of
from policyfs.policy.text.sources import SourceText, digest_of

__all__ = ["SourceText", "digest_of", "parse_policy"]


def parse_policy(sources: Sequence[SourceText], *, redactable: frozenset[str] = REDACTABLE_KINDS) -> Policy:
    """Parse the files of a policy, in any order. Raise PolicyErrors with all faults, sorted by place."""
    if not sources:
        where = Where("policy", 1, 1)
        help_ = "name a policy file, or a directory that holds *.yaml files"
        raise PolicyErrors([PolicyError(where, "there is no policy file", help_, "", 1)])
    errors: list[PolicyError] = []
    files: list[File] = []
    with paused():
        for name, text in sorted(sources):
            try:
                source = decode(name, text, errors)
                files.append(file_of(source, compose(source, errors), errors))
            except UnreadableError:
                continue
        policy = resolve(
            files,
            complete=len(files) == len(sources),
            redactable=redactable,
            digest=digest_of(source.text for source in sources),
            errors=errors,
        )
        _drop(files)
    if errors:
        raise PolicyErrors(errors)
    return policy


def _drop(files: list[File]) -> None:
    """Free the trees rule by rule: all at once would stop all threads for a tenth of a second."""
    parts = [part for file in files for part in file.rules]
    items = [part.node for part in parts]
    files.clear()
    while parts:
        del parts[-1], items[-1]
