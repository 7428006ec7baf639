"""`policyfs doctor`: limits and missing features of this machine and one store, each with a remedy."""

from __future__ import annotations

import argparse
import ctypes
import enum
import importlib.util
import json
import os
import re
import resource
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policyfs.cli.on_record import trail_root
from policyfs.daemon import control
from policyfs.daemon.contain import Containment, containment
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.linux import seccomp
from policyfs.linux.mountinfo import FSTYPE, mounts, mounts_at
from policyfs.store.facts import StoreFacts, probe

PASSTHROUGH_SINCE: Final = (6, 9)
LIBFUSE_SINCE: Final = 314  # 3.14, the first with fuse_session_custom_io
DESCRIPTORS_BAD: Final = 1_024
DESCRIPTORS_FEW: Final = 16_384
CAP_SYS_ADMIN: Final = 21  # include/uapi/linux/capability.h
FUSE_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
SECCOMP: Final = Path("/proc/sys/kernel/seccomp/actions_avail")
_STATUS_S: Final = 3.0


class State(enum.Enum):
    """OK: as it should be. SLOW: works, slower. OFF: a feature is missing. BAD: will not mount."""

    OK = "ok"
    SLOW = "slow"
    OFF = "off"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. todo: the remedy for a person, empty if none is needed."""

    name: str
    state: State
    what: str
    todo: str = ""


# ---------------------------------------------------------------- the machine


def check_kernel(release: str) -> Finding:
    """Compare the kernel's version (uname -r) with the first one that has FUSE passthrough."""
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None:
        return Finding("kernel", State.SLOW, f"cannot read the version {release!r}", "see `passthrough`")
    if (int(match[1]), int(match[2])) >= PASSTHROUGH_SINCE:
        return Finding("kernel", State.OK, f"Linux {release}")
    return Finding(
        "kernel",
        State.SLOW,
        f"Linux {release} has no FUSE passthrough: every read and write goes through the daemon",
        "use Linux 6.9 or newer",
    )


def check_device(path: str = "/dev/fuse") -> Finding:
    """Check that /dev/fuse can be opened."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        todo = "modprobe fuse; in a container: run it with --device /dev/fuse"
        return Finding("fuse", State.BAD, f"there is no {path}", todo)
    except OSError as error:
        todo = "modprobe fuse; run as root; in a container: --device /dev/fuse"
        return Finding("fuse", State.BAD, f"cannot open {path}: {error.strerror}", todo)
    return Finding("fuse", State.OK, f"{path} can be opened")


def check_connections(directory: Path = FUSE_CONNECTIONS) -> Finding:
    """Check that fusectl is mounted: the only way to free processes that wait in a hung mount."""
    if mounts_at(str(directory)):
        return Finding("fusectl", State.OK, f"{directory} is there to abort a hung mount")
    todo = f"mount -t fusectl none {directory}"
    return Finding("fusectl", State.OFF, "a hung mount could not be aborted", todo)


def check_fusermount(path: str | None) -> Finding:
    """Check that no setuid program unmounts for the uid of an app mount. path: of fusermount3."""
    found = None if path is None else os.stat(path)
    if found is None or not found.st_mode & stat.S_ISUID or found.st_uid:
        return Finding("fusermount", State.OK, "no app can unmount its own mount")
    return Finding(
        "fusermount",
        State.OFF,
        f"an app that has a mount of its own can take it away by `{path} -u`; its unit mounts it again",
        f"NoNewPrivileges=yes in the app's unit; or chmod u-s {path}, if nobody else uses FUSE here",
    )


def check_capability(status: str, uid_map: str) -> Finding:
    """Check CAP_SYS_ADMIN in the initial user namespace, from /proc/self/{status,uid_map}."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if match is None or not int(match[1], 16) >> CAP_SYS_ADMIN & 1:
        return Finding(
            "capability", State.BAD, "CAP_SYS_ADMIN is missing: nothing can be mounted", "run as root"
        )
    if uid_map.split() != ["0", "0", "4294967295"]:
        return Finding(
            "capability",
            State.BAD,
            "CAP_SYS_ADMIN holds in this user namespace only: no passthrough, no trusted xattrs",
            "run the daemon outside of the container, in the initial user namespace",
        )
    return Finding("capability", State.OK, "CAP_SYS_ADMIN")


