"""The text of the policy that `policyfs policy init` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.cli.policy.init.survey import Directory
from policyfs.cli.policy.init.wishes import Level, Wish
from policyfs.domain import KIND_EMPTY
from policyfs.formats import REDACTABLE_KINDS
from policyfs.policy.layout.quoting import name_text
from policyfs.policy.lint.rights import of_copies

GRANT: Final = "media.location"
RETENTION: Final = "--trail-keep-age 90d"
"""The option of `policyfs mount` that removes old records from the trail (docs/audit.md)."""
_OPS: Final = {
    Level.READ: "[see, read]",
    Level.ADD: "[create, write, delete, attr]",
    Level.EDIT: "[see, read, write, create, delete, attr]",
}


class Draft(NamedTuple):
    """The user's answers, from which the text of a policy is made. name, file, store: the names of the
    policy, its file and the store, escaped, for one line of text each."""

    name: str
    file: str
    store: str
    wishes: Sequence[Wish]
    directories: Sequence[Directory]

    def media(self, directory: str) -> tuple[str, ...]:
        """Return the sorts of media (such as ``image``) to which the policy limits a directory. These are the
        sorts that the directory has now, if it has no other files. An empty tuple means no limit."""
        found = next((one.media for one in self.directories if one.name == directory), frozenset())
        return tuple(sorted(found))

    @property
    def trusted(self) -> list[str]:
        """The names of the apps that read files unchanged."""
        return [wish.name for wish in self.wishes if wish.trusted]

    @property
    def adds(self) -> bool:
        """True if some app may add files. The app then owns these files."""
        return any(Level.ADD in wish.shares.values() for wish in self.wishes)

    def filled(self) -> list[tuple[tuple[str, ...], list[str]]]:
        """Return the directories in which an app may write and that the policy limits, grouped: each item has
        sorts of media (such as ``image``), and the directories with these."""
        names = {
            name for wish in self.wishes for name, level in wish.shares.items() if level is not Level.READ
        }
        found: dict[tuple[str, ...], list[str]] = {}
        for name in sorted(names):
            if self.media(name):
                found.setdefault(self.media(name), []).append(name)
        return sorted(found.items())


def policy_text(draft: Draft) -> str:
    """Return the text of the policy."""
    rules = ("rules:", *_rules(draft), "invariants:", *_invariants(draft))
    lines = [*_head(draft), "", *_apps(draft), "", *rules]
    return "\n".join(lines) + "\n"


def _head(draft: Draft) -> Iterator[str]:
    file, store = draft.file, draft.store
    yield f"# Who may do what with the files in {store}."
    yield "#"
    yield "# Nothing is allowed unless a rule allows it, and the order of rules does not matter. Change this"
    yield "# file as you like. These commands check and show what the policy does:"
    yield "#"
    yield f"#   policyfs policy check {file}"
    yield f"#   policyfs policy lint {file} --store {store}"
    yield f"#   policyfs policy test {file}"
    for wish in draft.wishes[:1]:
        who = wish.name if wish.uid is not None else f"{wish.name} --uid UID"
        yield f"#   policyfs run --policy {file} --app {who} {store} -- ls -lR {store}"
    yield "#"
    habits = "The trail of a mount records who opened what, and so the habits of all."
    yield f"# {habits} {RETENTION} limits it:"
    yield "#"
    yield f"#   policyfs mount --policy {file} {RETENTION} {store} MOUNTPOINT"
    yield "apiVersion: policyfs/v1"
    yield "kind: Policy"
    yield f"metadata: {{name: {json.dumps(draft.name)}}}"


def _apps(draft: Draft) -> Iterator[str]:
    if any(wish.uid is not None for wish in draft.wishes):
        yield "# An app is a user of this machine. Callers with any other uid are strangers, and see nothing."
    else:
        yield "# An app is a program with a mount of its own. All others are strangers, and see nothing."
    yield "apps:"
    for wish in draft.wishes:
        yield f"  {name_text(wish.name)}:"
        if wish.cleaned_copies:
            yield f"    # Copies that {wish.name} makes lack the places. To keep the places, write here:"
            yield f"    #   grants: [{GRANT}]"
            yield "    # lint: ignore backup-redacted because this app may not know where pictures were taken"
        if wish.uid is None:
            yield "    description: the app has no uid, so it needs its own mount (policyfs mount --app)"
        else:
            yield f"    uid: {wish.uid}{f'  # the user {wish.user}' if wish.user else ''}"
        if wish.trusted:
            yield f"    grants: [{GRANT}]  # the app may know where pictures were taken"


def _rules(draft: Draft) -> Iterator[str]:
    for wish in draft.wishes:
        yield from _rules_of(draft, wish)
    yield from _redaction(draft)
    for kinds, names in draft.filled():
        shown = " and ".join(kinds)
        yield f"  # These directories hold only {shown} files, and stay so: policyfs refuses files with other"
        yield "  # content when they are written, whatever their names say."
        yield f"  - id: kinds.{'-'.join(kinds)}"
        yield f"    require: {{content: {_list(f'{kind}/*' for kind in kinds)}}}"
        yield f"    paths: {_list(map(glob_of, names))}"
        yield ""


def _rules_of(draft: Draft, wish: Wish) -> Iterator[str]:
    if wish.whole:
        yield f"  # {wish.name} reads all files unchanged."
        yield from _allow(f"{wish.name}.everything", "[see, read]", wish.name, ["/***"])
    reads = [*wish.dirs(Level.READ), *wish.dirs(Level.ADD)]
    if reads and not wish.whole:
        own = f" (to change that, move read to {wish.name}.adds)" if wish.dirs(Level.ADD) else ""
        yield f"  # {wish.name} sees and reads all files here, also those of others{own}."
        if not wish.trusted and any(of_copies(glob_of(name)) for name in reads):
            yield "  # lint: ignore derived-copies because no-places removes the places from the copies, too"
        yield from _allow(f"{wish.name}.reads", _OPS[Level.READ], wish.name, map(glob_of, sorted(reads)))
    for level, verb, about in (
        (Level.ADD, "adds", "adds files, and may change and delete the files that it added."),
        (Level.EDIT, "edits", "may add, change and delete all files."),
    ):
        # one rule for all directories in which the same sorts of media are allowed
        sorts: dict[tuple[str, ...], list[str]] = {}
        for name in wish.dirs(level):
            sorts.setdefault(draft.media(name), []).append(name)
        for kinds, names in sorted(sorts.items()):
            more = "-".join(("", *kinds)) if len(sorts) > 1 else ""
            yield f"  # Here {wish.name} {about}"
            when = "{owner: self}" if level is Level.ADD else ""
            rule = f"{wish.name}.{verb}{more}"
            paths = [glob_of(name) for name in names]
            if level is Level.ADD:  # no app owns the directory itself
                paths = [path.removesuffix("*") for path in paths]
            yield from _allow(rule, _OPS[level], wish.name, paths, when)


def _allow(rule: str, ops: str, app: str, paths: Iterable[str], when: str = "") -> Iterator[str]:
    yield f"  - id: {rule}"
    yield f"    allow: {ops}"
    yield f"    who: {{app: {name_text(app)}}}"
    yield f"    paths: {_list(paths)}"
    if when:
        yield f"    when: {when}"
    yield ""


def _redaction(draft: Draft) -> Iterator[str]:
    if len(draft.trusted) == len(draft.wishes):
        yield "  # Every app here may know where pictures were taken. For an app that may not know, add:"
        yield "  #   - {id: no-places, require: {redact: [location]}, who: {app: NAME}}"
        yield ""
        return
    yield "  # These apps read pictures and films without the place where they were taken. The apps cannot"
    yield "  # open a file that policyfs cannot clean."
    for kind, path in _uncleaned(draft):
        yield f"  # Such files in this store: kind {kind}, such as {path}."
    yield "  - id: no-places"
    yield "    require: {redact: [location]}"
    if draft.trusted:
        yield f"    who: {{not: {{grant: {GRANT}}}}}"
    if draft.adds:
        yield "    unless: {owner: self}  # an app reads its own files unchanged"
    kinds = sorted({kind for kind, _ in _uncleaned(draft)})
    if kinds:
        yield f"    # To let apps read such files unchanged, write: raw_types: [{', '.join(kinds)}]"
    yield ""


def _uncleaned(draft: Draft) -> list[tuple[str, str]]:
    """Return at most eight kinds of files that policyfs cannot redact, each with an example path."""
    shared = {name for wish in draft.wishes if not wish.trusted for name in wish.shares}
    found: dict[str, str] = {}
    for directory in draft.directories:
        if directory.name in shared:
            for kind, path in directory.examples.items():
                if kind not in REDACTABLE_KINDS and kind != KIND_EMPTY and path.isprintable():
                    found.setdefault(kind, path)
    return sorted(found.items())[:8]


def _invariants(draft: Draft) -> Iterator[str]:
    yield "  # Invariants, for later changes: policyfs does not load a policy that breaks an invariant."
    yield '  - {id: no-strangers, never: [all], who: {app: stranger}, paths: "/**"}'
    changers = [wish for wish in draft.wishes if {Level.ADD, Level.EDIT} & set(wish.shares.values())]
    if changers:
        who = f"{{app: [{', '.join(name_text(wish.name) for wish in changers)}]}}"
        yield f'  - {{id: who-deletes, only: [delete], who: {who}, paths: "/**"}}'
    else:
        yield '  - {id: nobody-deletes, never: [delete], paths: "/**"}'
    if len(draft.trusted) < len(draft.wishes):
        who = f", who: {{not: {{grant: {GRANT}}}}}" if draft.trusted else ""
        unless = ", unless: {owner: self}" if draft.adds else ""
        yield f"  - {{id: places, never_raw: [location]{who}{unless}}}"


def glob_of(directory: str) -> str:
    """Return the glob that matches a directory and everything below it. It is at the top of the store."""
    return "/" + re.sub(r"([*?\[\]{}\\])", r"\\\1", directory) + "/***"


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(json.dumps(value, ensure_ascii=False) for value in values)}]"
