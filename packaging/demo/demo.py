"""`make demo`: a small store of real media, mounted, and who sees what of it.

Everything is done with ordinary tools as ordinary uids (setpriv); what is printed after a prompt
is what the tool said. `--shell` leaves the store mounted and says how to look around.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.samples import media

CHECKOUT: Final = Path(__file__).resolve().parents[2]
POLICY: Final = CHECKOUT / "policies" / "family-photos.yaml"
SYNC: Final = CHECKOUT / "policies" / "untrusted-sync.yaml"
PHOTOS: Final = 300
DEADLINE_S: Final = 60.0
COLUMNS: Final = 80
PHOTO: Final = "DCIM/Camera/beach.jpg"
VIDEO: Final = "DCIM/Camera/waves.mp4"


class DemoError(Exception):
    """The demo could not go on; the message says why."""


class Demo:
    """One store, one mount, and the apps of the policy."""

    def __init__(self, directory: Path) -> None:
        """directory: an empty one that plain uids may pass through."""
        self.directory = directory
        self.store = directory / "store"
        self.mount = directory / "mnt"
        self.out = directory / "out"
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/tmp",
            "LC_ALL": "C.UTF-8",
            "POLICYFS_RUNTIME_DIR": str(directory / "run"),
            "POLICYFS_TRAIL_DIR": str(directory / "trail"),
            "POLICYFS_KEY_DIR": str(directory / "keys"),
        }
        policies = (parse_policy([SourceText(str(path), path.read_bytes())]) for path in (POLICY, SYNC))
        apps = [app for policy in policies for app in policy.apps]
        self.uids = {app.name: app.uids[0][0] for app in reversed(apps) if app.uids}

    # ------------------------------------------------------------ set-up

    def fill_store(self) -> None:
        """Photos with and without a place, a video, a song, and private directories of apps."""
        self.store.mkdir(mode=0o700)
        self.mount.mkdir()
        camera = self.store / "DCIM" / "Camera"
        for name in ("DCIM/Camera", "Pictures", "Music", "Android/data/camera", "Android/data/gallery"):
            (self.store / name).mkdir(parents=True)
        media.photo(self.store / PHOTO, width=1600, height=1200)
        media.photo(camera / "plain.jpg", place=None, seed=5)
        media.video(self.store / VIDEO, seconds=10)
        media.music(self.store / "Music" / "song.mp3")
        (self.store / "Android/data/camera/settings.txt").write_text("flash: off\n")
        (self.store / "Android/data/gallery/albums.txt").write_text("summer\n")
        (self.directory / "notes.txt").write_text("these are words, not a picture\n" * 40)
        for app in ("gallery", "maps"):
            target = self.out / app
            target.mkdir(parents=True)
            os.chown(target, self.uids[app], self.uids[app])

    def policyfs(self, *arguments: str | os.PathLike[str], show: bool = True) -> str:
        """Run one policyfs command as root; returns what it printed."""
        if show:
            print(f"root# policyfs {self._short(arguments)}")
        return self._run([str(Path(sys.executable).with_name("policyfs")), *map(os.fspath, arguments)])

    def _run(self, command: Sequence[str], *, may_fail: bool = False) -> str:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            timeout=DEADLINE_S,
            check=False,
        )
        said = done.stdout.decode(errors="replace")
        if done.returncode != 0 and not may_fail:
            raise DemoError(f"{shlex.join(command)} ended with {done.returncode}:\n{said}")
        return said

    def _short(self, arguments: Sequence[str | os.PathLike[str]]) -> str:
        words = [*map(os.fspath, arguments)]
        for long, short in (
            (f"{CHECKOUT}/", ""),
            (f"{self.store}", "STORE"),
            (f"{self.mount}/", ""),
            (f"{self.mount}", "MNT"),
            (f"{self.directory}/", "/tmp/"),
        ):
            words = [word.replace(long, short) for word in words]
        return shlex.join(words)

    # ------------------------------------------------------------ acts

    def app(self, app: str, *command: str) -> str:
        """Run a tool as an app in the mount, show the line and what it said."""
        uid = str(self.uids[app])
        become = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--"]
        said = self._run([*become, "env", "-C", str(self.mount), *command], may_fail=True)
        lines = said.replace(f"{self.directory}/", "/tmp/").expandtabs().splitlines() or ["(nothing)"]
        prompt = f"{app}$ {self._short(command)}"
        if len(lines) == 1 and len(f"{prompt} -> {lines[0]}") < COLUMNS:
            print(f"{prompt} -> {lines[0]}")
        else:
            print(prompt)
            for line in lines:
                print(f"    {line}")
        return said

    def reads_at_daemon(self) -> int:
        """Read requests that reached the daemon so far."""
        status = json.loads(self.policyfs("status", "--json", self.mount, show=False))
        status = status[0] if isinstance(status, list) else status
        return int(status["fuse"].get("READ", 0))

    def title(self, text: str) -> None:
        """A heading of one act."""
        bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
        print(f"{bold}-- {text}{plain}")

    def run(self) -> None:
        """All acts."""
        self.policyfs("mount", "--policy", POLICY, self.store, self.mount)
        self.title("One photo, two apps: maps may know the place, gallery may not")
        place = ("exiftool", "-s3", "-c", "%.4f", "-GPSPosition", "-City", PHOTO)
        self.expect(self.app("maps", *place), "47.8045")
        self.expect(self.app("gallery", *place), "", exactly=True)
        pixels = ("identify", "-format", "%#", PHOTO)
        same = {self.app(app, *pixels).strip() for app in ("maps", "gallery")}
        self.expect(str(len(same)), "1")

        self.title("What an app may not see is not there")
        self.expect(self.app("gallery", "ls", "-C"), "DCIM")
        self.expect(self.app("gallery", "ls", "-C", "Android/data"), "gallery", exactly=True)
        self.expect(self.app("gallery", "ls", "Android/data/camera"), "No such file")
        self.expect(self.app("backup", "ls", "-C", "Android/data"), "camera")

        self.title("Only pictures may be written here, whatever their name")
        notes = str(self.directory / "notes.txt")
        self.expect(self.app("camera", "cp", notes, "DCIM/fake.jpg"), "not permitted")
        self.expect(self.app("camera", "ls", "DCIM"), "Camera", exactly=True)

        self.title("A video, and the photo without its place, at the kernel's speed")
        before = self.reads_at_daemon()
        self.expect(self.app("maps", "cp", VIDEO, str(self.out / "maps/")), "", exactly=True)
        self.expect(self.app("maps", "cmp", VIDEO, str(self.out / "maps/waves.mp4")), "", exactly=True)
        self.expect(self.app("gallery", "cp", PHOTO, str(self.out / "gallery/")), "", exactly=True)
        print(f"reads that reached the daemon: {self.reads_at_daemon() - before}   (policyfs status --json)")

        self.title("Some of the trail of just that")
        print(self.trail("--app", "camera", "--op", "write", "--last", "1"))
        self.stop_a_sync_client()

    def stop_a_sync_client(self) -> None:
        """The last act: it empties a library in a mount of its own, and gets only so far."""
        self.title("A sync client empties the library: it is stopped, and undone")
        shared = self.store, self.mount
        self.store, self.mount = self.directory / "photos", self.directory / "sync"
        try:
            (self.store / "Photos").mkdir(parents=True)
            self.store.chmod(0o700)
            self.mount.mkdir()
            for number in range(PHOTOS):
                shutil.copyfile(shared[0] / PHOTO, self.store / f"Photos/{number:03}.jpg")
            self.policyfs("mount", "--policy", SYNC, self.store, self.mount, show=False)
            said = self.app("syncthing", "sh", "-c", "rm Photos/* 2>&1 | tail -n 1")
            self.expect(said, "Disk quota exceeded")
            left = len(os.listdir(self.store / "Photos"))
            words = ("undo", self.mount, "--app", "syncthing", "--since", "1h")
            said = self.policyfs(*words, show=False)
            print(f"root# policyfs {self._short(words)} -> {said.splitlines()[1].strip()}")
            count = len(os.listdir(self.store / "Photos"))
            self.expect(f"{left} {count}", f"{PHOTOS - 200} {PHOTOS}", exactly=True)
            self.policyfs("brake", self.mount, "--release", "syncthing")
        finally:
            self.unmount()
            self.store, self.mount = shared

    def expect(self, said: str, part: str, *, exactly: bool = False) -> None:
        """The demo shows what is true, or it fails."""
        if (said.strip() != part) if exactly else (part not in said):
            raise DemoError(f"expected {part!r}, got {said!r}")

    def trail(self, *question: str) -> str:
        """`policyfs audit search` as a terminal of 80 columns shows it."""
        command = ["policyfs", "audit", "search", *question]
        print(f"root# {shlex.join(command)}")
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as screen:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, COLUMNS, 0, 0))
            program = str(Path(sys.executable).with_name(command[0]))
            with subprocess.Popen(
                [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=theirs,
                stderr=subprocess.PIPE, env=self.environment,  # it shows no progress: that is a terminal's
            ) as process:  # fmt: skip
                os.close(theirs)
                said = b""
                with contextlib.suppress(OSError):  # EIO: the program has ended
                    while part := screen.read(4096):
                        said += part
                wrong = process.communicate()[1].decode(errors="replace")
        text = said.decode(errors="replace").replace("\r\n", "\n").rstrip()
        if process.returncode or not text:
            raise DemoError(f"{shlex.join(command)} ended with {process.returncode}:\n{wrong}")
        return text

    # ------------------------------------------------------------ end

    def unmount(self) -> None:
        """Take the mount away, if it is there."""
        if re.search(rf" {re.escape(str(self.mount))} ", Path("/proc/self/mountinfo").read_text()):
            try:
                self.policyfs("umount", self.mount, show=self.mount.name == "mnt")
            except (DemoError, OSError, subprocess.TimeoutExpired):
                subprocess.run(["umount", "-l", str(self.mount)], check=False, timeout=DEADLINE_S)
                raise

    def how_to_look_around(self) -> None:
        """What to type in one's own shell."""
        uid = self.uids["gallery"]
        names = ", ".join(f"{app} {number}" for app, number in sorted(self.uids.items()))
        command, policy, mount, directory = (
            shlex.quote(str(path))
            for path in (Path(sys.executable).with_name("policyfs"), POLICY, self.mount, self.directory)
        )
        look = shlex.quote(f"cd {mount} && exec sh")
        ours = [name for name in self.environment if name.startswith("POLICYFS")]
        settings = " ".join(f"{name}={shlex.quote(self.environment[name])}" for name in ours)
        print(f"""
The store {self.store} stays mounted on {self.mount}. Apps and their uids: {names}.
Be an app:      setpriv --reuid {uid} --regid {uid} --clear-groups -- sh -c {look}
First, to let the commands below find this mount:   export {settings}
See its state:  {command} status {mount}
Why so:         {command} policy explain {policy} --app gallery --op read /{PHOTO}
The trail:      {command} audit search --follow
Another policy: edit {policy}, then {command} reload {mount}
The end:        {command} umount {mount} && rm -r {directory}""")


def main() -> int:
    """Command line of the demo."""
    parser = argparse.ArgumentParser(prog="demo", description="who sees what of a small media store")
    parser.add_argument("--shell", action="store_true", help="leave it mounted and say how to look around")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("demo: mounting for several uids needs root; run it with sudo", file=sys.stderr)
        return 1
    directory = Path(tempfile.mkdtemp(prefix="policyfs-demo-"))
    directory.chmod(0o711)
    demo = Demo(directory)
    stays = False
    try:
        demo.fill_store()
        demo.run()
        stays = arguments.shell
        if stays:
            demo.how_to_look_around()
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        if not stays:
            demo.unmount()
            shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
