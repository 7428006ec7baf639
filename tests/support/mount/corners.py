"""Corners: many tests on one mount, each in a directory of its own.

Starting a daemon costs about as much as a small test. Tests that need nothing of a daemon but
that it runs share one; what one of them leaves behind no other sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.mount.daemons import Mount


class Corner:
    """One directory of a running mount. store: the same directory in the store."""

    def __init__(self, mount: Mount, name: str) -> None:
        """Makes the directory in the store; everyone may pass through it."""
        self.mount = mount
        self.name = name
        self.store = mount.store / name
        self.store.mkdir(mode=0o755)

    def __truediv__(self, name: str) -> Path:
        """A path in the mount: `corner / "DCIM/a.jpg"`."""
        return self.mount / self.name / name

    @property
    def mountpoint(self) -> Path:
        """The directory in the mount."""
        return self.mount.mountpoint / self.name

    def status(self) -> dict[str, Any]:
        """The status of the mount."""
        return self.mount.status()

    def events(self, **wanted: Any) -> list[dict[str, Any]]:
        """The trail's events about this corner."""
        own = f"/{self.name}/"
        return [event for event in self.mount.events(**wanted) if event.get("path", "").startswith(own)]


class Corners:
    """Hands out the corners of one mount."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self._made = 0

    def new(self, *directories: str) -> Corner:
        """A corner that no other test has, with these directories of everybody's."""
        self._made += 1
        corner = Corner(self.mount, f"corner{self._made}")
        for name in directories:
            (corner.store / name).mkdir()
            (corner.store / name).chmod(0o777)
        return corner
