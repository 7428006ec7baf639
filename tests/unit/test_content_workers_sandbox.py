"""What a confined process can still do: tried in forked children, each layer by itself too."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from policyfs.content.workers import sandbox as under_test
from policyfs.content.workers.sandbox import ConfinementError, Limits, confine, seccomp_filter
from policyfs.linux.confinement import seccomp
from tests.support.machine.ambient import hand_on_everything
from tests.support.machine.inchild import in_child

LIMITS = Limits(uid=65534, gid=65534, address_space=512 << 20, cpu_s=60, descriptors=64)


def errno_of(function, *arguments) -> int:
    """0 if the call works, else its errno."""
    try:
        function(*arguments)
    except OSError as error:
        return error.errno
    except ValueError:  # resource.setrlimit's word for EPERM
        return errno.EPERM
    return 0


def exec_map() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


TRIES = {
    "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "list": lambda: os.listdir("/"),
    "stat": lambda: os.stat("/etc"),
    "socket": socket.socket,
    "unix socket": lambda: socket.socket(socket.AF_UNIX),
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill parent": lambda: os.kill(os.getppid(), 0),
    "become root": lambda: os.setuid(0),
    "executable memory": exec_map,
    "memfd": lambda: os.memfd_create("x"),
    "raise limit": lambda: resource.setrlimit(resource.RLIMIT_NPROC, (10, 10)),
    "chroot": lambda: os.chroot("."),
    "fcntl": lambda: os.set_blocking(0, False),
}


def test_a_confined_process_can_do_nothing():
    parent = os.getpid()

    def child() -> dict[str, int]:
        confine(LIMITS, parent)
        return {name: errno_of(function) for name, function in TRIES.items()}

    assert in_child(child) == dict.fromkeys(TRIES, errno.EPERM)


def test_a_confined_process_of_a_user_can_do_nothing():
    """It keeps the uid, so that the filter of system calls alone keeps it from the user's processes."""
    limits, parent = Limits(10010, 10010, 1 << 40, 60, 64, users=True), os.getpid()

    def child() -> dict[str, int]:
        os.setgroups([])
        os.setresgid(10010, 10010, 10010)
        os.setresuid(10010, 10010, 10010)
        confine(limits, parent)
        return {name: errno_of(function) for name, function in TRIES.items()}

    assert in_child(child) == dict.fromkeys(TRIES, errno.EPERM)


def test_a_user_without_the_filter_has_no_worker(monkeypatch):
    monkeypatch.setattr(under_test, "_seccomp", lambda: False)
    parent = os.getpid()

    def child() -> None:
        os.setresgid(10010, 10010, 10010)
        os.setresuid(10010, 10010, 10010)
        confine(Limits(10010, 10010, 1 << 40, 60, 64, users=True), parent)

    assert str(in_child(child)).startswith(ConfinementError.__name__)


def test_root_is_no_user_in_this_sense():
    parent = os.getpid()
    told = in_child(lambda: confine(Limits(10010, 10010, 1 << 40, 60, 64, users=True), parent))
    assert str(told).startswith(ConfinementError.__name__)


def test_a_confined_process_sends_and_receives_no_urgent_data():
    """The kernel's code for it in Unix sockets had bugs that gave such a process the kernel's memory."""
    parent = os.getpid()

    def child() -> list[int]:
        ours, theirs = socket.socketpair()
        confine(LIMITS, parent)
        ways = (
            lambda: ours.send(b"x", socket.MSG_OOB),
            lambda: ours.sendmsg([b"x"], [], socket.MSG_OOB),
            lambda: theirs.recv(1, socket.MSG_OOB),
            lambda: theirs.recvmsg(1, 0, socket.MSG_OOB),
        )
        return [errno_of(way) for way in ways]

    assert in_child(child) == [errno.EPERM] * 4


def test_what_is_needed_still_works(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100_000)
    parent = os.getpid()
    used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    limits = replace(LIMITS, address_space=used + (100 << 20))  # this process itself may be large

    def child() -> object:
        fd = os.open(path, os.O_RDONLY)
        ours, theirs = socket.socketpair()
        confine(limits, parent)
        data = os.pread(fd, 200_000, 0)
        ours.sendall(data[:10])
        grown = bytearray(50 << 20)
        return [len(data), len(theirs.recvmsg(100)[0]), len(grown)]

    assert in_child(child) == [100_000, 10, 50 << 20]


def test_memory_ends_at_the_limit():
    parent = os.getpid()

    def child() -> object:
        confine(LIMITS, parent)
        return len(bytearray(600 << 20))

    assert in_child(child) == "MemoryError: "


