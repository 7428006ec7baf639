"""The policy of a new site: each program may do what it could do before, or less if the user says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policyfs.policy.layout.quoting import name_text
from policyfs.policy.lint.rights import like_backup, of_copies
from policyfs.trail.lines.table import shown

_READ: Final = "[see, read]"
_CHANGE: Final = "[see, read, write, create, delete, attr]"
_OWN: Final = "[create, write, delete, attr]"
_CHANGES, _WITHIN = 200, "10m"
_KEPT = "30d"
_TEXTS: Final = '["text/*", application/json]'
"""Kinds of texts that policyfs cannot clean, and in which it found no coordinates."""


@dataclass(frozen=True, slots=True)
class Access:
    """The access of one app. shares: paths in the store (``/`` is its root); True if the app may write there.

    keep_others: True if the app may not change or delete what others made. hide_places: True if it reads
    files of others without the places where they were taken; then it may not change them either, since it
    would write them back without. raw_texts: endings of names, such as ``nfo``: the app reads such texts as
    they are, although places are hidden from it. own: paths with files of the app only: it may do all there.
    brake: True if its brake goes on after many changes of files, and undo keeps what it loses.
    """

    app: str
    shares: Mapping[str, bool]
    hide_places: bool = False
    keep_others: bool = False
    raw_texts: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    brake: bool = False

    @property
    def changes(self) -> list[str]:
        """The paths in which the app may change and delete all files."""
        writes = [path for path, write in self.shares.items() if write]
        own = [path for path in self.own if any(_below(path, share) for share in writes)]
        return _tops([*(path for path in writes if self._free(path)), *own])

    @property
    def adds(self) -> list[str]:
        """The shares in which the app may add files, and change and delete only these."""
        return _tops(path for path, write in self.shares.items() if write and not self._free(path))

    @property
    def reads(self) -> list[str]:
        """The shares in which the app may read all files, but not change them."""
        free = self.changes
        return [path for path in _tops(self.shares) if not any(_below(path, one) for one in free)]

    @property
    def folds(self) -> bool:
        """True if the rule on places may ignore the case of letters: if no path of the library is in it."""
        return bool(self.raw_texts) and not self.changes

    @property
    def told(self) -> str:
        """A few words for the list of services."""
        stops = f"; stopped after {_CHANGES} changes in {_WITHIN}, losses kept {_KEPT}" if self.brake else ""
        if not (self.adds or self.hide_places):
            return f"as before{stops}"
        hidden = ", without places" if self.hide_places else ""
        parts = (
            ("may do all in", self.changes, ""), ("reads", self.reads, hidden),
            ("keeps what others make, and adds files, in", self.adds, ""),
        )  # fmt: skip
        told = (f"{what} {', '.join(map(shown, paths))}{how}" for what, paths, how in parts if paths)
        return "; ".join(told) + stops

    def _free(self, path: str) -> bool:
        kept = self.keep_others or self.hide_places
        return not kept or any(_below(path, one) for one in self.own)


def policy_text(accesses: Sequence[Access], *, name: str, file: str, store: str, site: str) -> str:
    """Return the text of the policy. name: of the policy. file, store, site: the names of the policy's file,
    of the store and of the site's file, escaped, for one line of text each."""
    lines = [*_head(name, file, store, site), "", "apps:"]
    for access in accesses:
        if access.hide_places and like_backup(access.app):
            lines.append("  # lint: ignore backup-redacted because places are hidden from it")
        lines += app_lines(access)
    lines += ["", "rules:"]
    for access in accesses:
        lines += rules_of(access)
    lines += [
        "invariants:",
        "  # An invariant, for later changes: policyfs does not load a policy that breaks it.",
        '  - {id: no-strangers, never: [all], who: {app: stranger}, paths: "/**"}',
    ]
    return "\n".join(lines) + "\n"


def app_lines(access: Access) -> Iterator[str]:
    """Yield the lines of one app in ``apps``."""
    yield f"  {name_text(access.app)}:"
    yield "    description: a program with a mount of its own"
    if access.changes:
        yield "    moves: free  # between its directories, also where more programs see the file"


