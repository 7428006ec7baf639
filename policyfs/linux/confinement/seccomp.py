"""Filters of system calls (seccomp): the list for the serving daemon, and a builder for shorter lists.

The daemon stays root with CAP_SYS_ADMIN, which passthrough needs. An attacker in it could execute programs,
mount, enter namespaces, load kernel modules or BPF, trace processes, use the network, or get executable
memory. A call that is not listed fails without effect. Sources: linux/seccomp.h, linux/filter.h,
asm/unistd.h. If the kernel uses only the lower 32 bits of an argument, the filter checks only these.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import platform
import struct
from collections.abc import Collection, Mapping
from typing import Final

from policyfs.linux.libc import LIBC, fail

REFUSED: Final = errno.EBADRQC
"""The errno of a refused call. No file system returns it, so fs/error_boundary.py can report it as a bug."""

_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

NUMBERS: Final = {
    "x86_64": {
        "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7,
        "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13,
        "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "pwrite64": 18, "readv": 19,
        "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32,
        "dup2": 33, "nanosleep": 35, "getpid": 39, "sendfile": 40, "accept": 43, "sendto": 44,
        "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "listen": 50, "getsockname": 51,
        "getpeername": 52, "socketpair": 53, "setsockopt": 54, "getsockopt": 55, "clone": 56, "exit": 60,
        "wait4": 61, "uname": 63, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76,
        "ftruncate": 77, "getcwd": 79, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87,
        "symlink": 88, "readlink": 89, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94,
        "umask": 95, "gettimeofday": 96, "getrlimit": 97, "getuid": 102, "getgid": 104, "geteuid": 107,
        "getegid": 108, "getppid": 110, "getgroups": 115, "getresuid": 118, "getresgid": 120,
        "setfsuid": 122, "setfsgid": 123, "capget": 125, "capset": 126, "sigaltstack": 131, "statfs": 137,
        "fstatfs": 138, "prctl": 157, "umount2": 166, "gettid": 186, "setxattr": 188, "lsetxattr": 189,
        "fsetxattr": 190, "getxattr": 191, "lgetxattr": 192, "fgetxattr": 193, "listxattr": 194,
        "llistxattr": 195, "flistxattr": 196, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199,
        "futex": 202, "sched_setaffinity": 203, "sched_getaffinity": 204, "getdents64": 217,
        "restart_syscall": 219, "fadvise64": 221,
        "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
        "epoll_wait": 232, "epoll_ctl": 233, "tgkill": 234, "waitid": 247, "openat": 257, "mkdirat": 258,
        "mknodat": 259, "fchownat": 260, "newfstatat": 262, "unlinkat": 263, "renameat": 264, "linkat": 265,
        "symlinkat": 266, "readlinkat": 267, "fchmodat": 268, "faccessat": 269, "ppoll": 271,
        "set_robust_list": 273, "sync_file_range": 277, "utimensat": 280, "epoll_pwait": 281,
        "fallocate": 285, "accept4": 288, "signalfd4": 289, "eventfd2": 290, "epoll_create1": 291,
        "dup3": 292, "pipe2": 293, "preadv": 295, "pwritev": 296, "fanotify_mark": 301, "prlimit64": 302,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "syncfs": 306, "renameat2": 316, "seccomp": 317,
        "getrandom": 318, "memfd_create": 319, "membarrier": 324, "copy_file_range": 326, "preadv2": 327,
        "pwritev2": 328, "statx": 332, "rseq": 334, "pidfd_send_signal": 424, "pidfd_open": 434,
        "clone3": 435, "close_range": 436, "openat2": 437, "faccessat2": 439, "fchmodat2": 452,
    },
    "aarch64": {
        "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "getxattr": 8, "lgetxattr": 9, "fgetxattr": 10,
        "listxattr": 11, "llistxattr": 12, "flistxattr": 13, "removexattr": 14, "lremovexattr": 15,
        "fremovexattr": 16, "getcwd": 17, "eventfd2": 19, "epoll_create1": 20, "epoll_ctl": 21,
        "epoll_pwait": 22, "dup": 23, "dup3": 24, "fcntl": 25, "ioctl": 29, "flock": 32, "mknodat": 33,
        "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "umount2": 39,
        "statfs": 43, "fstatfs": 44, "truncate": 45, "ftruncate": 46, "fallocate": 47, "faccessat": 48,
        "fchmod": 52, "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56, "close": 57, "pipe2": 59,
        "getdents64": 61, "lseek": 62, "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67,
        "pwrite64": 68, "preadv": 69, "pwritev": 70, "sendfile": 71, "ppoll": 73, "signalfd4": 74,
        "readlinkat": 78, "newfstatat": 79, "fstat": 80, "fsync": 82, "fdatasync": 83,
        "sync_file_range": 84, "utimensat": 88, "capget": 90, "capset": 91, "exit": 93, "exit_group": 94,
        "waitid": 95, "futex": 98, "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113,
        "clock_getres": 114, "clock_nanosleep": 115, "sched_setaffinity": 122, "sched_getaffinity": 123,
        "sched_yield": 124,
        "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134,
        "rt_sigprocmask": 135, "rt_sigreturn": 139, "getresuid": 148, "getresgid": 150, "setfsuid": 151,
        "setfsgid": 152, "getgroups": 158, "uname": 160, "getrlimit": 163, "umask": 166, "prctl": 167,
        "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176,
        "getegid": 177, "gettid": 178, "socketpair": 199, "listen": 201, "accept": 202, "getsockname": 204,
        "getpeername": 205, "sendto": 206, "recvfrom": 207, "setsockopt": 208, "getsockopt": 209,
        "shutdown": 210, "sendmsg": 211, "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216,
        "clone": 220, "mmap": 222, "fadvise64": 223, "mprotect": 226, "madvise": 233, "accept4": 242,
        "wait4": 260, "prlimit64": 261, "fanotify_mark": 263, "name_to_handle_at": 264,
        "open_by_handle_at": 265, "syncfs": 267, "renameat2": 276, "seccomp": 277, "getrandom": 278,
        "memfd_create": 279, "membarrier": 283, "copy_file_range": 285, "preadv2": 286, "pwritev2": 287,
        "statx": 291, "rseq": 293, "pidfd_send_signal": 424, "pidfd_open": 434, "clone3": 435,
        "close_range": 436, "openat2": 437, "faccessat2": 439, "fchmodat2": 452,
    },
}  # fmt: skip

_WAITING: Final = {
    "x86_64": {"kill": 62, "rt_sigtimedwait": 128, "rt_sigqueueinfo": 129},
    "aarch64": {"kill": 129, "rt_sigtimedwait": 137, "rt_sigqueueinfo": 138},
}
"""Further numbers for only_wait(). No daemon may make these calls."""
_KEEPER: Final = (
    "wait4", "waitid", "rt_sigtimedwait", "kill", "rt_sigqueueinfo", "rt_sigprocmask", "rt_sigaction",
    "rt_sigreturn", "restart_syscall", "exit", "exit_group", "getpid", "gettid", "futex", "clock_gettime",
    "clock_nanosleep", "mmap", "mprotect", "mremap", "munmap", "brk", "madvise", "close", "poll", "ppoll",
)  # fmt: skip
"""The calls of only_wait(). Those for memory are the interpreter's. Only x86-64 has poll."""

