"""B3: other spellings of a name that a rule hides, and names that attack whoever reads the trail."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.documents import CHECKOUT
from tests.support.machine.processes import call_as
from tests.support.models.twins import content, error
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts

APP, OTHER = 10010, 10011
SECRET: Final = b"a diary"
HIDDEN: Final = unicodedata.normalize("NFC", "Privé")
LONG: Final = "x" * 255
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - id: private
    deny: [all]
    who: {{app: app}}
    paths: ["/{HIDDEN}/***", "/{LONG}/***", "/Private/***", "/secret-*/***"]
    errno: ENOENT
"""
INVISIBLE: Final = "\u200b\u200d\u00ad\u2060\ufeff\u034f\ufe0f\u115f\u3164\U000e0041\u202e\u061c"
"""Characters that many programs ignore or do not show."""


def spellings() -> list[bytes]:
    """Names that look like, fold to, or normalise to a hidden one, and lead elsewhere or nowhere."""
    texts = [
        "private", "PRIVATE", "pRIVATE", "Pr\u0131vate", "P\u0280ivate", "Private ", "Private.", " Private",
        "Private\u00a0", "\uff30rivate", "Pri\u2060vate", unicodedata.normalize("NFD", HIDDEN),
        HIDDEN.upper(), "Prive", "PRIV~1", "Private::$DATA", "Private\\", "Private%00", "Privat\u0435",
        LONG[:-1], LONG.upper(),
    ]  # fmt: skip
    texts += [f"Pri{char}vate" for char in INVISIBLE] + [f"Private{char}" for char in INVISIBLE]
    odd = [b"Private\xff", b"Priv\xc3", b"\xc0\xd0rivate", b"Priv\xe9", b"Priv\xc3\xa9\x80", b"secret\xff-x"]
    return [text.encode() for text in texts] + odd


WAYS_BACK: Final = (
    "DCIM/../Private/diary", "./Private/./diary", "Private//diary", "DCIM/.././Private/../Private/diary",
    "Private/../Private/diary", "Private/.", "Private/..", "Private/",
)  # fmt: skip


def furnish(store: Path) -> Path:
    for name in ("Private", HIDDEN, LONG, "secret-\u200b"):
        (store / name).mkdir()
        (store / name / "diary").write_bytes(SECRET)
        (store / name / "diary").chmod(0o666)
    os.mkdir(os.fsencode(store) + b"/secret-\xff\xfe")
    (store / "DCIM").mkdir()
    store.chmod(0o700)
    return store


@pytest.fixture(scope="module", params=[(), ("--app", "app")], ids=["shared", "app"])
def mount(request, module_mounts: Mounts, module_arena: Path) -> Mount:
    store = Path(tempfile.mkdtemp(prefix="store-", dir=module_arena))  # another each time it is set up
    return module_mounts.start(POLICY, furnish(store), *request.param)


def _try(mount: bytes, name: bytes) -> list[str]:
    """What a spelling finds, and what it is that can be made under it."""
    path = mount + b"/" + name
    found = [error(os.stat, path), error(content, path + b"/diary")]
    made = error(os.mkdir, path)
    return [*found, made, error(lambda: os.listdir(path)), error(os.rmdir, path)]


def test_another_spelling_is_another_name(mount: Mount) -> None:
    """Attack B3.1: Write a name in another case, spelling, normalisation or encoding, or with dots; use
    names of 255 bytes and more
    Guard: policyfs/store/facts.py::StoreFacts.check, policyfs/fs/inodes/resolver.py::Resolver._step
    Also: ::test_names_as_long_as_can_be, tests/unit/test_store_facts.py
    Without: tests/attack/test_odd_stores.py::test_a_rule_is_walked_around_where_such_a_directory_is_open
    """
    base = os.fsencode(mount.mountpoint)
    found = call_as(APP, lambda: {name: _try(base, name) for name in spellings()})
    for name, said in found.items():
        assert said == ["ENOENT", "ENOENT", "None", "[]", "None"], name
    for hidden in ("Private", HIDDEN, LONG, "secret-\u200b", os.fsdecode(b"secret-\xff\xfe")):
        refused = call_as(APP, _try, base, os.fsencode(hidden))
        assert set(refused) == {"ENOENT"}, hidden
    back = [f"{mount.mountpoint}/{way}" for way in WAYS_BACK]
    assert call_as(APP, lambda: [error(os.open, way, os.O_RDONLY) for way in back]) == ["ENOENT"] * len(back)
    assert call_as(APP, lambda: os.listdir(mount)) == ["DCIM"]
    if not mount.options:
        for name in ("Private", HIDDEN, LONG):
            assert call_as(OTHER, content, str(mount / name / "diary")) == SECRET


