"""The text of the policy tests that `policyfs policy init` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from policyfs.cli.policy.init.draft import Draft
from policyfs.cli.policy.init.wishes import Level, Wish
from policyfs.policy.layout.quoting import name_text

_SAMPLES: Final = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/mpeg"}


def cases_text(draft: Draft) -> str:
    """Return the text of the tests."""
    lines = [
        f"# Tests of {draft.file}: policyfs policy test {draft.file}",
        "apiVersion: policyfs/v1",
        "kind: PolicyTests",
        "tests:",
    ]
    for wish in draft.wishes:
        lines += _of_app(draft, wish)
    lines += _of_strangers(draft)
    return "\n".join(lines) + "\n"


def _of_app(draft: Draft, wish: Wish) -> Iterator[str]:
    for directory, level in sorted(wish.shares.items()):
        path, kind, name = _path(directory), _kind(draft, directory), _word(draft, directory)
        redact = "[]" if wish.trusted else "[location]"
        yield from _test(
            f"{wish.name}-reads-{name}", wish.name, "read", path, kind, "none",
            f"{{decision: allow, redact: {redact}}}",
        )  # fmt: skip
        if level is Level.READ:
            changes = "[write, create, delete, attr]"
            yield from _test(
                f"{wish.name}-changes-nothing-in-{name}", wish.name, changes, path, kind, "none",
                "{decision: deny, errno: EACCES}",
            )  # fmt: skip
            continue
        own = "self" if level is Level.ADD else "none"
        view = ", view: checked" if draft.media(directory) and wish.trusted else ""
        if level is Level.ADD:
            yield from _test(
                f"{wish.name}-leaves-files-of-others-in-{name}", wish.name, "[write, delete, attr]", path,
                kind, "none", "{decision: deny, errno: EACCES}",
            )  # fmt: skip
        yield from _test(
            f"{wish.name}-adds-to-{name}", wish.name, "create", path, None, None, "{decision: allow}"
        )
        yield from _test(
            f"{wish.name}-changes-{name}", wish.name, "[write, delete, attr]", path, kind, own,
            f"{{decision: allow{view}}}",
        )  # fmt: skip
    if wish.whole:
        yield from _test(
            f"{wish.name}-reads-everything", wish.name, "read", '"/any/file"', "image/jpeg", "none",
            "{decision: allow, redact: []}",
        )  # fmt: skip
    else:
        yield from _test(
            f"{wish.name}-sees-nothing-else", wish.name, "[see, read]", _elsewhere(draft, wish), None, "none",
            "{decision: deny, errno: ENOENT}",
        )  # fmt: skip


def _of_strangers(draft: Draft) -> Iterator[str]:
    shared = sorted({name for wish in draft.wishes for name in wish.shares}) or ["any"]
    paths = f"[{', '.join(map(_path, shared))}]"
    yield from _test(
        "strangers-see-nothing", "stranger", "[see, read, write, create, delete]", paths, None, "none",
        "{decision: deny, errno: ENOENT}",
    )  # fmt: skip


def _test(
    name: str, app: str, operation: str, path: str, kind: str | None, owner: str | None, expect: str
) -> Iterator[str]:
    yield f"  - id: {name}"
    yield f"    app: {name_text(app)}"
    yield f"    operation: {operation}"
    yield f"    path: {path}"
    if kind is not None:
        yield f"    kind: {kind}"
    if owner is not None:
        yield f"    owner: {owner}"
    yield f"    expect: {expect}"


def _kind(draft: Draft, directory: str) -> str:
    sorts = draft.media(directory)
    return _SAMPLES[sorts[0]] if sorts else "image/jpeg"


def _path(directory: str) -> str:
    return json.dumps(f"/{directory}/a-file", ensure_ascii=False)


def _elsewhere(draft: Draft, wish: Wish) -> str:
    """Return a path that the app of this wish does not see, in a directory of the store if possible."""
    for directory in draft.directories:
        if directory.name not in wish.shares:
            return _path(directory.name)
    name = "not-shared"
    while name in wish.shares:
        name += "-here"
    return _path(name)


def _word(draft: Draft, directory: str) -> str:
    """Return a word for the ids of the tests of a directory. Each directory gets a word of its own."""
    word = "".join(char if char.isascii() and char.isalnum() else "-" for char in directory[:24])
    if word == directory and not re.search("-[0-9]+$", word):
        return word
    return f"{word}-{[one.name for one in draft.directories].index(directory)}"
