"""What each request needs (docs/policy-language.md), on a real mount: with it allowed, without it refused."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, tool_as
from tests.support.models.twins import Outcome, attempt, content, error, fd_of
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP, OTHER, STRANGER = 10010, 10011, 10099
OPS = ("see", "read", "write", "create", "delete", "attr")


def _policy() -> str:
    lacking = "\n".join(
        f"  - {{id: no-{op}, allow: [{', '.join(o for o in OPS if o != op)}], who: {{app: app}},"
        f' paths: ["/no-{op}/**", "/twin-no-{op}/**"]}}\n'
        f'  - {{id: no-{op}-itself, allow: [see], who: {{app: app}}, paths: ["/no-{op}", "/twin-no-{op}"]}}'
        for op in OPS
    )
    denying = "\n".join(
        f"  - {{id: deny-{name}, deny: [write, delete], who: {{app: app}},"
        f' paths: ["/{name}/**"], errno: {name}}}'
        for name in ("EPERM", "EROFS", "EACCES", "ENOENT")
    )
    return f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: app}}, paths: ["/all/***", "/twin-all/***"]}}
{lacking}
  - {{id: denied, allow: [all], who: {{app: app}}, paths: ["/{{EPERM,EROFS,EACCES,ENOENT}}/***"]}}
{denying}
  - {{id: two, deny: [write], who: {{app: app}}, paths: ["/EROFS/also-eperm"], errno: EPERM}}
"""


PLACES = ("all", *(f"no-{op}" for op in OPS))


def _furnish(directory: Path) -> None:
    (directory / "dir" / "sub").mkdir(parents=True)
    for name in ("file", "other-file", "dir/inner", "also-eperm"):
        (directory / name).write_text("text\n")
    (directory / "script").write_text("#!/bin/sh\nexit 7\n")
    (directory / "script").chmod(0o755)
    (directory / "vacant").mkdir()
    (directory / "link").symlink_to("file")
    os.setxattr(directory / "file", "user.mark", b"1")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, APP, APP, follow_symlinks=False)


@pytest.fixture(scope="module")
def needs(module_mounts: Mounts, module_arena: Path) -> Mount:
    store = module_arena / "store"
    store.mkdir(mode=0o700)
    mount = module_mounts.start(_policy(), store)
    mount.expected_log = []
    return mount


@pytest.fixture
def place(needs: Mount, request) -> Iterator[Callable[[str], Path]]:
    """`place("no-read")`: a freshly furnished directory of that name, as the app sees it."""
    import shutil

    made = []

    def make(name: str) -> Path:
        _furnish(needs.store / name)
        made.append(needs.store / name)
        return needs.mountpoint / name

    yield make
    for directory in made:
        shutil.rmtree(directory)


def _opens(flags: int) -> Callable[[str], object]:
    def call(path: str) -> None:
        with fd_of(path, flags):
            pass

    return call


def _ftruncates(path: str) -> None:
    with fd_of(path, os.O_RDWR) as fd:
        os.ftruncate(fd, 2)


