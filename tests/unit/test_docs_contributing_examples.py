"""The examples in CONTRIBUTING.md run: a format, an operation, a check in an open, counts of a trail."""

from __future__ import annotations

import errno
import os
import struct
import threading
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from policyfs import formats
from policyfs.cli.audit.query import open_trail
from policyfs.domain import Audit
from policyfs.formats import Format
from policyfs.fs.inodes.caller import Admitted
from policyfs.fs.inodes.open_state import Mode
from policyfs.kernel.operations import Request
from policyfs.kernel.protocol import Opcode
from policyfs.redact import registry
from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.registry import locate_in
from policyfs.store.tree import Tree
from policyfs.trail.lines.table import shown, table
from tests.support.machine.documents import CHECKOUT, blocks
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, REDACTED, errno_of
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event
from tests.support.samples import jpegs

KIND = "image/x-toyc"
POSITION = struct.pack("<2d", 47.80453, 13.04229)
PIXELS = bytes(range(33))


def examples(language: str) -> list[str]:
    return [block.text for block in blocks(CHECKOUT / "CONTRIBUTING.md") if block.language == language]


def run(source: str, name: str) -> ModuleType:
    """A module with this source, as if it were the module of that name."""
    module = ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
    return module


# -- a format ----------------------------------------------------------------------------------------


def module_and_row() -> tuple[ModuleType, Format]:
    module, row = examples("python")
    return run(module, "policyfs.redact.images.toyc"), eval(row, vars(formats))


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    return name + (len(data) if length is None else length).to_bytes(4, "little") + data


def toyc(*chunks: bytes) -> bytes:
    return b"TOYC\x01\0\0\0" + b"".join(chunks)


WHOLE = toyc(
    chunk(b"EXIF", jpegs.exif()),
    chunk(b"CAPT", b"seen at 47.80453, 13.04229"),
    chunk(b"GPSB", POSITION),
    chunk(b"abcd", b"Testville"),
    chunk(b"PIXL", PIXELS),
)


@pytest.fixture
def redact(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Redacts a file by the example's locator. It keeps the size; a second redaction finds nothing."""
    module, row = module_and_row()
    locator = getattr(module, row.locator.partition(":")[2])
    monkeypatch.setattr(registry, "LOCATORS", {**registry.LOCATORS, KIND: locator})

    def redacted(data: bytes, *words: str, broken: bool = False) -> bytes:
        hide = hidden_by(words)
        found = locate_in(KIND, MemorySource(data), hide)
        assert any(note.broken for note in found.notes) is broken
        out = apply(data, sorted(found.patches, key=lambda patch: patch.offset))
        assert len(out) == len(data)
        assert not locate_in(KIND, MemorySource(out), hide).patches
        return out

    return redacted


def test_the_example_of_a_format_hides_each_place_and_keeps_the_picture(redact: Callable[..., bytes]) -> None:
    assert jpegs.leaks(WHOLE)
    out = redact(WHOLE, "location")
    assert not jpegs.leaks(out)
    for gone in (b"47.8", POSITION, b"abcd", b"Testville", b"CAPT", b"GPSB"):
        assert gone in WHOLE
        assert gone not in out
    assert out.startswith(toyc() + b"EXIF")
    assert out.endswith(chunk(b"PIXL", PIXELS))


def test_the_example_of_a_format_keeps_known_parts_that_no_word_hides(redact: Callable[..., bytes]) -> None:
    known = toyc(chunk(b"CAPT", b"a quince"), chunk(b"GPSB", POSITION), chunk(b"PIXL", PIXELS))
    assert redact(known, "device") == known
    assert b"quince" not in redact(known, "people")
    assert b"quince" in redact(known, "location")


@pytest.mark.parametrize(
    ("data", "broken"),
    [
        (toyc(chunk(b"PIXL", PIXELS), b"\0\1\2\3" + POSITION), False),
        (toyc(chunk(b"PIXL", PIXELS), chunk(b"GPSB", POSITION, length=17)), True),
        (toyc(chunk(b"PIXL", PIXELS + chunk(b"GPSB", POSITION), length=999)), True),
        (toyc(chunk(b"GPSB", b"\0" + POSITION), chunk(b"PIXL", PIXELS)), True),
    ],
    ids=["behind the last", "cut off", "in a picture that is cut off", "of another size"],
)
def test_the_example_of_a_format_hides_what_is_no_part(
    redact: Callable[..., bytes], data: bytes, broken: bool
) -> None:
    out = redact(data, "location", broken=broken)
    assert POSITION in data
    assert POSITION not in out
    assert PIXELS in out


@pytest.mark.parametrize("data", [b"TOYD" + WHOLE[4:], toyc(chunk(b"EXIF", jpegs.exif()))])
def test_the_example_of_a_format_refuses_other_files(redact: Callable[..., bytes], data: bytes) -> None:
    with pytest.raises(NotThisKindError):
        redact(data, "location")


def test_the_row_of_the_example_fits_its_module() -> None:
    module, row = module_and_row()
    name, _, function = row.locator.partition(":")
    assert module.__name__ == f"policyfs.redact.{name}"
    assert getattr(module, function)
    assert list(row.kinds) == [KIND]
    assert [WHOLE.startswith(start.data, start.offset) for start in row.starts] == [True]


# -- changes of modules ------------------------------------------------------------------------------


def changed(title: str) -> str:
    """The source of a module after the change that the page shows. Each place is there once."""
    (diff,) = [text for text in examples("diff") if text.startswith(f"--- {title}\n")]
    source = (CHECKOUT / title).read_text(encoding="utf-8")
    for hunk in diff.partition("\n")[2].split("@@\n"):
        lines = hunk.splitlines()
        assert all(line[:1] in {"", " ", "+"} for line in lines)
        before = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
        after = "".join(f"{line[1:]}\n" for line in lines)
        assert after != before
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    return source


def use_changed(monkeypatch: pytest.MonkeyPatch, path: str, name: str) -> ModuleType:
    """Let file systems use the class of the changed module from now on. Returns the module."""
    module = run(changed(path), path.removesuffix(".py").replace("/", "."))
    monkeypatch.setattr(f"policyfs.fs.filesystem.{name}", getattr(module, name))
    return module


def syncfs(uid: int) -> Request:
    return Request(struct.pack("=IIQQIIIHH", 40, Opcode.SYNCFS, 7, 1, uid, uid, os.getpid(), 0, 0))


def test_the_example_of_an_operation_takes_a_turn_and_a_thread(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int, int]] = []

    @on_trio
    async def ask() -> None:
        with parts(
            store, engine_of(OPEN), app="camera", admitted=Admitted(CAMERA, frozenset({CAMERA}))
        ) as made:
            handler = made.whole.requests()[Opcode.SYNCFS]
            turns = handler.__self__._turns

            def note(_: Tree, fd: int) -> None:
                synced.append((threading.current_thread().name, os.fstat(fd).st_ino, len(turns)))

            monkeypatch.setattr(Tree, "fsyncdir", note)
            assert await errno_of(handler(syncfs(MAPS))) == errno.EACCES
            assert synced == []
            assert await handler(syncfs(CAMERA)) == b""
            assert made.bugs == []

    use_changed(monkeypatch, "policyfs/fs/raw_handlers.py", "RawHandlers")
    ask()
    ((thread, inode, turns),) = synced
    assert thread != threading.main_thread().name
    assert (inode, turns) == (os.stat(store).st_ino, 1)


