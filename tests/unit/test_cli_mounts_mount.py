"""`policyfs mount` up to the mount itself: words, places, callers, and the options that come of them."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

import pytest

from policyfs.cli import main
from policyfs.cli.main import build_parser
from policyfs.cli.mounts import mount, umount
from policyfs.cli.mounts.mount import check_policy, prepared
from policyfs.cli.mounts.start import Start
from policyfs.daemon.control import control
from policyfs.daemon.options import MountOptions
from policyfs.errors import EXIT_POLICY, EXIT_REFUSED, EXIT_USAGE, PolicyfsError, UsageError
from policyfs.kernel import probe, session
from policyfs.kernel.probe import MountState
from tests.support.mount import layers
from tests.support.mount.trail import read_all

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: home}
apps:
  camera: {uid: 10010, gid: 10010}
  family: {uid: ["1000-1009"]}
  web: {uid: [33, 34], gid: [33, 44]}
  bare: {}
  server: {uid: 10020, modes: policy}
  plain: {uid: 10021, modes: store}
  backup: {uid: 10022}
rules:
  - {id: all, allow: [all], who: {app: [camera, family, web, bare, server, plain]}, paths: "/***"}
  - {id: back, allow: [see, read], who: {app: backup}, paths: "/***"}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("store", "mnt", "trail"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "policy.yaml").write_text(POLICY)
    return tmp_path


def parsed(place: Path, *words: str, store: str = "store", mountpoint: str = "mnt") -> argparse.Namespace:
    parser = build_parser("mount")
    fixed = ["mount", "--policy", str(place / "policy.yaml"), "--trail", str(place / "trail")]
    return parser.parse_args([*fixed, *words, str(place / store), str(place / mountpoint)])


def options(place: Path, *words: str, **places: str) -> MountOptions:
    args = parsed(place, *words, **places)
    return prepared(args, Start.of(args))[0]


def refused(place: Path, *words: str, **places: str) -> str:
    with pytest.raises(PolicyfsError) as error:
        options(place, *words, **places)
    return str(error.value)


# -- words ---------------------------------------------------------------------------------------------


def test_sizes_ages_and_counts_have_units(place: Path) -> None:
    made = options(
        place, "--copy-max", "500K", "--copies-max", "2G", "--trail-segment", "4K", "--nodes-max", "100",
        "--trail-keep", "3", "--trail-keep-age", "36h", "--trail-keep-size", "20M", "--quarantine-max", "0",
    )  # fmt: skip
    assert (made.copy_bytes, made.cache_bytes, made.segment_bytes) == (500 << 10, 2 << 30, 4096)
    assert (made.nodes, made.quarantine_bytes) == (100, 0)
    assert (made.keep.segments, made.keep.age_s, made.keep.size) == (3, 36 * 3600, 20 << 20)
    assert options(place, "--trail-keep", "0", "--quarantine-files", "0").keep.segments == 0
    ages = [options(place, "--trail-keep-age", age).keep.age_s for age in ("1d", "2w")]
    assert ages == [86_400, 2 * 604_800]


def test_nodes_may_have_a_part_of_the_memory_which_mounts_of_a_site_share(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for gibibytes, mounts, nodes in (
        (1, "", 40_000), (8, "1", 167_772), (8, "", 167_772), (8, "2", 83_886), (8, "9", 40_000),
        (8, "nine", 167_772), (64, "", 500_000), (64, "0", 500_000),
    ):  # fmt: skip
        monkeypatch.setattr(mount, "usable_bytes", partial(int, gibibytes << 30))
        monkeypatch.setenv("POLICYFS_MOUNTS", mounts)
        assert options(place).nodes == nodes
        assert options(place, "--nodes-max", "7").nodes == 7


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--copy-max", ("", "-1", "1T", "1k", "1.5M", "M", "9" * 16)),
        ("--trail-segment", ("0", "0K", "7", "4095", "-1")),
        ("--trail-keep", ("-1", "", "1.5", " 3", "1_0", "\u0663", "9" * 10)),
        ("--quarantine-files", ("-1", "1K", "+1")),
        ("--uid", ("-1", "4294967295", "9" * 30, "root", "")),
        ("--gid", ("-1", "4294967295", "9" * 30, "1_0")),
        ("--trail-keep-age", ("0d", "5", "5m", "d", "1234567d")),
        ("--nodes-max", ("0", "-5", "1K", "", "1234567890")),
    ],
)
def test_a_word_that_is_none_of_them_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], option: str, words: tuple[str, ...]
) -> None:
    for word in words:
        with pytest.raises(SystemExit):
            parsed(place, f"{option}={word}")
        assert "write" in capsys.readouterr().err


def test_each_switch_comes_to_its_option(place: Path) -> None:
    plain = options(place)
    assert (plain.app, plain.user_id, plain.group_ids, plain.any_uid) == (None, None, (), False)
    assert (plain.passthrough, plain.xattrs, plain.vectors) == (True, True, True)
    assert (plain.posix, plain.read_only, plain.watch, plain.policy_modes) == (False, False, False, False)
    assert not options(place, "--no-passthrough").passthrough
    assert not options(place, "--no-xattrs").xattrs
    assert not options(place, "--no-avc").vectors
    for word, name in (
        ("--read-only", "read_only"), ("--watch", "watch"),
        ("--modes=policy", "policy_modes"),
    ):  # fmt: skip
        assert getattr(options(place, word), name), word
    assert options(place, "--posix", "--app=camera").posix
    assert options(place, "--inotify", "--app=camera").inotify
    assert options(place).keeper and not options(place, "--no-keeper", "--read-only").keeper


@pytest.mark.mount
def test_a_store_that_may_lose_its_inode_numbers_has_no_keeper(place: Path) -> None:
    with layers.bindfs(place / "store", place) as store:
        assert not options(place, store=store.name).keeper
        assert "leave it out" in refused(place, "--keeper", store=store.name)


def test_the_trail_goes_by_the_mountpoint_and_paths_are_whole(place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    (place / "link").symlink_to("mnt")
    args = parsed(place, store="store/../store", mountpoint="link")
    args.policy = "policy.yaml"
    made, loader = prepared(args, Start.of(args))
    assert (made.store, made.mountpoint) == (str(place / "store"), str(place / "mnt"))
    assert made.policy == str(place / "policy.yaml")
    assert made.trail == place / "trail" / control.mount_id(str(place / "mnt"))
    monkeypatch.chdir("/")
    assert loader.compile(loader.parse(loader.read())).policy.name == "home"


# -- callers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "uid", "gids"),
    [
        (("--app", "camera"), 10010, (10010,)),
        (("--app", "family", "--uid", "1003", "--gid", "5", "--gid", "6", "--gid", "5"), 1003, (5, 6)),
        (("--app", "web", "--uid", "33"), 33, (33, 44)),
        (("--app", "web", "--uid", "33", "--gid", "44"), 33, (44,)),
        (("--app", "bare", "--uid", "7654321"), 7654321, (7654321,)),  # of no account
        (("--app", "bare", "--uid", "0"), 0, (0,)),
        (("--app", "camera", "--any-uid"), None, ()),
    ],
)
def test_an_app_mount_admits_the_app(place: Path, words: tuple[str, ...], uid: int, gids: tuple) -> None:
    made = options(place, *words)
    assert (made.user_id, made.group_ids) == (uid, gids)
    assert made.any_uid == ("--any-uid" in words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--uid", "5"), "need --app"),
        (("--uid", "0"), "need --app"),
        (("--gid", "5"), "need --app"),
        (("--any-uid",), "need --app"),
        (("--app", "none"), "the policy has no app 'none'; its apps are backup, bare, camera"),
        (("--app", "camera", "--any-uid", "--uid", "0"), "leave out --uid and --gid"),
        (("--app", "camera", "--any-uid", "--gid", "5"), "leave out --uid and --gid"),
        (("--app", "bare"), "has no uid: add --uid"),
        (("--app", "family"), "has several uids"),
        (("--app", "web"), "has several uids"),
        (("--app", "camera", "--uid", "10011"), "uid 10011 does not belong to the app camera"),
        (("--app", "family", "--uid", "1010"), "uid 1010 does not belong"),
        (("--app", "web", "--uid", "33", "--gid", "33", "--gid", "45"), "group 45 does not belong"),
        (("--modes=policy", "--posix"), "--modes policy and --posix"),
        (("--posix", "--app", "server"), "modes: policy of the app server and --posix"),
        (("--posix",), "modes: policy of the app server and --posix"),
        (("--modes=policy", "--app", "plain"), "the policy has `modes: store` for the app plain"),
        (("--modes=policy", "--app", "backup"), "a backup must see the modes of the store"),
    ],
)
def test_callers_and_modes_that_do_not_go_together(place: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError) as error:
        options(place, *words)
    assert told in str(error.value)
    with pytest.raises(UsageError):
        check_policy(parsed(place, *words))


def test_modes_of_another_app_are_no_obstacle(place: Path) -> None:
    assert options(place, "--posix", "--app", "camera").posix
    assert options(place, "--modes=policy", "--app", "camera").policy_modes


# -- the policy ----------------------------------------------------------------------------------------


def test_what_was_checked_is_not_compiled_again_unless_its_text_changes(place: Path, monkeypatch) -> None:
    compiled: list[str] = []
    real_parse, real_compile = mount.parse_apart, mount.compile_policy

    def parsing(sources, meanwhile):
        compiled.append("parsed")
        return real_parse(sources, meanwhile)

    def compiling(policy, **more):
        compiled.append(policy.name)
        return real_compile(policy, **more)

    monkeypatch.setattr(mount, "parse_apart", parsing)
    monkeypatch.setattr(mount, "compile_policy", compiling)
    args = parsed(place)
    _, loader = prepared(args, Start.of(args))
    assert loader.compile(loader.parse(loader.read())).policy.name == "home"
    assert compiled == ["parsed", "home"]
    loader.compile(loader.parse(loader.read()))
    assert compiled == ["parsed", "home"] * 2, "only the daemon's first"
    (place / "policy.yaml").write_text(POLICY.replace("home", "new"))
    assert loader.compile(loader.parse(loader.read())).policy.name == "new"


def test_a_text_that_changes_before_the_daemon_reads_it_is_compiled(place: Path) -> None:
    args = parsed(place)
    _, loader = prepared(args, Start.of(args))
    checked = loader.read()
    (place / "policy.yaml").write_text(POLICY.replace("home", "new"))
    assert loader.compile(loader.parse(loader.read())).policy.name == "new"
    assert loader.compile(loader.parse(checked)).policy.name == "home"


def test_a_policy_that_does_not_compile_has_its_exit_code_and_is_on_record(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "policy.yaml").write_text(POLICY + "  - {id: all}\n")
    words = ["mount", "--policy", place / "policy.yaml", "--trail", place / "trail", place / "store"]
    assert main.main([*map(str, words), str(place / "mnt")]) == EXIT_POLICY
    (fields,) = failures(place)
    assert str(fields["reason"]).splitlines()[0] in capsys.readouterr().err


def failures(place: Path) -> list[dict]:
    chain = place / "trail" / control.mount_id(str(place / "mnt"))
    return [dict(one.fields) for one in read_all(chain) if one.kind == "failed"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--inotify",), EXIT_USAGE, "--inotify needs --app"),
        (("--posix", "--no-xattrs"), EXIT_USAGE, "--posix and --no-xattrs cannot be used together"),
        (("--app", "none"), EXIT_USAGE, "the policy has no app 'none'"),
    ],
)
def test_a_start_that_fails_is_on_record(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, told: str
) -> None:
    fixed = ["mount", "--policy", place / "policy.yaml", "--trail", place / "trail", *words]
    assert main.main([*map(str, fixed), str(place / "store"), str(place / "mnt")]) == code
    assert told in capsys.readouterr().err
    assert told in str(failures(place)[0]["reason"])


def test_only_root_mounts(place: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = ["mount", "--policy", "p", str(place / "store"), str(place / "mnt")]
    assert main.main(words) == EXIT_REFUSED
    assert "mounting needs root" in capsys.readouterr().err


# -- places --------------------------------------------------------------------------------------------


def test_places_that_cannot_be_mounted_are_told_with_a_remedy(place: Path) -> None:
    (place / "file").touch()
    (place / "full").mkdir()
    (place / "full/a").touch()
    (place / "store/inner").mkdir()
    (place / "mnt/store").mkdir()
    for store, mountpoint, told in (
        ("none", "mnt", "does not exist; create it or correct the path"),
        ("file", "mnt", "is not a directory"),
        ("store", "none", "does not exist; create it"),
        ("store", "none/below", "No such file or directory; create the directory"),
        ("store", "file", "is not a directory"),
        ("store", "full", "is not empty"),
        ("store", "store", "the store"),
        ("store", "store/inner", "the mountpoint"),
        ("mnt/store", "mnt", "is inside the mountpoint"),
    ):
        assert told in refused(place, store=store, mountpoint=mountpoint), (store, mountpoint)
    (place / "store-2").mkdir()
    assert options(place, mountpoint="store-2").mountpoint == str(place / "store-2"), "only alike"


def test_neither_trail_nor_keys_lie_where_apps_reach_them(place: Path, monkeypatch) -> None:
    (place / "link").symlink_to("store")
    for where, told in (("store", "the store"), ("link/trail", "the store"), ("mnt/t", "the mountpoint")):
        args = parsed(place)
        args.trail = str(place / where)
        with pytest.raises(PolicyfsError, match=f"is inside {told}"):
            prepared(args, Start.of(args))
        monkeypatch.setenv("POLICYFS_KEY_DIR", str(place / where))
        assert "the keys of the trail" in refused(place)
        monkeypatch.setenv("POLICYFS_KEY_DIR", str(place / "keys"))


def test_neither_policy_nor_log_lies_where_apps_may_change_it(place: Path) -> None:
    """A policy of which one file is a link into the store is refused, too."""
    (place / "link").symlink_to("store")
    (place / "store/below").mkdir()
    for name in ("store/policy.yaml", "store/below/policy.yaml"):
        (place / name).write_text(POLICY)
    (place / "policies").mkdir()
    (place / "policies/home.yaml").symlink_to(place / "store/policy.yaml")
    for where in ("store", "store/policy.yaml", "link/below", "policies", "policies/home.yaml"):
        args = parsed(place, "--read-only")
        args.policy = str(place / where)
        with pytest.raises(PolicyfsError, match=r"is inside the store .* apps could change the policy"):
            prepared(args, Start.of(args))
        with pytest.raises(PolicyfsError, match="apps could change the policy"):
            check_policy(args)
    for where in ("store/trail", "mnt/trail"):
        args = parsed(place, "--read-only")
        args.trail = str(place / where)
        with pytest.raises(PolicyfsError, match="apps could reach the trail"):
            check_policy(args)
    with pytest.raises(UsageError, match="--posix and --no-xattrs"):
        check_policy(parsed(place, "--posix", "--no-xattrs", "--app", "camera"))
    (place / "log").symlink_to(place / "store/new")
    for where in ("store/log", "link/log", "log"):
        assert "apps could change the log" in refused(place, "--log", str(place / where)), where
    assert not (place / "store/new").exists()
    (place / "store-2").mkdir()
    assert options(place, "--log", str(place / "store-2/log")), "only alike"


def test_a_store_that_others_can_reach_is_mounted_with_a_warning(
    place: Path, arena: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (arena / "library").mkdir(mode=0o700)
    options(place, store=str(arena / "library"))
    assert capsys.readouterr().err == ""
    (arena / "library").chmod(0o755)
    options(place, store=str(arena / "library"))
    said = capsys.readouterr().err
    assert said.startswith("policyfs: warning: users other than root can reach")
    assert "chmod 700" in said


def test_a_dead_mount_is_removed_and_told(place: Path, monkeypatch, capsys) -> None:
    gone: list[tuple[str, bool, bool]] = []
    monkeypatch.setattr(probe, "mount_state", lambda path: MountState.DEAD)
    monkeypatch.setattr(session, "unmount", lambda path, lazy, force: gone.append((path, lazy, force)))
    options(place)
    assert gone == [(str(place / "mnt"), True, False)]
    assert capsys.readouterr().err == f"policyfs: a dead mount was at {place}/mnt, and was unmounted\n"


@pytest.mark.parametrize(
    ("state", "died", "told"),
    [
        (MountState.SILENT, True, None),
        (MountState.SILENT, False, "something is mounted"),
        (MountState.ALIVE, True, "something is mounted"),
    ],
)
def test_a_mount_that_is_held_is_removed_by_force_and_no_other(
    place: Path, monkeypatch, state: MountState, died: bool, told: str | None
) -> None:
    gone: list[tuple[str, bool, bool]] = []
    monkeypatch.setattr(probe, "mount_state", lambda path: state)
    monkeypatch.setattr(umount, "daemon_died", lambda path: died)
    monkeypatch.setattr(session, "unmount", lambda path, lazy, force: gone.append((path, lazy, force)))
    if told is None:
        options(place)
    else:
        assert told in refused(place)
    assert gone == ([] if told else [(str(place / "mnt"), True, True)])
