"""A layer on disk: a directory of this user, or root, in which ``top`` belongs to the command's user.

``about.json`` has the options of the command, ``states`` what was below the layer's objects when the command
ended (changes.py), ``journal`` the paths of a commit under way (replay.py), ``policy.yaml`` the policy if no
file was named.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO, Any, Final, Self

from policyfs.cli.common.output import write_private
from policyfs.cli.layers.changes import Before, read_states
from policyfs.cli.layers.replay import read_journal
from policyfs.errors import PolicyfsError, UsageError
from policyfs.journal.files.directories import layers_directory
from policyfs.linux.interpreter import PATH
from policyfs.linux.private_files import make_private
from policyfs.trail.lines.table import shown

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST: Final = 1000
_WAIT_S: Final = 5.0
_PAUSE_S: Final = 0.02
_MOST_TOLD: Final = 500


class Layer:
    """An opened layer, which no other command uses meanwhile. about: the options of its command, and more."""

    def __init__(self, place: Path) -> None:
        """Open and lock a layer. Raises PolicyfsError."""
        self.place, self.name = place, place.name
        try:
            self._lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._wait_for_lock()
            about = place / "about.json"
            self.about: dict[str, Any] = json.loads(about.read_bytes()) if about.exists() else {}
        except BlockingIOError as error:
            raise PolicyfsError(f"another command uses the layer {place.name}: wait for its end") from error
        except FileNotFoundError as error:
            raise PolicyfsError(f"there is no layer {place.name}; `policyfs try list` shows them") from error
        except (OSError, ValueError) as error:
            raise PolicyfsError(f"the layer {place} cannot be read: {error}") from error

    def _wait_for_lock(self) -> None:
        """Lock the layer. The processes of a command that was killed keep its lock until they have ended."""
        until_s = time.monotonic() + _WAIT_S
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(_PAUSE_S)

    @classmethod
    def made(cls, name: str | None, app: str) -> Self:
        """Open a layer, and make it if it is new. name: None for the first free one of the app. Raises
        PolicyfsError."""
        root = layers_directory()
        if name is not None and not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a layer: use letters, digits, dots and dashes")
        try:
            make_private(root)
            for number in range(_MOST):
                place = root / (name or f"{app}-{number}")
                if name is None and place.exists():
                    continue
                make_private(place)
                return cls(place)
        except OSError as error:
            raise PolicyfsError(f"a layer cannot be made in {root}: {error.strerror}") from error
        raise PolicyfsError(f"there are {_MOST} layers of {app}: commit or drop some")

    def make_directories(self, uid: int, gid: int) -> None:
        """Make the directories of the command's user. Raises OSError."""
        for name in ("top", "top/upper", "top/work", "top/lower"):
            place = self.place / name
            if not place.exists():
                place.mkdir()
                place.chmod(0o755 if name == "top/upper" else 0o700)  # upper: as the command sees the store
                os.chown(place, uid, gid)

    @property
    def top(self) -> str:
        """The directory with upper, work and lower."""
        return str(self.place / "top")

    def opened(self, name: str) -> IO[str]:
        """Open a file of the layer for reading and writing, and make it if it is missing."""
        fd = os.open(self.place / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return open(fd, "r+", encoding="ascii")

    def note(self, **more: object) -> None:
        """Keep more about the layer."""
        self.about |= more
        write_private(str(self.place / "about.json"), json.dumps(self.about))

    def write_policy(self, text: str) -> str:
        """Keep a policy in the layer. Return its path."""
        path = str(self.place / "policy.yaml")
        write_private(path, text)
        return path

    def states(self) -> dict[bytes, Before]:
        """Return the states below the objects that are in the layer now."""
        upper = os.path.join(os.fsencode(self.top), b"upper")
        with self.opened("states") as lines:
            found = read_states(lines)
        return {path: found[path] for path in found if os.path.lexists(os.path.join(upper, path))}

    def interrupted(self) -> int:
        """The number of paths that an interrupted commit was changing."""
        with self.opened("journal") as journal:
            return len(read_journal(journal.fileno()))

    def is_full(self) -> bool:
        """Return True if the disk of the layer has no room for a block more. Raises OSError."""
        return os.statvfs(self.place).f_bavail == 0

    def drop_if_empty(self) -> bool:
        """Remove the layer if it has no change. Return True if it has one. Raises PolicyfsError."""
        upper = self.place / "top/upper"
        if upper.is_dir() and any(upper.iterdir()):
            return True
        self._forget()
        try:
            shutil.rmtree(self.place)  # without a child: the process namespace of an ordinary user has ended
        except OSError as error:
            raise PolicyfsError(f"the layer {self.place} cannot be removed: {error.strerror}") from error
        return False

    def drop(self) -> None:
        """Remove the layer. Raises PolicyfsError."""
        self._forget()
        words = ["rm", "-rf", "--", str(self.place)]  # at any depth, unlike shutil.rmtree()
        done = subprocess.run(words, capture_output=True, env={"PATH": PATH, "LC_ALL": "C"}, check=False)
        if done.returncode:
            told = shown(os.fsdecode(done.stderr[:_MOST_TOLD].strip()))
            raise PolicyfsError(f"the layer {self.place} cannot be removed: {told}")

    def _forget(self) -> None:
        """Make of the layer a directory that is none any more."""
        with contextlib.suppress(FileNotFoundError):
            (self.place / "about.json").unlink()

    def close(self) -> None:
        """Let others use the layer."""
        os.close(self._lock)


def names() -> list[str]:
    """Return the names of all layers."""
    root = layers_directory()
    return sorted(place.parent.name for place in root.glob("*/about.json")) if root.is_dir() else []


def named(name: str | None) -> Layer:
    """Open the layer of a name; None: the only one. Raises PolicyfsError."""
    known = names()
    if name is None and len(known) != 1:
        raise UsageError(f"name one of the layers {', '.join(known)}" if known else "there is no layer")
    return Layer(layers_directory() / (name or known[0]))
