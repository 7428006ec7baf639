"""`policyfs run` of an ordinary user: the view at the store's path, and a command without the user's
rights."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from policyfs.cli.mounts.run_user import LIMITS
from tests.support.machine.ordinary_user import NAME, OrdinaryUser
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Said
from tests.support.samples import jpegs

POLICY: Final = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: agent}
apps: {agent: {}}
rules:
  - {id: secrets, deny: [all], paths: "/**/.env"}
  - {id: work, allow: [all], paths: ["/src/***", "/docs/***"]}
  - {id: look, allow: [see, read], paths: "/***"}
"""
pytestmark = pytest.mark.mount


@pytest.fixture
def user(arena: Path) -> Iterator[OrdinaryUser]:
    made = OrdinaryUser(arena)
    made.make("code/src/main.py", "print(1)\n")
    made.make("code/.env", "SECRET\n")
    made.make("private.txt", "private\n")
    made.make("policy.yaml", POLICY)
    yield made
    assert made.left() == [], "no process is left behind"


def run(user: OrdinaryUser, script: str, *options: str, inside: bool = False) -> Said:
    """Run a script on the store. inside: start policyfs there, as the pages do."""
    store, cwd = (".", user.home / "code") if inside else ("code", user.home)
    words = ("run", *(options or by_policy(user)), store, "--", "sh", "-c", script)
    said = user.policyfs(*words, cwd=cwd)
    assert "Traceback" not in said.stderr
    is_first, user.knows_limits = not user.knows_limits, True
    assert (f"{LIMITS}\n" in said.stderr) == is_first, "it is told once"
    return replace(said, stderr=said.stderr.replace(f"{LIMITS}\n", ""))


def by_policy(user: OrdinaryUser) -> tuple[str, ...]:
    return "--app", "agent", "--policy", str(user.home / "policy.yaml")


def test_the_command_has_the_view_and_no_other_file_of_the_user(user: OrdinaryUser) -> None:
    code = user.home / "code"
    said = run(
        user,
        f"id -un; id -G; cd {code}; ls -A; stat -c %U src/main.py; echo new > src/new; mkdir src/d;"
        "echo no > no; mv src/main.py .; cat .env; cat ../private.txt; ls ~; echo x > ~/x; echo x > /tmp/x;"
        "chmod u+s src/new; chown 0 src/new; exit 7",
    )
    assert said.returncode == 7
    assert said.stdout == f"{NAME}\n{user.uid}\nsrc\n{NAME}\ncode\n"
    refused = [line.rpartition(": ")[2] for line in said.stderr.splitlines()]
    absent, denied = "No such file or directory", "Permission denied"
    assert refused == [denied, denied, absent, absent, "Invalid argument"], said.stderr
    new = (code / "src/new").stat()
    assert (new.st_uid, new.st_gid, new.st_mode) == (user.uid, user.uid, 0o100644), "not setuid"
    assert not (user.home / "x").exists() and not Path("/tmp/x").exists()
    assert sorted(os.listdir(code)) == [".env", "src"]
    state = user.home / ".local/state/policyfs"
    assert {path.stat().st_uid for path in state.rglob("*")} == {user.uid}
    assert os.listdir(user.home / ".local/state") == ["policyfs"]
    searched = user.policyfs("audit", "search", "--decision", "deny")
    assert "/.env" in searched.stdout, searched
    assert user.policyfs("audit", "verify").returncode == 0


