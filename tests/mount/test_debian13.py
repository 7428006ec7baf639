"""The namespaces of `make test-debian13` leave nothing behind, and its page says what cannot run there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debian13.__main__ import INSIDE, PLACE, environment, inside, mirror
from tests.debian13.left_out import LEFT_OUT
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import wait_for

PAGE = CHECKOUT / "docs" / "debian13.md"


@pytest.fixture
def root(arena: Path) -> Iterator[Path]:
    """A root with the programs of this machine."""
    made = arena / "root"
    for name in ("usr", "proc", "sys", "dev", "run", "tmp", "etc", PLACE):
        (made / name).mkdir(parents=True)
    for path in Path("/").iterdir():
        if path.is_symlink() and path.readlink().parts[0] == "usr":
            (made / path.name).symlink_to(path.readlink())
    subprocess.run(["mount", "--bind", "/usr", made / "usr"], check=True)
    yield made
    subprocess.run(["umount", made / "usr"], check=True)


def _running(word: str) -> list[int]:
    """Processes that have a word among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_script_has_the_root_devices_and_user_namespaces(root: Path) -> None:
    script = (
        f"[ $PWD = /{PLACE} ] && [ ! -e /.before ] && [ -c /dev/fuse ] && [ $$ -lt 100 ]"
        " && [ $(stat -fc %T /run) = tmpfs ] && unshare --user --map-root-user true"
        " && while read _ _ _ _ path _; do [ -e $path ] || exit 4; done </proc/self/mountinfo"
        " || exit 3; exit 7"
    )
    assert inside(root, script) == 7


@pytest.mark.parametrize("killed", [False, True])
def test_no_process_and_no_mount_is_left(root: Path, killed: bool) -> None:
    """Neither at the end nor if the one who started it is killed."""
    word = f"9{os.getpid()}{int(killed)}"
    script = f"mount -t tmpfs none /tmp && {{ setsid sleep {word} & }} && touch /run/x && echo up"
    script += f" && sleep {word}" if killed else ""
    code = (
        "import sys; from pathlib import Path; from tests.debian13.__main__ import inside;"
        f"sys.exit(inside(Path({str(root)!r}), {script!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "up\n"
        if killed:
            wait_for(lambda: _running(word), "the start of what is to be ended")
            process.send_signal(signal.SIGKILL)
        assert process.wait(20) == (-signal.SIGKILL if killed else 0)
    wait_for(lambda: not _running(word), "the end of what was started")
    assert [entry.mountpoint for entry in mounts_below(root)] == [str(root / "usr")]


def test_nothing_inside_is_told_a_path_of_this_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = root / "here.pem"
    certificates.write_text("a certificate")
    monkeypatch.setenv("PIP_CERT", str(certificates))
    monkeypatch.setenv("PIP_FIND_LINKS", str(root))
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example/root")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    given = environment(root)
    assert not [value for value in given.values() if str(root) in value or str(CHECKOUT) in value]
    assert given["PIP_INDEX_URL"] == "https://packages.example/root"
    assert given["https_proxy"] == "http://proxy.example:3128"
    assert (root / given["PIP_CERT"].lstrip("/")).read_text() == "a certificate"


def test_the_mirror_is_the_one_that_apt_has() -> None:
    lists = [path.name for path in Path("/var/lib/apt/lists").glob("*_Packages*")]
    host = re.match(r"https?://([^/]+)/", mirror())[1]
    assert any(name.startswith(host) for name in lists)


def test_the_page_names_the_tests_that_are_left_out() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Tests that are left out")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, re.MULTILINE))
    assert rows == LEFT_OUT
    assert LEFT_OUT or "None." in section


@pytest.mark.parametrize("test", [*LEFT_OUT, None])
def test_what_is_left_out_is_there(test: str | None) -> None:
    if test is not None:
        file, _, name = test.partition("::")
        assert f"def {name.split('[')[0]}(" in (CHECKOUT / file).read_text(encoding="utf-8")


def test_the_script_inside_is_a_sound_one() -> None:
    subprocess.run(["sh", "-n", INSIDE], check=True, timeout=10)
