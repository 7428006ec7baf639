"""Stores that are not a plain local file system: an overlay, a read-only bind, a network store."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.machine.namespace import detach
from tests.support.machine.processes import wait_for

SFTP_SERVER: Final = "/usr/lib/openssh/sftp-server"
_DEADLINE_S: Final = 20.0


def mount(*words: str | os.PathLike[str]) -> None:
    """mount(8), with a deadline; raises CalledProcessError."""
    subprocess.run(["mount", *map(os.fspath, words)], check=True, timeout=_DEADLINE_S, capture_output=True)


def unmount(path: Path) -> None:
    """umount(8), with a deadline; raises CalledProcessError."""
    subprocess.run(["umount", path], check=True, timeout=_DEADLINE_S, capture_output=True)


@contextlib.contextmanager
def overlay(lower: Path, directory: Path) -> Iterator[Path]:
    """An overlay over *lower*, its upper layer below *directory*; yields where it is mounted."""
    upper, work, merged = (directory / name for name in ("upper", "overlay-work", "merged"))
    for made in (upper, work, merged):
        made.mkdir()
    mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", merged)
    try:
        yield merged
    finally:
        _away(merged)


@contextlib.contextmanager
def read_only(source: Path, directory: Path) -> Iterator[Path]:
    """A bind mount of *source* that takes no writes."""
    target = directory / "read-only"
    target.mkdir()
    mount("--bind", source, target)
    mount("-o", "remount,bind,ro", target)
    try:
        yield target
    finally:
        _away(target)


@contextlib.contextmanager
def mergerfs(source: Path, directory: Path, more: str = "") -> Iterator[Path]:
    """A pool of *source* and of an empty branch below *directory*, which new files go to; yields where it is
    mounted. It serves each request with the rights of the process that calls. more: further options."""
    second, target = directory / "second-branch", directory / "pool"
    second.mkdir()
    second.chmod(source.stat().st_mode & 0o7777)
    options = "allow_other,category.create=epmfs,func.mkdir=epall" + more
    with _served(["mergerfs", "-f", "-o", options, f"{source}:{second}", target], target) as at:
        yield at


@contextlib.contextmanager
def gocryptfs(source: Path, directory: Path) -> Iterator[Path]:
    """An empty encrypted directory, its cipher texts in *source*; yields where it is mounted."""
    key, target = directory / "passphrase", directory / "plain"
    key.write_text("secret\n")
    init = ["gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", key, source]
    subprocess.run(init, check=True, timeout=_DEADLINE_S, capture_output=True)
    target.mkdir()
    # It goes to the background once it serves. A request before that can wait for its own look at the mount.
    serve = ["gocryptfs", "-q", "-allow_other", "-passfile", key, source, target]
    subprocess.run(serve, check=True, timeout=_DEADLINE_S, capture_output=True)
    try:
        yield target
    finally:
        _away(target)


@contextlib.contextmanager
def bindfs(source: Path, directory: Path) -> Iterator[Path]:
    """*source* through bindfs; yields where it is mounted."""
    target = directory / "bound"
    with _served(["bindfs", "-f", source, target], target) as at:
        yield at


@contextlib.contextmanager
def _served(command: list[str | os.PathLike[str]], target: Path) -> Iterator[Path]:
    """Run a program that serves *target* in the foreground, until the block ends."""
    target.mkdir()
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        wait_for(lambda: os.path.ismount(target), f"{command[0]} mounts", _DEADLINE_S)
        yield target
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            unmount(target)
        detach(target)
        try:
            program.wait(timeout=_DEADLINE_S)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait(timeout=_DEADLINE_S)


@contextlib.contextmanager
def sshfs(source: Path, directory: Path) -> Iterator[Path]:
    """*source* over the SFTP protocol; yields where it is mounted."""
    with network(source, directory) as (target, _):
        yield target


@contextlib.contextmanager
def network(source: Path, directory: Path) -> Iterator[tuple[Path, int]]:
    """*source* over the SFTP protocol, as sshfs mounts a directory of another machine: client and
    server are the real ones, with a socket pair between them in place of ssh. Yields where it is
    mounted, and the server's pid: stopped, it is a machine that does not answer."""
    target = directory / "network"
    target.mkdir()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = subprocess.Popen([SFTP_SERVER], stdin=theirs, stdout=theirs, cwd="/")
        client = subprocess.Popen(
            ["sshfs", f":{source}", target, "-f", "-o", "passive,allow_other,default_permissions"],
            stdin=ours, stdout=ours, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
    try:
        wait_for(lambda: os.path.ismount(target), "sshfs mounts", _DEADLINE_S)
        yield target, server.pid
    finally:
        server.send_signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.CalledProcessError):
            unmount(target)
        detach(target)
        for process in (client, server):
            try:
                process.wait(timeout=_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=_DEADLINE_S)


def _away(path: Path) -> None:
    try:
        unmount(path)
    except subprocess.CalledProcessError:
        detach(path)
        raise
