"""The files that `policyfs init` makes, and a list of them, by which `init --undo` removes them."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from policyfs.cli.common.output import write_new
from policyfs.cli.site.site import run_down
from policyfs.cli.site.site_document import Site, private_places, read_site
from policyfs.cli.site.site_units import UNITS, remove_stale
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.kernel.session import unmount
from policyfs.linux.immutable import set_immutable
from policyfs.linux.interpreter import clean_environment, program
from policyfs.linux.mountinfo import ABSENT, mounts_at
from policyfs.linux.private_files import make_private

LIST: Final = ".init"
"""The suffix of the list: lines as sha256sum(1) writes them."""
_LINE: Final = re.compile("([0-9a-f]{64})  (/.+)")


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
    """Unmount and remove all that `policyfs init` has made. Files that were changed since stay. Return 1 if
    some did."""
    try:
        lines = Path(listed).read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise PolicyfsError(f"cannot read {listed}: {error.strerror}; it is a file NAME{LIST}") from error
    found = [_LINE.fullmatch(line) for line in lines]
    if not listed.endswith(LIST) or None in found:
        raise PolicyfsError(f"{listed} is no list of `policyfs init`; it is a file NAME{LIST}")
    files = {line[2]: line[1] for line in found if line is not None}
    sites = [path for path in files if path.endswith(".site.yaml") and os.path.exists(path)]
    for path in sites:
        _unmount(read_site(path))
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
    return EXIT_REFUSED if kept else EXIT_OK


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
