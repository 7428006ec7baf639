"""The policy of `policyfs run` without --policy, from the paths that the command may read and write."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Final

from policyfs.errors import UsageError
from policyfs.policy.learn.globs import escaped

APP: Final = "command"
"""The app that runs the command if none is named."""


def policy_text(app: str, store: str, read: Sequence[str], write: Sequence[str]) -> str:
    """Return a policy by which an app may read and change the files at these paths and below, and sees no
    others. Paths are below the store, or relative to it. Raises UsageError."""
    rules = [
        f"  - {{id: {name}, allow: {allowed}, paths: {json.dumps(globs, ensure_ascii=False)}}}\n"
        for name, allowed, paths in (("read", "[see, read]", read), ("write", "[all]", write))
        if (globs := [_glob(path, store) for path in paths])
    ]
    if not rules:
        raise UsageError("name a policy with --policy, or paths with --allow-read or --allow-write")
    head = "apiVersion: policyfs/v1\nkind: Policy\nmetadata: {name: run}\n"
    return f"{head}apps:\n  {app}: {{}}\nrules:\n{''.join(rules)}"


def _glob(path: str, store: str) -> str:
    inside = os.path.relpath(os.path.join(store, path), store)
    if inside == ".." or inside.startswith("../"):
        raise UsageError(f"{path} is not in the store {store}")
    names = [] if inside == "." else inside.split("/")
    return "".join(f"/{escaped(name)}" for name in names) + "/***"
