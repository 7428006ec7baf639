"""Filters of system calls, run by a machine for such programs, and short ones in a child's kernel."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import struct
import threading

import pytest

from policyfs.linux.confinement.seccomp import (
    NUMBERS,
    REFUSED,
    close_door,
    filter_program,
    install,
    short_program,
    unknown_program,
)
from policyfs.linux.libc import LIBC
from tests.support.machine.inchild import in_child

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NO, UNKNOWN = ERRNO | REFUSED, ERRNO | errno.ENOSYS
PID = 4242
NEWEST = 466
MACHINES = pytest.mark.parametrize("machine", NUMBERS)


def answer(
    program: bytes, machine: str, number: int, *arguments: int, architecture: int | None = None
) -> int:
    """What the kernel answers to a call: a machine for classic BPF (linux/filter.h)."""
    arch = ARCHITECTURE[machine] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, *[0] * 6)[:6])
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = word = 0
    while True:
        how, yes, no, k = code[at]
        at += 1
        if how == 0x20:
            word = int.from_bytes(data[k : k + 4], "little")
        elif how == 0x06:
            return int(k)
        else:
            holds = {0x15: word == k, 0x25: word > k, 0x45: bool(word & k)}[how]
            at += yes if holds else no


def asked(machine: str, name: str, *arguments: int, special_files: bool = False) -> int:
    program = filter_program(machine, PID, special_files=special_files)
    assert program is not None
    return answer(program, machine, NUMBERS[machine][name], *arguments)


@MACHINES
def test_listed_calls_are_allowed_and_all_others_are_refused(machine: str) -> None:
    program = filter_program(machine, PID)
    assert program is not None
    by_argument = {
        "mmap", "mprotect", "ioctl", "clone", "seccomp", "prctl", "prlimit64", "socketpair", "tgkill",
        "mknodat", "sched_setaffinity",
    }  # fmt: skip
    plain = {number for name, number in NUMBERS[machine].items() if name not in by_argument}
    answers = {number: answer(program, machine, number) for number in range(NEWEST + 1)}
    assert {number for number in plain if answers[number] != ALLOW} == set()
    listed = set(NUMBERS[machine].values())
    assert {found for number, found in answers.items() if number not in listed} == {NO}


@MACHINES
def test_nothing_that_executes_mounts_or_traces_is_listed(machine: str) -> None:
    never = {
        "execve", "execveat", "fork", "vfork", "ptrace", "mount", "unshare", "setns", "bpf", "init_module",
        "finit_module", "socket", "connect", "bind", "process_vm_writev", "keyctl", "kexec_load",
        "io_uring_setup", "pivot_root", "chroot", "setuid", "reboot", "swapon", "open_tree", "fsopen",
        "move_mount",
    }  # fmt: skip
    assert never & NUMBERS[machine].keys() == set()
    assert len(set(NUMBERS[machine].values())) == len(NUMBERS[machine])


@MACHINES
def test_numbers_of_another_architecture_kill(machine: str) -> None:
    read = NUMBERS[machine]["read"]
    for program in (filter_program(machine, PID), unknown_program(machine), short_program(machine, ["read"])):
        assert program is not None
        assert answer(program, machine, read) == ALLOW
        assert answer(program, machine, read, architecture=0x40000003) == KILL
        assert answer(program, machine, read | 0x40000000) == KILL


@MACHINES
@pytest.mark.parametrize(
    ("name", "arguments", "found"),
    [
        ("mmap", (0, 4096, 3), ALLOW),
        ("mmap", (0, 4096, 4), NO),
        ("mmap", (0, 4096, 7), NO),
        ("mprotect", (0, 4096, 1), ALLOW),
        ("mprotect", (0, 4096, 5), NO),
        ("ioctl", (3, 0x4010E501), ALLOW),
        ("ioctl", (3, 0x5412), NO),  # TIOCSTI
        ("ioctl", (3, 0x40049409), ALLOW),
        ("clone", (0x00010000 | 0x100,), ALLOW),
        ("clone", (0x11,), NO),  # fork
        ("clone", (0x00010000 | 0x10000000,), NO),  # a user namespace
        ("seccomp", (1, 0), NO),
        ("prctl", (15,), ALLOW),
        ("prctl", (38,), NO),
        ("prlimit64", (0, 7, 0), ALLOW),
        ("prlimit64", (0, 7, 1), NO),
        ("prlimit64", (0, 7, 1 << 32), NO),
        ("sched_setaffinity", (0, 128), ALLOW),
        ("sched_setaffinity", (PID, 128), NO),
        ("sched_setaffinity", (1, 128), NO),
        ("sched_setaffinity", (1 << 32, 128), NO),
        ("socketpair", (1,), ALLOW),
        ("socketpair", (2,), NO),
        ("tgkill", (PID, PID, 6), ALLOW),
        ("tgkill", (1, 1, 6), NO),
        ("mknodat", (3, 0, 0o100644), ALLOW),
        ("mknodat", (3, 0, 0o644), ALLOW),
        ("mknodat", (3, 0, 0o020644), NO),
        ("mknodat", (3, 0, 0o060644), NO),
        ("mknodat", (3, 0, 0o010644), NO),
    ],
)
def test_calls_by_their_arguments(machine: str, name: str, arguments: tuple[int, ...], found: int) -> None:
    assert asked(machine, name, *arguments) == found


@MACHINES
def test_special_files_only_where_they_are_wanted(machine: str) -> None:
    assert asked(machine, "mknodat", 3, 0, 0o020644) == NO
    assert asked(machine, "mknodat", 3, 0, 0o020644, special_files=True) == ALLOW
    assert asked(machine, "mmap", 0, 4096, 4, special_files=True) == NO


@MACHINES
def test_calls_that_libc_can_do_without_are_unknown(machine: str) -> None:
    program = unknown_program(machine)
    assert answer(program, machine, NUMBERS[machine]["clone3"]) == UNKNOWN
    assert answer(program, machine, NEWEST + 1) == UNKNOWN
    assert answer(program, machine, NEWEST) == ALLOW
    assert answer(program, machine, NUMBERS[machine]["clone"]) == ALLOW


@MACHINES
def test_a_short_list_refuses_with_an_ordinary_errno(machine: str) -> None:
    program = short_program(machine, ["read", "mmap"])
    assert program is not None
    calls = NUMBERS[machine]
    assert answer(program, machine, calls["read"]) == ALLOW
    assert answer(program, machine, calls["write"]) == ERRNO | errno.EPERM
    assert answer(program, machine, calls["mmap"], 0, 4096, 3) == ALLOW
    assert answer(program, machine, calls["mmap"], 0, 4096, 4) == ERRNO | errno.EPERM
    assert answer(program, machine, calls["mprotect"], 0, 4096, 1) == ERRNO | errno.EPERM


def test_a_machine_without_a_list_has_no_filter() -> None:
    assert filter_program("riscv64", PID) is None
    assert short_program("riscv64", ["read"]) is None


def _under_a_short_list() -> list[int]:
    machine = platform.machine()
    names = [name for name in NUMBERS[machine] if name not in ("getppid", "uname")]
    program = short_program(machine, names)
    assert program is not None
    assert LIBC.prctl(38, 1, 0, 0, 0) == 0
    assert install(machine, program)
    results = []
    for name in ("getpid", "getppid"):
        ctypes.set_errno(0)
        results.append(0 if LIBC.syscall(NUMBERS[machine][name]) > 0 else ctypes.get_errno())
    try:
        mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)
        results.append(0)
    except OSError as error:
        results.append(error.errno or 0)
    return results


def test_the_kernel_takes_a_filter() -> None:
    assert in_child(_under_a_short_list) == [0, errno.EPERM, errno.EPERM]
    assert os.getppid() > 0


def _while_a_thread_has_another_filter() -> str:
    machine, may_end, has_filter = platform.machine(), threading.Event(), threading.Event()
    assert LIBC.prctl(38, 1, 0, 0, 0) == 0

    def other() -> None:
        install(machine, unknown_program(machine))
        has_filter.set()
        may_end.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    has_filter.wait(10)
    ctypes.set_errno(errno.ENOSYS)  # of an earlier call
    try:
        return f"returned {close_door(os.getpid())}"
    except OSError as error:
        return f"{error.errno} {error.strerror}"
    finally:
        may_end.set()


def test_a_thread_without_the_filter_is_an_error_whatever_failed_before() -> None:
    """errno of an earlier call said that the kernel has no seccomp, and the daemon went on without it."""
    expected = f"{errno.EAGAIN} a thread has another filter already"
    assert in_child(_while_a_thread_has_another_filter) == expected
