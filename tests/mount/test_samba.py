"""docs/samba.md with a real smbd: both shares as the page sets them up, for accounts of any Debian."""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.documents import CHECKOUT, Block, blocks, commands
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts
from tests.support.programs.samba import Samba

PAGE: Final = CHECKOUT / "docs" / "samba.md"
ANNA, BEN, PHOTOS = (pwd.getpwnam(name) for name in ("backup", "games", "www-data"))
BY_HAND: Final = ("mkdir", "chown", "chmod")
PUT: Final = b"words from a client\n"


def sections(language: str) -> list[Block]:
    """The page's blocks of a language: first of one share for one app, then of the tree for all."""
    found = [block for block in blocks(PAGE) if block.language == language]
    assert len(found) == 2
    return found


def with_accounts(text: str) -> str:
    """A text of the page with accounts that are there."""
    for word, account in (("anna", ANNA), ("ben", BEN)):
        text = re.sub(rf"(= .*)\b{word}\b", rf"\1{account.pw_name}", text)
    text = text.replace("force user = photos", f"force user = {PHOTOS.pw_name}")
    return text.replace("uid: 1000", f"uid: {ANNA.pw_uid}").replace("uid: 1001", f"uid: {BEN.pw_uid}")


@pytest.fixture
def desk(arena: Path) -> Path:
    """A client's directory, with a file to put somewhere."""
    directory = arena / "desk"
    directory.mkdir()
    (directory / "new.txt").write_bytes(PUT)
    return directory


@pytest.fixture
def served(arena: Path) -> Iterator:
    """`served(configuration)`: a smbd for the two users."""
    running: list[Samba] = []

    def start(shares: str) -> Samba:
        work = arena / "samba"
        work.mkdir(mode=0o700)
        running.append(Samba(work, shares, [ANNA.pw_name, BEN.pw_name]))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def test_every_command_of_the_page_is_known() -> None:
    lines = commands(PAGE)
    assert [line.split()[:2] for line in lines if line.startswith("policyfs")] == [["policyfs", "mount"]] * 2
    assert {line.split()[0] for line in lines} - {"policyfs"} == set(BY_HAND)


def test_a_share_of_one_app(mounts: Mounts, store: Path, arena: Path, desk: Path, served) -> None:
    policy, shares = sections("yaml")[0].text, sections("ini")[0].text
    places = {"/srv/shares/photos": str(arena / "shares/photos"), "/srv/shares": str(arena / "shares")}
    for line in commands(PAGE):
        words = [places.get(word, word) for word in shlex.split(line)]
        if words[0] in BY_HAND:
            words = [f"root:{PHOTOS.pw_name}" if word == "root:photos" else word for word in words]
            assert os.spawnvp(os.P_WAIT, words[0], words) == 0
    options = next(line for line in commands(PAGE) if "--any-uid" in line).split()
    mount = mounts.prepare(policy, store, *options[options.index("--app") : -2])
    mount.mountpoint.rmdir()
    mount.mountpoint = arena / "shares/photos"
    mount.start()
    samba = served(with_accounts(shares).replace("/srv/shares/photos", str(mount.mountpoint)))

    said = samba.ask(
        ANNA.pw_name, "photos", "cd DCIM/Camera", "get a.jpg", "put new.txt", "rename new.txt named.txt",
        "del b.jpg", "mkdir inner", "ls", "cd ../../Documents", cwd=desk,
    )  # fmt: skip
    assert set(re.findall(r"NT_STATUS_\w+", said)) == {"NT_STATUS_OBJECT_NAME_NOT_FOUND"}, said  # Documents
    camera = store / "DCIM/Camera"
    assert (camera / "named.txt").read_bytes() == PUT
    assert (camera / "named.txt").stat().st_uid == PHOTOS.pw_uid
    assert (camera / "inner").is_dir()
    assert not (camera / "b.jpg").exists()
    assert len((desk / "a.jpg").read_bytes()) == (camera / "a.jpg").stat().st_size
    assert (desk / "a.jpg").read_bytes() != (camera / "a.jpg").read_bytes(), "the place is in it"
    # BEN is the same app here, and nobody else of the machine gets in
    assert "named.txt" in samba.ask(BEN.pw_name, "photos", "cd DCIM/Camera", "ls", cwd=desk)
    assert call_as(BEN.pw_uid, code_of, os.listdir, mount.mountpoint) == "EACCES"


def start_tree(mounts: Mounts, store: Path, policy: str) -> Mount:
    mount = mounts.start(with_accounts(policy), store)
    assert policyfs("policy", "check", mount.policy).stderr == ""
    return mount


def tree_shares(mount: Mount) -> str:
    return with_accounts(sections("ini")[1].text).replace("/mnt/media", str(mount.mountpoint))


