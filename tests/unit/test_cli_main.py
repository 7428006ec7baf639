"""The command line: its outline needs none of the commands, and a command needs no other one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from policyfs.cli.main import _COMMANDS, build_parser, main, process

ITSELF = {f"policyfs.cli.{name}" for name in ("main", "common", "common.command_line", "common.commands")}
IMPORTED = """\
import contextlib, io, sys
from policyfs.cli.main import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
print(*sorted(sys.modules))
"""


def imported(*words: str) -> set[str]:
    """The modules that a command imports."""
    command = [sys.executable, "-c", IMPORTED, *words]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())


def test_the_outline_is_that_of_the_whole_command_line():
    assert build_parser("--help").format_help() == build_parser().format_help()


@pytest.mark.parametrize("name", _COMMANDS)
def test_a_command_is_built_from_its_own_module(name):
    assert f"\n    {name}" in build_parser(name).format_help()


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_imports_no_command(words):
    """Python itself takes 20 ms, all commands together take 400: trio alone 100."""
    found = imported(*words)
    assert not {name for name in found if name.startswith("policyfs.cli.")} - ITSELF
    assert not found & {"pydantic", "trio", "ruamel.yaml", "json", "subprocess"}


@pytest.mark.parametrize(("words", "most"), [(["--version"], 95), (["status"], 195)])
def test_a_process_imports_little_before_it_works(words: list[str], most: int) -> None:
    """Each command is a process of its own, and an import is most of the time of a short one."""
    code = "import sys; sys.path[:] = {}; from policyfs.cli.main import process; process()"
    line = [sys.executable, "-I", "-S", "-X", "importtime", "-c", code.format(sys.path), *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "policyfs.errors" in names
    assert not names & {"subprocess", "tempfile", "ctypes.util", "policyfs.policy.model", "pydantic", "trio"}
    assert len(names) <= most, sorted(names)


def test_a_command_imports_nothing_of_another():
    found = imported("status", "--help")
    assert not found & {"pydantic", "trio"}
    assert "policyfs.cli.mounts.mount" not in found


@pytest.mark.parametrize(
    ("words", "told", "usage"),
    [
        (["mont"], "policyfs: argument COMMAND: invalid choice: 'mont'", "policyfs COMMAND ..."),
        (["policy", "tst"], "policyfs policy: argument ACTION: invalid choice: 'tst'", ""),
        (["mount", "/a"], "policyfs mount: the following arguments are required: --policy, MOUNTPOINT",
         "policyfs mount --policy P STORE MOUNTPOINT (policyfs mount --help: all options)"),
        (["doctor", "--store", "/a"], "policyfs doctor: unrecognized arguments: --store", ""),
        (["policy", "lint", "a", "--x", "b"], "policyfs policy lint: unrecognized arguments: --x b", ""),
    ],
)  # fmt: skip
def test_a_wrong_command_line_gets_two_lines(words, told, usage):
    """Those of `mount` were fifteen: the error came after all options."""
    command = [sys.executable, "-m", "policyfs.cli.main", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith(told)
    assert second.startswith(f"usage: {usage}")


@pytest.mark.parametrize(("word", "meant"), [("mont", "mount"), ("stauts", "status"), ("qqqq", None)])
def test_a_misspelt_command_gets_the_one_that_is_meant(word, meant, capsys):
    with pytest.raises(SystemExit):
        main([word])
    first, _ = capsys.readouterr().err.splitlines()
    assert first.endswith(f"; did you mean '{meant}'?" if meant else "'doctor')")


def test_only_a_process_that_ends_leaves_memory_to_the_kernel(tmp_path, monkeypatch, capsys):
    policy = tmp_path / "policy.yaml"
    policy.write_text("apiVersion: policyfs/v1\nkind: Policy\nrules: []\n", encoding="utf-8")
    left: list[object] = []
    monkeypatch.setattr("policyfs.cli.main.left_to_the_kernel", lambda *things: left.extend(things))
    assert main(["policy", "check", str(policy)]) == 0
    assert not left
    monkeypatch.setattr(sys, "argv", ["policyfs", "policy", "check", str(policy)])
    assert process() == 0
    assert len(left) == 1
    assert capsys.readouterr().out.count("fine") == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_of_the_daemon_takes_the_place_of_a_closed_stream(tmp_path: Path, closed: str) -> None:
    """What is printed would go into that file; and a mount would end with an exception."""
    program = (
        "import os, sys; from policyfs.cli import main; main.main = lambda **_: 0; main.process();"
        f"file = open({str(tmp_path / 'found')!r}, 'w'); sys.stdout.flush(); sys.stderr.flush();"
        "print(file.fileno() > 2, *(os.readlink(f'/proc/self/fd/{n}') for n in range(3)), file=file)"
    )
    command = f'exec "$0" -c "$1" </dev/null >/dev/null 2>{tmp_path}/err {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, program], timeout=60, check=False)
    assert done.returncode == 0, (tmp_path / "err").read_text()
    found = (tmp_path / "found").read_text().split()
    assert found[0] == "True"
    assert set(found[1:]) <= {"/dev/null", f"{tmp_path}/err"}


def run_with(output: str, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the given words, and with *output* (shell) as its standard output."""
    script = f'{{ "$0" -c "$@"; echo "exit $?" >&2; }} {output}'
    return subprocess.run(
        ["sh", "-c", script, sys.executable, program, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )


GONE = "| (exec <&-; sleep 0.5)"
"""The reader of the output has ended."""
FULL = ">/dev/full"
PROCESS = "import sys; from policyfs.cli.main import process; sys.exit(process())"
RELOAD = f"""\
from policyfs.cli.running import manage
def lines(path, command):
    print(path, file=sys.stderr)
    yield "in force" + "x" * 10_000
manage.reload_lines, manage.known = lines, str
{PROCESS.removeprefix("import sys; ").replace("; ", chr(10))}
"""


@pytest.mark.parametrize(("output", "code"), [(GONE, 0), (FULL, 1)])
def test_a_command_that_changes_something_finishes_whatever_becomes_of_its_output(output: str, code: int):
    said = run_with(output, f"import sys, time\ntime.sleep(0.2)\n{RELOAD}", "reload", "/a", "/b", "/c")
    lost = ["policyfs: cannot write the output: No space left on device"] if output == FULL else []
    assert said.stderr.splitlines() == ["/a", "/b", "/c", *lost, f"exit {code}"]


DOWN = f"""\
import contextlib, sys, time
from types import SimpleNamespace
from policyfs.cli.site import site
def umount(place, lazy):
    print(place, file=sys.stderr)
    return "it hangs" if place == "/b" else ""
mounts = [SimpleNamespace(at=place) for place in ("/a", "/b", "/c")]
site.read_site = lambda path: SimpleNamespace(mounts=mounts)
site.look = lambda site_, mount: SimpleNamespace(state=site.State.UP, status={{}})
site.label = lambda mount: "x" * 10_000
site._alone, site._umount, site._unnamed = contextlib.nullcontext, umount, lambda site_: []
time.sleep(0.2)
{PROCESS.removeprefix("import sys; ").replace("; ", chr(10))}
"""


@pytest.mark.parametrize("output", [GONE, FULL])
def test_down_unmounts_every_mount_whatever_becomes_of_its_output(output: str) -> None:
    lines = run_with(output, DOWN, "down", "home.site.yaml").stderr.splitlines()
    assert [line for line in lines if line.startswith("/")] == ["/c", "/b", "/a"]
    assert "it hangs" in "".join(lines)
    assert lines[-1] == "exit 1"


@pytest.mark.parametrize("output", [GONE, FULL])
def test_an_error_of_the_output_hides_no_exit_code(tmp_path: Path, output: str) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("apiVersion: policyfs/v1\nkind: Policy\nrules: [1]\n", encoding="utf-8")
    said = run_with(output, f"import time; time.sleep(0.2); {PROCESS}", "policy", "check", str(policy))
    assert said.stderr.splitlines()[-1] == "exit 3"
    assert "Exception ignored" not in said.stderr


def test_text_that_cannot_be_written_is_an_error_of_the_output() -> None:
    said = run_with(FULL, PROCESS, "--version")
    assert said.stderr == "policyfs: cannot write the output: No space left on device\nexit 1\n"


def test_an_ended_reader_of_the_errors_stops_no_command(tmp_path: Path) -> None:
    program = f"import sys, time\ntime.sleep(0.2)\n{RELOAD.replace('yield', 'open(path, chr(119)); yield')}"
    mounts = [tmp_path / name for name in "abc"]
    run_with(f"2>&1 {GONE}", program, "reload", *map(str, mounts))
    assert all(mount.exists() for mount in mounts)


def test_a_closed_standard_input_is_empty() -> None:
    program = "import sys; from policyfs.cli import main; main.main = lambda **_: print([sys.stdin.read()])"
    said = run_with("<&-", f"{program}; main.process()")
    assert (said.stdout, said.stderr) == ("['']\n", "exit 0\n")


def test_a_command_waits_for_its_children_though_the_caller_ignores_their_ends(tmp_path: Path) -> None:
    """A daemon manager or a container's first process may ignore SIGCHLD; its children inherit this."""
    (store := tmp_path / "store").mkdir(mode=0o700)
    options = ("--trail", tmp_path / "trail", "--allow-read", ".", "--uid", "0")
    words = ("run", *options, store, "--", "sh", "-c", "exit 7")
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, *words],
        env=os.environ | {"POLICYFS_RUNTIME_DIR": str(tmp_path / "run")},
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr


