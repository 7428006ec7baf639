"""Stacks of containers as people have them, on a machine that systemd boots: after `policyfs init` each
service finds and does through its mount what it did before with the library itself.

Docker pulls the images from a registry on the machine. They hold programs of Debian; for one that is not
there (Immich, Plex) tests/support/programs/operations.py makes such calls. The compose files
(tests/support/stacks) are run as they are, by plain `up -d`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.mount.test_first_minutes import PHOTO
from tests.support.machine.booted import CHECKOUT, Booted, booted
from tests.support.machine.booted import POLICYFS as PROGRAM
from tests.support.machine.processes import TOOL_ENVIRONMENT, wait_for

STACKS: Final = CHECKOUT / "tests/support/stacks"
PROGRAMS: Final = CHECKOUT / "tests/support/programs"
DOCKERD: Final = CHECKOUT / "tests/support/machine/dockerd.sh"
POLICYFS: Final = shlex.quote(str(PROGRAM))
COMPOSE: Final = os.environ.get("POLICYFS_COMPOSE", "")
"""The program of Compose 2; otherwise Debian's Compose is used."""
UP_S: Final = 60
COMMAND_S: Final = 600
SMALL: Final = ("python3-minimal", "libpython3-stdlib", "rsync", "coreutils", "dash", "bash", "hostname")
LARGE: Final = (
    *SMALL, "util-linux", "sed", "grep", "findutils", "diffutils", "curl", "sqlite3", "syncthing", "minidlna",
    "transmission-daemon", "transmission-cli", "restic", "borgmatic", "rclone", "samba", "smbclient",
)  # fmt: skip
REAL: Final = ("restic", "borgmatic", "rclone", "minidlna", "samba", "transmission", "syncthing")
"""The services whose own program runs, too (real.sh)."""
FEW: Final = "photo,edit,move,hard_link,delete,texts,others"
"""The operations after a restart, and in `make test`."""
OF_OTHERS: Final = frozenset({
    "photo", "access", "edit", "append", "truncate", "overwrite", "move", "rename_over", "hard_link",
    "delete", "old_texts", "chmod", "chown", "utimes", "map", "locks", "attributes", "symlink",
    "atomic_replace", "pipe",
})  # fmt: skip
"""The operations on files that were there before, and a fifo: only who has all rights can make one."""
APP: Final = "/srv/app"
ENTER: Final = f"export HOME=/root && cd {APP}"
"""As root's shell; Docker finds Compose 2 by HOME."""


class Stack(NamedTuple):
    """A compose project. library: a directory, with these directories in it."""

    name: str
    library: str
    directories: tuple[str, ...]


ALL: Final = (
    Stack("photos", "/srv/media",
          ("photos/immich", "photos/family/2024", "movies/Film (2001)", "music/Band")),
    Stack("films", "/srv/media",
          ("torrents/done", "movies/Film (2001)", "tv/Show/Season 1", "music/Band", "documents/inbox",
           "documents/letters", "photos/anna", "photos/ben")),
    Stack("odd", "/srv/Bücher & Filme",
          ("Romane", "Hör Bücher/Kafka", "Podcasts/Täglich/2024", "Musik/Größe")),
)  # fmt: skip
TWO: Final = Stack("small", "/srv/media", ("movies/Film (2001)", "torrents/done"))
"""Two services, without a registry."""
SETUP: Final = """\
ip link set lo up
hosts=$(sed -nE 's,^ *(.*image:)? *"?([a-z.]+\\.(io|com))/.*,\\2,p' {stack}/*.yml | sort -u | tr '\\n' ' ')
echo "127.0.0.1 localhost $hosts" >/etc/hosts
mkdir -p /etc/docker /etc/policyfs /srv {app} /root/.docker/cli-plugins
printf '%s\\n' '{{"registry-mirrors": ["http://127.0.0.1"],' \\
    "\\"insecure-registries\\": [$(printf '"%s", ' $hosts) \\"127.0.0.1\\"]}}" >/etc/docker/daemon.json
cat >/etc/registry.yml <<END
version: 0.1
storage: {{filesystem: {{rootdirectory: /var/lib/registry}}}}
http: {{addr: "127.0.0.1:80"}}
log: {{level: error}}
END
cp -r {stack}/. {app}
cp {programs}/operations.py {programs}/real.sh /srv
echo {photo} | base64 -d >/srv/photo.jpg
cat >/srv/entry <<'END'
#!/bin/sh
# Immich writes these at each start, and does not start if it cannot.
case $(hostname) in immich*)
    for name in upload library thumbs; do
        mkdir -p /data/$name && echo 1 >/data/$name/.immich || exit 1
    done
    ;;
esac
exec sleep 100000
END
chmod 755 /srv/entry
printf '%s\\n' 'FROM base' 'COPY operations.py real.sh photo.jpg entry /srv/' >/srv/Dockerfile
printf '%s\\n' '*' '!operations.py' '!real.sh' '!photo.jpg' '!entry' >/srv/.dockerignore
cd /etc/systemd/system
cat >docker.service <<END
[Service]
Type=notify
ExecStart=sh {dockerd} --storage-driver=overlay2
Delegate=yes
KillMode=process
END
printf '[Service]\\nExecStart=docker-registry serve /etc/registry.yml\\n' >registry.service
mkdir multi-user.target.wants
ln -s ../docker.service ../registry.service multi-user.target.wants/
"""


