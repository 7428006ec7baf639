"""The start of a mount by a command: who starts it, with which options, and the record if it fails."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import Final

from policyfs.cli.on_record import record, starter, trail_root
from policyfs.daemon import control
from policyfs.errors import PolicyfsError
from policyfs.linux.mountinfo import resolve

_NOT_OPTIONS: Final = frozenset({"run", "command", "kept"})


def options_of(args: argparse.Namespace) -> dict[str, object]:
    """Return all arguments of a command, also defaults, as a dictionary from names to values."""
    return {name: value for name, value in vars(args).items() if name not in _NOT_OPTIONS}


class Start:
    """One start of a mount, from the command until the mount answers or the start fails.

    root: the trail root (the directory of all trails). told: the fields about the caller and the options, for
    the trail's record of the start or of its failure.
    """

    def __init__(self, root: Path, told: dict[str, object], mountpoint: str, places: list[str]) -> None:
        self.root = root
        self.told = told
        self._mountpoint = mountpoint
        self._places = places
        self._is_over = False

    @classmethod
    def of(cls, args: argparse.Namespace) -> Start:
        """Return the start that a command line describes."""
        root = Path(trail_root(args.trail)).absolute()
        try:  # a dead mount may be there: it does not answer stat
            mountpoint = resolve(args.mountpoint)
        except OSError:
            mountpoint = os.path.abspath(args.mountpoint)
        places = [os.path.realpath(args.store), mountpoint]
        told = {"options": options_of(args), **starter(f"policyfs {args.command}")}
        return cls(root, told, mountpoint, places)

    def answered(self) -> None:
        """Note that the mount answers. If the daemon fails later, that is not a failed start."""
        self._is_over = True

    def failed(self, reason: str) -> None:
        """Write on the trail that the mount did not start. Never raises. Only the first call writes.

        Nothing is written after answered(), without a trail root, or if the trail root is inside the store or
        the mountpoint.
        """
        root = os.path.realpath(self.root)
        inside = any(root == place or root.startswith(place.rstrip("/") + "/") for place in self._places)
        if self._is_over or inside or not os.path.isdir(root):
            return
        self._is_over = True
        with contextlib.suppress(PolicyfsError, OSError):
            name = control.mount_id(self._mountpoint)
            end: dict[str, object] = {"cause": "error", "how": "the mount did not start"}
            record(self.root, name, "failed", {"reason": reason, **self.told}, end=end)
