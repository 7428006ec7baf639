"""The files that `policyfs init` makes, and a list of them, by which `init --undo` removes them."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

from policyfs.cli.common.as_owner import on_file, read_file
from policyfs.cli.common.output import new_file, replace_file, write_new
from policyfs.cli.common.target_places import private_places
from policyfs.cli.owners.owner import set_owner
from policyfs.cli.setup.compose_override import Edit, Place, apply, compose_command, forget, take_back
from policyfs.cli.site.own_units import UNITS, maker
from policyfs.cli.site.site import run_down
from policyfs.cli.site.site_document import Site, read_site
from policyfs.cli.site.site_targets import remove_places
from policyfs.cli.site.site_units import remove_stale
from policyfs.domain import OWNER_NONE
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.kernel.session import unmount
from policyfs.linux.immutable import set_immutable
from policyfs.linux.interpreter import clean_environment, program
from policyfs.linux.mountinfo import ABSENT, mounts_at
from policyfs.linux.private_files import make_private
from policyfs.trail.lines.table import shown, word, words


class Override(NamedTuple):
    """A second compose file. compose: the user's own one."""

    compose: str
    place: Place


_MAX_BYTES: Final = 16 << 20
"""More than a file of this command has. A user may have put anything in its place."""
LIST: Final = ".init"
"""The suffix of the list: JSON of a _Made."""
_ENTRY: Final = re.compile(
    r"(?:([0-9a-f]{64})  (/.+?)|# policyfs owner set (.+?))\n(?=[0-9a-f]{64}  /|# policyfs owner set |\Z)",
    re.DOTALL,
)
"""An entry of a list of older versions: as sha256sum(1) writes it, or a command that undoes owners."""


class _Made(NamedTuple):
    """The contents of a list. files: SHA-256 by path. owned: each a store, and files whose owner older code
    has set. edited: each the fields of an Edit, and the compose file for which the line was changed."""

    files: dict[str, str]
    owned: Sequence[list[str]] = ()
    edited: Sequence[list[str]] = ()

    def text(self) -> str:
        return json.dumps(self._asdict(), indent=1) + "\n"


def check_absent(files: Iterable[str], listed: str) -> None:
    """Raise PolicyfsError if one of the files or their list exists: no file is overwritten."""
    undo_it = f"policyfs init --undo {word(listed)}, or " if os.path.exists(listed) else ""
    for path in filter(os.path.lexists, (*files, listed)):
        raise PolicyfsError(f"{path} is there already, and is not overwritten: {undo_it}choose another --to")


def write_all(files: Mapping[str, str], listed: str, override: Override | None = None) -> None:
    """Write new files, and last the list of them. If one cannot be written, remove the others. Raises
    PolicyfsError, also if one exists."""
    check_absent(files, listed)
    made = _Made({path: _digest(text) for path, text in files.items()}, (), _edited(override))
    try:
        make_private(os.path.dirname(listed), 0o755)
    except OSError as error:
        raise PolicyfsError(f"cannot make {os.path.dirname(listed)}: {error.strerror}") from error
    own = override.place.path if override else ""
    write_new({**{path: text for path, text in files.items() if path != own}, listed: made.text()})
    if override:
        on_file(own, lambda name: _write_for_user(name, files[own]))
        _put_in_use(override)


def rewrite(files: Mapping[str, str], listed: str, override: Override | None = None) -> None:
    """Replace the texts of files, or write new ones, and their digests in the list, if there is one. A file
    that was changed since stays one that `--undo` keeps. Raises PolicyfsError."""
    made = _read(listed) if os.path.exists(listed) else _Made({})
    try:
        for path, text in files.items():
            if on_file(path, partial(_rewrite, text, made.files.get(path, ""))):
                made.files[path] = _digest(text)
        made = made._replace(edited=[*made.edited, *_edited(override)])
        replace_file(Path(listed), made.text().encode())
    except OSError as error:
        raise PolicyfsError(f"cannot write {error.filename}: {error.strerror}") from error
    if override:
        _put_in_use(override)


def _write_for_user(name: str, text: str) -> None:
    with new_file(name, 0o644) as fd, open(fd, "wb", closefd=False) as file:
        file.write(text.encode())


def _rewrite(text: str, digest: str, name: str) -> bool:
    """Replace the text of a file, or write a new one. Return True if it was as its digest says."""
    try:
        before = read_file(name, _MAX_BYTES)
    except FileNotFoundError:
        _write_for_user(name, text)
        return True
    replace_file(Path(name), text.encode(), known=before)
    return hashlib.sha256(before).hexdigest() == digest


def _edited(override: Override | None) -> list[list[str]]:
    edit = override.place.edit if override else None
    return [[*edit, override.place.path]] if override and edit else []


def _put_in_use(override: Override) -> None:
    """Let Compose find the second compose file. Raises PolicyfsError."""
    if edit := override.place.edit:
        on_file(edit.path, lambda name: apply(edit._replace(path=name)))


def files_in(listed: str) -> list[str]:
    """Return the files that a list names; none if there is no list. Raises PolicyfsError."""
    return list(_read(listed).files) if os.path.exists(listed) else []