NAME = b"/caf\xc3\xa9\xff\x1b[31m\n"


@pytest.mark.parametrize(
    "words",
    [
        ["policy", "check", "POLICY", "é\udcff.yaml"],
        ["policy", "explain", "POLICY", NAME, "--app", "any-one"],
        ["policy", "explain", "POLICY", NAME, "--app", "any-one", "--op", "rename", "--to", NAME + b"x"],
        ["policy", "matrix", "POLICY"],
        ["policy", "lint", "POLICY"],
        ["owner", "show", "STORE"],
        ["inspect", b"STORE" + NAME],
        ["audit", "search", "--trail", b"STORE" + NAME],
        ["status", b"STORE" + NAME],
    ],
)
def test_output_that_has_no_bytes_for_a_name_shows_an_escape(tmp_path: Path, words: list) -> None:
    """As `ssh` with LC_ALL=C, cron and PYTHONIOENCODING have it."""
    policy, store = tmp_path / "é.yaml", tmp_path / "store"
    policy.write_text(
        "apiVersion: policyfs/v1\nkind: Policy\nmetadata: {name: café}\napps: {any-one: {uid: 10001}}\n"
        'rules:\n- {id: all, allow: [all], who: {app: any}, paths: ["/**", "/é/**"], description: "ü"}\n',
        encoding="utf-8",
    )
    store.mkdir(mode=0o755)
    Path(os.fsdecode(os.fsencode(store) + NAME)).touch()
    named = {"POLICY": bytes(policy), "STORE": bytes(store)}
    command = [named.get(word, os.fsencode(word)) if isinstance(word, str) else word for word in words]
    command = [word.replace(b"STORE/", bytes(store) + b"/") for word in command]
    done = subprocess.run(
        [sys.executable, "-m", "policyfs.cli.main", *command],
        check=False, capture_output=True, timeout=60, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"\x1b" not in done.stdout + done.stderr
    assert (done.stdout + done.stderr).isascii()


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("audit forward", "policyfs audit follow"),
        ("policy fmt home.yaml", "policyfs policy diff"),
        ("policy view --app a .", "policyfs run --app"),
    ],
)
def test_a_command_that_has_gone_names_what_replaces_it(words, instead, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert instead in capsys.readouterr().err
