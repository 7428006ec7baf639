"""Checks of this machine: kernel, rights, libraries, limits, and the daemons that run on it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

from policyfs.cli.common.on_record import existing
from policyfs.cli.common.processes import look
from policyfs.cli.common.target_places import is_place
from policyfs.cli.machine.findings import Finding, State
from policyfs.daemon.contain import Containment, containment
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.kernel import mount_api
from policyfs.linux.confinement import seccomp
from policyfs.linux.confinement.namespaces import is_first_user_namespace
from policyfs.linux.mountinfo import FSTYPE, mounts, mounts_at
from policyfs.trail.lines.table import shown

PASSTHROUGH_SINCE: Final = (6, 9)
LIBFUSE_SINCE: Final = 314  # 3.14, the first with fuse_session_custom_io
DESCRIPTORS_BAD: Final = 1_024
DESCRIPTORS_FEW: Final = 16_384
CAP_SYS_ADMIN: Final = 21  # include/uapi/linux/capability.h
FUSE_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
_STATUS_S: Final = 3.0


def check_kernel(release: str) -> Finding:
    """Compare the kernel's version (as uname -r prints it) with the first that has FUSE passthrough."""
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
        todo = "modprobe fuse; in a container: run the container with --device /dev/fuse"
        return Finding("fuse", State.BAD, f"there is no {path}", todo)
    except OSError as error:
        todo = "modprobe fuse; run as root; in a container: --device /dev/fuse"
        return Finding("fuse", State.BAD, f"cannot open {path}: {error.strerror}", todo)
    return Finding("fuse", State.OK, f"{path} can be opened")


def check_connections(directory: Path = FUSE_CONNECTIONS) -> Finding:
    """Check that fusectl is mounted. Without it, root cannot free processes that wait in a hung mount."""
    if mounts_at(str(directory)):
        return Finding("fusectl", State.OK, f"{directory} can abort a hung mount")
    todo = f"mount -t fusectl none {directory}"
    return Finding("fusectl", State.OFF, "nothing can abort a hung mount", todo)


def check_fusermount(path: str | None) -> Finding:
    """Check that no set-uid program (fusermount3) lets an app unmount its own app mount. path: the path of
    fusermount3."""
    found = None if path is None else os.stat(path)
    if found is None or not found.st_mode & stat.S_ISUID or found.st_uid:
        return Finding("fusermount", State.OK, "no app can unmount its own mount")
    return Finding(
        "fusermount",
        State.OFF,
        f"an app can unmount its own app mount with `{path} -u`; the unit then mounts it again",
        f"write NoNewPrivileges=yes in the app's unit; or chmod u-s {path}, if no other program uses FUSE",
    )


