"""Processes at the other end of a socket."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from policyfs.linux.peer import caller_of, login_of, peer_of


def test_a_peer_is_by_the_kernels_word() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == (os.getpid(), os.getuid())


def test_the_caller_of_a_command_is_its_parent_without_sudo(tmp_path: Path) -> None:
    sudo = shutil.copy("/bin/bash", tmp_path / "sudo")
    for program in ("/bin/bash", str(sudo)):
        words = [program, "-c", "/bin/sleep 60 & echo $! $$; read x; kill $!"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            command, shell = map(int, process.stdout.readline().split())
            assert caller_of(command) == (os.getpid() if program == str(sudo) else shell)
            process.communicate("\n", timeout=20)
    assert caller_of(1 << 22) == 1 << 22


def test_a_login_is_a_uid_or_not_known() -> None:
    assert login_of(os.getpid()) != 0xFFFFFFFF
    assert login_of(1 << 22) is None
