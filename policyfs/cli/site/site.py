"""`policyfs up` and `down`: start and stop all mounts of a site together, and show their status.

A site is a list of mounts in a file (docs/mount-sets.md).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.common.live_mounts import is_of_unit, is_renewed_by_reload
from policyfs.cli.common.mountpoint_way import check_way
from policyfs.cli.common.on_record import trail_root
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.common.target_places import private_places
from policyfs.cli.mounts.follow import why_not
from policyfs.cli.mounts.mount import MOUNTS, check_policy
from policyfs.cli.mounts.umount import run_umount
from policyfs.cli.site.own_units import UNITS, maker
from policyfs.cli.site.site_changes import OTHER_CODE, arguments_of, changes
from policyfs.cli.site.site_document import MountDoc, Site, label, read_site
from policyfs.cli.site.site_targets import bind_targets, make_places, unbound
from policyfs.content.workers.policy_parser import parse_apart
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.linux.immutable import set_immutable
from policyfs.linux.interpreter import interpreter
from policyfs.linux.private_files import make_private
from policyfs.store.store_record import check_store
from policyfs.trail.lines.table import shown, word, words

_STATUS_S: Final = 5.0


class State(Enum):
    """The state of a mount of a site. CHANGED: the mount is up, but with other options than in the site file,
    or other code than is installed. HUNG: the mount is there, but its daemon gives no status."""

    UP = "up"
    CHANGED = "up, but not as in the site"
    DOWN = "down"
    DEAD = "dead: its daemon has ended"
    HUNG = "its daemon gives no status"
    OTHER = "another mount"


class Seen(NamedTuple):
    """The state of a mountpoint of a site.

    status: the status from the mount's daemon. changes: options that differ from the site file, or the code.
    error: the
    error in place of the status (HUNG): the daemon does not answer, or the way to the mountpoint is unsafe.
    """

    state: State
    status: control.Json = {}  # noqa: RUF012 - never changed
    changes: tuple[str, ...] = ()
    error: PolicyfsError | None = None

    def is_to_be_made(self, *, restart: bool) -> bool:
        """Return True if `up` must make the mount.

        restart: True if `up` also makes mounts again that are up, but not as in the site. But if another
        program (such as systemd) watches the daemon of such a mount, the mount stays.
        """
        if self.state is State.CHANGED:
            return restart and not is_of_unit(self.status)
        return self.state is not State.UP


def add_up(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make all mounts of SITE that are not there yet. Without --restart, a mount with other options than"
        " in SITE, with other code than is installed, or that SITE does not name any more, stays as it is,"
        " and is reported. The exit code is 1 if a mount fails."
    )
    add = parser.add_argument
    restart_help = (
        "renew mounts with other options or code, one after the other: another daemon takes over, or, where"
        " that is not possible, unmount and mount again; unmount those that SITE does not name any more"
    )
    add("--restart", action="store_true", help=restart_help)
    places_help = "only make the mountpoints, which answer with an error until their mounts are up"
    add("--places", action="store_true", help=places_help)
    add("site", metavar="SITE.yaml")


def add_down(parser: argparse.ArgumentParser) -> None:
    parser.description = "Unmount all mounts of SITE."
    parser.add_argument("--lazy", action="store_true", help="detach now; open files stay usable")
    parser.add_argument("site", metavar="SITE.yaml")


def run_up(args: argparse.Namespace) -> int:
    """Read the site file (a list of mounts). Make each of its mounts that is not up.

    With --restart, also make mounts with other options or code again, and unmount those that an earlier `up`
    has made, and the site file does not name any more. If a mount fails, remove the mounts that this command
    has made, except mounts that were up before.
    """
    site = read_site(args.site)
    if os.geteuid() != 0:
        raise PolicyfsError(
            "mounting needs root; run this command with sudo, or as a systemd unit (policyfs unit)"
        )
    with _alone(site) as record:
        found = [(mount, look(site, mount)) for mount in site.mounts]
        for _, seen in found:
            if seen.error is not None:
                raise seen.error
        if args.places:
            _make_places(found)
            return EXIT_OK
        wanted = [(mount, seen) for mount, seen in found if seen.is_to_be_made(restart=args.restart)]
        _check_apps(site, wanted)
        for mount, seen in found:
            if seen.state is State.OTHER:
                raise PolicyfsError(
                    f"something else is mounted on {mount.at}: unmount it (policyfs umount {mount.at}), or"
                    " give the mount another place"
                )
        _make_places(found)
        if wanted:
            check_store(os.path.realpath(site.store))
        unnamed = _unnamed(site)
        kept = {at: file for at, file in _made(site).items() if file != site.file}
        kept |= dict.fromkeys(unnamed, site.file)
        kept |= {mount.at: site.file for mount, seen in found if not is_of_unit(seen.status)}
        os.ftruncate(record, 0)
        os.pwrite(record, json.dumps(kept).encode(), 0)
        _check_made(site, wanted, _make_all(site, wanted))
        _bind_all(site, site.mounts)
        told = {at: _umount(at, lazy=False) if args.restart else _surplus(site) for at in unnamed}
    made = [mount for mount, _ in wanted]
    for mount, seen in found:
        print(f"{label(mount)}: {_told(seen, made=mount in made)} at {shown(mount.at)}")
    for at, said in told.items():
        done = f"{shown(at)}: down, as the site does not name it any more"
        print(f"policyfs: {shown(at)}: {said}" if said else done, file=sys.stderr if said else None)
    left = [(mount, seen) for mount, seen in found if seen.state is State.CHANGED and mount not in made]
    for mount, seen in left:
        print(f"policyfs: {_remedy(site, mount, seen)}", file=sys.stderr)
    # 0 even if they differ: if `up` failed in a systemd unit, systemd would end the new daemons.
    return EXIT_REFUSED if args.restart and any(told.values()) else EXIT_OK


def _bind_all(site: Site, mounts: Sequence[MountDoc]) -> None:
    """Bind the targets of mounts that are up, and print what is missing. Raises PolicyfsError, after all."""
    failed = []
    for mount in mounts:
        try:
            for missing in bind_targets(site, mount):
                print(f"policyfs: {label(mount)}: {missing}", file=sys.stderr)
        except PolicyfsError as error:
            failed.append(str(error))
    if failed:
        raise PolicyfsError("\n  ".join(failed))


def _check_apps(site: Site, wanted: Sequence[tuple[MountDoc, Seen]]) -> None:
    """Raise PolicyfsError if a mount to be made is for an app that the policy does not have."""
    new = [mount for mount, seen in wanted if seen.state is not State.CHANGED and mount.app is not None]
    if not new:
        return
    policy = parse_apart(read_sources(site.policy))
    apps = [app.name for app in policy.apps]
    if missing := [str(mount.app) for mount in new if mount.app not in apps]:
        raise PolicyfsError(
            f"{site.file}: the policy {site.policy} has no app {', '.join(missing)}; its apps are"
            f" {', '.join(apps) or 'none'}. Nothing was mounted"
        )


def _make_all(site: Site, wanted: Sequence[tuple[MountDoc, Seen]]) -> list[str]:
    """Make mounts side by side; then, one after the other until one fails, those that are up. Return for each
    the error, or an empty text."""
    new = [mount for mount, seen in wanted if seen.state is not State.CHANGED]
    said = dict(zip(map(label, new), _mount_all(site, new), strict=True))
    for mount, seen in wanted:
        if seen.state is State.CHANGED:
            failed = "was not restarted, as another failed" if any(said.values()) else ""
            said[label(mount)] = failed or _renew(site, mount, seen)
    return [said[label(mount)] for mount, _ in wanted]


def _renew(site: Site, mount: MountDoc, seen: Seen) -> str:
    """Let another daemon take over a mount that is not as in the site; if that is not possible, say why,
    unmount it, and make it. Return the error, or an empty text."""
    if not (why := why_not(arguments_of(site, mount), seen.status)):
        (said,) = _mount_all(site, [mount], "--follow")
        return said and f"the mount is not as in the site, and its daemon goes on: {said}"
    told = f"policyfs: {label(mount)} ({shown(mount.at)}) is unmounted and mounted again: {why}"
    print(told, file=sys.stderr)
    try:  # check before the unmount: otherwise a wrong policy would leave apps without a mount
        check_policy(arguments_of(site, mount))
    except PolicyfsError as error:
        said = str(error)
    else:
        said = _umount(mount.at, lazy=False)
    if said:
        return f"the mount is not as in the site, and was not restarted: {said}"
    (said,) = _mount_all(site, [mount])
    return said and f"the mount was unmounted to be made anew, but could not be mounted again: {said}"


def _check_made(site: Site, wanted: Sequence[tuple[MountDoc, Seen]], results: Sequence[str]) -> None:
    """Raise PolicyfsError if a mount failed. First remove the mounts that this command has made anew."""
    failed = [(mount, said) for (mount, _), said in zip(wanted, results, strict=True) if said]
    if not failed:
        return
    started = [
        mount
        for (mount, seen), said in zip(wanted, results, strict=True)
        if not said and seen.state is not State.CHANGED
    ]
    left = [said for mount in reversed(started) if (said := _umount(mount.at, lazy=True))]
    told = [f"{label(mount)} ({shown(mount.at)}): {said}" for mount, said in failed]
    raise PolicyfsError(
        "\n  ".join([f"the site {site.name} is not up, and nothing new is mounted:", *told, *left])
    )


def _told(seen: Seen, *, made: bool) -> str:
    if seen.state is State.CHANGED:
        what = "code" if seen.changes == (OTHER_CODE,) else "options"
        return f"up again: its {what} changed" if made else f"up with other {what}"
    return {State.UP: "up already", State.DEAD: "up again: its daemon had ended"}.get(seen.state, "up")


def _remedy(site: Site, mount: MountDoc, seen: Seen) -> str:
    differs = f"{label(mount)} ({shown(mount.at)}) is not as in the site: {'; '.join(seen.changes)}"
    if seen.changes == (OTHER_CODE,) and is_renewed_by_reload(seen.status):
        return f"{differs}. `systemctl reload {site.unit(mount)}` renews it while it is in use"
    if is_of_unit(seen.status):
        written = f"`policyfs unit {site.file}`, `systemctl daemon-reload` and "
        return f"{differs}. A unit runs this mount: {written}`systemctl restart {site.unit(mount)}`"
    if not why_not(arguments_of(site, mount), seen.status):
        return f"{differs}. `policyfs up --restart {site.file}` renews it while it is in use"
    services = ", ".join(mount.service)
    return (
        f"{differs}. `policyfs up --restart {site.file}` unmounts and mounts it again"
        f"{services and '; then restart the services that use the mount: '}{services}"
    )


def run_down(args: argparse.Namespace) -> int:
    """Unmount every mount of the site file (a list of mounts), the last one first.

    Also unmount dead mounts (mounts without a daemon), and mounts whose daemon hangs. Unmount nothing if a
    unit runs one of the mounts: its services would go on, and it could mount again.
    """
    site = read_site(args.site)
    code = EXIT_OK
    with _alone(site):
        found = [(mount, look(site, mount)) for mount in reversed(site.mounts)]
        if of_units := [site.unit(mount) for mount, seen in found if is_of_unit(seen.status)]:
            raise PolicyfsError(
                f"units run mounts of this site: `systemctl stop {site.target} {' '.join(of_units)}` ends"
                " them, and the services that use them. Nothing was unmounted"
            )
        for mount, seen in found:
            state, said = seen.state, ""
            if state is State.OTHER:
                said = "another mount is at this path, and stays"
            elif state is not State.DOWN:
                said = _umount(mount.at, lazy=args.lazy)
            if said:
                print(f"policyfs: {label(mount)} ({shown(mount.at)}): {said}", file=sys.stderr)
                code = EXIT_REFUSED
            else:
                print(f"{label(mount)}: down")
        for at in _unnamed(site):
            said = _umount(at, lazy=args.lazy)
            told = f"policyfs: {shown(at)}: {said}" if said else f"{shown(at)}: down"
            print(told, file=sys.stderr if said else None)
            code = EXIT_REFUSED if said else code
    return code


def look(site: Site, mount: MountDoc) -> Seen:
    """Return the state of the mountpoint of one mount of a site file (a list of mounts)."""
    from policyfs.kernel.probe import MountState, mount_state
    from policyfs.linux.mountinfo import ABSENT, FSTYPE, mounts_at

    try:
        at = place_of(mount)
    except PolicyfsError as error:
        return Seen(State.HUNG, error=error)
    there = mounts_at(at)
    if not there or there[-1].fstype == ABSENT:
        return Seen(State.DOWN)
    if there[-1].fstype != FSTYPE or there[-1].source != os.path.realpath(site.store):
        return Seen(State.OTHER)
    if mount_state(at) is MountState.DEAD:
        return Seen(State.DEAD)
    try:
        status = control.ask(control.socket_path(at), "status", _STATUS_S)
    except control.NoDaemonError:
        return Seen(State.DEAD)
    except control.ControlError as error:
        return Seen(State.HUNG, error=error)
    if status.get("app") != mount.app:
        return Seen(State.OTHER)
    differs = changes(site, mount, status)
    return Seen(State.CHANGED if differs else State.UP, status, differs)


def place_of(mount: MountDoc) -> str:
    """Return the path of a mountpoint without symlinks, as ``policyfs mount`` finds it.

    This function sends no request to the mount, because the mount may hang. Raises PolicyfsError if a symlink
    that another user can change is on the way.
    """
    from policyfs.linux.mountinfo import resolve

    try:
        check_way(mount.at, warn=False)
        return resolve(mount.at)
    except OSError:  # a directory above is missing: nothing is mounted there
        above, name = os.path.split(mount.at)
        return os.path.join(os.path.realpath(above), name)


def status_of_site(site: Site) -> tuple[list[control.Json], list[str]]:
    """Return the status of each mount of a site that is up, and a line of text for each other mount.

    The field ``site_changes`` of a status lists the options that differ from the site file. (Each status has
    its code.)
    """
    up, lines, is_down = [], [], False
    for mount in site.mounts:
        seen = look(site, mount)
        if seen.state in {State.UP, State.CHANGED}:
            differs = [one for one in seen.changes if one != OTHER_CODE]
            up.append({**seen.status, "site_changes": [*differs, *unbound(site, mount)]})
        elif seen.error is not None:
            lines.append(f"{label(mount)} ({shown(mount.at)}): {seen.error}")
        else:
            is_down = True
            unit = Path(UNITS, site.unit(mount))
            of_unit = unit.is_file() and maker(unit) == os.path.realpath(site.file)
            remedy = words("systemctl", "start", unit.name) if of_unit else f"policyfs up {word(site.file)}"
            told = f"{seen.state.value}; `{remedy}` makes this mount"
            lines.append(f"{label(mount)} ({shown(mount.at)}): {told}")
        if seen.changes:
            print(f"policyfs: {_remedy(site, mount, seen)}", file=sys.stderr)
    if is_down:
        try:
            check_store(os.path.realpath(site.store), writes=False)
        except PolicyfsError as error:  # so no command makes a mount now
            lines.append(str(error))
    return up, [*lines, *(f"{at}: {_surplus(site)}" for at in _unnamed(site))]


def _unnamed(site: Site) -> list[str]:
    """Return the mountpoints that `up` has made, and the site file does not name any more, if a mount of its
    store is there that no unit runs. (`policyfs unit` removes the units of others.)"""
    from policyfs.linux.mountinfo import FSTYPE, mounts_at, resolve

    def resolved(at: str) -> str:
        try:
            return resolve(at)
        except OSError:  # a directory above is missing: nothing is mounted there
            return at

    def is_ours(place: str) -> bool:
        there = mounts_at(place)
        if not there or there[-1].fstype != FSTYPE or there[-1].source != os.path.realpath(site.store):
            return False
        with contextlib.suppress(control.ControlError):  # without a daemon, or it hangs
            return not is_of_unit(control.ask(control.socket_path(place), "status", _STATUS_S))
        return True

    named = {resolved(mount.at) for mount in site.mounts}
    places = {at: resolved(at) for at, file in _made(site).items() if file == site.file}
    return [at for at, place in places.items() if place not in named and is_ours(place)]


def _made(site: Site) -> dict[str, str]:
    """Return the mountpoints that `up` has made, each with its site file: two may have the same name."""
    path = _record(site)
    try:
        found: dict[str, str] = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PolicyfsError(f"cannot read {path}: {error.strerror}; run this command as root") from error
    return found


def _surplus(site: Site) -> str:
    return f"the site does not name this mount; `policyfs up --restart {site.file}` unmounts it"


def trail_of(site: Site) -> str:
    """Return the trail root (the directory of the trails) for all mounts of a site."""
    return trail_root(site.trail)


def _mount_all(site: Site, mounts: Sequence[MountDoc], *more: str) -> list[str]:
    """Make mounts side by side (forked_mounts.py). Return for each the error, or an empty text. more: further
    words of each command."""
    if not mounts:
        return []
    program = interpreter("policyfs.cli.mounts.forked_mounts")
    commands = [[*more, *site.command(one)[1:]] for one in mounts]
    done = subprocess.run(
        program.words, env={**program.environment, MOUNTS: str(len(site.mounts))}, input=json.dumps(commands),
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return [f"exit code {done.returncode}"] * len(mounts)
    return _errors(json.loads(done.stdout))


def _umount(place: str, *, lazy: bool) -> str:
    how = {"lazy": lazy, "wait": False, "abort": False, "dead": False, "targets": False}
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = run_umount(argparse.Namespace(mountpoint=place, **how))
        except (OSError, PolicyfsError) as error:
            return str(error)
    (failed,) = _errors([(code, said.getvalue())])
    return failed


def _errors(outcomes: Sequence[tuple[int, str]]) -> list[str]:
    """Return for each command, by its exit code and standard error, its error or an empty text. Print what
    those say that succeeded: each warning once, as one store gives it to all mounts."""
    for line in dict.fromkeys(line for code, said in outcomes if not code for line in said.splitlines()):
        print(line, file=sys.stderr)
    errors = ((code, said.strip().removeprefix("policyfs: ")) for code, said in outcomes)
    return [(error or f"exit code {code}") if code else "" for code, error in errors]


def _make_places(found: Sequence[tuple[MountDoc, Seen]]) -> None:
    """Make mountpoints for mounts that are down, with a placeholder: nobody finds an empty one."""
    from policyfs.kernel.placeholder import put_placeholder
    from policyfs.linux.mountinfo import is_mountpoint, resolve

    def make(at: str) -> None:
        make_private(at, 0o755)
        put_placeholder(resolve(at))

    down = [mount.at for mount, seen in found if seen.state is State.DOWN and not is_mountpoint(mount.at)]
    mounts, at = {mount.at: mount for mount, _ in found}, ""
    private = [mount for mount, _ in found if mount.at.startswith(f"{private_places()}/")]
    before = os.umask(0o022)  # a unit's umask would close the directories for the apps
    try:
        for mount in private:
            set_immutable(os.path.dirname(mount.at), immutable=False)
        for at in down:
            above, name = os.path.split(at)
            if not at.startswith(f"{private_places()}/") or os.path.lexists(above):
                make(at)
                continue
            make_private(control.runtime_dir())
            make_private(private_places())
            os.chmod(private_places(), 0o700)
            new = f"{above}.new-{os.getpid()}"
            make(f"{new}/{name}")
            make_places(mounts[at], new)
            os.rename(new, above)  # not even for a moment there is an empty directory at this path
        for mount in private:
            at = mount.at
            _link_directories(mount)
            make_places(mount, os.path.dirname(at))
    except OSError as error:
        raise PolicyfsError(f"cannot make the mountpoint {at}: {error.strerror}") from error
    finally:
        for mount in private:  # what a container writes there, beside its mount, would end with /run
            set_immutable(os.path.dirname(mount.at), immutable=True)
        os.umask(before)


def _link_directories(mount: MountDoc) -> None:
    """Make links beside a mount to its directories, for its containers. Remove those of an earlier site file.

    A container has the directory above the mount. So a link leads to the mount that is there now; a bind of a
    directory would stay with the mount of its time.
    """
    above, name = os.path.split(mount.at)
    wanted = {f"{above}/{link}": f"{name}{directory}" for link, directory in mount.directories.items()}
    for entry in os.scandir(above):
        if entry.is_symlink() and os.readlink(entry.path) != wanted.get(entry.path):
            os.unlink(entry.path)
    for path, target in wanted.items():
        if os.path.islink(path):
            continue
        if os.path.lexists(path):  # a container may have made it, and must not keep others from their mounts
            told = f"policyfs: {shown(path)} is in the way of a link to {shown(target)}: move it away"
            print(told, file=sys.stderr)
            continue
        os.symlink(target, path)


def _record(site: Site) -> Path:
    """Return the path of the list of mountpoints that `up` has made. It is in /run, as mounts end at boot."""
    return control.runtime_dir() / f"{site.name}.site"


@contextlib.contextmanager
def _alone(site: Site) -> Iterator[int]:
    """Hold a lock, so that no other command changes the mounts of this site file (a list of mounts). Yield
    the open file with the record of its mountpoints."""
    directory = control.runtime_dir()
    try:
        make_private(directory)
        fd = os.open(_record(site), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PolicyfsError(
            f"cannot write in {directory}: {error.strerror}; run this command as root"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)
