"""What people's programs do in a day, in a mount and in a plain directory: both must come to the same.

Each program works at a desk and returns what it found there. Servers are in day_servers.py.
"""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.support.machine.processes import call_as, tool_as
from tests.support.models.trees import inventory, make_tree

TOOL_S: Final = 200.0
_OLD_S: Final = 1_234_567_890


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a program works. place: in a mount or a plain directory, empty. aside: outside, for all else.

    uid: whose both are. media: one of each kind of file, by name.
    """

    place: Path
    aside: Path
    uid: int
    media: Mapping[str, Path]

    def tool(self, *command: str | os.PathLike[str], cwd: Path | None = None, **more: Any) -> bytes:
        """The output of a tool that must succeed and has nothing to complain of."""
        where = self.place if cwd is None else cwd
        done: subprocess.CompletedProcess[bytes] = tool_as(
            self.uid, *command, cwd=where, check=True, deadline_s=TOOL_S, **more
        )
        assert not done.stderr, (command, done.stderr[-1000:])
        return done.stdout

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns as the plain uid."""
        return call_as(self.uid, function, *arguments, deadline_s=TOOL_S)

    def make_library(self, directory: Path, shape: int = 0) -> None:
        """Fill a directory with photos, films and sounds, as a library has them; shape: another one."""
        contents = {name: path.read_bytes() for name, path in self.media.items() if path.is_file()}
        self.call(_make_library, directory, contents, shape)


def _make_library(directory: Path, contents: dict[str, bytes], shape: int) -> None:
    for number, (name, data) in enumerate(sorted(contents.items())):
        where = directory / f"Album {number % 4 + shape} été"
        where.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(data)
        os.utime(where / name, (_OLD_S, _OLD_S + number))
    for path in (directory, *directory.iterdir()):
        if path.is_dir():
            os.utime(path, (_OLD_S, _OLD_S))


def digests(directory: Path) -> dict[str, str]:
    """Of every file below a directory, by path relative to it."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest() for path in paths}


def _tree(desk: Desk) -> Path:
    """A tree outside with everything that copying must carry over."""
    tree = desk.aside / "tree"
    desk.call(os.mkdir, tree)
    desk.call(make_tree, tree)
    return tree


def unzip(desk: Desk) -> Any:
    """unzip of a library, and unzip -t of the archive from within the place."""
    library = desk.aside / "library"
    desk.make_library(library)
    desk.call(_zip, library, desk.place / "library.zip")
    assert b"No errors detected" in desk.tool("unzip", "-tq", "library.zip")
    desk.tool("unzip", "-q", "library.zip", "-d", "unpacked", environment={"TZ": "UTC"})
    assert desk.call(digests, desk.place / "unpacked") == desk.call(digests, library)
    return desk.call(inventory, desk.place / "unpacked")


def _zip(library: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(library.rglob("*")):
            name = str(path.relative_to(library)) + "/" * path.is_dir()
            info = zipfile.ZipInfo(name, (2024, 5, 1, 12, 0, 0))
            info.external_attr = path.stat().st_mode << 16
            file.writestr(info, b"" if path.is_dir() else path.read_bytes())


def restic(desk: Desk) -> Any:
    """restic: a repository in the place, of a tree outside; and one outside, of a library in the place."""
    tree, library = _tree(desk), desk.place / "library"
    desk.make_library(library)
    base = ("restic", "--quiet", "--no-cache")
    secret = {"RESTIC_PASSWORD": "words"}
    inside, outside = desk.place / "repository", desk.aside / "repository"
    found = []
    for repository, source, back in (
        (inside, tree, desk.place / "back"), (outside, library, desk.aside / "back")
    ):  # fmt: skip
        here = (*base, "--repo", repository)
        desk.tool(*here, "init", environment=secret)
        desk.tool(*here, "backup", ".", cwd=source, environment=secret)
        desk.tool(*here, "backup", ".", cwd=source, environment=secret)
        desk.tool(*here, "forget", "--keep-last", "1", "--prune", environment=secret)
        desk.tool(*here, "check", "--read-data", environment=secret)
        desk.tool(*here, "restore", "latest", "--target", back, environment=secret)
        assert desk.call(inventory, back) == desk.call(inventory, source)
        found.append(desk.call(inventory, back))
    return found


def borg(desk: Desk) -> Any:
    """borg: likewise, with its own checks."""
    tree, library = _tree(desk), desk.place / "library"
    desk.make_library(library)
    own = {"BORG_BASE_DIR": str(desk.aside), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    found = []
    for repository, source, back in (
        (desk.place / "repository", tree, desk.place / "back"),
        (desk.aside / "repository", library, desk.aside / "back"),
    ):
        desk.tool("borg", "init", "--encryption=none", repository, environment=own)
        for name in ("monday", "tuesday"):
            desk.tool("borg", "create", f"{repository}::{name}", ".", cwd=source, environment=own)
        desk.tool("borg", "delete", f"{repository}::monday", environment=own)
        desk.tool("borg", "compact", repository, environment=own)
        desk.tool("borg", "check", "--verify-data", repository, environment=own)
        desk.call(os.mkdir, back)
        desk.tool("borg", "extract", f"{repository}::tuesday", cwd=back, environment=own)
        assert desk.call(inventory, back) == desk.call(inventory, source)
        found.append(desk.call(inventory, back))
    return found
