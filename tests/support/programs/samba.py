"""A real smbd on a port of this machine's own, and smbclient to ask it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.machine.counts import PATIENCE
from tests.support.machine.namespace import die_with_parent
from tests.support.machine.processes import TOOL_ENVIRONMENT, wait_for

PASSWORD: Final = "open-sesame-9"
_OWN: Final = """\
[global]
   server role = standalone server
   smb ports = {port}
   interfaces = lo
   bind interfaces only = yes
   private dir = {work}
   lock directory = {work}
   state directory = {work}
   cache directory = {work}
   pid directory = {work}
   ncalrpc dir = {work}
   log file = {work}/log
   passdb backend = tdbsam:{work}/passdb.tdb
   load printers = no
   printcap name = /dev/null
   disable spoolss = yes
   disable netbios = yes
"""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Samba:
    """One smbd with the shares of a configuration text, for users of this machine's passwd."""

    def __init__(self, work: Path, shares: str, users: Sequence[str]) -> None:
        """work: a directory of root's alone, for all that smbd keeps."""
        self.port = free_port()
        self._work = work
        self._config = work / "smb.conf"
        self._config.write_text(_OWN.format(port=self.port, work=work) + shares, encoding="utf-8")
        for user in users:
            self._tool("smbpasswd", "-c", self._config, "-a", "-s", user, text=f"{PASSWORD}\n{PASSWORD}\n")
        line = ["smbd", "--foreground", f"--configfile={self._config}"]
        self._process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=TOOL_ENVIRONMENT, preexec_fn=lambda: die_with_parent(15),
        )  # fmt: skip
        try:
            wait_for(self._answers, "smbd answers", 20.0 * PATIENCE)
        except BaseException:
            self.stop()
            raise

    def check(self) -> str:
        """What testparm has to say against the configuration."""
        return self._tool("testparm", "-s", self._config).stderr

    def ask(self, user: str, share: str, *commands: str, cwd: Path | None = None) -> str:
        """What smbclient says to some commands, that succeed or not."""
        line = ["smbclient", f"//127.0.0.1/{share}", "-p", str(self.port), "-U", f"{user}%{PASSWORD}"]
        line += ["-s", "/dev/null", "-c", "; ".join(commands)]
        done = subprocess.run(
            line, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=TOOL_ENVIRONMENT,
            timeout=60.0 * PATIENCE, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def stop(self) -> None:
        """End smbd and what it has started."""
        self._process.terminate()
        try:
            self._process.wait(10.0 * PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """What smbd has logged."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._work.glob("log*")))

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def _tool(self, *line: str | os.PathLike[str], text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(os.fspath, line)), input=text, capture_output=True, text=True, env=TOOL_ENVIRONMENT,
            timeout=60.0 * PATIENCE, check=True,
        )  # fmt: skip
