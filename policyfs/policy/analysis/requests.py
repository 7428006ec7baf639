"""Sample requests for reports, and the arguments of `policyfs policy explain` for them."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.domain import (
    KIND_DIRECTORY,
    OWNER_NONE,
    Decision,
    Facts,
    FileType,
    Op,
    Principal,
)
from policyfs.policy.analysis.outcomes import (
    Change,
    attribute_changes,
    changes,
    content_changes,
    required,
    view_change,
)
from policyfs.policy.analysis.subjects import Subject
from policyfs.policy.decide import Engine
from policyfs.policy.errors import words_of

_CREATE: Final = {FileType.DIRECTORY: "mkdir", FileType.SYMLINK: "symlink", FileType.REGULAR: "mknod"}


@dataclass(frozen=True, slots=True)
class Request:
    """One sample request. owners: of the directories above, from the root; empty if they do not matter."""

    subject: Subject
    op: Op
    path: bytes
    ftype: FileType
    facts: Facts
    owners: tuple[str | None, ...] = ()

    @property
    def word(self) -> str:
        """The name of the operation in `policyfs policy explain`."""
        return _CREATE[self.ftype] if self.op is Op.CREATE else words_of(self.op)

    @property
    def shown_path(self) -> str:
        return self.path.decode("utf-8", "backslashreplace")

    @property
    def file(self) -> str:
        """A few words on the file, such as ``image/jpeg of camera``. Facts that do not matter are omitted."""
        kind = {FileType.DIRECTORY: "directory", FileType.SYMLINK: "symlink"}.get(self.ftype, self.facts.kind)
        owner = None if self.facts.owner is None else f"of {self.facts.owner}"
        return " ".join(word for word in (kind, owner) if word)

    def above(self) -> Iterator[tuple[str, str]]:
        """Yield the directories above the path whose owners matter, each with its owner."""
        names = self.path.decode("utf-8", "backslashreplace").strip("/").split("/")
        for depth, owner in enumerate(self.owners, 1):
            if owner != OWNER_NONE:
                yield "/" + "/".join(names[:depth]), owner or "unknown"

    def command(self, policy: str, apps: frozenset[str]) -> str:
        """Return the command `policyfs policy explain` for this request. apps: the policy's apps."""
        path = self.path.decode("utf-8", "surrogateescape")
        words = ["policyfs", "policy", "explain", policy, path, *self._caller(), "--op", self.word]
        if self.ftype is FileType.REGULAR:
            words += [] if self.facts.kind is None else ["--kind", self.facts.kind]
        else:
            words.append(f"--{self.ftype.value}")
        owner = self.facts.owner
        if owner is not None:
            words += ["--owner" if owner == OWNER_NONE or owner in apps else "--former-owner", owner]
        return " ".join(_quoted(word) for word in words)

    def _caller(self) -> list[str]:
        subject = self.subject
        if subject.mounted is not None:
            return ["--app", subject.mounted, *([] if subject.default else ["--uid", str(subject.uid)])]
        if subject.default and subject.apps[0] is not None:
            return ["--app", subject.apps[0]]
        return ["--uid", str(subject.uid)]

    def principal(self, engine: Engine) -> Principal | None:
        """Return the caller as a principal of a policy, or None if the policy has no such app."""
        name = self.subject.mounted
        if name is None:
            return engine.principal(self.subject.uid)
        if all(app.name != name for app in engine.policy.apps):
            return None
        return engine.app_principal(name, self.subject.uid)

    def decide(self, engine: Engine) -> Decision | None:
        """Return the answer of a policy, or None if the policy cannot have this caller."""
        who = self.principal(engine)
        if who is None:
            return None
        names = [name for name in self.path.split(b"/") if name]
        chain = [(engine.root, Facts(KIND_DIRECTORY, OWNER_NONE))]
        for depth, owner in enumerate(self.owners[: max(0, len(names) - 1)], 1):
            chain.append((engine.state_of(b"/" + b"/".join(names[:depth])), Facts(KIND_DIRECTORY, owner)))
        state = engine.state_of(self.path)
        hidden = engine.hidden_above(who, chain)
        return hidden or engine.decide(who, Op.SEE | self.op, state, self.ftype, self.facts)

    def changes(self, *engines: Engine) -> Iterator[Change]:
        """Yield the differences between the answers of two policies. A policy without the caller denies."""
        answers = [self.decide(engine) or Decision(False, errno.ENOENT) for engine in engines]
        yield from changes(*answers)
        who = [self.principal(engine) for engine in engines]
        if None in who or not all(answer.allowed for answer in answers):
            return
        known = [
            (engine, one, engine.state_of(self.path)) for engine, one in zip(engines, who, strict=True) if one
        ]
        if self.op is Op.CREATE:
            yield from content_changes(*(required(e.profile(one, at), self.facts) for e, one, at in known))
        if self.op is Op.ATTR:
            facts = self.facts._replace(kind=None)
            yield from attribute_changes(*(e.bans(one, at, self.ftype, facts) for e, one, at in known))
        view = view_change(*(e.view(one, at) for e, one, at in known))
        if view is not None:
            yield view


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(
        char
        if char.isprintable() and char not in "'\\"
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in word
    )
    return f"$'{escaped}'"
