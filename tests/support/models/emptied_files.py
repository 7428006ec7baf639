"""Files that were only emptied, where content is checked: the store keeps the old bytes for a while.

The handle that has emptied such a file sees it empty, and so may others of the same view; all others see the
old bytes. The twin keeps the old bytes, too. A write that is accepted replaces them. At the close the file
becomes empty, but not if bytes were refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from tests.support.models.name_calls import NameCalls
from tests.support.models.sequences import Step
from tests.support.models.twin_tree import WRITE, Found, Handle, Skip

_LOOKS: Final = frozenset({"content", "stat", "lstat", "access", "getxattr", "listxattr", "list", "readlink"})
"""Calls that change nothing, so that others may make them meanwhile."""


class EmptiedFiles(NameCalls):
    """The part of the reference that knows which files were only emptied: in *emptied* by inode number, with
    the mount, and whether bytes were refused since."""

    def keeps_old(self, step: Step, found: Found, flags: int) -> bool:
        """Does an open leave the old bytes in the store, although it empties the file."""
        status = found.status
        if status is None or not status.st_size or not (flags & os.O_TRUNC and flags & os.O_ACCMODE):
            return False
        node = self.node(step.mount, found.path, status)
        return self.oracles[step.mount].checks(self.uids[step.who], node)

    def let_nobody_else(self, found: Found) -> None:
        """Raise Skip for a file that others have open, or that has other names."""
        assert found.status is not None
        ino = found.status.st_ino
        if found.status.st_nlink > 1 or any(handle.ino == ino for handle in self.handles.values()):
            raise Skip

    def begin_empty(self, step: Step, ino: int) -> None:
        """A file is emptied, and keeps its old bytes."""
        self.emptied[ino] = step.mount, False

    def leave_alone(self, step: Step) -> None:
        """Raise Skip for calls on files that were only emptied, or that may move them, unless the caller is
        sure to see the old bytes."""
        if self.emptied and step.call in {"rename", "move"}:
            raise Skip
        for path in step.arguments if self.emptied else ():
            for follow in (False, True) if isinstance(path, bytes) else ():
                found = self.find(step, path, follow=follow)
                if found.status is None or found.status.st_ino not in self.emptied:
                    continue
                node = self.node(step.mount, found.path, found.status)
                alike = self.oracles[step.mount].checks(self.uids[step.who], node)
                if step.call not in _LOOKS or (step.mount == self.emptied[found.status.st_ino][0] and alike):
                    raise Skip

    def is_emptied(self, handle: Handle) -> bool:
        """Has this handle only emptied its file. Raises Skip after a reload: other rules may decide."""
        if handle.ino in self.emptied and handle.generation != self.generations[handle.mount]:
            raise Skip
        return handle.ino in self.emptied

    def seen(self, handle: Handle) -> bytes:
        """A file's bytes as this handle sees them."""
        return b"" if self.is_emptied(handle) else os.pread(handle.fd, 1 << 20, 0)

    def replaced(self, handle: Handle) -> None:
        """New bytes are accepted: the twin's old ones go."""
        if self.emptied.pop(handle.ino, None) is not None:
            os.ftruncate(handle.fd, 0)

    def replacing(self, handle: Handle, change: Callable[[], Any]) -> Callable[[], Any]:
        """The twin's part of a write that is accepted."""

        def replace() -> Any:
            self.replaced(handle)
            return change()

        return replace

    @staticmethod
    def unless_late(before: bytes, after: bytes, shows_all: bool) -> None:
        """Raise Skip for a write that may be judged a moment later (a late write)."""
        if shows_all and before and after[:16] == before[:16]:
            raise Skip

    def keep_for_good(self, handle: Handle) -> None:
        """Bytes of an emptied file were refused: its close leaves the old bytes."""
        if handle.ino in self.emptied:
            self.emptied[handle.ino] = handle.mount, True

    def empty_at_close(self, handle: Handle) -> None:
        """The twin's part of the close of an emptied file."""
        if handle.ino not in self.emptied:
            return
        _, refused = self.emptied.pop(handle.ino)
        names = self.names_of(handle.ino)
        node = self.node(handle.mount, names[0], os.fstat(handle.fd)) if names else handle.node
        may_write = self.oracles[handle.mount].decide(self.uids[handle.who], WRITE, node).allowed
        if may_write and not refused:
            os.ftruncate(handle.fd, 0)
            self.note_fd(handle.fd)
