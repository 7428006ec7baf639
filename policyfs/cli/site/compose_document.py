"""A user's compose file, with the files that belong to it, read as Compose reads them, and as hostile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

from policyfs.cli.site.compose_project import NAMES, OVERRIDES, VARIABLE, Place, Project, Tree
from policyfs.cli.site.compose_volumes import is_windows
from policyfs.errors import PolicyfsError
from policyfs.trail.lines.table import shown

_MAX_NESTED: Final = 20
_TOP: Final = "configs include models name networks secrets services version volumes"
_SERVICE: Final = """
    annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name
    cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset
    credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname
    entrypoint env_file environment expose extends external_links extra_hosts gpus group_add healthcheck
    hostname image init ipc isolation label_file labels links logging mac_address mem_limit mem_reservation
    mem_swappiness memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid pids_limit
    platform ports post_start pre_stop privileged profiles provider pull_policy pull_refresh_after read_only
    restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt
    sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volume_driver volumes volumes_from
    working_dir
"""
"""The keys of a file and of a service: compose-spec.json of github.com/compose-spec/compose-spec."""


class Volume(NamedTuple):
    """A volume of a service. source: the directory of the host, absolute and without symlinks, or None.
    target: the path in the container. text: as it stands in the file."""

    source: str | None
    target: str
    read_only: bool
    text: object


class ComposeFile(NamedTuple):
    """A compose file. tree: its top mapping, merged from *files*: the compose files that were read, in order.
    unread: a text for each part that policyfs does not understand or that is elsewhere, ready for a terminal.
    """

    path: str
    tree: Tree
    files: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def services(self) -> Tree:
        """The services of all profiles, by name."""
        return _mapping(self.tree.get("services"))

    def volumes(self, name: str) -> Iterator[Volume]:
        """Yield the volumes of a service, also those that it has from others, and its files (configs,
        secrets). Raises PolicyfsError if one cannot be checked."""
        yield from self._volumes(name, {}).values()

    def _volumes(self, name: str, known: dict[str, dict[str, Volume]], nested: int = 0) -> dict[str, Volume]:
        """Return the volumes of a service by target: of two with the same target, the later one counts.
        known: those of services that were looked at, perhaps incomplete: two may name each other."""
        if name in known:
            return known[name]
        if nested > _MAX_NESTED:
            raise PolicyfsError(f"{shown(self.path)}: volumes_from is nested too deeply")
        service = _mapping(self.services.get(name))
        found = known[name] = {}
        for one in map(str, _list(service.get("volumes_from"))):
            other, _, mode = one.partition(":")
            for volume in [*self._volumes(other, known, nested + 1).values()]:
                read_only = volume.read_only or mode == "ro"
                found[volume.target] = volume._replace(read_only=read_only, text=f"volumes_from: {one}")
        for kind, above in (("configs", "/"), ("secrets", "/run/secrets/")):
            files = _mapping(self.tree.get(kind))
            for entry in _list(service.get(kind)):
                named = str(entry.get("source")) if isinstance(entry, dict) else str(entry)
                target = os.path.join(above, str(_mapping(entry).get("target") or named))
                if path := _mapping(files.get(named)).get("file"):
                    found[target] = Volume(real_path(str(path)), target, True, entry)
        for own in map(_mapping, _list(service.get("volumes"))):
            source, read_only = self._directory(own)
            target = str(own["target"])
            found[target] = Volume(source, target, read_only or own["read_only"] is True, own["text"])
        return found

    def _directory(self, volume: Mapping[str, object]) -> tuple[str | None, bool]:
        """Return the host's directory of a volume, or None, and True if this directory is read-only."""
        source = str(volume["source"])
        if volume["type"] == "bind":
            return (None if is_windows(source) else real_path(source)), False
        if volume["type"] != "volume":
            return None, False
        named = _mapping(_mapping(self.tree.get("volumes")).get(source))
        if named.get(VARIABLE):
            raise PolicyfsError(f"{shown(self.path)}: the volume {shown(source)} {VARIABLE}")
        options = _mapping(named.get("driver_opts"))
        device, mount = str(options.get("device") or ""), str(options.get("o") or "").split(",")
        if not os.path.isabs(device) or not {"bind", "rbind"} & {*mount, str(options.get("type"))}:
            return None, False
        return real_path(os.path.normpath(f"{device}/{volume['subpath']}")), "ro" in mount


def read_compose(
    path: str, *, variables: bool = False, more: Sequence[str] = (), directory: str = "",
    env_files: Sequence[str] = (),
) -> ComposeFile:  # fmt: skip
    """Read a compose file, and the files that it extends and includes. Raises PolicyfsError.

    variables: True if variables get values: from the environment, and from *env_files*, by default the file
    `.env` beside the compose file. Otherwise one in a volume is an error: only docker knows all values. more:
    further compose files, as with `-f`. Without these, those that Compose itself reads: an override file
    beside a file with one of Compose's names, or the files in COMPOSE_FILE. directory: as with
    `--project-directory`.
    """
    project = Project(path)
    directory = os.path.abspath(directory or os.path.dirname(path))
    values: dict[str, str] | None = None
    if variables:
        named = env_files or [one for one in os.environ.get("COMPOSE_ENV_FILES", "").split(",") if one]
        given = {**os.environ, "PWD": directory}  # people start the containers there
        values = project.values([os.path.join(directory, one) for one in named], directory, given)
    paths = (path, *more) if more else _itself(path, values or {})
    tree = project.merged(paths, Place(directory, values))
    if not isinstance(tree.get("services"), dict):
        raise PolicyfsError(f"{shown(path)} is not a compose file: it has no services")
    unread = (*project.unread, *_unread(tree), *_homes(tree), *(() if more else _two_names(path)))
    # Each once: a file may be read twice.
    return ComposeFile(path, tree, tuple(project.files), tuple(dict.fromkeys(unread)))


