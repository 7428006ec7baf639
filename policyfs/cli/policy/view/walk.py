"""A walk through a store for one caller. It decides on every name as a mount would."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from policyfs.cli.policy.view.picture import (
    REDACTED,
    REFUSED,
    UNCHANGED,
    Entry,
    Hidden,
    Picture,
    Rest,
    Sample,
)
from policyfs.domain import KIND_DIRECTORY, OWNER_NONE, Decision, Facts, FileType, Lane, Need, Op, Principal
from policyfs.errors import errno_name
from policyfs.linux.statx import Stat
from policyfs.policy.analysis.outcomes import content
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.explain.explain import open_refusal
from policyfs.policy.model import Effect
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree

_NEW_NAME: Final = b"new-file"
_OPS: Final = (Op.READ, Op.WRITE, Op.DELETE, Op.ATTR)
_DIRECTORY: Final = 4  # DT_DIR
_SPECIAL: Final = "a fifo, socket or device: policyfs hides them"


class Looker(Protocol):
    """The methods of a sniffer that a walk needs. The methods find the kinds of files, and the data to hide
    in files."""

    async def kind_of_fd(self, fd: int, *, lane: Lane = None) -> str | None:
        """Return a file's content kind, or None if it is unknown."""

    async def locate(
        self, fd: int, what: frozenset[str], *, lane: Lane = None
    ) -> tuple[str | None, Plan]:
        """Return a file's content kind, and a plan that hides the data of these words."""


class Limits(NamedTuple):
    """The limits of a walk. 0 means no limit.

    most: the number of names that the walk looks at. alike: the number of similar files in one directory that
    the walk looks at. (Files are similar if they have the same suffix, and the policy treats their paths
    alike.) samples: the number of files with the same suffix that the walk opens under redaction.
    """

    most: int
    alike: int
    samples: int


class _Directory(NamedTuple):
    """A directory to list. above: the states and facts of all directories from the root to it."""

    names: tuple[bytes, ...]
    state: PathState
    above: tuple[tuple[PathState, Facts], ...]


class _Found(NamedTuple):
    """A file that the walk may open as a sample. words: the words of data that the policy hides in it."""

    names: tuple[bytes, ...]
    state: PathState
    facts: Facts
    words: frozenset[str]