def test_names_as_long_as_can_be(mount: Mount) -> None:
    """255 bytes and more, of one byte and of several each: as natively, and nothing is cut short."""
    said = {
        size: call_as(APP, lambda name=name: error(os.mkdir, mount / "DCIM" / name))
        for size, name in ((255, "\u20ac" * 85), (256, "y" * 256), (1024, "y" * 1024), (1025, "y" * 1025))
    }
    assert said == {255: "None", 256: "ENAMETOOLONG", 1024: "ENAMETOOLONG", 1025: "ENAMETOOLONG"}
    assert call_as(APP, lambda: error(os.stat, mount / (LONG + "x"))) in {"ENOENT", "ENAMETOOLONG"}
    assert call_as(APP, lambda: error(os.rmdir, mount / "DCIM" / ("\u20ac" * 85))) == "None"


# ---------------------------------------------------------------- names that are read later

ATTACKS: Final = (
    b"\x1b]0;owned\x07", b"\x1b[2J\x1b[H", b"two\nlines allow", b"\rallow  ", b"\x9b31m", b"\x08\x08\x08",
    "\u202etxt.exe".encode(), "\u2066\u2069".encode(), b"\xff\xfe", b'","decision":"allow"', b"a\\x1b[0m",
    "\u200b".encode(), "\U000e0001".encode(), b"\x7f\x85",
)  # fmt: skip


def _ask_for(mount: bytes) -> None:
    for name in ATTACKS:
        error(os.stat, mount + b"/Private/" + name)
        error(os.stat, mount + b"/secret-" + name)
        error(os.mkdir, mount + b"/DCIM/" + name)
        error(os.rename, mount + b"/DCIM/" + name, mount + b"/Private/" + name)


def harmless(text: str) -> bool:
    """No character that a terminal or a reader would take for anything but itself."""
    return all(char == "\n" or (char.isprintable() and char not in INVISIBLE) for char in text)


READERS: Final = (
    ("search", "-n", "100"), ("search", "--json", "-n", "100"), ("search", "--errno", "ENOENT"), ("summary",),
    ("search", "--json"), ("report",), ("export",), ("verify",),
)  # fmt: skip


def _readers() -> list[tuple[str, ...]]:
    from policyfs.cli.main import build_parser

    known = []
    for words in READERS:
        try:
            build_parser().parse_args(["audit", *words])
        except SystemExit:
            continue
        known.append(words)
    return known


def test_whoever_reads_the_trail_sees_words_only(mount: Mount) -> None:
    """Attack B3.3: Use names that attack the terminal of a reader of the trail
    Guard: policyfs/trail/lines/table.py::shown
    Also: tests/mount/test_trail.py::test_names_do_no_harm_to_who_reads
    Without: ::test_a_terminal_obeys_where_names_are_shown_as_they_are
    """
    call_as(APP, _ask_for, os.fsencode(mount.mountpoint))
    readers = _readers()
    assert len(readers) >= 4
    for words in readers:
        with mount.as_environment():
            said = policyfs("audit", *words)
        assert said.returncode == 0, (words, said)
        assert harmless(said.stdout + said.stderr), words
        if words[0] == "search" and "--json" not in words:
            rows = [line for line in said.stdout.splitlines() if "secret-" in line]
            assert len(rows) >= len(ATTACKS) - 1, words
    for segment in mount.trail_dir.glob("*.jsonl"):
        assert harmless(segment.read_text(encoding="utf-8"))


def test_a_terminal_obeys_where_names_are_shown_as_they_are(mount: Mount) -> None:
    call_as(APP, _ask_for, os.fsencode(mount.mountpoint))
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack.weakened", "shown-as-is", "audit", "search", "-n", "100"],
        env=os.environ | mount.environment, cwd=CHECKOUT, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert b"\x1b[2J" in done.stdout
