"""Shows the dialogue of `policyfs init`: a real run over a library and a compose file, in a mount namespace.

    unshare --mount python packaging/demo/init.py

All that it writes is in file systems in memory, which end with the namespace. It cannot reach the machine's
systemd, engines and trails; the line that says so is left out.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Final

from policyfs.linux.interpreter import program

COMPOSE: Final = """\
services:
  immich:
    image: ghcr.io/immich-app/immich-server
    volumes: [/srv/media/Photos:/mnt/photos]
  jellyfin:
    image: jellyfin/jellyfin
    volumes: ["/srv/media/Films:/films:ro"]
"""
PROGRAM: Final = str(Path(sys.executable).with_name("policyfs"))
ENVIRONMENT: Final = {"PATH": "/nowhere", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
_OWN: Final = ("/srv", "/run", "/var/log", "/var/lib", "/usr/lib/systemd/system", "/mnt")
_ENGINES: Final = ("docker", "docker-compose", "podman")
_ANSWERS: Final = ["", "", "yes"]
"""To the first questions; Enter to all others."""


def prepare() -> None:
    """Make a library and a compose file, in file systems in memory."""
    run = subprocess.run
    run(["mount", "--make-rprivate", "/"], check=True)
    for path in filter(os.path.isdir, _OWN):
        run(["mount", "-t", "tmpfs", "demo", path], check=True)
    for engine in _ENGINES:
        while path := program(engine):  # to a file that is no program
            run(["mount", "--bind", "/etc/passwd", path], check=True)
    for name in ("upper", "work"):
        os.mkdir(f"/mnt/{name}")
    layers = "lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work"
    run(["mount", "-t", "overlay", "demo", "-o", layers, "/etc"], check=True)
    for name in ("Photos", "Films"):
        os.makedirs(f"/srv/media/{name}")
    os.chmod("/srv/media", 0o700)
    os.mkdir("/srv/stack")
    os.chdir("/srv/stack")
    Path("compose.yaml").write_text(COMPOSE)


def dialogue() -> str:
    """Run `policyfs init` at a terminal. Return all that the terminal shows."""
    pid, terminal = pty.fork()
    if not pid:
        os.execve(PROGRAM, ["policyfs", "init"], ENVIRONMENT)  # noqa: S606
    shown, answered, answers = b"", 0, iter(_ANSWERS)
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # EIO: the program has ended
            part = b""
        if not part:
            break
        shown += part
        if shown.endswith(b": ") and len(shown) > answered:
            os.write(terminal, f"{next(answers, '')}\n".encode())
            answered = len(shown)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        sys.exit(f"policyfs init failed:\n{shown.decode()}")
    return shown.decode().replace("\r\n", "\n")


def main() -> None:
    """Show the dialogue, and unmount what it mounted."""
    prepare()
    try:
        print("root# cat compose.yaml", COMPOSE, "root# policyfs init", sep="\n", end="\n")
        lines = dialogue().splitlines()
        print(*(line for line in lines if not line.startswith("no systemd")), sep="\n")
    finally:
        command = [PROGRAM, "down", "--lazy", "/etc/policyfs/media.site.yaml"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