class Walk:
    """One walk through the store, from the root down. It lists directories near the root first."""

    def __init__(
        self, tree: Tree, engine: Engine, who: Principal, owners: Owners, looker: Looker, limits: Limits
    ) -> None:
        self._tree: Final = tree
        self._engine: Final = engine
        self._who: Final = who
        self._owners: Final = owners
        self._looker: Final = looker
        self._limits: Final = limits
        self._left = limits.most or -1
        self._candidates: Final[dict[str, list[_Found]]] = {}

    async def run(self, picture: Picture) -> None:
        """Walk through the store, and fill the picture."""
        root = self._tree.fstat(self._tree.root_fd)
        facts = Facts(KIND_DIRECTORY, self._owner(self._tree.root_fd, root))
        start = _Directory((), self._engine.root, ((self._engine.root, facts),))
        decision = self._decide(Op.SEE, start.state, FileType.DIRECTORY, facts)
        picture.entries.append(self._entry((), FileType.DIRECTORY, start.state, facts, decision))
        todo = deque([start])
        while todo:
            directory = todo.popleft()
            if not self._left:
                picture.unread.append((_path(directory.names), "the limit of names is reached (--most)"))
                continue
            try:
                fd = self._tree.open_below(self._tree.root_fd, directory.names) if directory.names else -1
            except OSError as error:
                picture.unread.append((_path(directory.names), error.strerror or "error"))
                continue
            try:
                await self._list(picture, directory, self._tree.root_fd if fd < 0 else fd, todo)
            finally:
                if fd >= 0:
                    os.close(fd)
        await self._sample(picture)

    # ---- one directory

    async def _list(
        self, picture: Picture, directory: _Directory, fd: int, todo: deque[_Directory]
    ) -> None:
        try:
            listed = sorted(self._tree.list_dir(fd))
        except OSError as error:
            picture.unread.append((_path(directory.names), error.strerror or "error"))
            return
        for name in self._selected(picture, directory, listed):
            if not self._left:
                told = "only in part: the limit of names is reached (--most)"
                picture.unread.append((_path(directory.names), told))
                return
            self._left -= 1
            try:
                stat = self._tree.stat(fd, name)
            except OSError:
                continue  # removed meanwhile
            names, state = (*directory.names, name), self._engine.child(directory.state, name)
            facts = await self._facts(fd, name, stat, state)
            decision = self._seen(directory, state, stat.ftype, facts)
            if not decision.allowed or stat.ftype is FileType.SPECIAL:
                why = self._why(decision) if stat.ftype is not FileType.SPECIAL else _SPECIAL
                picture.hidden.append(Hidden(_path(names), stat.ftype, why))
                continue
            entry = self._entry(names, stat.ftype, state, facts, decision)
            picture.entries.append(entry)
            if stat.ftype is FileType.DIRECTORY:
                todo.append(_Directory(names, state, (*directory.above, (state, facts))))
            elif stat.ftype is FileType.REGULAR and entry.may & Op.READ:
                self._note(picture, names, state, facts)

    def _selected(
        self, picture: Picture, directory: _Directory, listed: list[tuple[bytes, int, int]]
    ) -> Iterator[bytes]:
        """Yield the names to look at: all directories, and some of the files that the policy treats alike."""
        counts: Counter[tuple[PathState, str]] = Counter()
        for name, _, kind in listed:
            if kind == _DIRECTORY or not self._limits.alike:
                yield name
                continue
            alike = (self._engine.child(directory.state, name), suffix_of(name))
            counts[alike] += 1
            if counts[alike] <= self._limits.alike:
                yield name
        left: Counter[str] = Counter()
        for (state, suffix), count in counts.items():
            over = count - self._limits.alike
            if over > 0 and self._may_see(state):
                left[suffix] += over
        picture.rests += [
            Rest(_path(directory.names), suffix, count) for suffix, count in sorted(left.items())
        ]

    def _may_see(self, state: PathState) -> bool:
        """Return True if the caller could see a file with this path state, for some kind and owner."""
        seen = self._decide(Op.SEE, state, FileType.REGULAR, Facts()).allowed
        return seen or bool(self._engine.needs(self._who, Op.SEE, state, FileType.REGULAR))

    async def _facts(self, fd: int, name: bytes, stat: Stat, state: PathState) -> Facts:
        """Return the facts on which the answers about a file depend. fd: a descriptor of its directory."""
        need = Need.NOTHING
        for op in (Op.SEE, *_OPS):
            need |= self._engine.needs(self._who, op, state, stat.ftype)
        if stat.ftype is FileType.DIRECTORY:  # its owner may hide the names below
            need |= Need.OWNER
        owner = kind = None
        if need & Need.OWNER:
            try:
                held = self._tree.open_path(fd, name)
            except OSError:
                return Facts()
            try:
                owner = self._owner(held, stat)
            finally:
                os.close(held)
        if need & Need.KIND and stat.ftype is FileType.REGULAR:
            kind = await self._kind(fd, name)
        return Facts(kind, owner)

    def _owner(self, fd: int, stat: Stat) -> str | None:
        try:
            return self._owners.get(fd, stat)
        except OSError:
            return None

    async def _kind(self, fd: int, name: bytes) -> str | None:
        try:
            held = self._tree.open_file(fd, name, os.O_RDONLY)
        except OSError:
            return None
        try:
            return await self._looker.kind_of_fd(held, lane=self._who.lane)
        except ValueError:  # the name is no longer a regular file
            return None
        finally:
            os.close(held)

    # ---- answers

    def _decide(self, op: Op, state: PathState, ftype: FileType, facts: Facts) -> Decision:
        return self._engine.decide(self._who, Op.SEE | op, state, ftype, facts)

    def _seen(self, directory: _Directory, state: PathState, ftype: FileType, facts: Facts) -> Decision:
        decision = self._decide(Op.SEE, state, ftype, facts)
        if not decision.allowed or not self._engine.owner_matters_above(state):
            return decision
        return self._engine.hidden_above(self._who, directory.above) or decision

    @staticmethod
    def _why(decision: Decision) -> str:
        denies = sorted({match.rule for match in decision.rules if match.effect == Effect.DENY.value})
        return f"denied by {', '.join(denies)}" if denies else "no rule makes this name visible"

    def _entry(
        self, names: tuple[bytes, ...], ftype: FileType, state: PathState, facts: Facts, seen: Decision
    ) -> Entry:
        may, rules, required = Op(0), set[str](), frozenset[frozenset[str]]()
        for op in _OPS:
            if op & (Op.READ | Op.WRITE) and ftype is not FileType.REGULAR:
                continue
            decision = self._decide(op, state, ftype, facts)
            if decision.allowed:
                may |= op
                rules.update(m.rule for m in decision.rules if m.effect == Effect.ALLOW.value)
                required |= frozenset(decision.content)
        rules.update(m.rule for m in seen.rules if m.effect == Effect.ALLOW.value)
        if ftype is FileType.DIRECTORY and self._can_fill(state):
            may |= Op.CREATE
        return Entry(
            _path(names), ftype, may, seen.bare,
            self._engine.view(self._who, state) if ftype is FileType.REGULAR else None,
            (content(required),) if required else (), tuple(sorted(rules)), facts.kind, facts.owner,
        )  # fmt: skip

    def _can_fill(self, state: PathState) -> bool:
        """Return True if the caller may make ordinary new files or directories there."""
        new = self._engine.step(state, _NEW_NAME)
        facts = Facts(None, self._who.app or OWNER_NONE)
        file = self._decide(Op.CREATE | Op.WRITE, new, FileType.REGULAR, facts)
        return file.allowed or self._decide(Op.CREATE, new, FileType.DIRECTORY, facts).allowed

    # ---- files under redaction

    def _note(self, picture: Picture, names: tuple[bytes, ...], state: PathState, facts: Facts) -> None:
        words = self._decide(Op.READ, state, FileType.REGULAR, facts).redact
        if not words:
            return
        suffix = suffix_of(names[-1])
        picture.may_be_redacted[suffix] += 1
        found = self._candidates.setdefault(suffix, [])
        if not self._limits.samples or len(found) < self._limits.samples:
            found.append(_Found(names, state, facts, words))

    async def _sample(self, picture: Picture) -> None:
        for suffix in sorted(self._candidates):
            for found in self._candidates[suffix]:
                sample = await self._opened(found)
                if sample is not None:
                    picture.samples.append(sample)

    async def _opened(self, found: _Found) -> Sample | None:
        """Open a file as the caller would. Return the result; None if the file is gone."""
        *above, name = found.names
        try:
            inside = self._tree.open_below(self._tree.root_fd, above) if above else -1
        except OSError:
            return None
        try:
            fd = self._tree.open_file(self._tree.root_fd if inside < 0 else inside, name, os.O_RDONLY)
        except OSError:
            return None
        finally:
            if inside >= 0:
                os.close(inside)
        try:
            return await self._looked_into(found, fd)
        except ValueError:
            return None
        finally:
            os.close(fd)

    async def _looked_into(self, found: _Found, fd: int) -> Sample:
        kind, plan = await self._looker.locate(fd, found.words, lane=self._who.lane)
        decision = self._decide(
            Op.READ, found.state, FileType.REGULAR, found.facts._replace(kind=kind)
        )
        if decision.allowed and decision.redact and decision.redact != found.words:
            kind, plan = await self._looker.locate(fd, decision.redact, lane=self._who.lane)
        path, words = _path(found.names), tuple(sorted(decision.redact))
        if not decision.allowed:
            return Sample(path, kind, REFUSED, words, errno_name(decision.errno))
        if not decision.redact:
            return Sample(path, kind, UNCHANGED, (), "the rule lists this kind in raw_types")
        reason = open_refusal(decision, kind) or (plan.reason if plan.outcome is Outcome.REFUSE else "")
        if reason:
            return Sample(path, kind, REFUSED, words, reason)
        if plan.outcome is Outcome.CLEAN:
            return Sample(path, kind, UNCHANGED, words, plan.reason)
        told = {word for finding in plan.findings for word in finding.what.split(", ") if word}
        return Sample(path, kind, REDACTED, tuple(sorted(told)) or words, plan.reason)


def suffix_of(name: bytes) -> str:
    """Return the extension of a file's name in lower case, such as ``.jpg``, or an empty text."""
    stem, dot, end = name.rpartition(b".")
    return "." + end.decode("utf-8", "backslashreplace").lower() if dot and stem and len(end) <= 8 else ""


def _path(names: tuple[bytes, ...]) -> bytes:
    return b"/" + b"/".join(names)