def _runs(path: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(path, [path])
        except OSError as refused:
            os._exit(refused.errno or 1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 7:
        raise OSError(code, os.strerror(code))
    return code


def _must(answer: bool) -> None:
    """access(2) as Python's os.access hides the errno: any refusal is EACCES here."""
    if not answer:
        raise OSError(errno.EACCES, "no access")


def _accesses(mode: int) -> Callable[[str], object]:
    return lambda path: _must(os.access(path, mode))


def _listed(path: str) -> None:
    if os.path.basename(path) not in os.listdir(os.path.dirname(path)):
        raise OSError(errno.ENOENT, "not listed")


REQUESTS: dict[str, tuple[str, Callable[[str], object], str]] = {
    # request: (what it is made on, the call, the operations that it needs)
    "stat": ("file", os.stat, "see"),
    "lstat of a link": ("link", os.lstat, "see"),
    "stat through a link": ("link", os.stat, "see"),
    "stat of a directory": ("dir", os.stat, "see"),
    "readlink": ("link", os.readlink, "see"),
    "list": ("dir", os.listdir, "see"),
    "be listed": ("file", _listed, "see"),
    "chdir": ("dir", os.chdir, "see"),
    "open path only": ("file", _opens(os.O_PATH), "see"),
    "open to read": ("file", _opens(os.O_RDONLY), "see read"),
    "execute": ("script", _runs, "see read"),
    "getxattr": ("file", lambda p: os.getxattr(p, "user.mark"), "see read"),
    "listxattr": ("file", os.listxattr, "see read"),
    "listxattr of a directory": ("dir", os.listxattr, "see read"),
    "open to write": ("file", _opens(os.O_WRONLY), "see write"),
    "open to append": ("file", _opens(os.O_WRONLY | os.O_APPEND), "see write"),
    "open for both": ("file", _opens(os.O_RDWR), "see read write"),
    "truncate": ("file", lambda p: os.truncate(p, 2), "see write"),
    "ftruncate": ("file", _ftruncates, "see read write"),
    "open truncating": ("file", _opens(os.O_WRONLY | os.O_TRUNC), "see write"),
    "open to read truncating": ("file", _opens(os.O_RDONLY | os.O_TRUNC), "see read write"),
    "create": ("new", _opens(os.O_WRONLY | os.O_CREAT), "see create write"),
    "create exclusively": ("new", _opens(os.O_WRONLY | os.O_CREAT | os.O_EXCL), "see create write"),
    "create for both": ("new", _opens(os.O_RDWR | os.O_CREAT), "see read create write"),
    "create to read": ("new", _opens(os.O_RDONLY | os.O_CREAT), "see read create write"),
    "open what is there with O_CREAT": ("file", _opens(os.O_RDONLY | os.O_CREAT), "see read"),
    "mkdir": ("new", os.mkdir, "see create"),
    "mknod": ("new", lambda p: os.mknod(p, stat.S_IFREG | 0o600), "see create"),
    "symlink": ("new", lambda p: os.symlink("x", p), "see create"),
    "unlink": ("file", os.unlink, "see delete"),
    "unlink a link": ("link", os.unlink, "see delete"),
    "rmdir": ("vacant", os.rmdir, "see delete"),
    "chmod": ("file", lambda p: os.chmod(p, 0o600), "see attr"),
    "chmod a directory": ("dir", lambda p: os.chmod(p, 0o700), "see attr"),
    "chown": ("file", lambda p: os.chown(p, APP, APP), "see attr"),
    "utimens": ("file", os.utime, "see attr"),
    "utimens of a link": ("link", lambda p: os.utime(p, (1, 1), follow_symlinks=False), "see attr"),
    "setxattr": ("file", lambda p: os.setxattr(p, "user.b", b""), "see attr"),
    "removexattr": ("file", lambda p: os.removexattr(p, "user.mark"), "see attr"),
    "rename": ("file", lambda p: os.rename(p, p + ".new"), "see delete create"),
    "rename over": ("file", lambda p: os.rename(p, os.path.dirname(p) + "/other-file"), "see delete create"),
    "rename a directory": ("dir", lambda p: os.rename(p, p + ".new"), "see delete create"),
    "link": ("file", lambda p: os.link(p, p + ".new"), "see read write create"),
    "access to read": ("file", _accesses(os.R_OK), "see read"),
    "access to write": ("file", _accesses(os.W_OK), "see write"),
    "access to execute": ("script", _accesses(os.X_OK), "see read"),
    "access a directory": ("dir", _accesses(os.R_OK | os.W_OK | os.X_OK), "see"),
}  # fmt: skip


WITHOUT_READ: Final = {"getxattr": "ENODATA", "listxattr": "", "listxattr of a directory": ""}
"""Programs list the attributes of whatever they see: without `read` there are none, and no refusal."""


def _ask_all(parent: Path, calls: list[tuple[str, Callable[[str], object]]]) -> list[Outcome]:
    outcomes = []
    for number, (name, call) in enumerate(calls):
        outcomes.append(attempt(lambda path=f"{parent}/{number}/{name}", call=call: bool(call(path)) or True))
    os.chdir("/")
    return outcomes


@pytest.mark.parametrize("where", PLACES)
def test_each_request_needs_what_the_table_says(needs: Mount, where: str) -> None:
    base = needs.store / where
    base.mkdir()
    for number in range(len(REQUESTS)):
        _furnish(base / str(number))
    answers = call_as(APP, _ask_all, needs / where, [(name, call) for name, call, _ in REQUESTS.values()])
    wrong = []
    for (request, (_, _, needed)), answer in zip(REQUESTS.items(), answers, strict=True):
        lacking = where.removeprefix("no-")
        if lacking not in needed.split():
            expected = {""}
        elif lacking == "see":
            expected = {"ENOENT"}
        elif lacking == "read" and request in WITHOUT_READ:
            expected = {WITHOUT_READ[request]}
        else:
            expected = {"EACCES"}
        if where == "no-see" and request.startswith("access"):
            expected = {"EACCES"}  # os.access says no more than no
        if answer.error not in expected:
            wrong.append(f"{request} in /{where}: {answer.error or 'allowed'}, not {expected}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("where", PLACES)
def test_whom_no_rule_allows_finds_nothing(needs: Mount, where: str, place) -> None:
    inside = place(f"twin-{where}")
    for uid in (OTHER, STRANGER, 0):
        got = call_as(uid, lambda: [
            error(os.stat, inside / "file"), error(os.open, inside / "file", os.O_RDONLY),
            error(os.mkdir, inside / "n"), error(os.open, inside / "n", os.O_CREAT | os.O_WRONLY),
            error(os.unlink, inside / "file"), error(os.rename, inside / "file", inside / "n"),
            error(os.chmod, inside / "file", 0o777), error(os.listdir, inside),
            error(os.readlink, inside / "link"), error(os.truncate, inside / "file", 0),
            error(os.listxattr, inside / "file"), error(os.rmdir, inside / "vacant"),
            error(os.access, inside, 0), sorted(os.listdir(needs.mountpoint)),
        ])  # fmt: skip
        assert got == [*["ENOENT"] * 12, "False", []]


@pytest.mark.parametrize("name", ["EPERM", "EROFS", "EACCES", "ENOENT"])
def test_a_deny_says_its_errno(place, name: str) -> None:
    inside = place(name)
    got = call_as(APP, lambda: [
        error(os.open, inside / "file", os.O_WRONLY), error(os.truncate, inside / "file", 0),
        error(os.open, inside / "new", os.O_WRONLY | os.O_CREAT), error(os.unlink, inside / "file"),
        error(os.rename, inside / "file", inside / "x"), error(os.link, inside / "file", inside / "x"),
    ])  # fmt: skip
    assert got == [name] * 6
    # After ENOENT to rmdir the kernel would drop the directory, also for those who are in it.
    instead = "EACCES" if name == "ENOENT" else name
    assert call_as(APP, lambda: error(os.rmdir, inside / "vacant")) == instead
    fine = call_as(
        APP,
        lambda: [content(inside / "file"), error(os.mkdir, inside / "new"), error(os.utime, inside / "file")],
    )
    assert fine == [b"text\n", "None", "None"]


def test_of_several_errnos_the_one_that_says_least(place) -> None:
    inside = place("EROFS")
    assert call_as(APP, lambda: error(os.truncate, inside / "also-eperm", 0)) == "EPERM"
    assert call_as(APP, lambda: error(os.truncate, inside / "file", 0)) == "EROFS"


def _moves(old: Path, new: Path) -> dict[str, str]:
    return {
        "rename": error(os.rename, old / "file", new / "moved"),
        "directory": error(os.rename, old / "dir", new / "moved-dir"),
        "link": error(os.link, old / "script", new / "linked"),
    }


ALLOWED = dict.fromkeys(("rename", "directory", "link"), "None")
MOVES = {
    # Within what gives the same rights, and to where there are fewer, everything moves.
    ("all", "twin-all"): ALLOWED,
    ("no-attr", "twin-no-attr"): ALLOWED,
    ("all", "no-attr"): ALLOWED | {"directory": "EXDEV"},
    ("all", "no-read"): ALLOWED | {"directory": "EXDEV"},
    # To where an app could do more, only what it could have copied there anyway.
    ("no-attr", "all"): {"rename": "None", "directory": "EXDEV", "link": "EXDEV"},
    ("no-create", "all"): {"rename": "None", "directory": "EXDEV", "link": "EXDEV"},
    ("no-read", "all"): {"rename": "EXDEV", "directory": "EXDEV", "link": "EACCES"},
    ("no-write", "all"): {"rename": "EXDEV", "directory": "EXDEV", "link": "EACCES"},
    # What is needed comes first.
    ("no-delete", "all"): {"rename": "EACCES", "directory": "EACCES", "link": "EXDEV"},
    ("all", "no-create"): dict.fromkeys(ALLOWED, "EACCES"),
    ("no-see", "all"): dict.fromkeys(ALLOWED, "ENOENT"),
    # After ENOENT the kernel would drop the directory, also for those who are in it.
    ("all", "no-see"): {"rename": "ENOENT", "directory": "EACCES", "link": "ENOENT"},
}


@pytest.mark.parametrize(("old", "new"), MOVES, ids=lambda name: name)
def test_nobody_gains_by_moving(place, old: str, new: str) -> None:
    before, after = place(old), place(new)
    assert call_as(APP, _moves, before, after) == MOVES[old, new]


def test_mv_copies_what_cannot_be_moved(needs: Mount, place) -> None:
    old, new = place("no-attr"), place("all")
    done = tool_as(APP, "mv", old / "dir", new / "moved")
    assert done.returncode == 0, done
    assert (needs.store / "all" / "moved" / "inner").read_text() == "text\n"
    assert (needs.store / "all" / "moved" / "sub").is_dir()
    assert not (needs.store / "no-attr" / "dir").exists()


def test_exchanging_needs_both_ways(place) -> None:
    from policyfs.linux import libc

    def swap(one: Path, two: Path) -> str:
        with fd_of(one, os.O_PATH) as a, fd_of(two, os.O_PATH) as b:
            return error(libc.rename2, a, b"file", b, b"other-file", libc.RENAME_EXCHANGE)

    places = {name: place(name) for name in ("all", "twin-all", "no-delete", "no-create", "no-read")}
    answers = {
        (one, two): call_as(APP, swap, places[one], places[two])
        for one, two in (
            ("all", "twin-all"), ("all", "no-delete"), ("no-delete", "all"), ("no-create", "all"),
            ("all", "no-read"), ("no-read", "all"),
        )
    }  # fmt: skip
    assert answers == {
        ("all", "twin-all"): "None", ("all", "no-delete"): "EACCES", ("no-delete", "all"): "EACCES",
        ("no-create", "all"): "EACCES", ("all", "no-read"): "EXDEV", ("no-read", "all"): "EXDEV",
    }  # fmt: skip


def test_a_refused_call_changes_nothing(needs: Mount, place) -> None:
    for name in PLACES[1:]:
        inside = place(name)
        outside = needs.store / name
        before = {path: (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in outside.rglob("*")}
        lacking = name.removeprefix("no-")
        refused = [
            (target, call)
            for request, (target, call, needed) in REQUESTS.items()
            if lacking in needed.split() and not (lacking == "read" and request in WITHOUT_READ)
        ]
        got = call_as(APP, lambda refused=refused, inside=inside: [
            str(attempt(lambda target=target, call=call: call(str(inside / target))))
            for target, call in refused
        ])  # fmt: skip
        assert set(got) <= {"EACCES", "ENOENT"}
        assert {
            path: (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in outside.rglob("*")
        } == before
        assert (outside / "file").read_text() == "text\n"


def test_tools_hear_why(place) -> None:
    inside = place("no-write")
    done = tool_as(APP, "sh", "-c", "echo x > file", cwd=inside)
    assert b"Permission denied" in done.stderr
