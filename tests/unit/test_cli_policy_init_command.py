"""`policyfs policy init`: what it writes is fine in the eyes of check, lint and test."""

from __future__ import annotations

import io
import os
import shlex
import shutil
from pathlib import Path

import pytest

from tests.support.machine.counts import first
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.golden import assert_golden
from tests.support.mount.daemons import Said, policyfs

pytestmark = pytest.mark.usefixtures("forked_launchers")

GOLDEN = CHECKOUT / "tests/unit/policy_inits"
OPTIONS = (
    "--app", "camera=10010", "--app", "gallery=10011", "--app", "backup=10020",
    "--add", "camera:DCIM,Documents", "--read", "gallery:DCIM", "--everything", "backup",
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, media: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a store in it."""
    store = tmp_path / "media"
    for name in ("DCIM/2024", "Documents", "Music", "Фото {x}", "lost+found"):
        (store / name).mkdir(parents=True)
    shutil.copyfile(media["photo_with_place.jpg"], store / "DCIM/2024/beach.jpg")
    shutil.copyfile(media["video.mp4"], store / "DCIM/film.mp4")
    shutil.copyfile(media["song.mp3"], store / "Music/song.mp3")
    shutil.copyfile(media["drawing.png"], store / "Фото {x}/a.png")
    (store / "Documents/notes.txt").write_text("plain words\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*words: str, name: str = "home.yaml") -> Said:
    return policyfs("policy", "init", name, "--store", "media", *words)


def assert_fine(name: str = "home.yaml") -> None:
    """Fail unless check, lint and test find nothing, and the tests reach every rule."""
    for words in (("check",), ("lint", "--store", "media"), ("test",)):
        said = policyfs("policy", words[0], name, *words[1:])
        assert said.returncode == 0, (words, said)
        assert not said.stderr, said
    reached = said.stdout.rstrip().rpartition("tests reach ")[2].split()
    assert reached[0] == reached[2], said.stdout


def test_the_policy_and_its_tests(place: Path) -> None:
    said = init(*OPTIONS)
    assert said.returncode == 0, said
    assert said.stdout.startswith("wrote home.yaml and its tests, home.test.yaml\n")
    assert_fine()
    for name in ("home.yaml", "home.test.yaml"):
        assert_golden(GOLDEN / name, Path(name).read_text("utf-8"))


def test_the_next_commands_name_a_path_with_a_space(place: Path) -> None:
    (place / "my policies").mkdir()
    said = init(*OPTIONS, name="my policies/home.yaml")
    command = said.stdout.rstrip().rpartition("next: ")[2]
    assert policyfs(*shlex.split(command)[1:]).returncode == 0, said
    assert f"#   {command}\n" in Path("my policies/home.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    "options",
    [
        "--app a=1 --read a:DCIM",
        "--app a=1 --add a:Фото_{x},Documents,Music",
        "--app a=1 --edit a:Фото_{x} --edit a:Documents",
        "--app a=1 --everything a",
        "--app a=1 --everything a --add a:DCIM",
        "--app a --app b=7 --read a:DCIM --places a --add b:DCIM --read b:Music",
        "--app a=1 --app b=2 --edit a:DCIM,Music --read b:Documents --read b:Music",
        "--app restic=1 --app b=2 --everything restic --edit b:DCIM --add b:Music",
    ],
)
def test_every_wish_makes_a_policy_without_findings(place: Path, options: str) -> None:
    said = init(*(word.replace("_", " ") for word in options.split()))
    assert said.returncode == 0, said
    assert_fine()


@pytest.mark.parametrize(
    "directory", first(1, [("Фото {x}",), ("DCIM",), ("Documents",), ("Music",), ("Thumbs",)])
)
@pytest.mark.parametrize("name", ["camera", "sync", "backup"])
@pytest.mark.parametrize("level", ["--add", "--read", "--edit"])
def test_every_kind_of_app_gets_a_policy_without_findings(
    place: Path, level: str, name: str, directory: str
) -> None:
    Path("media", directory).mkdir(exist_ok=True)
    for more in ((), ("--places", name)):
        for file in ("home.yaml", "home.test.yaml"):
            Path(file).unlink(missing_ok=True)
        said = init("--app", f"{name}=1", level, f"{name}:{directory}", *more)
        assert said.returncode == 0, said
        assert_fine()


def test_it_says_what_an_app_that_adds_files_reads(place: Path) -> None:
    reads_all = "note: sync reads all files in DCIM, also files that others added there; it changes"
    lacks = "note: sync reads pictures without the places where they were taken, so its copies lack"
    said = init("--app", "sync=1", "--add", "sync:DCIM").stdout
    assert reads_all in said
    assert lacks in said
    text = Path("home.yaml").read_text("utf-8")
    assert "reads all files here, also those of others (to change that, move read to sync.adds).\n" in text
    own = text.replace("[see, read]", "[see]").replace("[create, write,", "[read, create, write,")
    Path("own.yaml").write_text(own)
    for owner, answer in (("self", "sync may read"), ("none", "sync may not read")):
        asked = policyfs(
            "policy", "explain", "own.yaml", "/DCIM/a.jpg", "--app", "sync", "--kind", "image/jpeg",
            "--owner", owner,
        )  # fmt: skip
        assert asked.stdout.startswith(answer), asked


def test_it_says_nothing_of_other_apps(place: Path) -> None:
    said = init("--app", "a=1", "--app", "backup=2", "--read", "a:DCIM", "--everything", "backup")
    assert "note:" not in said.stdout


def test_it_asks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = ["Gallery", "gallery", "10011", "write", "", "Nothing", "DCIM", "no"]
    camera = ["camera=10010", "add", "", "yes", ""]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(gallery + camera) + "\n"))
    said = init()
    assert said.returncode == 0, said
    assert_golden(GOLDEN / "questions.txt", said.stderr)
    assert_fine()
    text = Path("home.yaml").read_text("utf-8")
    assert 'who: {app: gallery}\n    paths: ["/DCIM/***"]' in text
    assert "camera:\n    uid: 10010\n    grants: [media.location]" in text


def test_answers_that_end_write_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("gallery\n"))
    said = init()
    assert said.returncode == 2
    assert "the input ended before the last answer; options answer, too (--help)" in said.stderr
    assert not Path("home.yaml").exists()


@pytest.mark.parametrize("there", ["home.yaml", "home.test.yaml"])
def test_nothing_is_overwritten(place: Path, there: str) -> None:
    Path(there).write_text("mine")
    said = init(*OPTIONS)
    assert said.returncode == 1
    assert f"{there} is there already" in said.stderr
    assert [name for name in os.listdir() if name.endswith(".yaml")] == [there]
    assert Path(there).read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--app", "Gallery"), "'Gallery' cannot be an app's name"),
        (("--app", f"{'a' * 41}=1"), "cannot be an app's name: use at most 40"),
        (("--app", "any"), "'any' cannot be an app's name"),
        (("--app", "a=no-such-user", "--read", "a:DCIM"), "this machine has no user 'no-such-user'"),
        (("--app", "a=0"), "uid 0 (root) should not be an app"),
        (("--app", "a=root"), "root should not be an app"),
        (("--app", "a=1"), "say what a may do"),
        (("--app", "a=1", "--read", "a:dcim"), "no directory 'dcim' at its top; it has: DCIM, Documents"),
        (("--app", "a=1", "--read", "b:DCIM"), "there is no app 'b'; add --app b (the apps are: a)"),
        (("--app", "a=1", "--read", "DCIM"), "there is no app 'DCIM'"),
        (("--app", "a=1", "--read", "a"), "write an app and its directories: --read a:DCIM,Pictures"),
        (("--app", "a=1", "--read", "a:DCIM", "--edit", "a:DCIM"), "--read and --edit give a the"),
        (("--app", "a=1", "--app", "a=2", "--everything", "a"), "the app a is given twice"),
        (
            ("--app", "a=1", "--app", "b=1", *("--everything", "a", "--everything", "b")),
            "have the same uid, 1",
        ),
        (("--read", "a:DCIM"), "name each app with --app"),
    ],
)
def test_wishes_that_cannot_be(place: Path, options: tuple[str, ...], message: str) -> None:
    said = init(*options)
    assert said.returncode == 2, said
    assert message in said.stderr
    assert not Path("home.yaml").exists()


def test_files_and_stores_that_cannot_be(place: Path) -> None:
    assert "ends with .yaml" in init(*OPTIONS, name="home.yml").stderr
    assert "cannot write absent/home.yaml" in init(*OPTIONS, name="absent/home.yaml").stderr
    said = policyfs("policy", "init", "home.yaml", "--store", "absent", "--app", "a=1")
    assert (said.returncode, said.stdout) == (1, "")
    assert "cannot read the store absent" in said.stderr
    (place / "empty").mkdir()
    said = policyfs("policy", "init", "home.yaml", "--store", "empty", "--app", "a=1")
    assert "empty has no directories to share" in said.stderr


@pytest.mark.parametrize("name", [b"\xff", b"x\ny", b"x: y\nz: w", "x\u2028\x1b[31m".encode()])
def test_names_of_all_bytes_are_only_comments(place: Path, name: bytes) -> None:
    odd = os.fsdecode(name)
    Path(odd).mkdir()
    Path("media").rename(f"{odd}/media")
    said = policyfs("policy", "init", f"{odd}.yaml", "--store", f"{odd}/media", *OPTIONS)
    assert said.returncode == 0, said
    assert said.stdout.count("\n") == 3
    assert said.stdout.encode().isascii()
    for words in (("check",), ("lint", "--store", f"{odd}/media"), ("test",)):
        said = policyfs("policy", words[0], f"{odd}.yaml", *words[1:])
        assert said.returncode == 0, (words, said)


def test_long_names_are_fine(place: Path) -> None:
    app, long = "a" * 40, "D" * 255
    for name in (long, f"{long[:-1]}-"):
        Path("media", name).mkdir()
        shutil.copyfile("media/Music/song.mp3", f"media/{name}/song.mp3")
    added = f"{app}:{long},{long[:-1]}-,Music"
    said = init("--app", f"{app}=1", "--add", added, "--edit", f"{app}:Documents")
    assert said.returncode == 0, said
    assert_fine()