def test_a_tree_for_several_users(mounts: Mounts, store: Path, desk: Path, served) -> None:
    mount = start_tree(mounts, store, sections("yaml")[1].text)
    samba = served(tree_shares(mount))

    said = samba.ask(
        ANNA.pw_name, "media", "cd Documents", "put new.txt", "get notes.txt", "del notes.txt", "ls", cwd=desk
    )
    assert "NT_STATUS" not in said, said
    assert (store / "Documents/new.txt").read_bytes() == PUT
    assert (store / "Documents/new.txt").stat().st_uid == ANNA.pw_uid
    assert (desk / "notes.txt").read_bytes() == b"plain words\n"
    assert not (store / "Documents/notes.txt").exists()

    said = samba.ask(BEN.pw_name, "media", "ls", "cd DCIM/Camera", "get a.jpg", "put new.txt", cwd=desk)
    assert "Documents" not in said
    assert (desk / "a.jpg").read_bytes() == (store / "DCIM/Camera/a.jpg").read_bytes()
    assert "NT_STATUS_ACCESS_DENIED opening remote file \\DCIM\\Camera\\new.txt" in said
    said = samba.ask(BEN.pw_name, "media", "cd DCIM/Camera", "del a.jpg", cwd=desk)
    assert "NT_STATUS_ACCESS_DENIED deleting remote file \\DCIM\\Camera\\a.jpg" in said
    assert not (store / "DCIM/Camera/new.txt").exists()
    assert (store / "DCIM/Camera/a.jpg").exists()
    assert "OBJECT_NAME_NOT_FOUND" in samba.ask(BEN.pw_name, "media", "cd Documents", cwd=desk)


def test_a_share_of_a_directory_below_is_there_once_root_sees_it(
    mounts: Mounts, store: Path, desk: Path, served
) -> None:
    app, rule = "smbd: {uid: 0}", '{id: smbd.path, allow: [see], who: {app: smbd}, paths: "/DCIM"}'
    page = PAGE.read_text(encoding="utf-8")
    assert f"`{app}`" in page
    assert f"`{rule}`" in page
    policy = with_accounts(sections("yaml")[1].text)
    mount = mounts.start(policy, store)
    samba = served(tree_shares(mount).replace(str(mount.mountpoint), str(mount / "DCIM")))
    look = (BEN.pw_name, "media", "cd Camera", "ls")
    assert "NT_STATUS_BAD_NETWORK_NAME" in samba.ask(*look, cwd=desk)
    mount.policy.write_text(policy.replace("apps:\n", f"apps:\n  {app}\n") + f"  - {rule}\n")
    assert mount.reload().returncode == 0
    assert "a.jpg" in samba.ask(*look, cwd=desk)
    assert os.listdir(mount.mountpoint) == ["DCIM"]
    assert os.listdir(mount / "DCIM") == []


def test_without_modes_by_the_policy_smbd_refuses_what_the_policy_allows(
    mounts: Mounts, store: Path, desk: Path, served
) -> None:
    mount = start_tree(mounts, store, sections("yaml")[1].text.replace(", modes: policy", ""))
    samba = served(tree_shares(mount))
    said = samba.ask(ANNA.pw_name, "media", "cd Documents", "put new.txt", cwd=desk)
    assert "NT_STATUS_ACCESS_DENIED" in said
    assert mount.events(decision="deny") == []


def test_streams_work_where_nothing_is_redacted(mounts: Mounts, store: Path) -> None:
    """Windows' and macOS's streams are extended attributes of the file, and so are NT ACLs."""
    rule = '  - {id: no-place, require: {redact: location}, paths: "/DCIM/**"}\n'
    policy = sections("yaml")[1].text.replace("  - id: ben.photos", f"{rule}  - id: ben.photos")
    mount = start_tree(mounts, store, policy)
    stream = "user.DosStream.mark:$DATA"
    photo, notes = mount / "DCIM/Camera/a.jpg", mount / "Documents/notes.txt"
    call_as(ANNA.pw_uid, os.setxattr, notes, stream, PUT)
    assert call_as(ANNA.pw_uid, os.getxattr, notes, stream) == PUT
    assert os.getxattr(store / "Documents/notes.txt", stream) == PUT
    assert call_as(ANNA.pw_uid, code_of, os.setxattr, photo, stream, PUT) == "ENOTSUP"
    assert call_as(ANNA.pw_uid, os.listxattr, photo) == []
    assert call_as(ANNA.pw_uid, code_of, os.setxattr, notes, "security.NTACL", PUT) == "EPERM"
    assert call_as(ANNA.pw_uid, code_of, os.setxattr, notes, "system.posix_acl_access", PUT) == "ENOTSUP"
