"""The guard of writes under redaction: an app may change a part of a file only if the whole file is its own.

That is while the app owns the file, or after it emptied it, until another program writes it (Handle.seen;
docs/policy-language.md, "Redaction"). So there is a check before each change, and a note after it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from policyfs.domain import Audit, Decision
from policyfs.fs.access.audit import Call
from policyfs.fs.access.views import version_of
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import Node
from policyfs.fs.kernel_cache.forgetting import KernelCache
from policyfs.linux.statx import Stat
from policyfs.store.frozen import Version

_NOT_ALL_ITS_OWN: Final = (
    "data in this file is hidden from the app, and other programs wrote a part of the file: the app must"
    " empty the file first (O_TRUNC)"
)


class WriteGuard(FsPart):
    """The part of a mount that checks before each change of a file's bytes, and notes the change after it."""

    def __init__(self, fs: FsContext, cache: KernelCache) -> None:
        super().__init__(fs)
        self._cache = cache

    def fence(self, handle: Handle, size: int | None = None, *, back: bool = False) -> Callable[[], None]:
        """Return a check that refuses a write, or a truncation to *size*, that redaction forbids now, and
        raises PolicyChangedError after a reload. INVARIANT: it runs right before the change, with no await in
        between, or only the version that it saw is changed (DirectWrites).

        back: the kernel writes back a mapped page, which may hold neutral bytes, as shown instead of hidden
        data: even the owner must not store these."""

        generation = self._gate.generation

        def check() -> None:
            self._gate.unchanged(generation)
            if why := self._why_not(handle, size, back=back):
                refusal = Decision(allowed=False, errno=errno.EACCES, audit=Audit.REQUIRED)
                self._gate.refuse(
                    handle.caller, Call("write", "write"), handle.node.path(), refusal, note=why
                )

        return check

    def _why_not(self, handle: Handle, size: int | None, *, back: bool) -> str:
        """Return the reason to refuse a change now, as the trail has it (docs/audit.md, `note`), or ""."""
        if size == 0 or not self.may_hide(handle):
            return ""
        stat = self._tree.fstat(handle.fd)
        # An empty file has nobody's bytes, also while the release of an earlier writer empties it.
        wrote_all = handle.emptied and (not stat.size or handle.seen == version_of(stat))
        # If another view has a writer, its bytes between two checks would count as bytes of this app.
        if wrote_all and not self.written_elsewhere(handle.node):
            return ""
        if (not back and self._is_own(handle, stat)) or not self._gate.hidden_words(handle):
            return ""
        return _NOT_ALL_ITS_OWN

    def may_hide(self, handle: Handle) -> bool:
        """Return True if the view, or a newer policy, may hide a part of the file. The loop then makes the
        write itself, right after the fence. (So after a reload only if it hides words: a store that hangs
        would stop the mount.)"""
        if not self._counts_bytes(handle):
            return False
        engine, who = self._gate.engine, handle.caller.principal
        return bool(handle.node.view.redact) or any(
            engine.view(who, state).redact for state in handle.node.states()
        )

    def written_elsewhere(self, node: Node) -> bool:
        """Return True if another view of the file has a writer now."""
        return any(
            sibling is not node and sibling.open is not None and sibling.open.writers > 0
            for sibling in self._nodes.same_inode(node.ino)
        )

    def emptied(self, handle: Handle) -> None:
        """Note that the app emptied the file: all later bytes of the file come from this app."""
        handle.emptied = handle.emptied or self._counts_bytes(handle)

    def _counts_bytes(self, handle: Handle) -> bool:
        """Return True if it matters who emptied the file: in a redacted view, and after a reload."""
        return bool(handle.node.view.redact) or handle.generation != self._gate.generation

    def dropped(self, node: Node) -> None:
        """Make the kernel drop a node's pages and attributes: held bytes were dropped, or changed."""
        self._cache.drop_pages(node.nodeid)

    def wrote(self, handle: Handle, version: Version | None = None, *, counts: bool = True) -> None:
        """Note a change of the store's file, and drop the kernel's pages and attributes of its other nodes.

        version: right after a thread's change; None: now. It does not count if another view got a writer
        meanwhile, unless the file is empty. counts: False after a thread's change without a version: others
        may have written since (only where nothing is hidden; later the app must first empty the file)."""
        version = version or version_of(self._tree.fstat(handle.fd))
        node = handle.node
        is_own = counts and (not version.size or not self.written_elsewhere(node))
        for other in self._handles.of_node(node):
            if other.emptied:
                other.seen = version if is_own else None
        for sibling in self._nodes.same_inode(node.ino):
            if sibling is not node and sibling.lookups:
                self._cache.drop_pages(sibling.nodeid)

    def _is_own(self, handle: Handle, stat: Stat) -> bool:
        """Return True if the app owns the file now. An open for writing by any other caller ends this."""
        app = handle.caller.principal.app
        return app is not None and self._gate.facts.owners.get(handle.fd, stat) == app
