"""Names: what they may be, how deep they lie, how they move; as natively, and where not, why."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

import pytest

from tests.support.machine.counts import count, daily
from tests.support.machine.processes import call_as
from tests.support.models.twins import ROADS, UID, Case, Twins, content, error, fd_of, marks, twins_on

ODD_NAMES = (
    b"new\nline", b"tab\tand \x1b[31mred", b"not \xff\xfe utf-8", b"\xed\xa0\x80 surrogate",
    "rechts-nach-links \u202e gpj.exe".encode(), "combining e\u0301".encode(), "composed \u00e9".encode(),
    b" leading", b"trailing ", b"-rf", b"*?[a]{b}", b"back\\slash", b"'quotes\"", b"\x01\x7f", b".hidden",
    b"...", b"n" * 255, "\u00e9".encode() * 127, b"CON", b"a:b", b"%00", b"$(id)", b"\\x00",
)  # fmt: skip


def odd_names() -> object:
    seen = []
    for name in ODD_NAMES:
        with fd_of(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
            os.write(fd, name)
        os.mkdir(b"vacant/" + name)
        os.symlink(name, b"dir/" + name)
        os.link(name, b"vacant/" + name + b"/x")
        os.rename(name, b"dir/sub/" + name)
        seen.append(
            (
                os.readlink(b"dir/" + name),
                content(b"vacant/" + name + b"/x"),
                marks(os.stat(b"dir/sub/" + name)),
            )
        )
    seen.append(sorted(os.listdir(b"vacant")))
    seen.append(sorted(os.listdir(b"dir/sub")))
    return seen


def every_byte() -> object:
    made = [bytes([number]) for number in range(1, 256) if number not in b"/."]
    for name in made:
        os.mkdir(b"vacant/" + name)
    return sorted(os.listdir(b"vacant")) == sorted(made), all(os.path.isdir(b"vacant/" + n) for n in made)


def too_long() -> object:
    long = b"n" * 256
    return [
        error(os.stat, long), error(os.mkdir, long), error(os.symlink, b"x", long),
        error(os.rename, b"file", long), error(os.link, b"file", long), error(os.open, long, os.O_CREAT),
        error(os.unlink, long), error(os.symlink, b"x" * 4096, b"s"), error(os.symlink, b"x" * 4095, b"t"),
        len(os.readlink(b"t")), error(os.symlink, b"", b"u"), error(os.stat, b"d/" * 2100),
    ]  # fmt: skip


def beyond_path_max() -> object:
    """60 directories of 100 letters: more than any path may be long."""
    part, seen = b"d" * 100, []
    for depth in range(60):
        os.mkdir(part)
        os.chdir(part)
        if depth % 20 == 0:
            seen.append(marks(os.stat(b".")))
    with fd_of(b"deep", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"down here")
        os.rename(b"deep", b"../deeper")
        seen.append((os.pread(fd, 20, 0), content(b"../deeper")))
    os.symlink(b"../deeper", b"link")
    os.link(b"../deeper", b"hard")
    os.setxattr(b"hard", b"user.a", b"1")
    seen += [
        content(b"link"),
        os.stat(b"hard").st_nlink,
        os.getxattr(b"../deeper", b"user.a"),
        sorted(os.listdir(b".")),
    ]
    os.chmod(b"hard", 0o600)
    os.truncate(b"hard", 4)
    seen += [marks(os.stat(b"../deeper")), error(os.getcwd)]
    for name in (b"link", b"hard", b"../deeper"):
        os.unlink(name)
    for _ in range(60):
        os.chdir(b"..")
        os.rmdir(part)
    return seen, os.path.basename(os.getcwd()).isdigit()


def moves_up_and_down() -> object:
    os.makedirs("a/b/c/d")
    with open("a/b/c/d/leaf", "wb") as file:
        file.write(b"leaf")
    os.rename("a/b/c", "c")
    os.rename("a", "c/d/a")
    os.rename("c/d/a/b", "b")
    seen = [content("c/d/leaf"), os.listdir("c/d/a"), error(os.rename, "c", "c/d/a/c"), error(os.rmdir, "c")]
    os.rename("b", "c/d/a")  # onto an empty directory
    os.chdir("c/d/a")
    return seen, os.getcwd().endswith("/c/d/a"), os.stat("..").st_nlink, os.stat("../..").st_nlink


def a_directory_goes_under_its_user() -> object:
    with fd_of("dir", os.O_RDONLY | os.O_DIRECTORY) as at:
        os.rename("dir", "gone")
        os.mkdir("dir")
        seen = [content(f"/proc/self/fd/{at}/inner"), sorted(os.listdir(at))]
        os.chdir("gone/sub")
        os.rmdir("../sub")
        os.chmod(".", 0o700)
        os.setxattr(".", "user.x", b"1")
        seen += [
            marks(os.stat(".")), os.listxattr("."), error(os.utime, "."),
            error(os.mkdir, "x"), error(os.open, "x", os.O_CREAT | os.O_WRONLY), error(os.stat, "x"),
            os.listdir("."), os.stat(".").st_nlink, error(os.symlink, "a", "b"),
            error(os.link, "../../file", "l"), error(os.rename, "../inner", "i"), error(os.getcwd),
        ]  # fmt: skip
    return seen


def symlinks_are_the_callers() -> object:
    os.symlink("/proc/self/comm", "outside")
    os.symlink("../" * 60 + "etc/hostname", "climbs")
    os.symlink(b"not \xff utf-8", "odd")
    previous = "file"
    for number in range(41):
        os.symlink(previous, f"chain{number}")
        previous = f"chain{number}"
    return (
        content("outside") != b"", os.stat("climbs").st_size, os.readlink(b"odd"), content("chain38"),
        error(content, "chain40"), error(os.unlink, "chain40/"), os.lstat("odd").st_size,
    )  # fmt: skip


def links_and_numbers() -> object:
    """find, tar and cp know hard links by st_ino, and listings must agree with stat."""
    for number in range(20):
        os.link("file", f"dir/sub/l{number}")
    numbers = {os.stat(f"dir/sub/l{number}").st_ino for number in range(20)} | {os.stat("hard").st_ino}
    with os.scandir("dir/sub") as entries:
        listed = {entry.inode() for entry in entries}
    same = {entry.inode() == os.lstat(entry.path).st_ino for entry in os.scandir(".")}
    dots = os.stat("dir/.").st_ino == os.stat("dir").st_ino == os.stat("dir/sub/..").st_ino
    return len(numbers), listed == numbers, same, dots, os.stat("file").st_nlink


def many_names_of_one_file() -> object:
    for number in range(200):
        os.link("file", f"vacant/{number}")
        os.stat(f"vacant/{number}")
    for number in range(0, 200, 2):
        os.rename(f"vacant/{number}", f"vacant/{number + 1}")  # two names of one file: nothing happens
    for number in range(100):
        os.unlink(f"vacant/{number}")
    os.truncate("hard", 5)
    return os.stat("file").st_nlink, len(os.listdir("vacant")), content("vacant/150"), content("file")


def made_and_removed_again() -> object:
    seen = []
    for number in range(50):
        with fd_of("again", os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
            os.write(fd, b"%d" % number)
            os.unlink("again")
            seen.append(error(os.stat, "again"))
            os.mkdir("again")
            seen.append(error(os.unlink, "again") in {"EISDIR", "EPERM"})
            os.rmdir("again")
            os.symlink("file", "again")
            seen += [content("again"), os.pread(fd, 9, 0)]
            os.unlink("again")
    return seen


def swapped_for_another_type() -> object:
    from policyfs.linux import libc

    seen = []
    with fd_of(".", os.O_PATH) as at:
        for other in (b"dir", b"tofile", b"empty", b"vacant", b"file"):
            libc.rename2(at, b"script", at, other, libc.RENAME_EXCHANGE)
            seen += [stat.S_IFMT(os.lstat(b"script").st_mode), stat.S_IFMT(os.lstat(other).st_mode)]
            seen.append(error(libc.rename2, at, b"script", at, other, libc.RENAME_NOREPLACE))
    return seen, content("file"), sorted(os.listdir("."))


STORIES = (
    odd_names, every_byte, too_long, beyond_path_max, moves_up_and_down, a_directory_goes_under_its_user,
    symlinks_are_the_callers, links_and_numbers, many_names_of_one_file, made_and_removed_again,
    swapped_for_another_type,
)  # fmt: skip


@pytest.fixture(scope="module", params=daily(ROADS[count(1, 0) : 3], "app mount"), ids=lambda road: road.name)
def twins(request, module_arena) -> Iterator[Twins]:
    with twins_on(request.param, module_arena) as made:
        yield made


def test_names_are_as_natively(twins: Twins) -> None:
    twins.compare([Case(story.__name__, story) for story in STORIES])


# ---------------------------------------------------------------- not as natively


def _make_special(directory: str) -> dict[str, int]:
    os.chdir(directory)
    codes = {}
    for name, mode in (
        ("fifo", stat.S_IFIFO), ("socket", stat.S_IFSOCK), ("char", stat.S_IFCHR), ("block", stat.S_IFBLK),
    ):  # fmt: skip
        try:
            os.mknod(name, mode | 0o600, os.makedev(1, 3))
            codes[name] = 0
        except OSError as refused:
            codes[name] = refused.errno or 0
    return codes


def test_nothing_that_goes_round_the_daemon_can_be_made(twins: Twins) -> None:
    place = twins.mount.store / "specials"
    place.mkdir(mode=0o777)
    made = call_as(UID, _make_special, str(twins.mount / "specials"))
    assert made == dict.fromkeys(["fifo", "socket", "char", "block"], errno.EPERM)
    assert os.listdir(place) == []


def _look_for_special(directory: str) -> list[str]:
    os.chdir(directory)
    calls = (
        os.lstat, os.stat, lambda p: os.open(p, os.O_RDONLY | os.O_NONBLOCK), os.unlink, os.readlink,
        lambda p: os.rename(p, "away"), lambda p: os.link(p, "l"), lambda p: os.chmod(p, 0o777),
        lambda p: os.access(p, os.F_OK) or os.stat(p), os.listxattr,
    )  # fmt: skip
    found = [error(call, name) for name in ("fifo", "device", "socket") for call in calls]
    return [*found, str(sorted(os.listdir(".")))]


def test_what_would_go_round_the_daemon_is_not_there(twins: Twins) -> None:
    place = twins.mount.store / "hidden-specials"
    place.mkdir(mode=0o777)
    os.mkfifo(place / "fifo")
    os.mknod(place / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(place / "socket", stat.S_IFSOCK | 0o666)
    (place / "file").touch()
    seen = call_as(UID, _look_for_special, str(twins.mount / "hidden-specials"))
    assert seen == [*["ENOENT"] * 30, "['file']"]
    # Nothing may take their place either: they are there, if nobody sees them.
    refused = call_as(UID, lambda: [
        error(os.mkdir, twins.mount / "hidden-specials" / "fifo"),
        error(os.open, twins.mount / "hidden-specials" / "device", os.O_CREAT | os.O_WRONLY),
        error(os.rename, twins.mount / "hidden-specials" / "file", twins.mount / "hidden-specials" / "fifo"),
        error(os.rmdir, twins.mount / "hidden-specials"),
    ])  # fmt: skip
    assert refused == ["EEXIST", "EEXIST", "EEXIST", "ENOTEMPTY"]
    assert stat.S_ISFIFO((place / "fifo").stat().st_mode)
