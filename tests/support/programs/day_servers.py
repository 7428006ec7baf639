"""Servers and sync jobs at a desk (day.py): started, asked by a client, and stopped again."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import sqlite3
import stat
import subprocess
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.support.machine.counts import PATIENCE
from tests.support.machine.namespace import die_with_parent
from tests.support.machine.processes import TOOL_ENVIRONMENT, drop_to, tool_as, wait_for
from tests.support.models.trees import inventory
from tests.support.programs.day import Desk, digests
from tests.support.programs.samba import free_port

_UP_S: Final = 30.0 * PATIENCE
_SYNC_S: Final = 150.0 * PATIENCE


@contextlib.contextmanager
def running(desk: Desk, *command: str | os.PathLike[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the desk's uid, ended by SIGTERM. Its output is in the file server.log beside the desk."""

    def become() -> None:
        die_with_parent(signal.SIGKILL)
        drop_to(desk.uid)

    with (desk.aside / "server.log").open("ab") as log:
        process = subprocess.Popen(
            list(map(os.fspath, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            env=TOOL_ENVIRONMENT | {"HOME": str(desk.aside)}, preexec_fn=become, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    except BaseException as error:
        error.add_note((desk.aside / "server.log").read_text(errors="replace")[-3000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(20.0 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_NGINX: Final = """\
daemon off;
pid {aside}/nginx.pid;
error_log {aside}/nginx.log;
events {{ }}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {place}/incoming;
    proxy_temp_path {aside}/p;
    fastcgi_temp_path {aside}/f;
    uwsgi_temp_path {aside}/u;
    scgi_temp_path {aside}/s;
    server {{
        listen 127.0.0.1:{port};
        root {place};
        autoindex on;
        dav_methods PUT DELETE MKCOL COPY MOVE;
        create_full_put_path on;
    }}
}}
"""


def nginx(desk: Desk) -> Any:
    """nginx: every file whole and in part, listings, and uploads, copies, moves and removals by WebDAV."""
    port = free_port()
    desk.make_library(desk.place / "site")
    config = desk.aside / "nginx.conf"
    config.write_text(_NGINX.format(aside=desk.aside, place=desk.place, port=port), encoding="utf-8")
    names = sorted(desk.call(digests, desk.place / "site"))
    found: dict[str, Any] = {}
    with running(desk, "nginx", "-c", config, "-p", desk.aside, "-e", desk.aside / "nginx.log"):
        wait_for(lambda: _answers(port), "nginx answers", _UP_S)
        for name in names:
            path = quote(f"/site/{name}")
            status, whole = _ask(port, "GET", path)
            part = _ask(port, "GET", path, headers={"Range": "bytes=100-1099"})
            found[name] = status, sha256(whole).hexdigest(), part[0], part[1] == whole[100:1100]
        _, listing = _ask(port, "GET", quote(f"/site/{names[0].split('/')[0]}/"))
        found["listing"] = sorted(re.findall(rb'href="([^"]+)"', listing))
        for method, path, more in (
            ("MKCOL", "/dav/", {}),
            ("PUT", "/dav/a.bin", {"body": bytes(range(256)) * 4000}),
            ("COPY", "/dav/a.bin", {"headers": {"Destination": "/dav/b.bin"}}),
            ("MOVE", "/dav/a.bin", {"headers": {"Destination": "/dav/deep/c.bin"}}),
            ("DELETE", "/dav/b.bin", {}),
            ("GET", "/dav/deep/c.bin", {}),
            ("GET", "/dav/a.bin", {}),
        ):
            found[method + path] = _ask(port, method, path, **more)[0]
    return found


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return _ask(port, "HEAD", "/")[0] > 0
    return False


def _ask(
    port: int, method: str, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        client.request(method, path, body=body or None, headers=headers or {})
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


_MINIDLNA: Final = """\
port={port}
network_interface=lo
media_dir={place}/library
db_dir={aside}/minidlna
log_dir={aside}/minidlna
inotify=no
strict_dlna=no
friendly_name=day
"""
_ROWS: Final = """\
SELECT d.PATH, d.SIZE, d.TITLE, d.DURATION, d.BITRATE, d.ARTIST, d.ALBUM, d.RESOLUTION, d.DATE, d.MIME,
       d.DLNA_PN, d.THUMBNAIL, d.ROTATION FROM DETAILS d WHERE d.MIME IS NOT NULL
"""


def minidlna(desk: Desk) -> Any:
    """minidlna: what a scan of the library finds in each file, and every file by its address."""
    port = free_port()
    desk.make_library(desk.place / "library")
    desk.call(os.mkdir, desk.aside / "minidlna")
    config, database = desk.aside / "minidlna.conf", desk.aside / "minidlna/files.db"
    config.write_text(_MINIDLNA.format(aside=desk.aside, place=desk.place, port=port), encoding="utf-8")
    found: dict[str, Any] = {}
    with running(desk, "minidlnad", "-d", "-r", "-f", config, "-P", desk.aside / "minidlna.pid"):
        wait_for(lambda: _is_scanned(desk.aside / "server.log", port), "minidlna has scanned", _SYNC_S)
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
            for path, *facts in rows.execute(_ROWS).fetchall():
                found[str(Path(path).relative_to(desk.place))] = facts
            items = rows.execute("SELECT ID, PATH FROM DETAILS WHERE MIME IS NOT NULL").fetchall()
        for number, path in items:
            status, bytes_ = _ask(port, "GET", f"/MediaItems/{number}.x")
            name = str(Path(path).relative_to(desk.place))
            found[name] = [*found[name], status, sha256(bytes_).hexdigest()]
    assert len(found) > 3, (desk.aside / "server.log").read_text()[-2000:]
    return found


def _is_scanned(log: Path, port: int) -> bool:
    return "Scanning" in log.read_text(errors="replace") and b"Scan in progress" not in _status(port)


def _status(port: int) -> bytes:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return _ask(port, "GET", "/")[1]
    return b"Scan in progress"


class Syncthing:
    """One device, with one folder."""

    def __init__(self, desk: Desk, name: str, folder: Path) -> None:
        self.home, self.folder, self._desk = desk.aside / name, folder, desk
        self.gui, self.port = free_port(), free_port()
        desk.call(os.makedirs, folder, 0o755, True)
        only = ("--no-default-folder", "--skip-port-probing")
        tool_as(desk.uid, "syncthing", "generate", f"--home={self.home}", *only, check=True)
        self.config = ET.parse(self.home / "config.xml")
        device = self.config.getroot().find("device")
        assert device is not None
        self.id = device.attrib["id"]
        self.key = self.config.getroot().findtext("gui/apikey") or ""

    def pair(self, other: Syncthing) -> None:
        """Share the folder with another device, on this machine and nowhere else."""
        root = self.config.getroot()
        device = ET.SubElement(root, "device", id=other.id, name="other")
        ET.SubElement(device, "address").text = f"tcp://127.0.0.1:{other.port}"
        folder = ET.SubElement(
            root, "folder", id="day", path=str(self.folder), type="sendreceive", rescanIntervalS="3600",
            fsWatcherEnabled="false",
        )  # fmt: skip
        for one in (self.id, other.id):
            ET.SubElement(folder, "device", id=one)
        options = root.find("options")
        assert options is not None
        wanted = {
            "globalAnnounceEnabled": "false", "localAnnounceEnabled": "false", "relaysEnabled": "false",
            "natEnabled": "false", "urAccepted": "-1", "crashReportingEnabled": "false",
            "autoUpgradeIntervalH": "0", "reconnectionIntervalS": "1", "startBrowser": "false",
            "listenAddress": f"tcp://127.0.0.1:{self.port}",
        }  # fmt: skip
        for key, value in wanted.items():
            for old in options.findall(key):
                options.remove(old)
            ET.SubElement(options, key).text = value
        address = root.find("gui/address")
        assert address is not None
        address.text = f"127.0.0.1:{self.gui}"
        self.config.write(self.home / "config.xml")

    def scan(self) -> None:
        """Look at the folder now."""
        self._api("POST", "/rest/db/scan?folder=day")

    def is_up(self) -> bool:
        """True if it answers."""
        with contextlib.suppress(OSError):
            return bool(self._api("GET", "/rest/system/ping"))
        return False

    def _api(self, method: str, path: str) -> bytes:
        url = f"http://127.0.0.1:{self.gui}{path}"
        request = urllib.request.Request(url, method=method, headers={"X-API-Key": self.key})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def command(self) -> list[str]:
        """What starts it."""
        return ["syncthing", "serve", f"--home={self.home}", "--no-browser", "--no-restart"]


def syncthing(desk: Desk) -> Any:
    """syncthing: a folder in the place and one outside, alike after changes on either side."""
    inside = Syncthing(desk, "one", desk.place / "synced")
    outside = Syncthing(desk, "two", desk.aside / "synced")
    inside.pair(outside)
    outside.pair(inside)
    desk.make_library(inside.folder)
    with running(desk, *inside.command()), running(desk, *outside.command()):
        wait_for(lambda: inside.is_up() and outside.is_up(), "both answer", _UP_S)
        _until_alike(desk, inside, outside)
        desk.make_library(outside.folder / "more", shape=1)
        desk.call(lambda: min(inside.folder.rglob("*.jpg")).unlink())
        desk.call(lambda: min(outside.folder.glob("*/*.png")).rename(outside.folder / "renamed.png") and None)
        _until_alike(desk, outside, inside)
    return [_shared(desk, one.folder) for one in (inside, outside)]


def _until_alike(desk: Desk, *devices: Syncthing) -> None:
    for device in devices:
        device.scan()
    one, other = (device.folder for device in devices)

    def alike() -> bool:
        with contextlib.suppress(FileNotFoundError):  # a file that is being received goes by another name
            return bool(_shared(desk, one) == _shared(desk, other))
        return False

    wait_for(alike, "both folders are alike", _SYNC_S)


def _shared(desk: Desk, folder: Path) -> Any:
    """What syncthing keeps alike in a folder: all but its own files, and the times of directories."""
    return {
        path: replace(entry, mtime_ns=0) if stat.S_ISDIR(entry.mode) else entry
        for path, entry in desk.call(inventory, folder).items()
        if not path.startswith(b".st")
    }