def make_image(path: Path, packages: tuple[str, ...]) -> None:
    """Write a tar of Debian packages with those that they need, as they are installed here."""
    others = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    depends = [f"--no-{kind}" for kind in others]
    told = _output("apt-cache", "depends", "--recurse", "--installed", *depends, *packages)
    names = sorted(set(re.findall(r"^[a-z0-9]\S*", told, re.MULTILINE)))
    files = _output("dpkg-query", "-L", *names, check=False).splitlines()
    merged = {re.sub(r"^/(s?bin|lib|lib64)/", r"/usr/\1/", file) for file in files}
    merged |= {"/bin", "/sbin", "/lib", "/lib64", "/etc/passwd", "/etc/group"}
    left_out = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/boot")
    kept = [
        file for file in sorted(merged)
        if not file.startswith(left_out) and os.path.lexists(file)
        and (os.path.islink(file) or not os.path.isdir(file))
    ]  # fmt: skip
    words = ["tar", "-c", "-f", os.fspath(path), "--null", "--no-recursion", "-T", "-"]
    subprocess.run(words, input="\0".join(["/tmp", *kept]).encode(), capture_output=True, check=True)


def _output(*words: str, check: bool = True) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, check=check, timeout=COMMAND_S, env=TOOL_ENVIRONMENT
    )
    return done.stdout