def own_files(directory: str) -> list[str]:
    """Return the files that all lists in a directory name."""
    found: list[str] = []
    for path in sorted(Path(directory).glob(f"*{LIST}")):
        with contextlib.suppress(PolicyfsError):  # another file with such a name
            found += files_in(str(path))
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(listed: str) -> _Made:
    """Return the contents of a list. Raises PolicyfsError if it cannot be read, or is none."""
    try:
        text = Path(listed).read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise PolicyfsError(f"cannot read {listed}: {error.strerror}; it is a file NAME{LIST}") from error
    try:
        made = _Made(**json.loads(text)) if text.startswith("{") else _of_entries(text)
        texts = [*made.files, *made.files.values(), *(one for row in made.owned for one in row)]
        texts += [one for row in made.edited for one in row]
        is_right = all(isinstance(one, str) for one in texts) and all(len(row) > 1 for row in made.owned)
        is_right = is_right and all(len(row) == len(Edit._fields) + 1 for row in made.edited)
    except (AttributeError, RecursionError, TypeError, ValueError):
        made, is_right = _Made({}), False
    if not listed.endswith(LIST) or not is_right:
        raise PolicyfsError(f"{listed} is no list of `policyfs init`; it is a file NAME{LIST}")
    return made


def _of_entries(text: str) -> _Made:
    """Return the contents of a list of an older version. Raises ValueError."""
    owned: list[list[str]] = []
    made, at = _Made({}, owned), 0
    while entry := _ENTRY.match(text, at):
        digest, path, command = entry.groups()
        if command:
            store, _, *paths = shlex.split(command)
            owned.append([store, *paths])
        else:
            made.files[path] = digest
        at = entry.end()
    if at < len(text) or not made.files:
        raise ValueError("an entry is wrong")
    return made


def _disown(store: str, paths: Sequence[str]) -> int:
    there = [path for path in paths if os.path.lexists(os.path.join(store, path.lstrip("/")))]
    if not there:
        return EXIT_OK
    return set_owner(argparse.Namespace(
        store=store, app=OWNER_NONE, paths=there, recursive=False, dry_run=False, trail=None
    ))  # fmt: skip


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
    changed since stay. Print what is left to do. Return 1 if some files stayed."""
    files, owned, edited = _read(listed)
    units: list[str] = []
    for path in files:
        if path.endswith(".site.yaml") and os.path.exists(path):
            site = read_site(path)
            _unmount(site)
            units += [unit for mount in site.mounts for unit in mount.service]
    failed = [one for one in owned if _disown(one[0], one[1:])]
    kept = []
    for *fields, own in edited:
        edit = Edit(*fields)
        if _there(edit.path, partial(_taken_back, edit, os.path.basename(own))) is False:
            print(f"kept {shown(edit.path)}: COMPOSE_FILE was changed after `policyfs init`")
    for path, digest in files.items():
        removed = _there(path, partial(_remove, digest))
        if removed:
            print(f"removed {shown(path)}")
        elif removed is False:
            kept.append(path)
    os.unlink(listed)
    for path in kept:  # the user's work, as what `policyfs tighten` makes of a policy
        copies = sorted(map(str, Path(path).parent.glob(f"{escape(os.path.basename(path))}.20*T*")))
        remedy = f"{words('rm', path, *copies)} removes it{' and its old copies' if copies else ''}"
        print(f"kept {shown(path)}: it was changed after `policyfs init`, so it is yours; {remedy}")
    if units:
        print(f"next: {words('systemctl', 'restart', *units)}")
    for path in files:
        if path.endswith(".yml") and path not in kept:
            print(f"next: in {shown(os.path.dirname(path))}, {compose_command()} up -d")
    for store, *paths in failed:
        print(f"not done: {words('policyfs', 'owner', 'set', store, OWNER_NONE, *paths)}")
    return EXIT_REFUSED if kept or failed else EXIT_OK


def _there(path: str, work: Callable[..., object]) -> Any:
    """Do work in the directory of a file. Return None if there is no directory any more."""
    try:
        return on_file(path, work)
    except FileNotFoundError:
        return None


def _taken_back(edit: Edit, own: str, name: str) -> bool:
    return take_back(edit._replace(path=name), own)


def _remove(digest: str, name: str) -> bool | None:
    """Remove a file, and its name from COMPOSE_FILE. Return False if it was changed, None if it is gone."""
    try:
        data = read_file(name, _MAX_BYTES)
    except FileNotFoundError:
        return None
    if hashlib.sha256(data).hexdigest() != digest:
        return False
    os.unlink(name)
    if name.endswith(".yml"):
        forget(name)
    return True


def _unmount(site: Site) -> None:
    """End all mounts of a site, and remove its units and mountpoints. Raises PolicyfsError if one is used."""
    target = Path(UNITS, site.target)
    if target.exists() and maker(target) == os.path.realpath(site.file):
        systemctl("disable", site.target)
        # The stop of the target ends them all, but does not wait for that.
        mounts = {site.unit(mount) for mount in site.mounts}
        systemctl("stop", site.target, *sorted(name for name in mounts if Path(UNITS, name).exists()))
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
        remove_places(mount)
        os.rmdir(mount.at)
        os.rmdir(above)
    with contextlib.suppress(OSError):  # a mount that was added later is there
        os.rmdir(os.path.join(private_places(), site.name))
