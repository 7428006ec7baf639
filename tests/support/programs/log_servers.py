"""Real log servers for tests: rsyslogd on loopback, and systemd-journald with a /run of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.machine.processes import wait_for

_RSYSLOG = """\
global(workDirectory="{place}" maxMessageSize="128k"{tls})
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
module(load="imtcp"{driver})
template(name="line" type="list") {{
  property(name="hostname") constant(value=" ") property(name="app-name") constant(value=" ")
  property(name="msgid") constant(value="\\t") property(name="structured-data") constant(value="\\t")
  property(name="msg" controlcharacters="escape") constant(value="\\n")
}}
input(type="imuxsock" Socket="{place}/log" UseSpecialParser="off" CreatePath="on" RateLimit.Interval="0")
input(type="imudp" address="127.0.0.1" port="{port}")
input(type="imtcp" address="127.0.0.1" port="{port}")
*.* action(type="omfile" file="{place}/received" template="line" asyncWriting="off")
"""
_TLS = """ defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{place}/cert.pem"
  defaultNetstreamDriverCertFile="{place}/cert.pem" defaultNetstreamDriverKeyFile="{place}/key.pem\""""
_DRIVER = ' StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon"'


class Syslog:
    """One rsyslogd. received: what it wrote, each as (msgid, structured data, message)."""

    def __init__(self, place: Path, *, tls: bool = False) -> None:
        self.place = place
        self.port = _free_port()
        self.certificate = place / "cert.pem"
        if tls:
            _make_certificate(place)
        more = (_TLS.format(place=place), _DRIVER) if tls else ("", "")
        settings = _RSYSLOG.format(place=place, port=self.port, tls=more[0], driver=more[1])
        (place / "rsyslog.conf").write_text(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def unix(self) -> Path:
        return self.place / "log"

    def start(self) -> None:
        command = ["rsyslogd", "-n", "-f", self.place / "rsyslog.conf", "-i", self.place / "pid"]
        self.unix.unlink(missing_ok=True)
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_for(self._is_up, "rsyslogd")
        except BaseException:
            self.kill()
            raise

    def _is_up(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return self.unix.exists()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def received(self) -> list[tuple[str, str, str]]:
        try:
            lines = (self.place / "received").read_text(errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return []
        parts = [line.split("\t", 2) for line in lines]
        whole = [part for part in parts if len(part) == 3]
        return [(head.split()[-1], data, text.removeprefix(" ")) for head, data, text in whole]

    def wait_for(self, enough: Callable[[list[tuple[str, str, str]]], bool]) -> list[tuple[str, str, str]]:
        wait_for(lambda: enough(self.received()), "rsyslogd's file")
        return self.received()


@contextmanager
def syslog_server(place: Path, *, tls: bool = False) -> Iterator[Syslog]:
    """An rsyslogd that takes messages on a unix socket, and by UDP and TCP (or TLS) on one port."""
    server = Syslog(place, tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as one, socket.socket(type=socket.SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        other.bind(("127.0.0.1", port))
        return int(port)


def _make_certificate(place: Path) -> None:
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=place, check=True, capture_output=True)


class Journald:
    """One systemd-journald."""

    def __init__(self, run: Path) -> None:
        self.socket = run / "systemd/journal/socket"
        self._journal = run / "log/journal"

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
    server = Journald(run)
    try:
        wait_for(server.socket.exists, "journald")
        time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait()