ATTACKS: Final = r"""
exec 2>/dev/null
up() { echo "$1"; }
d=$(ls /proc | grep -c '^[0-9]'); [ "$d" -lt 9 ] || up "sees $d processes"
for pid in 1 $PPID; do
  cat /proc/$pid/environ >/dev/null && up "environ of $pid"
  cat /proc/$pid/mem >/dev/null && up "mem of $pid"
  ls /proc/$pid/root/ >/dev/null && up "root of $pid"
  ls /proc/$pid/fd >/dev/null && up "fd of $pid"
done
for pid in DAEMONS; do kill -0 $pid && up "signals $pid"; kill -9 $pid; done
kill -9 1 && kill -9 1 && [ ! -d /proc/1 ] && up "killed init"
cat HOME/private.txt && up "private"
ls HOME/.local && up "state"
ls RUNTIME && up "runtime"
python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect("RUNTIME/bus")' && up "session bus"
cat CODE/.env && up ".env"
umount CODE && up "umount"
umount -l HOME && up "umount home"
unshare -Urm sh -c 'umount -l CODE; cat CODE/.env; umount -l HOME; cat HOME/private.txt
  mount --bind / /mnt && cat /mnt/CODE/.env /mnt/HOME/private.txt' && up "nested"
unshare -Ur sh -c 'cat HOME/private.txt || chown 1 CODE/src/main.py' && up "nested root"
cp /bin/sh CODE/src/sh; chmod 6755 CODE/src/sh; [ -u CODE/src/sh ] && up "setuid"
sudo -n true && up "sudo"
su -c true && up "su"
mknod CODE/src/null c 1 3 && up "device"
ln CODE/.env CODE/src/env && up "link"
ln CODE/src/main.py /tmp/main && up "link across"
mv CODE/.env CODE/src/env && up "rename"
ln -s ../.env CODE/src/l; cat CODE/src/l && up "symlink"
nsenter -t 1 -m cat HOME/private.txt && up "nsenter"
for n in $(seq 3 40); do cat /proc/$$/fd/$n/private.txt && up "fd $n"; done
[ "$(ls /proc/$$/fd | wc -l)" -lt 6 ] || up "descriptors"
grep -q '^CapEff:.0*$' /proc/self/status || up "capabilities"
grep -q 'NoNewPrivs:.1' /proc/self/status || up "new privileges"
echo honest > CODE/src/honest
"""


def test_a_hostile_command_reads_nothing_hidden_and_changes_nothing_outside(user: OrdinaryUser) -> None:
    """Attack F3.18: From a command of `policyfs run` without root, reach the daemon, other files of the user
    or hidden ones: by /proc, signals, mounts, namespaces, descriptors, setuid programs, links, devices
    Guard: policyfs/cli/mounts/run_user.py::User.take, policyfs/cli/mounts/run_user.py::User.show
    Without: ::test_it_would_with_the_users_rights
    """
    words = ("run", *by_policy(user), "code", "--", "sh", "-c", "echo ready; cat")
    with socket.socket(socket.AF_UNIX) as bus, user.start(*words, stdin=subprocess.PIPE) as other:
        bus.bind(str(user.runtime / "bus"))
        bus.listen()
        (user.runtime / "bus").chmod(0o666)
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "ready\n"
        user.knows_limits = True
        script = ATTACKS
        for word, text in (
            ("DAEMONS", " ".join(map(str, user.left()))), ("HOME", str(user.home)),
            ("RUNTIME", str(user.runtime)), ("CODE", str(user.home / "code")),
        ):  # fmt: skip
            script = script.replace(word, text)
        assert run(user, script) == Said(0, "", "")
        other.stdin.close()
        assert other.wait(60) == 0, "the command beside it, and its daemon, live on"
    assert (user.home / "code/src/honest").read_text() == "honest\n"
    assert (user.home / "code/.env").read_text() == "SECRET\n"
    assert (user.home / "private.txt").read_text() == "private\n"


def test_it_would_with_the_users_rights(user: OrdinaryUser) -> None:
    user.program = ("tests.attack.weakened", "user-kept")
    home, top = user.home, Path("/tmp")
    said = run(user, f"cd /; umount -l {home}/code {home} {top}; cat {home}/private.txt {home}/code/.env")
    assert said.stdout == "private\nSECRET\n"


