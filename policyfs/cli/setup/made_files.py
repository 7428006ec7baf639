"""The files that `policyfs init` makes, and a list of them, by which `init --undo` removes them."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from policyfs.cli.common.output import write_new
from policyfs.cli.owners.owner import set_owner
from policyfs.cli.site.site import run_down
from policyfs.cli.site.site_document import Site, private_places, read_site
from policyfs.cli.site.site_units import UNITS, remove_stale
from policyfs.domain import OWNER_NONE
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.kernel.session import unmount
from policyfs.linux.immutable import set_immutable
from policyfs.linux.interpreter import clean_environment, program
from policyfs.linux.mountinfo import ABSENT, mounts_at
from policyfs.linux.private_files import make_private

LIST: Final = ".init"
"""The suffix of the list: lines as sha256sum(1) writes them; comments are commands that undo owners."""
_LINE: Final = re.compile("([0-9a-f]{64})  (/.+)")
_DISOWN: Final = ("policyfs", "owner", "set")


def check_absent(files: Iterable[str], listed: str) -> None:
    """Raise PolicyfsError if one of the files or their list exists: no file is overwritten."""
    undo_it = f"policyfs init --undo {shlex.quote(listed)}, or " if os.path.exists(listed) else ""
    for path in filter(os.path.lexists, (*files, listed)):
        raise PolicyfsError(f"{path} is there already, and is not overwritten: {undo_it}choose another --to")


def write_all(files: Mapping[str, str], listed: str) -> None:
    """Write new files, and last the list of them. If one cannot be written, remove the others. Raises
    PolicyfsError, also if one exists."""
    check_absent(files, listed)
    digests = (f"{hashlib.sha256(text.encode()).hexdigest()}  {path}\n" for path, text in files.items())
    every = {**files, listed: "".join(digests)}
    try:
        make_private(os.path.dirname(listed), 0o755)
    except OSError as error:
        raise PolicyfsError(f"cannot make {os.path.dirname(listed)}: {error.strerror}") from error
    write_new(every)


def own(store: str, app: str, paths: Sequence[str], listed: str) -> int:
    """Make *app* the owner of files, and note in the list how to undo this. Return an exit status."""
    with open(listed, "a", encoding="utf-8") as file:
        file.write(f"# {shlex.join([*_DISOWN, store, OWNER_NONE, *paths])}\n")
    return _give(store, app, paths)


def _give(store: str, app: str, paths: Sequence[str]) -> int:
    return set_owner(argparse.Namespace(
        store=store, app=app, paths=paths, recursive=False, dry_run=False, trail=None
    ))  # fmt: skip


def _words(command: str) -> list[str]:
    """Return the arguments of a command in a comment of the list: store, app, paths; none if it is wrong."""
    try:
        words = shlex.split(command)[len(_DISOWN) :]
    except ValueError:  # a quote without its end
        return []
    return words if len(words) > 2 else []


def _disown(words: Sequence[str]) -> int:
    """Take the owners of files away that are still there. words: store, app, paths."""
    store, _, *paths = words
    there = [path for path in paths if os.path.lexists(os.path.join(store, path.lstrip("/")))]
    return _give(store, OWNER_NONE, there) if there else EXIT_OK


def systemctl(*words: str) -> None:
    """Run systemctl(1), if systemd runs this machine. Raises PolicyfsError if it fails."""
    if has_systemd():
        done = subprocess.run(
            [program("systemctl") or "/bin/systemctl", *words], env=clean_environment(), text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise PolicyfsError(f"systemctl {' '.join(words)}: {done.stderr.strip()}")


def has_systemd() -> bool:
    """Return True if systemd is the first process of this machine (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def undo(listed: str) -> int:
    """Unmount and remove all that `policyfs init` has made, and the owners that it has set. Files that were
    changed since stay. Return 1 if some did."""
    try:
        lines = Path(listed).read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise PolicyfsError(f"cannot read {listed}: {error.strerror}; it is a file NAME{LIST}") from error
    begin = f"# {shlex.join(_DISOWN)} "
    owned = {line[2:]: _words(line[2:]) for line in lines if line.startswith(begin)}
    found = [_LINE.fullmatch(line) for line in lines if not line.startswith(begin)]
    if not listed.endswith(LIST) or None in found or not all(owned.values()):
        raise PolicyfsError(f"{listed} is no list of `policyfs init`; it is a file NAME{LIST}")
    files = {line[2]: line[1] for line in found if line is not None}
    sites = [path for path in files if path.endswith(".site.yaml") and os.path.exists(path)]
    for path in sites:
        _unmount(read_site(path))
    failed = [command for command, words in owned.items() if _disown(words)]
    kept = []
    for path, digest in files.items():
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            continue
        if hashlib.sha256(data).hexdigest() == digest:
            os.unlink(path)
            print(f"removed {path}")
        else:
            kept.append(path)
    os.unlink(listed)
    for path in kept:
        print(f"kept {path}: it was changed after `policyfs init`")
    for command in failed:
        print(f"not done: {command}")
    return EXIT_REFUSED if kept or failed else EXIT_OK


def _unmount(site: Site) -> None:
    """End all mounts of a site, and remove its units and mountpoints. Raises PolicyfsError if one is used."""
    if os.path.exists(os.path.join(UNITS, site.target)):
        systemctl("disable", "--now", site.target)
        remove_stale(Path(UNITS), (), site)
        systemctl("daemon-reload")
    if run_down(argparse.Namespace(site=site.file, lazy=False)):
        raise PolicyfsError("end the programs that use these mounts, and try again; nothing was removed")
    for mount in site.mounts:
        above = os.path.dirname(mount.at)
        if not above.startswith(f"{private_places()}/") or not os.path.isdir(above):
            continue
        set_immutable(above, immutable=False)
        if (there := mounts_at(mount.at)) and there[-1].fstype == ABSENT:
            unmount(mount.at)
        for name in mount.directories:
            if os.path.islink(os.path.join(above, name)):
                os.unlink(os.path.join(above, name))
        os.rmdir(mount.at)
        os.rmdir(above)
    with contextlib.suppress(OSError):  # a mount that was added later is there
        os.rmdir(os.path.join(private_places(), site.name))
