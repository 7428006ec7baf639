"""`policyfs status` and `reload` as a daemon's answers come out of them."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli import main
from policyfs.cli.running import manage
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_POLICY, EXIT_REFUSED, EXIT_USAGE
from policyfs.kernel import probe
from policyfs.kernel.probe import MountState
from policyfs.linux import mountinfo
from policyfs.linux.code_digest import VERSION, code_digest
from tests.support.mount.control_sockets import ControlSocket

DIGEST = "0123456789abcdef" * 4
REFUSED = "the policy now refuses this open: EACCES"
STALE = {
    "count": 1, "apps": {"gallery": 1},
    "files": [{"app": "gallery", "path": "/a", "pid": 7, "access": "read", "reason": REFUSED}],
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("store", "one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path


def sound(place: Path, name: str = "one", **changed: Any) -> dict[str, Any]:
    """The status of a mount that is well."""
    return {
        "mountpoint": str(place / name), "app": None, "store": str(place / "store"), "store_fs": "ext4",
        "pid": 7, "version": VERSION, "code": code_digest(),
        "started": "2026-01-01T00:00:00Z", "leaving": False, "connection": 42,
        "policy": {"name": "home", "generation": 3, "digest": DIGEST, "monitor": False, "exceptions": []},
        "passthrough": {"enabled": True, "why_not": "", "refused": {}},
        "handles": {"files": 2, "mediated": 1, "directories": 3}, "nodes": 9,
        "trail": {
            "written": 11, "dropped": 0, "refused": 0, "failing": False, "last_error": "",
            "directory": "/trail/x",
        },
        "contained": {"missing": []}, "fuse": {"LOOKUP": 6, "READ": 0},
        "quarantine": {"dropped": 0}, "watch": {"running": True},
        "sniffer": {"last_loss_ns": 0, "failed": {}},
        "bugs": 0, "stale_handles": {"count": 0}, **changed,
    }  # fmt: skip


def daemon(place: Path, name: str = "one", **answers: Any) -> ControlSocket:
    return ControlSocket(control.socket_path(str(place / name)), **answers)


def answering(place: Path, name: str = "one", **changed: Any) -> ControlSocket:
    return daemon(place, name, status=sound(place, name, **changed))


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main.main(list(map(str, words)))
    return (code, *capsys.readouterr())


# -- status --------------------------------------------------------------------------------------------


def test_one_screen_has_what_people_look_for(place: Path, capsys) -> None:
    with answering(place):
        code, out, _ = run(capsys, "status", place / "one")
    assert code == EXIT_OK
    assert out.splitlines() == [
        f"{place}/one: shared mount of {place}/store (ext4)",
        f"  daemon       pid 7, version {VERSION} (code {code_digest()})",
        "               since 2026-01-01T00:00:00Z",
        "  policy       home generation 3, 0123456789abcdef",
        "  passthrough  on",
        "  handles      2 files (1 mediated)",
        "               3 directories; 9 nodes",
        "  trail        11 records, 0 dropped",
        "               in /trail/x",
        "  contained    few capabilities, no new privileges, system calls filtered, no network",
        "  requests     LOOKUP 6",
    ]


def test_several_mounts_are_a_table_in_the_order_of_their_mountpoints(place: Path, capsys) -> None:
    with ExitStack() as stack:
        changes = {"c": {"bugs": 1}, "b": {"app": "camera"}, "a": {}, "d": {"leaving": True}}
        for name, changed in changes.items():
            stack.enter_context(answering(place, name, **changed))
        code, out, _ = run(capsys, "status")
    room = len(str(place / "a"))
    bugs = "unexpected errors (bugs of policyfs): 1; see the daemon's log, and report them"
    assert code == EXIT_REFUSED
    assert out.splitlines() == [
        f"{'MOUNTPOINT':<{room}}  APP     {'STORE':<{room}}      POLICY  PID  STATE",
        f"{place}/a  shared  {place}/store  home 3  7    well",
        f"{place}/b  camera  {place}/store  home 3  7    well",
        f"{place}/c  shared  {place}/store  home 3  7    NOT WELL",
        f"{place}/d  shared  {place}/store  home 3  7    LEAVING",
        f"{place}/c: NOT WELL: {bugs}",
        f"{place}/d: NOT WELL: unmounted, but processes still use the mount",
    ]


ENDED = {"id": "party", "until": "2001-01-01", "approved_by": "Ann", "reason": "slides", "in_force": False}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"app": "camera"}, "app mount of camera"),
        ({"leaving": True}, "LEAVING      unmounted"),
        ({"bugs": 2}, "BUGS         2"),
        ({"stale_handles": STALE}, "  gallery /a (pid 7, read): the policy now refuses this open: EACCES"),
        ({"contained": {"missing": ["no filter", "a network"]}}, "contained    no filter; a network"),
        ({"contained": None}, "contained    unknown: the daemon has another version"),
        ({"policy": {"name": "n", "generation": 1, "digest": DIGEST, "monitor": True, "exceptions": [ENDED]}},
         "0123456789abcdef, monitor"),
        ({"policy": {"name": "n", "generation": 1, "digest": DIGEST, "monitor": 0, "exceptions": [ENDED]}},
         "exception    party ENDED at 2001-01-01, approved by Ann: slides"),
        ({"policy": {"name": "n", "generation": 1, "digest": DIGEST, "monitor": 0,
                     "exceptions": [ENDED | {"in_force": True}]}}, "party until 2001-01-01"),
        ({"passthrough": {"enabled": False, "why_not": "old kernel", "refused": {"direct": 4}}},
         "passthrough  off: old kernel"),
        ({"passthrough": {"enabled": True, "why_not": "", "refused": {"direct": 4}}},
         "4 files mediated: direct"),
    ],
)  # fmt: skip
def test_a_screen_says_what_is_different(place: Path, capsys, changed: dict, told: str) -> None:
    with answering(place, **changed):
        _, out, _ = run(capsys, "status", place / "one")
    assert told in out


@pytest.mark.parametrize("words", [("--check",), ()])
def test_a_name_with_a_newline_makes_no_second_line(place: Path, capsys, words: tuple[str, ...]) -> None:
    with answering(place, mountpoint=f"{place}/one\n/mnt/other: well", store="/s\x1b[2J"):
        _, out, _ = run(capsys, "status", *words, place / "one")
    assert out.startswith(f"{place}/one\\x0a/mnt/other: well: ")
    assert "\x1b" not in out


def test_a_mount_that_is_not_well_has_exit_code_1_and_its_problems(place: Path, capsys) -> None:
    trail = {"written": 1, "dropped": 0, "refused": 1, "last_error": "full", "directory": "/t"}
    with answering(place, trail=trail | {"failing": True}):
        code, out, _ = run(capsys, "status", place / "one")
        assert code == EXIT_REFUSED
        assert "FAILING: full" in out
        assert "  NOT WELL     " in out
        code, out, _ = run(capsys, "status", "--check", place / "one")
        assert code == EXIT_REFUSED
        assert out.startswith(f"{place}/one: ")
        assert "full" in out
        assert out.count("\n") == 1
        code, out, _ = run(capsys, "status", "--json", place / "one")
        assert code == EXIT_REFUSED
        assert len(json.loads(out)["problems"]) >= 1


def test_the_journal_gets_only_problems(place: Path, capsys, monkeypatch) -> None:
    output = os.fstat(1)
    monkeypatch.setenv("JOURNAL_STREAM", f"{output.st_dev}:{output.st_ino}")
    with answering(place), answering(place, "two", watch={"running": False}):
        code, out, _ = run(capsys, "status", "--check")
    begin = f"<4>{place}/two: the store is not watched"
    assert (code, out.startswith(begin), out.count("\n")) == (EXIT_REFUSED, True, 1)


def test_all_mounts_are_asked_and_silent_ones_named(place: Path, capsys, monkeypatch) -> None:
    with answering(place), answering(place, "two") as two:
        code, out, _ = run(capsys, "status", "--check")
        assert code == EXIT_OK
        assert out.splitlines() == [f"{place}/one: well", f"{place}/two: well"]
        _, out, _ = run(capsys, "status", "--json")
        assert [one["mountpoint"] for one in json.loads(out)] == [f"{place}/one", f"{place}/two"]
        two.answers = {"status": {"error": "busy"}}
        code, out, err = run(capsys, "status", "--check")
        assert (code, out, err) == (EXIT_REFUSED, f"{place}/one: well\n", "policyfs: busy\n")
    (place / "run" / control.socket_path(str(place / "two")).name).touch()  # of a daemon that was killed
    code, out, err = run(capsys, "status", place / "two")
    assert (code, out) == (EXIT_REFUSED, "")
    assert "there is no policyfs mount: the last daemon here crashed or was killed. Mount again" in err
    code, out, err = run(capsys, "status")
    assert (code, out, err) == (EXIT_OK, "no policyfs mount answers\n", "")
    assert run(capsys, "status", "--check")[0] == EXIT_REFUSED
    assert run(capsys, "status", "--json")[:2] == (EXIT_OK, "[]\n")


def test_a_killed_daemon_whose_mount_is_there_is_told(place: Path, capsys, monkeypatch) -> None:
    left = replace(mountinfo.mounts()[0], path=str(place / "one"), fstype=mountinfo.FSTYPE)
    monkeypatch.setattr(mountinfo, "mounts", lambda: [left])
    monkeypatch.setattr(probe, "mount_state", lambda path: MountState.DEAD)
    (place / "run").mkdir()
    control.socket_path(str(place / "one")).touch()
    code, _, err = run(capsys, "status")
    assert code == EXIT_REFUSED
    assert f"{place}/one: no daemon answers: the daemon has ended" in err


def test_a_mount_without_a_socket_is_silent(place: Path, capsys, monkeypatch) -> None:
    """Its socket went with a clean-up of /run: `status --check` and `reload --all` called all well."""
    here = mountinfo.mounts()[0]
    mounts = [replace(here, path=f"{place}/{name}", fstype=mountinfo.FSTYPE) for name in ("one", "two")]
    monkeypatch.setattr(mountinfo, "mounts", lambda: mounts)
    monkeypatch.setattr(probe, "mount_state", lambda path: MountState.DEAD)
    with daemon(place, status=sound(place, "one"), reload=LOADED):
        assert run(capsys, "status", "--check")[0] == EXIT_OK, "the other one may be of another directory"
        monkeypatch.setattr(control, "has_own_runtime_dir", lambda: False)
        code, _, err = run(capsys, "status", "--check")
        assert (code, f"{place}/two: no daemon answers" in err) == (EXIT_REFUSED, True)
        code, out, err = run(capsys, "reload", "--all")
        assert (code, "in force" in out) == (EXIT_REFUSED, True)
        assert f"{place}/two: no daemon answers" in err


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (MountState.NONE, "there is no policyfs mount"),
        (MountState.DEAD, "the daemon has ended without unmounting (it crashed or was killed)"),
        (MountState.DEAD, "removes this mount, then mount again. `policyfs audit verify` checks the trail"),
        (MountState.ALIVE, "set POLICYFS_RUNTIME_DIR"),
    ],
)
def test_where_nobody_answers_the_state_says_why(place: Path, capsys, monkeypatch, state, told: str) -> None:
    monkeypatch.setattr(probe, "mount_state", lambda path: state)
    code, _, err = run(capsys, "status", place / "one")
    assert code == EXIT_REFUSED
    assert f"no policyfs daemon answers for {place}/one: " in err
    assert told in err


def test_a_daemon_that_comes_within_the_time_is_waited_for(place: Path, capsys, monkeypatch) -> None:
    made: list[ControlSocket] = []

    def sleep(_: float) -> None:
        if not made:
            made.append(answering(place))

    monkeypatch.setattr(manage.time, "sleep", sleep)
    assert run(capsys, "status", "--wait", "20", place / "one")[0] == EXIT_OK
    made[0].close()
    assert run(capsys, "status", place / "one")[0] == EXIT_REFUSED


def test_a_mountpoint_that_does_not_exist_is_an_error(place: Path, capsys) -> None:
    code, _, err = run(capsys, "status", place / "none/below")
    assert (code, "No such file" in err) == (EXIT_REFUSED, True)


# -- reload --------------------------------------------------------------------------------------------

LOADED = {"digest": DIGEST, "generation": 4, "stale_handles": STALE}


def test_a_reload_says_what_is_in_force_and_what_stays_open(place: Path, capsys) -> None:
    with daemon(place, reload=LOADED):
        code, out, _ = run(capsys, "reload", place / "one")
    assert code == EXIT_OK
    assert out.startswith("policy 0123456789abcdef in force, generation 4\n1 open file in passthrough")


def test_the_policy_before_is_asked_for_and_the_file_stays(place: Path, capsys) -> None:
    with daemon(place, previous=LOADED) as asked:
        _, out, _ = run(capsys, "reload", "--previous", place / "one")
        assert asked.commands == ["previous"]
    assert out.endswith(
        "this command did not change the policy's file: correct the file before the next reload or mount\n"
    )


def test_mounts_that_were_left_are_reloaded_too(place: Path, capsys) -> None:
    leaving = [ControlSocket(control.leaving_path(str(place / "one"), pid), reload=LOADED) for pid in (7, 8)]
    with daemon(place, reload=LOADED), leaving[0], leaving[1]:
        control.leaving_path(str(place / "one"), 9).touch()  # of one that was killed
        _, out, _ = run(capsys, "reload", place / "one")
        assert out.count("in force in an unmounted mount that processes still use") == 2
        leaving[0].answers = {"reload": {"error": "bad policy", "exit_code": EXIT_POLICY}}
        code, out, err = run(capsys, "reload", place / "one")
        assert code == EXIT_REFUSED
        assert "in force, generation 4" in out, "the mount itself is reloaded"
        assert "keeps its old policy: bad policy" in err


def test_one_refusal_of_several_does_not_keep_the_others(place: Path, capsys) -> None:
    refusing = daemon(place, reload={"error": "bad policy", "exit_code": EXIT_POLICY})
    with refusing, daemon(place, "two", reload=LOADED) as two:
        code, out, err = run(capsys, "reload", place / "one", place / "two")
        assert code == EXIT_POLICY
        assert out.startswith(f"{place}/two: policy 0123456789abcdef in force")
        assert err == f"policyfs: {place}/one: bad policy\n"
        assert two.commands == ["reload"]
        code, out, err = run(capsys, "reload", place / "one")
        assert (code, out, err) == (EXIT_POLICY, "", "policyfs: bad policy\n")


def test_a_sites_file_reloads_its_mounts(place: Path, capsys) -> None:
    (place / "home.yaml").write_text(
        "apiVersion: policyfs/v1\nkind: Site\nname: home\n"
        f"store: {place}/store\npolicy: {place}/policy.yaml\nmounts:\n"
        f"  - {{app: one, at: {place}/one}}\n  - {{app: two, at: {place}/two}}\n"
    )
    with daemon(place, reload=LOADED) as one, daemon(place, "two", reload=LOADED) as two:
        code, out, err = run(capsys, "reload", place / "home.yaml")
        assert (code, err, one.commands, two.commands) == (EXIT_OK, "", ["reload"], ["reload"])
    assert [line.split(": ")[0] for line in out.splitlines() if "in force" in line] == [
        f"{place}/one", f"{place}/two"
    ]  # fmt: skip
    (place / "home.yaml").write_text((place / "home.yaml").read_text().replace(f"{place}/", "/run/absent/"))
    code, _, err = run(capsys, "reload", place / "home.yaml")  # its directories come with `up`
    assert (code, err.count("there is no policyfs mount")) == (EXIT_REFUSED, 2), err


def test_all_that_answer_are_reloaded(place: Path, capsys) -> None:
    one, two = (daemon(place, name, status=sound(place, name), reload=LOADED) for name in ("one", "two"))
    with one, two:
        code, out, _ = run(capsys, "reload", "--all")
    assert code == EXIT_OK
    assert [line.split(": ")[0] for line in out.splitlines() if "in force" in line] == [
        f"{place}/one", f"{place}/two"
    ]  # fmt: skip


@pytest.mark.parametrize("words", [("reload",), ("reload", "--all", "/mnt")])
def test_mountpoints_or_all_of_them(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as usage:
        main.main(list(words))
    assert usage.value.code == EXIT_USAGE


def test_the_end_of_the_daemon_before_is_shown(place: Path, capsys) -> None:
    trail = {**sound(place)["trail"], "last_end": "the previous daemon did not end in order"}
    with daemon(place, status=sound(place, trail=trail)):
        code, out, _ = run(capsys, "status", place / "one")
    assert code == EXIT_OK, "the mount works now"
    assert "\n  last end     the previous daemon did not end in order\n" in out


def test_it_is_shown_if_another_daemon_would_take_over(place: Path, capsys) -> None:
    lines = []
    told = {"possible": True, "count": 0, "pause_ms": None, "reason": None}
    for takeover in (None, told, {"possible": False, "count": 2, "pause_ms": 97, "reason": "kill"}):
        with daemon(place, status=sound(place, takeover=takeover)):
            _, out, _ = run(capsys, "status", place / "one")
        lines.append([line.strip() for line in out.splitlines() if "take-over" in line])
    none = "NOT possible: the mount ends if its daemon is killed; 2 so far, the last in 97 ms (kill)"
    assert lines == [[], ["take-over    possible"], [f"take-over    {none}"]]


def a_file(number: int = 1, **fields: object) -> dict[str, object]:
    return {
        "app": "gallery", "uid": 10011, "pid": number, "path": f"/DCIM/{number}.jpg", "ino": number,
        "access": "read", "reason": "the policy now refuses this open: EACCES", **fields,
    }  # fmt: skip


def test_nothing_is_told_where_there_is_nothing() -> None:
    for none in (None, [], {}, {"count": 0, "files": [], "apps": {}}):
        assert list(manage.told_stale(none)) == []


def test_files_are_told_with_their_app_and_reason() -> None:
    [head, line] = manage.told_stale({"count": 1, "apps": {"gallery": 1}, "files": [a_file(7)]})
    assert "1 open file in passthrough" in head
    assert "(gallery 1)" in head
    assert line == "  gallery /DCIM/7.jpg (pid 7, read): the policy now refuses this open: EACCES"


def test_no_name_of_an_app_reaches_the_terminal() -> None:
    [_, line] = manage.told_stale({"count": 1, "apps": {"a": 1}, "files": [a_file(path="/a\x1b[2J\n\u202e")]})
    assert line.isprintable()


def test_of_many_files_the_first_are_told_and_all_are_counted() -> None:
    files = [a_file(number) for number in range(200)]
    lines = list(manage.told_stale({"count": 300, "apps": {"maps": 100, "gallery": 200}, "files": files}))
    assert "(gallery 200, maps 100)" in lines[0]
    assert len(lines) == 22
    assert "280 more" in lines[-1]