def test_a_policy_of_paths_is_printed_for_reuse(user: OrdinaryUser) -> None:
    code = user.home / "code"
    options = ("--allow-read", str(code), "--allow-write", "src")
    said = run(user, f"cd {code}; cat .env; echo x > src/x; echo no > no", *options)
    assert (said.returncode, said.stdout) == (2, "SECRET\n")
    told, _, text = said.stderr.partition("\n")
    assert told == "policyfs: for --policy FILE --app command:"
    policy = user.make("own.yaml", text.partition("sh: ")[0])
    assert run(user, f"cat {code}/src/x", "--policy", str(policy), "--app", "command").stdout == "x\n"
    assert not list((user.runtime / "policyfs/run").glob("*.yaml"))


def test_what_forbids_it_is_named_with_its_remedy(user: OrdinaryUser, arena: Path) -> None:
    words = ("run", *by_policy(user), "code", "--", "true")

    def refusal() -> str:
        said = user.policyfs(*words)
        assert (said.returncode, said.stdout) == (1, "")
        return said.stderr

    def doctor() -> dict[str, tuple[str, str]]:
        rows = json.loads(user.policyfs("doctor", "--json").stdout)
        return {row["name"]: (row["state"], row["todo"]) for row in rows if row["name"].startswith("run")}

    works = {"run without root": ("ok", ""), "run --try": ("ok", "")}
    assert doctor() == works
    user.forbidden = True
    assert "sysctl user.max_user_namespaces=16384" in refusal()
    assert doctor() == {name: ("off", refusal().rpartition("policyfs: ")[2].strip()) for name in works}
    user.forbidden = False
    (arena / "subgid").write_text("other:100000:65536\n")
    assert doctor() == {name: ("off", refusal().rpartition("policyfs: ")[2].strip()) for name in works}
    line = f"{NAME}:{user.subordinate_ids.stop}:65536\n"
    assert f"Let root add this line to /etc/subuid and /etc/subgid: {line}" in refusal()
    (arena / "fuse").chmod(0o600)
    assert "/dev/fuse is closed to this user" in refusal()
    (arena / "fuse").chmod(0o666)
    (user.home / "code").chmod(0o777)
    os.chown(user.home / "code", 0, 0)
    assert "code is not yours" in refusal()


def test_a_killed_run_leaves_nothing(user: OrdinaryUser) -> None:
    for number in (signal.SIGKILL, signal.SIGHUP):
        process = user.start("run", *by_policy(user), "code", "--", "sh", "-c", "echo ready; exec sleep 1000")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.communicate(timeout=60)
        wait_for(lambda: not user.left(), "all processes have ended")


def policy_of(page: str) -> str:
    """The policy that a page of the documentation shows."""
    return Path("docs", page).read_text().partition("```yaml\n")[2].partition("```")[0]


def test_an_agent_works_in_a_checkout_as_its_page_says(user: OrdinaryUser) -> None:
    user.make("agent.yaml", policy_of("agents.md"))
    for name in (".git/config", "src/.env.local", "Makefile"):
        user.make(f"code/{name}", "old\n")
    options = ("--try", "--app", "agent", "--policy", str(user.home / "agent.yaml"))
    script = "cat .git/config src/.env.local; ls -A . src; echo x > src/x; echo x > Makefile"
    assert run(user, script, *options, inside=True).stdout == ".:\n.git\nMakefile\nsrc\n\nsrc:\nmain.py\n"
    told = user.policyfs("try", "diff", "--names").stdout
    assert told == "~ Makefile  (content, time)  [refused: no rule allows it]\n+ src/x\n"
    assert user.policyfs("try", "commit", "--paths", "src/*").stdout == "src/x\n"
    assert user.policyfs("try", "drop").returncode == 0
    assert (user.home / "code/Makefile").read_text() == "old\n"
    assert "/.git/config" in user.policyfs("audit", "search", "--app", "agent", "--decision", "deny").stdout


