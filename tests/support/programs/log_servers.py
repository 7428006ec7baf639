"""Real log servers for tests: rsyslogd, and systemd-journald with a /run of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.machine.processes import wait_for

_RSYSLOG = """\
global(workDirectory="{place}")
template(name="line" type="string" string="%msg%\\n")
{settings}
*.* action(type="omfile" file="{place}/received" template="line" asyncWriting="off")
"""


class Rsyslog:
    """One rsyslogd, with some settings for its input. received: the lines that it has read."""

    def __init__(self, place: Path, settings: str) -> None:
        self._place = place
        (place / "rsyslog.conf").write_text(_RSYSLOG.format(place=place, settings=settings))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self._place / "pid").unlink(missing_ok=True)
        command = ["rsyslogd", "-n", "-f", self._place / "rsyslog.conf", "-i", self._place / "pid"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def received(self) -> list[str]:
        received = self._place / "received"
        return received.read_text().splitlines() if received.exists() else []


@contextmanager
def rsyslog(place: Path, settings: str) -> Iterator[Rsyslog]:
    """An rsyslogd with these settings for its input. Its state is in *place*."""
    server = Rsyslog(place, settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Journald:
    """One systemd-journald. inside: the words before a command that then finds it in its /run."""

    def __init__(self, run: Path, pid: int) -> None:
        self.socket = run / "systemd/journal/socket"
        self._journal = run / "log/journal"
        self.inside = ("/usr/bin/nsenter", "--mount", "--target", str(pid))

    def entries(self, *matches: str) -> list[dict[str, object]]:
        """Read the journal's entries with these fields."""
        command = ["journalctl", "-D", self._journal, "-o", "json", "--all", *matches]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def journald(place: Path) -> Iterator[Journald]:
    """A systemd-journald that has a directory as its /run."""
    run = place / "run"
    for name in ("systemd/journal", "log/journal"):
        (run / name).mkdir(parents=True)
    identity = (
        "[ -s /etc/machine-id ] || { echo 0123456789abcdef0123456789abcdef >$0/mid;"
        " mount --bind $0/mid /etc/machine-id; }"
    )
    script = f"{identity}; mount --bind $0 /run && exec /lib/systemd/systemd-journald"
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script, run], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = Journald(run, process.pid)
    try:
        wait_for(server.socket.exists, "journald")
        time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait()