def _itself(path: str, values: Mapping[str, str]) -> Sequence[str]:
    """Return the files that Compose reads if none is named, if the given one is the first of them."""
    directory, name = os.path.split(path)
    if listed := values.get("COMPOSE_FILE"):
        separator = values.get("COMPOSE_PATH_SEPARATOR") or ":"
        paths = [os.path.join(directory, one) for one in listed.split(separator) if one]
        if any(os.path.realpath(one) == os.path.realpath(path) for one in paths):
            return paths
    there = [one for one in NAMES if os.path.exists(os.path.join(directory, one))]
    if name != next(iter(there), ""):
        return [path]
    overrides = (os.path.join(directory, one) for one in OVERRIDES)
    return [path, *[one for one in overrides if os.path.exists(one)][:1]]


def _two_names(path: str) -> Iterator[str]:
    """Yield a text if Compose and docker-compose 1 read another file beside a compose file, without being
    told."""
    there = [one for one in NAMES if os.path.exists(os.path.join(os.path.dirname(path), one))]
    old = [one for one in (*NAMES[2:], *NAMES[1::-1]) if one in there]  # in the order of docker-compose 1
    if os.path.basename(path) in there and old[0] != there[0]:
        yield f"Compose reads {there[0]}, but docker-compose 1 reads {old[0]}: remove one of them"


def _unread(tree: Tree) -> Iterator[str]:
    """Yield a text for each volume whose directory is not known."""
    services, used = _mapping(tree.get("services")), set()
    yield from (f"the file has {told}" for told in _unknown(tree, _TOP))
    for name, service in services.items():
        yield from (f"the service {shown(name)} has {told}" for told in _unknown(service, _SERVICE))
        its, who = _mapping(service), f"the service {shown(name)} has"
        for other in map(str, _list(its.get("volumes_from"))):
            if other.partition(":")[0] not in services:
                yield f"{who} the volumes of {shown(other)}, which is not in the file"
        for volume in map(_mapping, _list(its.get("volumes"))):
            source, kind = str(volume["source"]), volume["type"]
            used |= {source} if kind == "volume" else set()
            if (kind == "bind" and is_windows(source)) or kind not in {"bind", "volume", "tmpfs", "image"}:
                yield f"{who} the volume {shown(str(volume['text']))}, of another system"
        if its.get("use_api_socket"):
            yield f"{who} the socket of the engine, and so all rights of root"
    for name, one in _mapping(tree.get("volumes")).items():
        if name in used and (told := _elsewhere(_mapping(one))):
            yield f"the volume {shown(name)} {told}"


def _unknown(tree: object, words: str) -> Iterator[str]:
    """Yield a text for each key that Compose does not know, as a typing error."""
    known = words.split()
    for key in sorted(map(str, {*_mapping(tree)} - {*known})):
        if not key.startswith("x-"):
            close = get_close_matches(key, known, 1)
            hint = f"; write {close[0]}" if close else ""
            yield f"the key {shown(key)}, which Compose does not know{hint}"


def _homes(tree: Tree) -> Iterator[str]:
    """Yield a text for each service whose volumes are in the home directory of who starts it, under sudo."""
    user = os.environ.get("SUDO_USER", "root")
    for name, service in _mapping(tree.get("services")).items() if user != "root" else ():
        texts = [str(_mapping(one).get("text")) for one in _list(_mapping(service).get("volumes"))]
        if any(text.startswith("~") or "$HOME" in text or "${HOME" in text for text in texts):
            yield (
                f"the service {shown(name)} has volumes in the home directory, which is another one if"
                f" {shown(user)} starts it: write it out"
            )


def _elsewhere(volume: Tree) -> str:
    """Return why the directory of a named volume is not known; empty if it is."""
    options, driver = _mapping(volume.get("driver_opts")), str(volume.get("driver") or "local")
    kind, device = str(options.get("type") or "none"), str(options.get("device") or "/")
    if volume.get("external"):
        return "is made elsewhere: `docker volume inspect` prints its directory"
    if driver != "local":
        return f"has the driver {shown(driver)}, which policyfs does not know"
    if device.startswith("/dev/") if kind not in {"none", "bind"} else not os.path.isabs(device):
        return f"has {shown(device)} ({shown(kind)}), whose files policyfs does not know"
    return ""


def real_path(path: str) -> str:
    """Return a path without symlinks. Raises PolicyfsError if these cannot be followed."""
    try:
        return os.path.realpath(path, strict=os.path.lexists(path))  # Python 3.13 else ignores errors
    except FileNotFoundError:  # a link that leads nowhere
        return os.path.realpath(path)
    except (OSError, ValueError) as error:  # a link of /proc, or a NUL
        told = getattr(error, "strerror", None) or str(error)
        raise PolicyfsError(
            f"the volume {shown(path)} cannot be checked: {told}; run this command as root, or write the"
            " real path"
        ) from error


def _mapping(value: object) -> Tree:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
