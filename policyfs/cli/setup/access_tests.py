"""The tests of the policy of a new site: each program may do what is written, and nobody else anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.cli.setup.access import Access
from policyfs.policy.layout.quoting import name_text

_ALLOW: Final = "{decision: allow}"
_DENY: Final = "{decision: deny, errno: EACCES}"
_ABSENT: Final = "{decision: deny, errno: ENOENT}"
_CHANGES: Final = "[write, delete, attr]"


def cases_text(accesses: Sequence[Access], file: str) -> str:
    """Return the text of the tests. file: the name of the policy's file, for one line of text."""
    lines = [
        f"# Tests of {file}: policyfs policy test {file}", "apiVersion: policyfs/v1", "kind: PolicyTests",
        "tests:",
    ]  # fmt: skip
    for access in accesses:
        lines += cases_of(access)
    paths = sorted({path for access in accesses for path in access.shares})
    every = ", ".join(_file(path) for path in paths)
    lines += _case("strangers-see-nothing", "stranger", "[see, read, write]", f"[{every}]", _ABSENT)
    return "\n".join(lines) + "\n"


def cases_of(access: Access) -> Iterator[str]:
    """Yield the lines of the tests of one app."""
    app = access.app
    for at, path in enumerate(access.changes, 1):
        yield from _case(f"{app}-changes-{at}", app, f"[read, create, {_CHANGES[1:]}", _file(path), _ALLOW)
    for at, path in enumerate(access.reads, 1):
        hidden = "[location]" if access.hide_places else "[]"
        allow = f"{{decision: allow, redact: {hidden}}}"
        yield from _case(f"{app}-reads-{at}", app, "read", _file(path), allow)
        yield from _case(f"{app}-leaves-files-of-others-{at}", app, _CHANGES, _file(path), _DENY)
        if path not in access.adds:
            yield from _case(f"{app}-adds-nothing-{at}", app, "create", _file(path), _DENY)
        if access.raw_texts:
            name, allow = f"{app}-reads-texts-{at}", "{decision: allow, redact: []}"
            text = _file(path, f"a-file.{access.raw_texts[0]}")
            yield from _case(name, app, "read", text, allow, kind="text/plain")
    for at, path in enumerate(access.adds, 1):
        yield from _case(f"{app}-adds-{at}", app, f"[create, {_CHANGES[1:]}", _file(path), _ALLOW, "self")
    if "/" not in access.shares:
        name = "/elsewhere"
        while any(path.startswith(name) for path in access.shares):
            name += "-"
        yield from _case(f"{app}-sees-nothing-else", app, "[see, read]", _file(name), _ABSENT)


def _file(path: str, name: str = "a-file.jpg") -> str:
    return json.dumps(os.path.join(path, name), ensure_ascii=False)


def _case(
    name: str, app: str, ops: str, path: str, expect: str, owner: str = "none", kind: str = "image/jpeg"
) -> Iterator[str]:
    yield f"  - id: {name}"
    yield f"    app: {name_text(app)}"
    yield f"    operation: {ops}"
    yield f"    path: {path}"
    yield f"    kind: {kind}"
    yield f"    owner: {owner}"
    yield f"    expect: {expect}"
