"""The containers, units and users that reach a store past the mounts of policyfs."""

from __future__ import annotations

import json
import os
import pwd
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.cli.common.live_mounts import part
from policyfs.cli.common.processes import look
from policyfs.cli.machine.findings import Finding, State
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.linux import procfs
from policyfs.linux.interpreter import own_program
from policyfs.linux.reach import Look, Reach, look_at, shares_of
from policyfs.linux.running import place_of, session_of, unit_of
from policyfs.linux.services import naming
from policyfs.trail.lines.table import shown, word

if TYPE_CHECKING:
    from policyfs.cli.machine.running_containers import Container

_LOOK_S: Final = 10.0
_STATUS_S: Final = 2.0
_ANEW: Final = "`policyfs init` gives it a mount; if it has one: `docker compose up -d`; or remove it"
_SERVICE: Final = "give this service a mount in the site, or disable it"
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]*")
_USES: Final = {"cwd": "works in", "root": "has its root in", "exe": "runs a program of"}


class Past(NamedTuple):
    """A program that reaches a store past its mounts. name: of its unit or container, ``user NAME``, or
    ``mount PATH``, for the key ``past`` of a site. text: what it has. remedy: what to do about it."""

    name: str
    text: str
    remedy: str

    @property
    def line(self) -> str:
        """The line of a site file that says that this is meant to be."""
        return f"past: [{self.name if _PLAIN.fullmatch(self.name) else json.dumps(self.name)}]"


class Seen(NamedTuple):
    """The result of a look at a store. found: by name. unseen: the uids of processes that could not be looked
    at; those of root have more rights than this command."""

    found: list[Past]
    unseen: list[int]


def _engines() -> list[Container]:
    from policyfs.cli.machine.running_containers import running  # mostly, nobody needs a name

    return running()


def past(store: str, containers: Callable[[], list[Container]] = _engines) -> Seen:
    """Return what reaches a store past the mounts of policyfs. containers: asks the engines; called only if
    something needs the name of a container. Raises OSError and PolicyfsError if nobody can know."""
    store = os.path.realpath(store)
    seen, shares = look(partial(_looked, store, _own_processes()), _LOOK_S)
    found: dict[str, Past] = {}
    for one in (*_shared(shares), *_named(seen.found, store, containers), *_units_at_rest(store)):
        found.setdefault(one.name, one)
    return Seen([found[name] for name in sorted(found)], seen.unseen)


def others_past(store: str, known: Collection[str]) -> Iterator[str]:
    """Yield a text for each thing that reaches a store past the mounts of policyfs, without those of some
    names."""
    try:
        found = past(store).found
    except (OSError, PolicyfsError) as error:
        yield f"what else reaches the library is not known: {error}"
        return
    for one in found:
        if one.name not in known:
            yield f"{one.text}: past policyfs; if this is meant to be, write {one.line} in the site"


def check_past(store: str) -> Iterator[Finding]:
    """Yield a finding for each thing that reaches a store past the mounts of policyfs, or would."""
    from policyfs.cli.machine.running_containers import running

    containers = running(stopped=True)
    seen = past(store, lambda: containers)
    for one in (*seen.found, *stopped(containers, store)):
        yield Finding("past policy", State.OFF, one.text, one.remedy)
    if told := unseen_text(seen):
        yield Finding("past policy", State.OFF, told, "run this command as root, with CAP_SYS_PTRACE")
    if not seen.found and not told:
        yield Finding("past policy", State.OK, "no program was given the store past policyfs, or has it open")


def stopped(containers: Iterable[Container], store: str) -> Iterator[Past]:
    """Yield the containers that would have a store, or a part of it, if somebody started them."""
    from policyfs.cli.machine.running_containers import having

    for one, source in having([one for one in containers if not one.pid], os.path.realpath(store)):
        what = f"would have {shown(source)}, but does not run"
        yield Past(one.name, f"the container {shown(one.name)} of {one.manager} {what}", _ANEW)


def unseen_text(seen: Seen) -> str:
    """Return a text on the processes that could not be looked at, or an empty one."""
    return f"{len(seen.unseen)} processes could not be looked at" if seen.unseen else ""


def _looked(store: str, own: frozenset[int]) -> tuple[Look, list[str]]:
    return look_at(store, own), [path for path in shares_of(store) if _is_open(Path(path))]


def _is_open(path: Path) -> bool:
    """Return True if others than owner and group may enter a directory and all above it."""
    return all(one.stat().st_mode & stat.S_IXOTH for one in (path, *path.parents))


def _own_processes() -> frozenset[int]:
    found: set[int] = set()
    for path in control.runtime_dir().glob("*.sock"):
        try:
            status = control.ask(path, "status", _STATUS_S)
        except control.ControlError:
            continue
        found |= {int(str(one)) for one in (status["pid"], part(status, "takeover").get("keeper")) if one}
    return frozenset(found)


def _shared(paths: Iterable[str]) -> Iterator[Past]:
    for path in paths:
        yield Past(f"mount {path}", f"users can reach it at {shown(path)}, too", f"umount {word(path)}")


def _named(found: Iterable[Reach], store: str, containers: Callable[[], list[Container]]) -> Iterator[Past]:
    """Yield what processes have, by the names of their containers, units and users. A process of root that is
    in none of these, such as an administrator's shell, counts only if it was given a mount."""
    by_namespace: dict[str, Container] | None = None
    for one in found:
        session, unit, (_, container) = session_of(one.groups), unit_of(one.groups), place_of(one.groups)
        if container or session is not None:
            unit = ""
        if not one.given and not unit and not container and one.uid == 0:
            continue
        if one.given and session is None and not unit.endswith(".service"):
            if by_namespace is None:
                by_namespace = look(partial(_by_namespace, containers()), _LOOK_S)
            if its := by_namespace.get(one.namespace):
                yield _of_container(its, one, store)
                continue
        user = f"user {_user(one.uid if session is None else session)}"
        name = user if session is not None else unit or container or user
        yield Past(name, f"{shown(name)} {_has(one, store)}", _remedy(name, one))


def _units_at_rest(store: str) -> Iterator[Past]:
    """Yield the services that would have a store if they ran. A unit of a mount names it, too."""
    own = os.path.realpath(own_program())
    for name, setting in naming(store):
        if os.path.realpath((setting.partition("=")[2].split() or [""])[0]) != own:
            yield Past(name, f"{shown(name)} names it in its settings: {shown(setting)}", _SERVICE)


def _by_namespace(containers: Iterable[Container]) -> dict[str, Container]:
    found = {}
    for one in containers:
        try:
            found[os.fsdecode(procfs.link(one.pid, "ns/mnt"))] = one
        except OSError:  # it has ended
            continue
    return found


def _of_container(container: Container, one: Reach, store: str) -> Past:
    where = f" ({shown(container.files[0])})" if container.files else ""
    text = f"the container {shown(container.name)} of {container.manager}{where} {_has(one, store)}"
    return Past(container.name, text, _ANEW)


def _has(one: Reach, store: str) -> str:
    who = f"(pid {one.pid}, {shown(one.command)})"
    if one.given:
        return f"has {shown(store)}, or a part of it, at {shown(one.path)} {who}"
    return f"{_USES.get(one.what, 'has open')} {shown(one.path)} {who}"


def _remedy(name: str, one: Reach) -> str:
    return _SERVICE if name.endswith(".service") else f"give it a mount, or end the process {one.pid}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