_NEWEST: Final = 466
"""The newest system call of Linux 6.14. Newer ones get ENOSYS, so that libc uses older ones instead."""

_THREAD: Final = 0x00010000  # CLONE_THREAD
_NAMESPACES: Final = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_PROT_EXEC: Final = 4
_AF_UNIX: Final = 1
_MSG_OOB: Final = 1
_MESSAGE_FLAGS: Final = {
    name: (argument, _MSG_OOB)
    for name, argument in (("sendto", 3), ("recvfrom", 3), ("sendmsg", 2), ("recvmsg", 2))
}
"""For each call with MSG_* flags: the argument with the flags, and the flag that short_program() refuses."""
_PRCTL_OPTIONS: Final = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA
_IOCTLS: Final = (
    0x4010E501, 0x4004E502,  # FUSE_DEV_IOC_BACKING_OPEN, FUSE_DEV_IOC_BACKING_CLOSE
    0x40049409,  # FICLONE
    0x80086601, 0x80087601,  # FS_IOC_GETFLAGS, FS_IOC_GETVERSION
    0x5401, 0x5421, 0x5450, 0x5451,  # TCGETS, FIONBIO, FIONCLEX, FIOCLEX
)  # fmt: skip
_SPECIAL_FILES: Final = 0x7000  # bits of S_IFMT that S_IFREG and 0 lack