@pytest.mark.parametrize("limits", [Limits(0, 65534, 1 << 29, 60, 64), Limits(65534, 0, 1 << 29, 60, 64)])
def test_root_is_no_uid_for_a_worker(limits):
    parent = os.getpid()
    assert str(in_child(lambda: confine(limits, parent))).startswith(ConfinementError.__name__)


def test_a_worker_whose_zygote_is_gone_does_not_start():
    parent = os.getpid()
    assert str(in_child(lambda: confine(LIMITS, parent + 1))).startswith(ConfinementError.__name__)


def test_everything_held_here():
    """This kernel has all of it (Linux >= 6.12 with Landlock and seccomp built in)."""
    parent = os.getpid()
    held = ", ".join(in_child(lambda: confine(LIMITS, parent)))
    for part in ("chroot", "uid 65534", "no_new_privs", "landlock", "seccomp"):
        assert part in held


def test_landlock_holds_however_many_descriptors_are_open():
    """It needs one more, which the limit of descriptors could refuse."""
    parent = os.getpid()

    def child() -> str:
        for _ in range(LIMITS.descriptors):
            os.dup(0)
        return ", ".join(confine(LIMITS, parent))

    assert "landlock" in str(in_child(child))


def test_a_worker_that_landlock_does_not_take_does_not_start():
    """A kernel that has Landlock can refuse it: a process may have 16 rule sets at most."""
    parent = os.getpid()

    def child() -> str:
        assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
        for _ in range(16):
            assert under_test._landlock()
        return ", ".join(confine(LIMITS, parent))

    assert str(in_child(child)).startswith(ConfinementError.__name__)


def test_landlock_alone_forbids_every_path():
    def child() -> list[int]:
        assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
        assert under_test._landlock()
        return [
            errno_of(os.open, "/etc/passwd", os.O_RDONLY),
            errno_of(os.listdir, "/"),
            errno_of(os.mkdir, "/tmp/policyfs-never"),
            errno_of(os.kill, os.getppid(), 0),
        ]

    assert in_child(child) == [errno.EACCES, errno.EACCES, errno.EACCES, errno.EPERM]


def test_chroot_alone_leaves_no_file():
    def child() -> list[object]:
        os.chroot("/proc/self/fdinfo")
        os.chdir("/")
        os.setresuid(65534, 65534, 65534)
        return [errno_of(os.stat, "/etc"), errno_of(os.stat, "/proc"), errno_of(os.open, "x", os.O_CREAT)]

    assert in_child(child) == [errno.ENOENT] * 3


def run_filter(program: bytes, architecture: int, number: int, argument_2: int) -> int:
    """What the kernel would return: classic BPF, the four instructions that are used."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, 0, 0, argument_2, 0, 0, 0)
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif operation == 0x15:
            at += if_true if accumulator == k else if_false
        elif operation == 0x45:
            at += if_true if accumulator & k else if_false
        else:
            assert operation == 0x06
            return k


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_exactly_its_list(machine):
    program = seccomp_filter(machine)
    architecture = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    numbers = seccomp.NUMBERS[machine]
    allowed = {numbers[name] for name in under_test._CALLS}
    assert allowed.isdisjoint(numbers[name] for name in ("openat", "socketpair", "clone", "ioctl", "read"))
    for number in range(600):
        expected = 0x7FFF0000 if number in allowed else 0x00050001
        assert run_filter(program, architecture, number, 2) == expected
    for name in ("sendmsg", "recvmsg"):
        assert run_filter(program, architecture, numbers[name], 0x4000 | socket.MSG_OOB) == 0x00050001
    for name in ("mmap", "mprotect"):
        assert run_filter(program, architecture, numbers[name], 4) == 0x00050001
    assert run_filter(program, architecture, 0x40000000 + 47, 0) == 0x80000000  # x32
    assert run_filter(program, 0x40000003, 3, 0) == 0x80000000  # i386


def test_an_unknown_machine_has_no_filter():
    assert seccomp_filter("vax") is None
    assert seccomp_filter(platform.machine()) is not None


@pytest.mark.parametrize("held", [True, False])
def test_no_capability_outlives_the_change_of_uid(held: bool, monkeypatch: pytest.MonkeyPatch):
    """A unit with SecureBits=no-setuid-fixup. With setresuid(2) alone, the worker keeps capabilities."""
    if not held:
        monkeypatch.setattr(under_test, "become", lambda uid, gid: os.setresuid(uid, uid, uid))
    parent, (ours, theirs) = os.getpid(), socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            hand_on_everything()
            confine(LIMITS, parent)
            theirs.send(b"confined")
            theirs.recv(1)
        finally:
            os._exit(0)
    theirs.close()
    assert ours.recv(8) == b"confined"
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    ours.close()
    os.waitpid(pid, 0)
    sets = [line for line in status.splitlines() if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb"))]
    assert all(int(line.split()[1], 16) == 0 for line in sets) == held