def check_capability(status: str, uid_map: str) -> Finding:
    """Check for CAP_SYS_ADMIN, and for the user namespace of the machine. status, uid_map: the contents of
    these two files in /proc/self."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if match is None or not int(match[1], 16) >> CAP_SYS_ADMIN & 1:
        return Finding(
            "capability", State.BAD, "CAP_SYS_ADMIN is missing: nothing can be mounted", "run as root"
        )
    if not is_first_user_namespace(uid_map):
        return Finding(
            "capability",
            State.SLOW,
            "CAP_SYS_ADMIN is limited to this user namespace (a container): no passthrough, no watch on the"
            " store, no trusted xattrs",
            "run the daemon outside of the container to have these",
        )
    return Finding("capability", State.OK, "CAP_SYS_ADMIN")


def check_own_proc() -> Finding:
    """Check that a daemon can make an instance of procfs that no app reaches (policyfs.linux.procfs)."""
    try:
        os.close(mount_api.procfs_instance())
    except OSError as error:
        return Finding(
            "procfs", State.OFF,
            f"a daemon cannot have its own instance of procfs ({error.strerror}): an app that locks a"
            " directory in /proc can make all apps of a mount wait without end",
            "run the daemon as root outside of a container; or give the container CAP_SYS_ADMIN, and a /proc"
            " without hidden parts (Docker: --security-opt systempaths=unconfined)",
        )  # fmt: skip
    return Finding("procfs", State.OK, "each daemon reads /proc by an instance that no app can lock")


def linked_libfuse(extension: Path | None = None) -> str:
    """Return the file name of the libfuse that pyfuse3 is linked to, such as libfuse3.so.4.

    Raises LookupError. Releases of libfuse have different ABI numbers, and pyfuse3 is compiled for one such
    number. This function reads the file of pyfuse3, and does not load it: policyfs's bridge must be loaded
    first. extension: the path of pyfuse3's library; None: the installed one.
    """
    if extension is None:
        spec = importlib.util.find_spec("pyfuse3")
        if spec is None or spec.origin is None:
            raise LookupError("pyfuse3 is not installed")
        extension = Path(spec.origin)
    match = re.search(
        rb"\0(libfuse3[-\w]*\.so(?:\.\d+)*)\0", extension.read_bytes()
    )  # in the file's string table
    if match is None:
        raise LookupError(f"{extension} is not linked to libfuse3")
    return match[1].decode("ascii")


def check_libfuse(extension: Path | None = None) -> Finding:
    """Check the libfuse that pyfuse3 will use. extension: the path of pyfuse3's library; None: the installed
    one."""
    try:
        library = linked_libfuse(extension)
    except (LookupError, OSError) as error:
        return Finding("libfuse", State.BAD, f"cannot be found: {error}", "pip install policyfs again")
    try:
        version = int(ctypes.CDLL(library).fuse_version())
    except OSError as error:
        package = f"libfuse3-{library.rpartition('.so.')[2]}"
        todo = f"apt install {package}; if there is no such package, pip install --force-reinstall policyfs"
        return Finding("libfuse", State.BAD, f"cannot load {library}: {error}", todo)
    text = f"libfuse {version // 100}.{version % 100}"
    if version < LIBFUSE_SINCE:
        return Finding("libfuse", State.BAD, f"{text} is too old", "use libfuse 3.14 or newer")
    return Finding("libfuse", State.OK, text)


def check_bridge() -> Finding:
    """Check that the C bridge and pyfuse3 can be loaded."""
    try:
        import policyfs.kernel.bridge  # noqa: F401 - to try it
    except ImportError as error:
        todo = "apt install gcc pkg-config libfuse3-dev python3-dev, then pip install policyfs again"
        return Finding("bridge", State.BAD, f"the C bridge cannot be loaded: {error}", todo)
    return Finding("bridge", State.OK, f"pyfuse3 {metadata.version('pyfuse3')} with passthrough added")


def check_descriptors(limit: int) -> Finding:
    """Check the hard limit on open files. The daemon raises its soft limit to this number."""
    todo = "write LimitNOFILE=65536 in the unit, or run `ulimit -n 65536` before you mount"
    if limit < DESCRIPTORS_BAD:
        return Finding(
            "descriptors", State.BAD, f"at most {limit} open files: apps would soon get EMFILE", todo
        )
    if limit < DESCRIPTORS_FEW:
        return Finding("descriptors", State.SLOW, f"at most {limit} open files", todo)
    return Finding("descriptors", State.OK, f"{limit} open files")


def check_libmagic() -> Finding:
    """Check that libmagic can be loaded, and that it recognises a JPEG."""
    todo = (
        "apt install libmagic1 (and libmagic-mgc); without libmagic, no allow rule with a type such as"
        " image/* matches"
    )
    try:
        from policyfs.content.libmagic import magic
    except ImportError as error:
        return Finding("libmagic", State.BAD, f"cannot find the kind of files: {error}", todo)
    try:
        kind = magic.from_buffer(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", mime=True)
    except magic.MagicException as error:
        return Finding("libmagic", State.BAD, f"cannot find the kind of files: {error}", todo)
    if kind != "image/jpeg":
        return Finding("libmagic", State.BAD, f"libmagic says that a JPEG is {kind}", todo)
    return Finding("libmagic", State.OK, "finds the kind of files")


def check_trail(root: str) -> Finding:
    """Check that files can be written in the trail root (the directory of all trails). If the directory does
    not exist yet, check the nearest directory above it that exists."""
    try:
        with tempfile.TemporaryFile(dir=existing(root)) as file:
            file.write(b"x")
    except OSError as error:
        todo = "make the directory writable for root, or choose another directory with --trail"
        return Finding("trail", State.BAD, f"{root} cannot be written: {error.strerror}", todo)
    return Finding("trail", State.OK, f"{root} can be written")


def check_filter(machine: str, kernel_has: bool) -> Finding:
    """Check that seccomp can restrict a daemon to few system calls after its start. machine: the processor's
    name, as uname -m prints it. kernel_has: True if the kernel supports seccomp."""
    calls = seccomp.NUMBERS.get(machine)
    if calls is None:
        what = f"no list of system calls for {machine}: an attacker in the daemon could use all system calls"
        return Finding("system calls", State.OFF, what, "use a machine with an x86_64 or aarch64 processor")
    if not kernel_has:
        what = "the kernel cannot filter system calls: an attacker in the daemon could use all system calls"
        return Finding("system calls", State.OFF, what, "use a kernel with CONFIG_SECCOMP_FILTER")
    return Finding("system calls", State.OK, f"a running daemon can use {len(calls)} system calls")


def check_daemons() -> Iterator[Finding]:
    """Yield a finding for each running daemon: the restrictions that the kernel reports for its process."""
    for mount in mounts():
        if mount.fstype != FSTYPE or is_place(mount.path):
            continue
        path = shown(mount.path)  # any user may choose a name, and mount there with this type
        name = f"daemon of {path}"
        try:
            pid = control.ask(control.socket_path(mount.path), "status", _STATUS_S)["pid"]
            held = look(partial(containment, int(str(pid))))
        except (PolicyfsError, OSError, LookupError, ValueError) as error:
            yield Finding(name, State.OFF, f"does not answer: {error}", f"policyfs status {path}")
            continue
        yield daemon_finding(name, held)


def daemon_finding(name: str, held: Containment) -> Finding:
    """Return the restrictions of a daemon's process as a finding. name: the daemon's name in the text."""
    if held.missing:
        return Finding(
            name, State.OFF, "; ".join(held.missing), "start the daemon again; see the line `system calls`"
        )
    what = f"{len(held.capabilities)} capabilities, no new privileges, system calls filtered, no network"
    return Finding(name, State.OK, what)