def test_the_example_of_an_open_refuses_programs_in_redacted_views_alone(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chmod(store / "a.jpg", 0o755)
    (store / "b.jpg").write_bytes(PHOTO)

    @on_trio
    async def ask() -> None:
        with parts(store, engine_of(REDACTED)) as made:
            assert await errno_of(made.open("/a.jpg", os.O_RDONLY, GALLERY)) == errno.EACCES
            event = made.sink.events[-1]
            assert (event.operation, event.decision, event.errno, event.note) == (
                "open", "deny", errno.EACCES, "executable",
            )  # fmt: skip
            for path, uid in (("/a.jpg", MAPS), ("/b.jpg", GALLERY)):  # maps sees every place
                handle = await made.open(path, os.O_RDONLY, uid)
                assert len(await made.reader.read(handle, 0, 1 << 20)) == len(PHOTO)

    use_changed(monkeypatch, "policyfs/fs/opening/copy_path.py", "CopyPath")
    ask()


def test_the_example_of_an_open_is_asked_before_a_copy_is_opened_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check in open_again() the second open would not get as far as connect()."""
    programs: list[bool] = []

    @on_trio
    async def ask() -> None:
        with parts(store, engine_of(REDACTED)) as made:
            first = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
            node, copy = first.node, first.copy
            assert copy is not None
            made.opener.close(first)
            copy.backing_id, node.mediated = 9, False  # as if the kernel had it
            again = await made.opener.open(node, os.O_RDONLY, made.caller(GALLERY))
            assert again.copy is copy
            assert again.mode is Mode.PASSTHROUGH
            programs.append(True)
            refused = made.opener.open(node, os.O_RDONLY, made.caller(GALLERY))
            assert await errno_of(refused) == errno.EACCES
            assert made.sink.events[-1].note == "executable"
            made.opener.close(again)
            copy.backing_id = 0

    module = use_changed(monkeypatch, "policyfs/fs/opening/copy_path.py", "CopyPath")
    monkeypatch.setattr(module, "_is_program", lambda _: bool(programs), raising=True)
    ask()


# -- counts of a trail -------------------------------------------------------------------------------


def test_the_example_of_a_command_counts_in_sql(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        for _ in range(3):
            journal.record(an_event(b"/DCIM/a.jpg"), Audit.REQUIRED)
    source = next(one for one in examples("py") if "SELECT app" in one)
    made = {
        "args": Namespace(trail=str(tmp_path / MOUNT_ID)), "Counter": Counter, "open_trail": open_trail,
        "shown": shown, "table": table,
    }  # fmt: skip
    exec(source, made)
    assert made["lines"] == ["APP      EVENTS", "gallery  3"]
