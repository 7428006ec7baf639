"""Stale handles: files open in passthrough that the policy in force would not open in this way any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from policyfs.policy.errors import harmless

_SHOWN: Final = 20


def told(stale: object) -> Iterator[str]:
    """Yield lines of text on stale handles. stale: their summary, from a status or from a reload's answer."""
    if not isinstance(stale, Mapping) or not stale.get("count"):
        return
    count, files = stale["count"], stale["files"]
    by_app = ", ".join(f"{app} {number}" for app, number in sorted(stale["apps"].items()))
    yield (
        f"{count} open file{'' if count == 1 else 's'} in passthrough that this policy would not open in this"
        f" way ({by_app}); apps can use {'this file' if count == 1 else 'these files'} until they close"
        f" {'it' if count == 1 else 'them'}:"
    )
    for one in files[:_SHOWN]:
        path = harmless(str(one["path"]))
        yield f"  {one['app']} {path} (pid {one['pid']}, {one['access']}): {one['reason']}"
    if count > _SHOWN:
        yield f"  and {count - _SHOWN} more; `policyfs status --json` has {len(files)} of them"