def _head(name: str, file: str, store: str, site: str) -> Iterator[str]:
    yield f"# Who may do what with the files in {store}."
    yield "#"
    yield "# Nothing is allowed unless a rule allows it, and the order of rules does not matter. Change this"
    yield "# file as you like. These commands check the policy, and put it in force:"
    yield "#"
    yield f"#   policyfs policy check {file}"
    yield f"#   policyfs policy lint {file} --store {store}"
    yield f"#   policyfs policy test {file}"
    yield f"#   policyfs up {site}"
    yield "apiVersion: policyfs/v1"
    yield "kind: Policy"
    yield f"metadata: {{name: {json.dumps(name)}}}"


def rules_of(access: Access) -> Iterator[str]:
    """Yield the lines of the rules of one app."""
    app = access.app
    if access.changes:
        yield f"  # {app} may read, add, change and delete all files here."
        if access.hide_places:
            yield "  # lint: ignore raw-sensitive because the files here are its own"
        yield from _rule(f"{app}.changes", f"allow: {_CHANGE}", app, map(_tree, access.changes))
    if access.brake:
        yield f"  # If {app} changes or deletes more files than that, it may change no more, until"
        yield f"  # `policyfs brake MOUNTPOINT --release {app}`."
        yield from _rule(f"{app}.brake", f"limit: {{changes: {_CHANGES}, within: {_WITHIN}}}", app, ())
        yield f"  # What it deletes or overwrites is kept: `policyfs undo STORE --app {app} --since 2h`."
        yield from _rule(f"{app}.keep", f"require: {{keep: {_KEPT}}}", app, ())
    if access.reads:
        yield f"  # {app} sees and reads all files here."
        if access.hide_places and any(of_copies(_tree(path)) for path in access.reads):
            yield f"  # lint: ignore derived-copies because {app}.no-places is about the copies, too"
        yield from _rule(f"{app}.reads", f"allow: {_READ}", app, map(_tree, access.reads))
    if access.adds:
        yield f"  # {app} adds files here, and may change and delete only files that it made."
        yield from _rule(f"{app}.own", f"allow: {_OWN}", app, map(_inside, access.adds), ["{owner: self}"])
    if access.hide_places:
        yield f"  # {app} reads files of others without the places where they were taken. It cannot open"
        yield "  # files of kinds that policyfs cannot clean (docs/redaction.md)."
        if access.raw_texts:
            yield "  # It reads texts with these names as they are, though they may name a place."
        effect, blocks = "require: {redact: [location]}", list(_spared(access))
        yield from _rule(f"{app}.no-places", effect, app, (), blocks, folds=access.folds)


def _spared(access: Access) -> Iterator[str]:
    """Yield the conditions under which no places are hidden from the app."""
    if access.adds:
        yield "{owner: self}"
    if access.changes:
        yield f"{{path: {_list(map(_tree, access.changes))}}}"
    if access.raw_texts:
        texts = access.raw_texts if access.folds else (*access.raw_texts, *map(str.upper, access.raw_texts))
        name = f"{{{','.join(texts)}}}" if len(texts) > 1 else texts[0]
        yield f'{{path: "/**/*.{name}", type: {_TEXTS}}}'


def _rule(
    rule: str, effect: str, app: str, paths: Iterable[str], blocks: Sequence[str] = (), *, folds: bool = False
) -> Iterator[str]:
    """Yield the lines of a rule. blocks: its conditions: of an allow ``when``, of a require ``unless``.
    folds: True if its paths match letters of either case."""
    globs, key = list(paths), "when" if effect.startswith("allow") else "unless"
    yield f"  - id: {rule}"
    yield f"    {effect}"
    yield f"    who: {{app: {name_text(app)}}}"
    if globs:
        yield f"    paths: {_list(globs)}"
    if folds:
        yield "    ignore_case: true"
    if len(blocks) == 1:
        yield f"    {key}: {blocks[0]}"
    elif blocks:
        yield f"    {key}:"
        yield from (f"      - {block}" for block in blocks)
    yield ""


def _tops(paths: Iterable[str]) -> list[str]:
    found = sorted(set(paths))
    return [path for path in found if not any(path != one and _below(path, one) for one in found)]


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top.rstrip('/')}/")


def _quoted(path: str) -> str:
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path.rstrip("/"))


def _tree(path: str) -> str:
    return f"{_quoted(path)}/***"


def _inside(path: str) -> str:
    """Return the glob that matches everything below a path: no app owns the directory itself."""
    return f"{_quoted(path)}/**"


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(json.dumps(value, ensure_ascii=False) for value in values)}]"