def linked_libfuse(extension: Path | None = None) -> str:
    """Name the libfuse that pyfuse3 is linked to, such as libfuse3.so.4. extension: another than pyfuse3's.

    Releases of libfuse differ in the number of their ABI; pyfuse3 is compiled for one of them. Its file is
    read, not loaded: the bridge must be loaded first. Raises LookupError.
    """
    if extension is None:
        spec = importlib.util.find_spec("pyfuse3")
        if spec is None or spec.origin is None:
            raise LookupError("pyfuse3 is not installed")
        extension = Path(spec.origin)
    match = re.search(
        rb"\0(libfuse3[-\w]*\.so(?:\.\d+)*)\0", extension.read_bytes()
    )  # of its table of strings
    if match is None:
        raise LookupError(f"{extension} is not linked to libfuse3")
    return match[1].decode("ascii")


def check_libfuse(extension: Path | None = None) -> Finding:
    """Check the libfuse that pyfuse3 will use. extension: see linked_libfuse."""
    try:
        library = linked_libfuse(extension)
    except (LookupError, OSError) as error:
        return Finding("libfuse", State.BAD, f"cannot be found: {error}", "pip install policyfs again")
    try:
        version = int(ctypes.CDLL(library).fuse_version())
    except OSError as error:
        package = f"libfuse3-{library.rpartition('.so.')[2]}"
        todo = f"apt install {package}; where there is none, pip install --force-reinstall policyfs"
        return Finding("libfuse", State.BAD, f"cannot load {library}: {error}", todo)
    text = f"libfuse {version // 100}.{version % 100}"
    if version < LIBFUSE_SINCE:
        return Finding("libfuse", State.BAD, f"{text} is too old", "use libfuse 3.14 or newer")
    return Finding("libfuse", State.OK, text)


def check_bridge() -> Finding:
    """Check that the C bridge and pyfuse3 can be loaded."""
    try:
        from policyfs.kernel.bridge import pyfuse3
    except ImportError as error:
        todo = "apt install gcc pkg-config libfuse3-dev python3-dev, then pip install policyfs again"
        return Finding("bridge", State.BAD, f"the C bridge cannot be loaded: {error}", todo)
    return Finding("bridge", State.OK, f"pyfuse3 {pyfuse3.__version__} with passthrough added")


def check_descriptors(limit: int) -> Finding:
    """Check the limit on open files (the hard one: the daemon raises its own to it)."""
    if limit < DESCRIPTORS_BAD:
        todo = "LimitNOFILE=65536 in the unit, or ulimit -n"
        return Finding("descriptors", State.BAD, f"{limit} at most: apps would soon get EMFILE", todo)
    if limit < DESCRIPTORS_FEW:
        todo = "LimitNOFILE=65536 in the unit, or ulimit -n"
        return Finding("descriptors", State.SLOW, f"{limit} files open at once at most", todo)
    return Finding("descriptors", State.OK, f"{limit} files open at once")