class Home:
    """The machine with a stack, before and after `policyfs init`.

    places: for each service with a directory of the library, the host's directory by the container's.
    """

    def __init__(self, machine: Booted, stack: Stack) -> None:
        self.machine, self.stack = machine, stack
        self.places: dict[str, dict[str, str]] = {}

    def sh(self, script: str, *, check: bool = True) -> str:
        """Run a script in the directory of the project."""
        return self.machine("sh", "-c", f"{ENTER} && {script}", check=check, deadline_s=COMMAND_S)

    def compose(self, *words: str) -> str:
        """Run Compose, with no word about files."""
        return self.sh(f"{'docker compose' if COMPOSE else 'docker-compose'} {shlex.join(words)}")

    def furnish(self) -> None:
        """Make the library anew."""
        library = shlex.quote(self.stack.library)
        made = " ".join(shlex.quote(f"{self.stack.library}/{one}") for one in self.stack.directories)
        self.sh(f"rm -rf {library} && mkdir -p {made} && chown -R 1000:1000 {library}")

    def publish(self, version: int) -> None:
        """Make the images of the stack, and push them to the registry."""
        for image in sorted(set(re.findall(r"image: (\S+)", self.compose("config")))):
            path = re.sub(r"^[a-z.]+\.(io|com)/", "", image if ":" in image else f"{image}:latest")
            place = f"127.0.0.1/{path if '/' in path else f'library/{path}'}"
            where, push = (image, "") if self.stack == TWO else (place, f"&& docker push -q {place}")
            dockerfile = f"FROM own\\nLABEL version={version}\\nCMD /srv/entry\\n"
            self.sh(f"printf '{dockerfile}' | docker build -q -t {where} - {push}")

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Docker tells of the running container of each service."""
        ids = self.sh("docker ps -q --no-trunc").split()
        told = json.loads(self.sh(f"docker inspect {' '.join(ids)}"))
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in told}

    def start(self) -> None:
        """Start all by Compose's plain command. The first time, find the directories of the library."""
        self.compose("up", "-d", "-t", "0")
        for service, one in () if self.places else sorted(self.containers().items()):
            for mount in one["Mounts"]:
                source = mount["Source"]
                if mount["Type"] == "volume":
                    told = json.loads(self.sh(f"docker volume inspect {mount['Name']}"))[0]
                    source = (told["Options"] or {}).get("device", "")
                if f"{source}/".startswith(f"{self.stack.library}/"):
                    self.places.setdefault(service, {})[mount["Destination"]] = source

    def tops(self, service: str) -> dict[str, str]:
        """Where a service works, with the host's paths: the tops of its volumes, and a directory in each."""
        found = {}
        for target, source in self.places[service].items():
            found[target] = source
            paths = [f"{self.stack.library}/{name}/" for name in self.stack.directories]
            below = [one.removeprefix(f"{source}/").partition("/")[0] for one in paths
                     if one.startswith(f"{source}/")]  # fmt: skip
            if name := min(below):
                found[f"{target}/{name}"] = f"{source}/{name}"
        return found

    def work(self, name: str = "", only: str = "") -> dict[str, Any]:
        """Let each service do operations (only: not all), and its own program run. Return the results by
        service, directory and operation. name: another one at each call."""
        running, results = self.containers(), {}
        for service in self.places:
            own = [f"{service}{name}", *self.tops(service).values()]
            self.machine("python3", "-I", "/srv/operations.py", "furnish", *own)
        for service in self.places:
            settings = dict(one.partition("=")[::2] for one in running[service]["Config"]["Env"])
            uid = settings.get("PUID") or settings.get("USERMAP_UID")
            enter = f"docker exec {f'-u {uid}:{uid}' if uid else ''} {running[service]['Id']}"
            tops = list(self.tops(service))
            words = shlex.join([f"run:{only}", f"{service}{name}", *tops])
            told = self.sh(f"{enter} python3 -I /srv/operations.py {words}", check=False).splitlines()
            for line in told:
                top, operation, result = json.loads(line) if line.startswith("[") else ("", line, "")
                results[f"{service}{name} {top} {operation}"] = result
            if not only and service in REAL:
                words = shlex.join(["sh", "/srv/real.sh", service, tops[0]])
                results[f"{service} {tops[0]} program"] = self.sh(f"{enter} {words}", check=False)
        return results

    def day(self) -> dict[str, Any]:
        """Start all, work, restart, and get a new image. Return the results."""
        self.start()
        results = self.work()
        self.compose("restart", "-t", "0")
        results |= self.work("-restarted", FEW)
        self.publish(version := time.monotonic_ns())
        self.compose("pull", "-q")
        self.start()
        assert {one["Config"]["Labels"]["version"] for one in self.containers().values()} == {str(version)}
        return results | self.work("-upgraded", FEW)

    def past(self) -> list[str]:
        """The directories of containers that are the library's own, and no mounts."""
        found = []
        for service, one in self.containers().items():
            table = self.machine("cat", f"/proc/{one['State']['Pid']}/mountinfo").splitlines()
            lines = {line.split()[4].replace("\\040", " "): line for line in table}
            tops = self.places.get(service, ())
            found += [f"{service} {top}" for top in tops if " - fuse.policyfs " not in lines.get(top, "")]
        return found

    def init(self, yes_to: str = "nothing") -> str:
        """Run `policyfs init`, and answer: yes to questions that match a pattern, and else Enter. Return what
        it says."""
        begun, said = time.monotonic(), b""
        script = f"{ENTER} && exec {POLICYFS} init {shlex.quote(self.stack.library)} 2>&1"
        words = self.machine.words("sh", "-c", script)
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
            assert process.stdin
            assert process.stdout
            while data := process.stdout.read(1 << 16):
                said += data
                if data.endswith(b": "):
                    question = said.decode().rpartition("\n")[2]
                    answer = b"yes\n" if re.match(yes_to, question) else b"\n"
                    said += answer
                    process.stdin.write(answer)
        print(f"{said.decode()}init: {time.monotonic() - begun:.1f} s")
        assert process.returncode == 0
        return said.decode()

    def undo(self) -> None:
        """Undo `policyfs init`, as a user does: nothing of it is left."""
        self.compose("down", "-t", "0")
        print(self.sh(f"{POLICYFS} init --undo /etc/policyfs/*.init"))
        assert self.machine("find", "/etc/policyfs", "/run/policyfs/mounts", "-mindepth", "1") == ""


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs, in one line each; of lists, the differing elements."""
    found = []
    for what in dict.fromkeys((*before, *after)):
        left, right = before.get(what), after.get(what)
        if left != right:
            if isinstance(left, list) and isinstance(right, list) and len(left) > 3:
                left, right = [x for x in left if x not in right], [x for x in right if x not in left]
            found.append(f"{what}: {str(left)[:200]} -> {str(right)[:200]}")
    return found


@contextmanager
def home(place: Path, stack: Stack) -> Iterator[Home]:
    """Boot the machine, with Docker, its registry, and the images."""
    setup, image = place / "setup", place / "image.tar"
    photo = base64.b64encode(PHOTO).decode()
    values = {"stack": STACKS / stack.name, "programs": PROGRAMS, "dockerd": DOCKERD}
    quoted = {name: shlex.quote(str(value)) for name, value in values.items()}
    setup.write_text(SETUP.format(app=APP, photo=photo, **quoted))
    make_image(image, SMALL if stack == TWO else LARGE)
    with booted(place, setup, own_network=True) as machine:
        wait_for(lambda: machine.state("docker.service") == "active", "Docker", UP_S)
        its = Home(machine, stack)
        try:
            shutil.copyfile(image, machine.root / "srv/image.tar")
            image.unlink()
            if COMPOSE:
                shutil.copy(COMPOSE, machine.root / "root/.docker/cli-plugins/docker-compose")
            its.sh("docker import /srv/image.tar base && rm /srv/image.tar && docker build -q -t own /srv")
            its.publish(1)
            yield its
        finally:
            machine("sh", "-c", "docker rm -f $(docker ps -aq); rmdir /sys/fs/cgroup/*/docker", check=False)


@pytest.mark.timeout(300)
def test_two_services_do_the_same_after_init(tmp_path: Path) -> None:
    with home(tmp_path, TWO) as its:
        its.furnish()
        its.start()
        before = its.work(only=FEW)
        its.furnish()
        its.init()
        its.start()
        assert (its.past(), differences(before, its.work(only=FEW))) == ([], [])
        its.undo()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stack", ALL, ids=[stack.name for stack in ALL])
def test_a_stack_does_the_same_after_init(tmp_path: Path, stack: Stack) -> None:
    with home(tmp_path, stack) as its:
        its.furnish()
        before = its.day()
        its.compose("down", "-t", "0")
        its.furnish()
        its.init()
        after = its.day()
        trail = its.sh(f"{POLICYFS} audit summary --by app,decision")
        print(trail)
        for name, results in (("before", before), ("after", after)):
            (tmp_path / f"{name}.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))
        assert (its.past(), differences(before, after)) == ([], [])
        assert [service for service in its.places if service not in trail] == []
        its.undo()
        its.start()
        assert len(its.past()) == sum(map(len, its.places.values())), "each has the library again"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_answers_refuse_what_they_say_and_nothing_else(tmp_path: Path) -> None:
    with home(tmp_path, ALL[0]) as its:
        its.furnish()
        its.start()
        before = its.work()
        its.furnish()
        begun = time.monotonic()
        said = its.init("Keep it from|Hide from it")
        its.start()
        print(f"to all services: {time.monotonic() - begun:.1f} s")
        assert its.past() == []
        after = its.work()
    less = dict(re.findall(r"^([^ :]+): ((?:may do all in|reads|keeps) .*), at ", said, re.MULTILINE))
    assert "without places" in str(less)
    assert "keeps what others make" in str(less)
    wrong: list[tuple[str, ...]] = []
    for what in after:
        service, operation = what.split()[0], what.split()[-1]
        told, is_own = less.get(service, ""), "/data" in what  # Immich's own directory stays its own
        if operation in {"scan", "others", "program"}:  # they hang on what other services could do
            continue
        if before[what] != after[what] and (not told or is_own or operation not in OF_OTHERS):
            wrong.append(("differs", what, str(before[what]), str(after[what])))
        shown = operation == "photo" and after[what] != "EACCES" and after[what][0]
        changed = operation in {"edit", "delete", "move"} and after[what] not in ("EACCES", "EROFS")
        if not is_own and ((shown and "without places" in told) or (changed and "keeps" in told)):
            wrong.append(("is not refused", what, str(after[what])))
    assert wrong == []
