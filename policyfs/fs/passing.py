"""Passthrough or mediated: the choice for a node, made at its first open, and the backing ids."""

from __future__ import annotations

from collections import Counter

from policyfs.fs.nodes import Node
from policyfs.fs.openfile import Mode, OpenState
from policyfs.kernel.backing import Backing, BackingRefused


class Passing:
    """Registers backing files. backing is None where the mount was told not to pass through."""

    def __init__(self, backing: Backing | None) -> None:
        self._backing = backing
        self.why = "" if backing is not None else "switched off (--no-passthrough)"
        self.passed = 0
        self.refused: Counter[str] = Counter()

    def switch_off(self, why: str) -> None:
        """The kernel did not agree: everything is mediated, and `status` says why."""
        self._backing = None
        self.why = why

    @property
    def enabled(self) -> bool:
        """May files be passed through."""
        return self._backing is not None

    @property
    def live(self) -> int:
        """Backing ids registered now."""
        return 0 if self._backing is None else self._backing.live

    def choose(self, node: Node, state: OpenState, fd: int) -> None:
        """Set the mode of a node that is being opened; *fd* is an O_RDONLY descriptor of its bytes.

        INVARIANT: one backing id per node while any handle lives, and a node that was mediated
        once stays so: what the kernel forbids to mix would be EIO to the app.
        """
        if state.backing_id:
            return
        state.mode = Mode.MEDIATED
        if self._backing is not None and not node.mediated:
            answer = self._backing.register(fd)
            if isinstance(answer, BackingRefused):
                self.refused[answer.reason] += 1
            else:
                state.backing_id = answer
                state.mode = Mode.PASSTHROUGH
                self.passed += 1
                return
        node.mediated = True

    def release(self, state: OpenState) -> None:
        """The node's last handle is gone."""
        if state.backing_id and self._backing is not None:
            backing_id, state.backing_id = state.backing_id, 0
            self._backing.release(backing_id)