_LOAD_WORD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000  # SECCOMP_RET_*
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16  # struct seccomp_data, little-endian
_X32_BIT: Final = 0x40000000

_INSTRUCTION: Final = struct.Struct("<HBBI")  # struct sock_filter
_SET_MODE_FILTER: Final = 1
_FLAG_TSYNC, _FLAG_LOG, _FLAG_SPEC_ALLOW = 1, 2, 4  # SECCOMP_FILTER_FLAG_*


Instruction = tuple[int, int, int, int]
"""struct sock_filter: code, jump if true, jump if false, k."""

_YES: Final[Instruction] = (_RETURN, 0, 0, _ALLOW)
_NO: Final[Instruction] = (_RETURN, 0, 0, _ERRNO | REFUSED)
_UNKNOWN: Final[Instruction] = (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def close_door(pid: int, *, special_files: bool = False) -> bool:
    """Limit every thread of this process for good to the system calls that the serving daemon needs. pid:
    this process, the only one that it may signal. special_files: permit fifos, sockets and devices. Return
    False without a list for this machine, or seccomp. Raises OSError if a thread does not get the filter."""
    machine = platform.machine()
    program = filter_program(machine, pid, special_files=special_files)
    if program is None:
        return False
    # Before Linux 5.16, a filter without SPEC_ALLOW turns on slow measures against speculation. These would
    # protect nothing, because only the daemon's own code runs here.
    number, flags = NUMBERS[machine]["seccomp"], _FLAG_TSYNC | _FLAG_SPEC_ALLOW
    if not _install(number, unknown_program(machine), flags):
        return False
    return _install(number, program, flags | _FLAG_LOG)


def _install(number: int, program: bytes, flags: int) -> bool:
    header = _Program(len(program) // 8, program)
    failed = LIBC.syscall(number, _SET_MODE_FILTER, ctypes.c_ulong(flags), ctypes.byref(header))
    if failed == 0:
        return True
    if failed > 0:  # the number of the first such thread; errno stays as it was (kernel/seccomp.c)
        raise OSError(errno.EAGAIN, "a thread has another filter already")
    if ctypes.get_errno() in {errno.ENOSYS, errno.EINVAL}:
        return False
    raise fail(b"seccomp")


def unknown_program(machine: str) -> bytes:
    """Return the filter that answers ENOSYS to calls that libc can do without. Unlike those of
    filter_program(), which allows them, its refusals are not logged: libc tries clone3 for every new thread.
    The strictest answer of several filters counts."""
    clone3 = NUMBERS[machine]["clone3"]
    return _packed([
        *_native(machine),
        (_JUMP_EQUAL, 1, 0, clone3),  # a filter cannot read clone3's flags; libc then uses clone
        (_JUMP_ABOVE, 0, 1, _NEWEST),
        _UNKNOWN,
        _YES,
    ])  # fmt: skip


def filter_program(machine: str, pid: int, *, special_files: bool = False) -> bytes | None:
    """Return the daemon's filter as a classic BPF program, or None if there is no list for *machine* (of
    uname). pid: the daemon's. special_files: see close_door()."""
    if machine not in NUMBERS:
        return None
    looked_at = _by_argument(pid)
    if special_files:
        del looked_at["mknodat"]
    end = [(_JUMP_ABOVE, 0, 1, _NEWEST), _YES, _NO]  # see unknown_program()
    return _program(machine, NUMBERS[machine], looked_at, end)


def short_program(
    machine: str, names: Collection[str], more: dict[str, list[Instruction]] | None = None
) -> bytes | None:
    """Return a filter that allows the system calls *names*. Other calls fail with EPERM. more: the code for
    further calls that are decided by arguments.

    If *names* has mmap and mprotect, these calls are allowed without PROT_EXEC only. Calls that send and
    receive are allowed without MSG_OOB only: nobody needs urgent data, and in Unix sockets the kernel's code
    for it had bugs that gave a sandboxed process the kernel's memory (CVE-2025-38236). Return None if there
    is no list for the machine.
    """
    if machine not in NUMBERS:
        return None
    refused: Instruction = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    forbidden = dict.fromkeys(("mmap", "mprotect"), (2, _PROT_EXEC)) | _MESSAGE_FLAGS
    looked_at = {name: _without(*forbidden[name], refused) for name in names if name in forbidden}
    return _program(machine, names, looked_at | (more or {}), [refused])


def install(machine: str, program: bytes) -> bool:
    """Apply a filter to this thread and its descendants. False: no seccomp. Raises OSError if refused."""
    return _install(NUMBERS[machine]["seccomp"], program, 0)


def only_wait() -> bool:
    """Permit this process, which has one thread, only to wait for its children, to signal, to write to its
    standard error, and to end. Its present children may make all calls. Return False if the kernel has no
    such filters. Raises OSError."""
    machine = platform.machine()
    names = [name for name in _KEEPER if name in NUMBERS.get(machine, {}) | _WAITING.get(machine, {})]
    program = short_program(machine, names, {"write": _one_of(0, 2)})
    return program is not None and install(machine, program)


def _program(
    machine: str, names: Collection[str], looked_at: Mapping[str, list[Instruction]], end: list[Instruction]
) -> bytes:
    """Return a filter. names: calls to allow, whose answer the kernel caches if they have no entry in
    looked_at, the code for calls that are decided by arguments. end: the code for all other calls."""
    calls, program = NUMBERS[machine] | _WAITING[machine], _native(machine)
    for name, block in looked_at.items():
        program += [(_JUMP_EQUAL, 0, len(block), calls[name]), *block]
    for name in names:
        if name not in looked_at:
            program += [(_JUMP_EQUAL, 0, 1, calls[name]), _YES]
    return _packed([*program, *end])


def _native(machine: str) -> list[Instruction]:
    return [
        (_LOAD_WORD, 0, 0, _AT_ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD_WORD, 0, 0, _AT_NUMBER),
        (_JUMP_BITS, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
    ]


def _packed(program: list[Instruction]) -> bytes:
    return b"".join(itertools.starmap(_INSTRUCTION.pack, program))


def _by_argument(pid: int) -> dict[str, list[Instruction]]:
    return {
        "mmap": _without(2, _PROT_EXEC),
        "mprotect": _without(2, _PROT_EXEC),
        "ioctl": _one_of(1, *_IOCTLS),
        "clone": [*_without(0, _NAMESPACES)[:2], _NO, (_JUMP_BITS, 0, 1, _THREAD), _YES, _NO],
        "seccomp": [_NO],
        "prctl": _one_of(0, *_PRCTL_OPTIONS),
        "prlimit64": [*_is_zero(2, high=False), *_is_zero(2, high=True), _YES],  # read, not set
        "socketpair": _one_of(0, _AF_UNIX),
        "tgkill": _one_of(0, pid),
        "sched_setaffinity": [*_is_zero(0, high=False), *_is_zero(0, high=True), _YES],  # the calling thread
        "mknodat": _without(2, _SPECIAL_FILES),
    }


def _load(argument: int, *, high: bool = False) -> Instruction:
    return (_LOAD_WORD, 0, 0, _AT_ARGUMENTS + 8 * argument + (4 if high else 0))


def _without(argument: int, bits: int, refused: Instruction = _NO) -> list[Instruction]:
    return [_load(argument), (_JUMP_BITS, 0, 1, bits), refused, _YES]


def _one_of(argument: int, *values: int) -> list[Instruction]:
    block = [_load(argument)]
    for value in values:
        block += [(_JUMP_EQUAL, 0, 1, value), _YES]
    return [*block, _NO]


def _is_zero(argument: int, *, high: bool) -> list[Instruction]:
    return [_load(argument, high=high), (_JUMP_EQUAL, 1, 0, 0), _NO]
