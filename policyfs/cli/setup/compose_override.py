"""A second compose file beside the user's own, which Compose reads by itself; if another is there already,
by COMPOSE_FILE in the file `.env`."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.common.as_owner import read_file
from policyfs.cli.common.output import replace_file
from policyfs.cli.site.compose_project import NAMES, OVERRIDES
from policyfs.errors import PolicyfsError
from policyfs.linux.interpreter import clean_environment, program

_OWN: Final = "docker-compose.override.yml"
"""Docker's Compose of every version reads it, and podman-compose."""
_LINE: Final = re.compile(r"^[ \t]*(?:export[ \t]+)?COMPOSE_FILE=(.*)$", re.MULTILINE)
_MAX_BYTES: Final = 1 << 20
_MOST_S: Final = 10.0
_FILE: Final = "file"


class Edit(NamedTuple):
    """A line of a file `.env`: what it was (empty: there was none), and what it is now. added: what was added
    before it: the end of another line, or ``file`` if the file was made for it."""

    path: str
    before: str
    after: str
    added: str = ""


class Place(NamedTuple):
    """The place of a second compose file. edit: of `.env`, if it needs one. is_read: False if Compose does
    not read it by itself, since the user's own file must be named, too."""

    path: str
    edit: Edit | None
    is_read: bool


def is_old_compose() -> bool:
    """Return True if this machine has only docker-compose 1, a script of Python."""
    docker, old = program("docker"), program("docker-compose")
    if docker:
        words = [docker, "compose", "version"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                words, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=True,
                timeout=_MOST_S,
            )  # fmt: skip
            return False
    try:
        with open(old or "/dev/null", "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def compose_command() -> str:
    """Return the command of this machine's Compose."""
    return "docker-compose" if is_old_compose() else "docker compose"


def files_of(compose: str) -> list[str]:
    """Return the files that Compose reads together with a compose file in its directory, in order."""
    above, name = os.path.split(os.path.abspath(compose))
    named = _named(above)
    if name in named:
        return [os.path.join(above, one) for one in named]
    others = [one for one in OVERRIDES if os.path.exists(os.path.join(above, one))]
    return [os.path.join(above, one) for one in (name, *others[: name in NAMES])]


def place_for(compose: str, site: str) -> Place:
    """Return where to write the volumes of a site, so that a plain `docker compose up` has them. Raises
    PolicyfsError."""
    above, name = os.path.split(os.path.abspath(compose))
    named, read = _named(above), [os.path.basename(one) for one in files_of(compose)]
    if not named and len(read) == 1 and name in NAMES:
        return Place(os.path.join(above, _OWN), None, is_read=True)
    own = f"policyfs-{site}.yml"
    if name not in (named or NAMES):
        return Place(os.path.join(above, own), None, is_read=False)
    env = os.path.join(above, ".env")
    text = _text(env)
    line = f"COMPOSE_FILE={_separator(text).join([*(named or read), own])}"
    if found := list(_LINE.finditer(text)):
        edit = Edit(env, found[-1][0], line)
    else:
        ended = "" if not text or text.endswith("\n") else "\n"
        edit = Edit(env, "", line, ended if os.path.exists(env) else _FILE)
    return Place(os.path.join(above, own), edit, is_read=True)


def apply(edit: Edit) -> None:
    """Change the line. Raises PolicyfsError and OSError."""
    text = _text(edit.path)
    added = f"{text}{edit.added.removeprefix(_FILE)}{edit.after}\n"
    _write(edit, text, _replaced(text, edit.before, edit.after) if edit.before else added)


def take_back(edit: Edit, own: str) -> bool:
    """Take the change of a line back. If the user has changed this line since, only the name of the file
    *own* is taken out of it. Return True if all is as before. Raises PolicyfsError and OSError."""
    text = _text(edit.path)
    found = list(_LINE.finditer(text))
    if not found or found[-1][0] == edit.before:
        return True
    if found[-1][0] == edit.after and not edit.before:
        head, tail = text[: found[-1].start()], text[found[-1].end() :].removeprefix("\n")
        new = head if tail else head.removesuffix(edit.added or "\0")
        if edit.added == _FILE and not new + tail:
            os.unlink(edit.path)
        else:
            _write(edit, text, new + tail)
        return True
    if found[-1][0] == edit.after:
        _write(edit, text, _replaced(text, edit.after, edit.before))
        return True
    forget(own)
    return False


def forget(own: str) -> None:
    """Take the name of a second compose file out of COMPOSE_FILE, also if it was named for another library.
    Raises PolicyfsError and OSError."""
    above, name = os.path.split(own)
    env, named = os.path.join(above, ".env"), list(_named(above))
    if name in named:
        text = _text(env)
        line = list(_LINE.finditer(text))[-1][0]
        named.remove(name)
        new = f"COMPOSE_FILE={_separator(text).join(named)}"
        _write(Edit(env, line, new), text, _replaced(text, line, new))


def _replaced(text: str, before: str, after: str) -> str:
    at = [match.start() for match in _LINE.finditer(text) if match[0] == before][-1]
    return text[:at] + after + text[at + len(before) :]


def _named(above: str) -> Sequence[str]:
    """Return the files that COMPOSE_FILE in `.env` names."""
    text = _text(os.path.join(above, ".env"))
    found = list(_LINE.finditer(text))
    names = found[-1][1].strip().strip("'\"").split(_separator(text)) if found else []
    return [name for name in names if name]


def _separator(text: str) -> str:
    found = re.findall(r"^[ \t]*COMPOSE_PATH_SEPARATOR=[ \t]*(\S+)[ \t]*$", text, re.MULTILINE)
    return str(found[-1]).strip("'\"") if found else ":"


def _text(path: str) -> str:
    """Return the text of a file `.env`; empty if there is none. Raises PolicyfsError, also for a symlink: it
    is to be changed, and may lead anywhere."""
    try:
        return read_file(path, _MAX_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise PolicyfsError(f"cannot read {path}: {error.strerror}; it must be a file, no symlink") from error


def _write(edit: Edit, old: str, new: str) -> None:
    known = None if edit.added == _FILE and not old else old.encode("utf-8", "surrogateescape")
    replace_file(Path(edit.path), new.encode("utf-8", "surrogateescape"), known=known)