def test_a_strangers_script_sorts_photos_as_its_page_says(user: OrdinaryUser) -> None:
    user.make("script.yaml", policy_of("stranger-scripts.md"))
    photo = user.make("code/photo.jpg")
    original = jpegs.photo_with(jpegs.exif())
    photo.write_bytes(original)
    user.make("code/Private/p.txt", "private\n")
    options = ("--try", "--app", "script", "--policy", str(user.home / "script.yaml"))
    script = "ls; mkdir sorted; cp photo.jpg sorted; rm photo.jpg"
    assert run(user, script, *options, inside=True).stdout == "photo.jpg\nsrc\n"
    said = user.policyfs("try", "commit")
    assert said.stdout == "sorted\nsorted/photo.jpg\n", said
    assert photo.read_bytes() == original
    copy = (user.home / "code/sorted/photo.jpg").read_bytes()
    assert len(copy) == len(original)
    assert copy != original, "the command saw it without its place"


FORGES: Final = r"""
exec 2>/dev/null
up() { echo "$1"; }
cd CODE
ls LAYERS && up "layers"
mknod src/white c 0 0 && up "whiteout"
mkdir docs && setfattr -n user.overlay.opaque -v y docs
setfattr -n user.overlay.redirect -v /.env src/main.py
setfattr -n user.overlay.metacopy -v 0 src/main.py
mount -t overlay -o lowerdir=/,upperdir=/tmp,workdir=/tmp x /mnt && up "own overlay"
umount CODE && up "umount"
grep -q SECRET .env && up ".env"
unshare -Urm sh -c 'umount -l CODE; cat CODE/.env CODE/src/new' && up "nested"
echo more >> src/main.py; echo new > src/new; echo no > no; rm -r docs
"""


def test_a_user_tries_looks_and_commits(user: OrdinaryUser) -> None:
    """Attack F3.19: In a try, reach the layer by its real path, make whiteouts and marks of overlayfs, or
    take the overlay away, so that a commit does what the policy denies
    Guard: policyfs/cli/layers/overlay.py::overlay, policyfs/cli/layers/replay.py::Replay.run
    """
    code, layers = user.home / "code", user.home / ".local/state/policyfs/layers"
    user.make("code/docs/page", "page\n")
    script = FORGES.replace("CODE", str(code)).replace("LAYERS", str(layers))
    said = run(user, script, "--try", *by_policy(user))
    assert (said.returncode, said.stdout) == (0, ""), said
    assert (code / "src/main.py").read_text() == "print(1)\n"
    said = user.policyfs("try", "diff", "--json")
    assert (said.returncode, said.stderr) == (0, ""), said
    told = [json.loads(line) for line in said.stdout.splitlines()]
    assert {one["path"]: one.get("note", "") for one in told} == {
        "src/main.py": "", "src/new": "", "no": "refused: no rule allows it", "docs/": "",
    }  # fmt: skip
    said = user.policyfs("try", "commit")
    assert (said.returncode, said.stdout) == (1, "docs\nsrc/main.py\nsrc/new\n"), said
    assert said.stderr == "policyfs: no stays in the layer: Permission denied\n"
    assert (code / "src/main.py").read_text() == "print(1)\nmore\n"
    assert ((code / "src/new").stat().st_uid, (code / "docs").exists()) == (user.uid, False)
    assert (code / ".env").read_text() == "SECRET\n"
    assert user.policyfs("try", "drop").returncode == 0
    assert list(layers.iterdir()) == []


def test_a_layer_without_a_change_goes(user: OrdinaryUser) -> None:
    tried = "--try", *by_policy(user)
    assert run(user, "echo x > src/x", *tried, inside=True).returncode == 0
    said = user.policyfs("try", "commit")
    assert (said.returncode, said.stdout) == (0, "src/x\n"), said
    assert run(user, "true", *tried, inside=True).returncode == 0
    assert user.policyfs("try", "list").stdout == ""
    assert os.listdir(user.home / ".local/state/policyfs/layers") == []
