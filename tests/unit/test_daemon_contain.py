"""What a process that serves can still do: the refused things tried in forked children, the filter run."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import threading

import pytest

from policyfs.daemon import contain
from policyfs.errors import PolicyfsError
from policyfs.linux.confinement import seccomp
from policyfs.linux.confinement.capabilities import Capability, keep, rights_of
from policyfs.linux.confinement.namespaces import leave_network
from tests.support.machine.inchild import child, exit_code, in_child

pytestmark = pytest.mark.mount

LIBC = ctypes.CDLL(None, use_errno=True)


def errno_of(function, *arguments) -> str:
    """ "" if the call works, else the name of its errno."""
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    except ValueError as error:  # resource.setrlimit's word for EPERM
        return str(error)
    return ""


def libc(name: str, *arguments):
    """A libc function as one that raises."""

    def call() -> None:
        if getattr(LIBC, name)(*arguments) < 0:
            code = ctypes.get_errno()
            raise OSError(code, name)

    return call


def exec_map() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


REFUSED = {
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "fork": os.fork,
    "vfork": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "trace": libc("ptrace", 16, os.getppid(), 0, 0),
    "read another's memory": libc("process_vm_readv", os.getppid(), None, 0, None, 0, 0),
    "mount": libc("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "a namespace": libc("unshare", 0x00020000),
    "enter a namespace": libc("setns", 0, 0),
    "chroot": lambda: os.chroot("/"),
    "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "the internet": lambda: socket.socket(socket.AF_INET),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "another's socket": lambda: socket.socket(socket.AF_UNIX),
    "bpf": libc("syscall", 321 if platform.machine() == "x86_64" else 280, 0, None, 0),
    "a module": libc("syscall", 313 if platform.machine() == "x86_64" else 273, -1, b"", 0),
    "kexec": libc("syscall", 246 if platform.machine() == "x86_64" else 104, 0, 0, None, 0),
    "reboot": libc("reboot", 0),
    "the clock": libc("syscall", 227 if platform.machine() == "x86_64" else 112, 0, None),
    "io_uring": libc("syscall", 425, 1, None),
    "keys": libc("syscall", 250 if platform.machine() == "x86_64" else 219, 0, 0),
    "executable memory": exec_map,
    "kill another": lambda: os.kill(os.getppid(), 0),
    "a device": lambda: os.mknod("/tmp/policyfs-test-device", 0o60600, os.makedev(7, 0)),
    "inject keys into a terminal": lambda: fcntl.ioctl(0, 0x5412, b"x"),
    "a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "become another for good": lambda: os.setresuid(1, 1, 1),
    "a host name": lambda: socket.sethostname("x"),
}


@pytest.mark.parametrize("inside", [False, True], ids=["before", "in a daemon that serves"])
def test_what_no_daemon_needs_is_refused(inside: bool) -> None:
    """Before, each either works or fails for another reason: so it is the filter that refuses."""

    def child() -> dict[str, str]:
        if inside:
            contain.give_up_rights()
            assert contain.close_door()
            return {name: errno_of(call) for name, call in REFUSED.items()}
        harmless = ("another's socket", "kill another", "executable memory", "a limit")
        return {name: errno_of(REFUSED[name]) for name in harmless}

    said = in_child(child)
    assert isinstance(said, dict), said
    if not inside:
        assert said == dict.fromkeys(said, "")
        return
    assert said.pop("a limit") in {"EBADRQC", "not allowed to raise maximum limit"}
    assert said == dict.fromkeys(said, "EBADRQC")


def test_what_a_daemon_needs_still_works() -> None:
    def child() -> list[str]:
        contain.give_up_rights()
        assert contain.close_door()
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(errno_of(os.listdir, "/")))
        thread.start()
        thread.join()
        ours, theirs = socket.socketpair()
        theirs.send(b"x")
        copy = os.memfd_create("copy")
        os.pwrite(copy, b"bytes", 0)
        return [*found, ours.recv(1).decode(), os.pread(copy, 5, 0).decode(), errno_of(os.kill, 0, 0)]

    assert in_child(child) == ["", "x", "bytes", "EBADRQC"]


def test_the_threads_that_are_there_are_shut_in_too() -> None:
    def child() -> list[str]:
        go, found = threading.Event(), []

        def other() -> None:
            go.wait(10)
            found.append(errno_of(socket.socket))

        thread = threading.Thread(target=other)
        thread.start()
        assert contain.close_door()
        go.set()
        thread.join()
        return found

    assert in_child(child) == ["EBADRQC"]


def test_a_thread_that_kept_its_rights_stops_the_daemon() -> None:
    def child() -> str:
        end = threading.Event()
        thread = threading.Thread(target=end.wait, args=(10,))
        thread.start()
        try:
            contain.give_up_rights()
        except PolicyfsError as error:
            return str(error)
        finally:
            end.set()
        return "went on"

    assert in_child(child) == "the daemon could not give up rights: one of its threads still has rights"


@pytest.mark.parametrize("special_files", [False, True])
def test_only_the_listed_capabilities_are_left(special_files: bool) -> None:
    def child() -> list[list[int]]:
        contain.give_up_rights(special_files=special_files)
        held = rights_of()
        return [sorted(one) for one in (held.effective, held.permitted, held.bounding, held.handed_on)]

    kept = sorted(contain.DAEMON | ({Capability.MKNOD} if special_files else set()))
    assert in_child(child) == [kept, kept, kept, []]


def test_what_is_missing_is_said() -> None:
    def child() -> list[list[str]]:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
        before = contain.containment()
        leave_network()
        contain.give_up_rights()
        contain.close_door()
        core = resource.getrlimit(resource.RLIMIT_CORE)
        return [list(before.missing), list(contain.containment().missing), core]

    said = in_child(child)
    assert isinstance(said, list), said
    before, after, core = said
    assert len(before) == 6
    assert after == []
    assert core == [1, 1], "with 0 the kernel still gives a crash's memory to a program in core_pattern"


def test_where_the_limit_of_core_files_cannot_be_1_it_is_0_and_that_is_said() -> None:
    def child() -> list[object]:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        keep(contain.WITH_DEVICES)  # without SYS_RESOURCE
        contain.give_up_rights()
        return [resource.getrlimit(resource.RLIMIT_CORE), list(contain.containment().missing)]

    core, missing = in_child(child)
    assert core == [0, 0]
    assert any("crash" in one for one in missing)


def test_an_unknown_machine_has_no_filter(monkeypatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert not contain.close_door()
    assert rights_of().seccomp == "off"


# ---------------------------------------------------------------- the program itself


def run_filter(program: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What a classic BPF program answers to a call: a small interpreter."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, k = struct.unpack_from("<HBBI", program, 8 * at)
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif operation == 0x15:
            at += if_true if accumulator == k else if_false
        elif operation == 0x25:
            at += if_true if accumulator > k else if_false
        elif operation == 0x45:
            at += if_true if accumulator & k else if_false
        else:
            assert operation == 0x06
            return k


ALLOW, NO, UNKNOWN, KILL = 0x7FFF0000, 0x50000 | errno.EBADRQC, 0x50000 | errno.ENOSYS, 0x80000000
ARGUMENTS = {
    # name: (allowed, refused)
    "mmap": ((0, 0, 3), (0, 0, 4)),
    "mprotect": ((0, 0, 1), (0, 0, 7)),
    "ioctl": ((9, 0x4010E501), (9, 0x5412)),
    "clone": ((0x3D0F00,), (0x11,)),
    "prctl": ((15,), (22,)),
    "prlimit64": ((0, 7, 0), (0, 7, 1 << 32)),
    "socketpair": ((1,), (2,)),
    "tgkill": ((77,), (78,)),
    "mknodat": ((0, 0, 0o100644), (0, 0, 0o060644)),
}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_exactly_its_list(machine: str) -> None:
    calls, architecture = seccomp.NUMBERS[machine], {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    program = seccomp.filter_program(machine, 77)
    assert program is not None
    names = {number: name for name, number in calls.items()}
    for number in range(467):
        name = names.get(number)
        if name in ARGUMENTS:
            good, bad = ARGUMENTS[name]
            assert run_filter(program, architecture, number, good) == ALLOW, name
            assert run_filter(program, architecture, number, bad) == NO, name
        else:
            expected = ALLOW if name is not None and name != "seccomp" else NO
            assert run_filter(program, architecture, number) == expected, name
    namespace_too = (0x3D0F00 | 0x20000,)
    assert run_filter(program, architecture, calls["clone"], namespace_too) == NO
    assert run_filter(program, architecture, 0x40000000 + 59) == KILL  # x32
    assert run_filter(program, 0x40000003, 11) == KILL  # i386


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_calls_that_libc_can_do_without_are_not_there(machine: str) -> None:
    architecture = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    program = seccomp.unknown_program(machine)
    assert run_filter(program, architecture, 435) == UNKNOWN  # clone3
    assert run_filter(program, architecture, 467) == UNKNOWN
    assert run_filter(program, architecture, 0) == ALLOW
    assert run_filter(program, architecture, 434) == ALLOW


def test_a_keeper_can_wait_signal_and_complain_and_nothing_else() -> None:
    """All is tried with descriptors and a child that were there before."""
    told = mmap.mmap(-1, 4096)

    def work() -> int:
        sleeper = child(lambda: signal.pause() or 0)
        end, _other = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        assert seccomp.only_wait()
        found = {
            "open": errno_of(os.open, os.devnull, os.O_RDONLY), "read": errno_of(os.read, end, 1),
            "write": errno_of(os.write, null, b"x"), "fork": errno_of(os.fork), "dup": errno_of(os.dup, null),
            "execute": errno_of(os.execv, "/bin/true", ["true"]), "socket": errno_of(socket.socket),
            "trace": errno_of(libc("ptrace", 16, sleeper, 0, 0)),
            "unshare": errno_of(libc("unshare", 0x20000)),
            "map code": errno_of(mmap.mmap, -1, 4096, mmap.MAP_PRIVATE, mmap.PROT_EXEC),
            "kill": errno_of(os.kill, sleeper, signal.SIGKILL), "wait": str(exit_code(sleeper)),
        }  # fmt: skip
        told[:] = json.dumps(found).encode().ljust(len(told))
        return 0

    assert exit_code(child(work)) == 0
    found = json.loads(told[:])
    assert (found.pop("kill"), found.pop("wait")) == ("", "-9")
    assert found.pop("write") == "EBADRQC"  # refused by its descriptor: standard error is allowed
    assert set(found.values()) == {"EPERM"}, found