def check_libmagic() -> Finding:
    """Check that libmagic can be loaded and knows a JPEG."""
    todo = "apt install libmagic1 (and libmagic-mgc); without it every rule that asks for a type denies"
    try:
        import magic
    except ImportError as error:
        return Finding("libmagic", State.BAD, f"contents cannot be recognised: {error}", todo)
    try:
        kind = magic.from_buffer(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", mime=True)
    except (magic.MagicException, OSError) as error:
        return Finding("libmagic", State.BAD, f"contents cannot be recognised: {error}", todo)
    if kind != "image/jpeg":
        return Finding("libmagic", State.BAD, f"takes a JPEG for {kind}", todo)
    return Finding("libmagic", State.OK, "contents are recognised")


def check_trail(root: str) -> Finding:
    """Check that a file can be written in the trail's directory, or in the one above it."""
    where = Path(root)
    while not where.exists() and where != where.parent:
        where = where.parent
    try:
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(b"x")
    except OSError as error:
        todo = "make it writable for root, or name another: --trail DIR"
        return Finding("trail", State.BAD, f"{root} cannot be written: {error.strerror}", todo)
    return Finding("trail", State.OK, f"{root} can be written")


def check_trail_place(root: str, store: str) -> Finding:
    """Check that the trail and the store are not on one file system, which apps could fill."""
    where = Path(root)
    while not where.exists() and where != where.parent:
        where = where.parent
    try:
        same = where.stat().st_dev == Path(store).stat().st_dev
    except OSError as error:
        return Finding("trail place", State.OFF, f"cannot be looked at: {error.strerror}", "see `store`")
    if same:
        what = f"{root} is on the store's file system: apps that fill it leave the trail no room"
        todo = "put the trail on a file system of its own: --trail DIR, or mount one there"
        return Finding("trail place", State.OFF, what, todo)
    return Finding("trail place", State.OK, "the trail has a file system of its own")


def check_filter(machine: str, kernel_has: bool) -> Finding:
    """Check that a serving daemon can be limited to few system calls. machine: as uname -m names it."""
    calls = seccomp.NUMBERS.get(machine)
    if calls is None:
        what = f"no list of system calls for {machine}: a daemon that is taken over has all of them"
        return Finding("system calls", State.OFF, what, "use x86_64 or aarch64")
    if not kernel_has:
        what = "the kernel has no filter of system calls: a daemon that is taken over has all of them"
        return Finding("system calls", State.OFF, what, "CONFIG_SECCOMP_FILTER")
    return Finding("system calls", State.OK, f"a daemon that serves has {len(calls)} left")


def check_daemons() -> Iterator[Finding]:
    """Yield the containment of each daemon that runs here, as the kernel reports it."""
    for mount in mounts():
        if mount.fstype != FSTYPE:
            continue
        name = f"daemon of {mount.path}"
        try:
            pid = control.ask(control.socket_path(mount.path), "status", _STATUS_S)["pid"]
            held = containment(int(str(pid)))
        except (PolicyfsError, OSError, LookupError, ValueError) as error:
            yield Finding(name, State.OFF, f"does not say: {error}", f"policyfs status {mount.path}")
            continue
        yield daemon_finding(name, held)


def daemon_finding(name: str, held: Containment) -> Finding:
    """Return a daemon's containment as a finding."""
    if held.missing:
        return Finding(name, State.OFF, "; ".join(held.missing), "start it anew; see `system calls`")
    what = f"{len(held.capabilities)} capabilities, no new privileges, system calls filtered, no network"
    return Finding(name, State.OK, what)


# ---------------------------------------------------------------- passthrough and the store


def check_passthrough(store: str | None) -> Finding:
    """Try a mount, and passthrough for a file of the store, or for a copy in memory."""
    from policyfs.kernel.session import MountError
    from policyfs.kernel.trial import try_passthrough

    subject = f"files of {store}" if store else "copies in memory"
    slow = "reads and writes go through the daemon"
    try:
        trial = try_passthrough(store)
    except MountError as error:
        return Finding("passthrough", State.BAD, f"the trial mount failed: {error}", "see above")
    except OSError as error:
        what = f"could not be tried in {store}: {error.strerror}"
        return Finding("passthrough", State.SLOW, what, "see `status` once it is mounted")
    if trial.backing is not None:
        todo = "use a store that is not an overlay, and Linux 6.9 or newer as root"
        return Finding("passthrough", State.SLOW, f"not for {subject}: {trial.backing.reason}; {slow}", todo)
    return Finding("passthrough", State.OK, f"for {subject}; FUSE protocol 7.{trial.minor}")


def check_store(facts: StoreFacts, store: str) -> Iterator[Finding]:
    """Yield the features of the store's file system, as a probe found them."""
    if facts.read_only:
        todo = "mount it writable, unless nobody shall write"
        yield Finding("store", State.OFF, f"{store} ({facts.name}) is read-only: writes say EROFS", todo)
    else:
        yield Finding("store", State.OK, f"{store} is {facts.name}")
    rows: tuple[tuple[str, bool, str, State, str, str], ...] = (
        (
            "reflink",
            facts.reflink,
            "redacted copies cost nothing at any size",
            State.SLOW,
            "redacted copies are made in memory, up to a size; larger files need a lease",
            "xfs and btrfs have it",
        ),
        (
            "leases",
            facts.leases,
            "large files are guarded against writers",
            State.OFF,
            "large files under redaction are denied",
            "use a local ext4, xfs or btrfs store",
        ),
        (
            "trusted xattrs",
            facts.trusted_xattr,
            "owners are kept on the files",
            State.SLOW,
            "owners are kept in a database beside the trail",
            "use ext4, xfs or btrfs",
        ),
        (
            "user xattrs",
            facts.user_xattr,
            "apps may keep user.* attributes",
            State.OFF,
            "apps get EOPNOTSUPP for user.* attributes",
            "use ext4, xfs or btrfs",
        ),
        (
            "fanotify",
            facts.fanotify,
            "changes from elsewhere are seen at once",
            State.SLOW,
            "changes from elsewhere are seen after a second at most, and less is cached",
            "CONFIG_FANOTIFY, and a local file system",
        ),
        (
            "case",
            not facts.casefold,
            "names differ by case",
            State.OFF,
            "names that differ only in case are one file here, and rules must not be walked around so",
            "use a directory without casefold (chattr -F)",
        ),
    )
    for name, fine, good, state, missing, todo in rows:
        yield Finding(name, State.OK, good) if fine else Finding(name, state, missing, todo)


def check_closed(store: str) -> Finding:
    """Check that apps cannot reach the store by its path: it is closed, or a directory above it is."""
    top = Path(store).resolve()
    for where in (top, *top.parents):
        found = where.stat()
        if found.st_uid in {0, os.geteuid()} and not found.st_mode & (0o077 if where == top else 0o011):
            return Finding("store mode", State.OK, f"{where} is closed to apps")
    mode, owner = top.stat().st_mode & 0o7777, top.stat().st_uid
    return Finding(
        "store mode",
        State.OFF,
        f"{store} is open to others (mode {mode:04o}, uid {owner}): apps can go round the mount",
        f"chown root: {store}; chmod 700 {store}",
    )


def probe_store(store: str) -> Iterator[Finding]:
    """Open the directory and yield check_store; an error of the path is a finding too."""
    try:
        fd = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        yield Finding("store", State.BAD, f"{store}: {error.strerror}", "name the directory with the media")
        return
    try:
        yield check_closed(store)
        yield from check_store(probe(fd), store)
    finally:
        os.close(fd)


# ---------------------------------------------------------------- command


def examine(store: str | None, trail: str) -> list[Finding]:
    """Return every finding, the machine's first."""
    checks: list[Callable[[], Finding]] = [
        lambda: check_kernel(os.uname().release),
        check_device,
        check_connections,
        lambda: check_fusermount(shutil.which("fusermount3") or shutil.which("fusermount")),
        lambda: check_capability(
            Path("/proc/self/status").read_text(encoding="utf-8"),
            Path("/proc/self/uid_map").read_text(encoding="utf-8"),
        ),
        check_libfuse,
        check_bridge,
        check_libmagic,
        lambda: check_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        lambda: check_trail(trail),
        lambda: check_filter(os.uname().machine, SECCOMP.exists()),
    ]
    findings = [check() for check in checks]
    if any(finding.state is State.BAD for finding in findings[:7]):
        findings.append(Finding("passthrough", State.BAD, "not tried: nothing can be mounted", "see above"))
    else:
        findings.append(check_passthrough(store))
    if store is not None:
        findings += probe_store(store)
        findings.append(check_trail_place(trail, store))
    findings += check_daemons()
    return findings


def render(findings: list[Finding]) -> str:
    """Return a table for people: state, name, result, and the remedy below it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state.value:<5} {finding.name:<{width}}  {finding.what}")
        if finding.todo:
            lines.append(f"{'':<5} {'':<{width}}  -> {finding.todo}")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Print the findings. Exit code 1 if any is bad."""
    store: str | None = args.store
    if store is not None and not os.path.isabs(store):
        store = os.path.abspath(store)
    if args.trail == "":
        raise UsageError("--trail needs a directory")
    findings = examine(store, trail_root(args.trail))
    if args.json:
        rows = [
            {"name": row.name, "state": row.state.value, "what": row.what, "todo": row.todo}
            for row in findings
        ]
        print(json.dumps(rows, indent=2))
    else:
        print(render(findings))
    bad = any(finding.state is State.BAD for finding in findings)
    return EXIT_REFUSED if bad else EXIT_OK


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor` to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="what will be slow or impossible on this machine, and what to do about it",
        description="Looks at the kernel, libfuse, rights and limits, and at a store if one is named.",
    )
    parser.add_argument("store", nargs="?", metavar="STORE", help="also look at this store's file system")
    parser.add_argument("--trail", metavar="DIR", help="where the trail goes (default: the machine's)")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    parser.set_defaults(run=run)
