"""`policyfs audit` as people run it: on trails that the real journal wrote."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from policyfs.cli.audit import command as audit
from policyfs.cli.main import build_parser
from policyfs.domain import Audit
from policyfs.errors import EXIT_INCOMPLETE, PolicyfsError, UsageError
from policyfs.journal.files.policy_texts import policy_text
from policyfs.journal.writing.journal import Journal
from policyfs.trail.lines.event import OPERATIONS
from policyfs.trail.lines.table import width
from tests.support.mount.trail import (
    MOUNT_ID,
    SECOND_NS,
    START_NS,
    Clock,
    a_denial,
    a_journal,
    an_event,
    segments,
)

OTHER_ID = "fedcba9876543210"
NASTY = "/DCIM/\x1b[2Jgpj.\u202eexe\n.jpg".encode()

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: names}
apps: {silent: {uid: 10013}}
rules:
  - {id: of-a-policy, allow: [see], who: {app: silent}, paths: "/***"}
"""

PROGRAM = "import sys; from policyfs.cli.main import main; sys.exit(main())"

EVENTS = [
    an_event(b"/DCIM/a.jpg", redacted=((100, 20),), view="redacted(location)", kind="image/jpeg", handle=7),
    an_event(b"/DCIM/b.jpg", app="maps", uid=10012, rules=("maps-read",)),
    a_denial(b"/Private/c.jpg"),
    an_event(b"/DCIM/a.jpg", new_path=b"/Pictures/a.jpg", operation="rename", syscall="rename"),
    an_event(
        b"/DCIM/a.jpg", operation="release", syscall="close", handle=7, bytes_read=4096, bytes_written=0
    ),
    an_event(NASTY),
    an_event(b"/Movies/\xff.mp4", decision="would_deny", would_deny=("strict",)),
]


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """A root with two mounts; their events take turns, one a minute from START_NS on."""
    for index, mount_id in enumerate((MOUNT_ID, OTHER_ID)):
        journal = Journal(str(tmp_path / mount_id), mount_id, keep=0, clock_ns=Clock())
        for minute, event in enumerate(EVENTS):
            if minute % 2 == index:
                journal.record(event._replace(time_ns=START_NS + minute * 60 * SECOND_NS), Audit.REQUIRED)
        journal.close()
    return tmp_path


class Cli:
    """Runs commands in this process; keeps what they said."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._root = root
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *words: str) -> int:
        parser = build_parser("audit")
        args = parser.parse_args(["audit", *words, "--trail", str(self._root)])
        code = args.run(args)
        captured = self._capsys.readouterr()
        self.out, self.err = captured.out, captured.err
        assert isinstance(code, int)
        return code

    def json(self, *words: str) -> list[dict[str, object]]:
        """The JSON lines of a command that found something."""
        assert self(*words, "--json") == 0
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def cli(trail: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(trail, capsys)


# -- search


@pytest.mark.parametrize(
    ("words", "minutes"),
    [
        (["op:*"], [0, 1, 2, 3, 4, 5, 6]),
        (["--app", "maps"], [1]),
        (["--app", "maps", "--app", "gallery", "--op", "open", "--decision", "deny"], [2]),
        (["--uid", "10012"], [1]),
        (["--op", "rename", "--op", "release"], [3, 4]),
        (["--decision", "would_deny"], [6]),
        (["--rule", "no-private"], [2]),
        (["--rule", "strict"], [6]),
        (["--path", "/Pictures/*"], [3]),
        (["--path", "a.jpg"], [0, 3, 4]),
        (["--path", "/Movies/?.mp4"], [6]),
        (["--since", "2026-03-01T08:02Z"], [2, 3, 4, 5, 6]),
        (["--until", "2026-03-01T08:02Z"], [0, 1]),
        (["--since", "2026-03-01T08:02Z", "--until", "2026-03-01T08:04Z"], [2, 3]),
        (["--last", "2", "op:*"], [5, 6]),
        (["--last", "1", "--app", "maps"], [1]),
        (["app:maps or op:rename"], [1, 3]),
        (["not", "app:maps", "path:/DCIM/a.jpg", "not", "op:open"], [3, 4]),
        (["bytes_read:>1k"], [4]),
        (["app:gallery", "--op", "release"], [4]),
        (["since:2026-03-01T08:05Z"], [5, 6]),
    ],
)
def test_search_finds_what_matches_of_all_mounts_by_time(
    cli: Cli, words: list[str], minutes: list[int]
) -> None:
    found = [str(record["time"])[14:16] for record in cli.json("search", *words)]
    assert found == [f"{minute:02d}" for minute in minutes]


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("app:galery", ["no app 'galery'", "did you mean gallery?", "      ^^^^^^"]),
        ("op:open rule:no-privat", ["no rule 'no-privat'", "no-private?", "             ^^^^^^^^^"]),
        ("path:/a op:opne", ["did you mean open?", "           ^^^^"]),
    ],
)
def test_a_word_that_the_trail_does_not_know_is_marked(cli: Cli, query: str, lines: list[str]) -> None:
    with pytest.raises(UsageError) as info:
        cli("search", query)
    for line in lines:
        assert line in str(info.value)


def test_search_without_result_says_so(cli: Cli) -> None:
    assert cli("search", "--uid", "4711") == 1
    assert cli.out == ""
    assert "nothing in the trail at" in cli.err


def test_a_table_row_tells_the_essentials(cli: Cli) -> None:
    assert cli("search", "--decision", "deny") == 0
    head, row = cli.out.splitlines()
    assert head.split() == ["TIME", "ID", "APP", "UID", "OPERATION", "DECISION", "PATH", "WHY"]
    assert row.split()[2:] == [
        "01234567:3",
        "gallery",
        "10011",
        "open",
        "deny",
        "/Private/c.jpg",
        "EACCES",
        "no-private",
    ]


def test_names_do_no_harm_in_tables_and_json(cli: Cli) -> None:
    for words in (
        ["search"],
        ["search", "--json"],
        ["search", "op:*"],
        ["search", "--last", "100"],
        ["summary"],
        ["show", "fedcba98:4"],
    ):
        assert cli(*words) == 0
        assert all(line.isprintable() for line in cli.out.split("\n")), words
    assert cli("search", "--path", "/DCIM/*exe*") == 0
    assert "/DCIM/\\x1b[2Jgpj.\\u202eexe\\x0a.jpg" in cli.out


@pytest.mark.parametrize(
    "words",
    [
        ["search", "--since", "whenever"],
        ["search", "--path", "/a["],
        ["show", "no-id"],
        ["verify", "--expect", "01234567:1"],
        ["verify", "--expect", "x=" + "0" * 64],
    ],
)
def test_bad_arguments_are_usage_errors(cli: Cli, words: list[str]) -> None:
    with pytest.raises(UsageError):
        cli(*words)


@pytest.mark.parametrize(
    "words", [[], ["search", "--uid", "me"], ["search", "--decision", "maybe"], ["search", "-n", "0"]]
)
def test_bad_options_exit_with_2(cli: Cli, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        cli(*words)
    assert info.value.code == 2
    capsys.readouterr()


def test_no_trail_is_an_error_that_says_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PolicyfsError, match=r"no trail at .*missing.*--trail"):
        Cli(tmp_path / "missing", capsys)("search")


def test_gaps_and_bad_lines_are_told_beside_the_result(cli: Cli, trail: Path) -> None:
    with a_journal(trail, queue=1) as journal:
        for _ in range(3):
            journal.record(an_event(), Audit.BEST_EFFORT)
    with segments(trail / OTHER_ID)[0].open("ab") as stream:
        stream.write(b"\x1b[2Jgarbage\n")
    assert cli("search") == EXIT_INCOMPLETE
    assert "2 events dropped" in cli.out, "a row, as every record"
    assert cli("search", "op:*") == EXIT_INCOMPLETE
    assert "2 events dropped" in cli.err
    assert "is not a record" in cli.err
    assert cli("summary", "--json") == EXIT_INCOMPLETE
    told = json.loads(cli.out)
    assert (told["dropped"], told["holes"][0]["chain"]) == (2, OTHER_ID)


def test_times_without_a_zone_are_those_of_the_machine(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert len(cli.json("search", "--since", "2026-03-01T17:05")) == 2
        cli("search", "--last", "1", "op:*")
        assert "2026-03-01 17:06:00.000" in cli.out
    finally:
        monkeypatch.undo()
        time.tzset()


# -- summary, show, verify


def test_summary_counts(cli: Cli) -> None:
    (summary,) = cli.json("summary")
    assert summary["events"] == 7
    assert summary["decisions"] == {"allow": 5, "deny": 1, "would_deny": 1}
    assert summary["apps"] == {"gallery": {"allow": 4, "deny": 1, "would_deny": 1}, "maps": {"allow": 1}}
    assert summary["denied"] == [{"app": "gallery", "path": "/Private/c.jpg", "decision": "deny", "count": 1}]
    assert (summary["bytes_read"], summary["redacted_opens"]) == (4096, 1)
    assert cli("summary") == 0
    assert "/Private/c.jpg" in cli.out
    assert cli("summary", "uid:4711") == 1
    assert cli.out == "no events\n"


def test_summary_counts_repeats(cli: Cli, trail: Path) -> None:
    with a_journal(trail) as journal:
        for _ in range(50):
            journal.record(a_denial(b"/again"), Audit.REQUIRED)
    (summary,) = cli.json("summary", "path:/again")
    assert summary["events"] == 50


def test_show_tells_everything(cli: Cli) -> None:
    assert cli("show", "01234567:2") == 0
    fields = dict(line.split(None, 1) for line in cli.out.split("\n\n")[0].splitlines())
    assert fields["path"] == "/DCIM/a.jpg"
    assert fields["redacted"] == "[[100, 20]]"
    assert fields["rules"] == "gallery-sees"
    assert cli.json("show", "01234567:2")[0]["kind"] == "image/jpeg"
    assert cli("show", f"{MOUNT_ID}:1") == 0
    assert "segment 1 begins" in cli.out


def test_show_of_nothing(cli: Cli) -> None:
    assert cli("show", "01234567:999") == 1
    assert "no record 01234567:999" in cli.err


def test_verify_says_whole_or_where_it_breaks(cli: Cli, trail: Path) -> None:
    assert cli("verify") == 0
    assert cli.out.count("whole") == 2
    path = segments(trail / OTHER_ID)[0]
    path.write_bytes(path.read_bytes().replace(b"maps", b"mops"))
    assert cli("verify") == 1
    assert f"{OTHER_ID}/{path.name} line 2" in cli.out
    assert cli("verify", "--json") == 1
    reports = [json.loads(line) for line in cli.out.splitlines()]
    assert [report["whole"] for report in reports] == [True, False]
    assert reports[1]["breaks"][0]["line"] == 2


def test_verify_against_a_head_kept_elsewhere(cli: Cli, trail: Path) -> None:
    assert cli("verify") == 0
    heads = [line.split()[1] for line in cli.out.splitlines() if "head:" in line]
    assert cli("verify", "--expect", heads[0], "--expect", heads[1]) == 0
    path = segments(trail / MOUNT_ID)[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert cli("verify") == 0
    assert cli("verify", "--expect", heads[0]) == 1
    assert "the line with seq 6 is missing, but a digest of this line was given" in cli.out
    assert cli("verify", "--expect", f"99:1={'0' * 64}") == 1
    assert "the mount that wrote the record 99:1 (--expect) has no trail at" in cli.err


def test_verify_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Cli(tmp_path, capsys)("verify") == 1


# -- the newest records


def test_the_newest_records_of_all_mounts(cli: Cli) -> None:
    # Each mount closed with a record whose time is START_NS, after its events.
    records = cli.json("search", "-n", "4")
    assert [(record["type"], str(record["time"])[14:16]) for record in records] == [
        ("event", "05"),
        ("close", "00"),
        ("event", "06"),
        ("close", "00"),
    ]
    assert cli("search") == 0
    assert "-- recording ended" in cli.out


def test_the_newest_events_of_a_query(cli: Cli) -> None:
    records = cli.json("search", "-n", "2", "app:gallery op:open")
    assert [str(record["time"])[14:16] for record in records] == ["05", "06"]


def test_a_search_of_an_empty_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli = Cli(tmp_path, capsys)
    assert cli("search") == 1
    assert "nothing in the trail at" in cli.err


@pytest.fixture
def following(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tail -f --json` in a process of its own, its output a pipe."""
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/old"), Audit.REQUIRED)
    process = start_tail(tmp_path, stdout=subprocess.PIPE)
    with process:
        yield process
        process.kill()


def start_tail(root: Path, stdout: int, *query: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, "audit", "search", "-f", "--json", "--trail", str(root), *query]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)


def lines_until(process: subprocess.Popen[bytes], path: str) -> list[str]:
    """Paths of events that come, up to this one; fails after 20 s without a line."""
    assert process.stdout is not None
    found: list[str] = []
    while path not in found:
        ready = wait([process.stdout], 20)
        assert ready, f"only {found} came"
        record = json.loads(read_line(process.stdout.fileno()))
        found += [record["path"]] if "path" in record else []
    return found


def read_line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(fd, 1)
        assert piece, "the command ended"
        line += piece
    return line


def test_tail_follows_over_rotation_and_ends_on_ctrl_c(
    tmp_path: Path, following: subprocess.Popen[bytes]
) -> None:
    assert lines_until(following, "/old") == ["/old"]
    with a_journal(tmp_path, segment_bytes=1500) as journal:
        for number in range(12):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
        assert lines_until(following, "/11") == [f"/{number}" for number in range(12)]
    assert len(segments(tmp_path / MOUNT_ID)) > 2
    following.send_signal(signal.SIGINT)
    assert following.wait(20) == 0
    assert following.stderr is not None
    assert following.stderr.read() == b""


def test_tail_follows_a_query(tmp_path: Path) -> None:
    with a_journal(tmp_path) as journal:
        journal.record(an_event(b"/old"), Audit.REQUIRED)
    with start_tail(tmp_path, subprocess.PIPE, "path:/new-*") as process:
        try:
            time.sleep(0.5)
            with a_journal(tmp_path) as journal:
                for name in (b"/other", b"/new-1", b"/old", b"/new-2"):
                    journal.record(an_event(name), Audit.REQUIRED)
            assert lines_until(process, "/new-2") == ["/new-1", "/new-2"]
        finally:
            process.kill()


def test_tail_ends_when_nobody_reads_any_more(following: subprocess.Popen[bytes]) -> None:
    lines_until(following, "/old")
    assert following.stdout is not None
    following.stdout.close()
    assert following.wait(20) == 0
    assert following.stderr is not None
    assert following.stderr.read() == b""


def test_a_reader_that_has_enough_is_no_error(trail: Path) -> None:
    with a_journal(trail) as journal:
        for number in range(3000):
            journal.record(an_event(b"/%d" % number), Audit.BEST_EFFORT)
    command = [sys.executable, "-c", PROGRAM, "audit", "search", "--trail", str(trail)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_on_a_terminal_rows_fit_its_width(trail: Path) -> None:
    with a_journal(trail) as journal:
        journal.record(a_denial(b"/Private/" + b"x" * 300 + "/猫.jpg".encode()), Audit.REQUIRED)
    controller, terminal = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, "audit", "search", "op:*", "--trail", str(trail)]
    process = subprocess.Popen(command, stdout=terminal, env=os.environ | {"COLUMNS": "120"})
    os.close(terminal)
    out = b""
    try:
        while piece := os.read(controller, 65536):
            out += piece
    except OSError:
        pass  # the terminal's other end is closed
    finally:
        os.close(controller)
    assert process.wait(20) == 0
    lines = out.decode().splitlines()
    rows = [line for line in lines[1:] if not line.startswith("    ")]
    assert len(rows) == len(EVENTS) + 1
    assert max(map(width, lines)) <= 120
    assert "…" in rows[-1]
    assert "猫.jpg" in rows[-1]


def test_one_refusal_is_one_row_and_in_a_pipe_nothing_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [b"/Private/" + b"x" * 200 + b"/%d.jpg" % number for number in range(96)]
    clock, cli = Clock(), Cli(tmp_path, capsys)
    with a_journal(tmp_path, clock) as journal:
        for operation, pid in (("lookup", 1), ("open", 1), ("open", 2), ("access", 3)):
            for name in names:
                clock.forward(0.01)
                denial = a_denial(name, operation=operation, pid=pid, time_ns=clock.now_ns)
                journal.record(denial, Audit.REQUIRED)
        clock.forward(5)
    assert cli("search", "--decision", "deny") == 0
    _, *rows = cli.out.splitlines()
    assert len(rows) == len(names)
    for name, row in zip(names, rows, strict=True):
        assert f"{name.decode()}  EACCES no-private 4 times until" in row
        assert row.endswith("(open 2, lookup 1, access 1)")
    assert cli("search", "-n", "96") == 0
    assert [line[25:] for line in cli.out.splitlines()[1:-1]] == [row[25:] for row in rows[1:]]
    assert cli("search", "--each", "op:*") == 0
    assert len(cli.out.splitlines()) == 1 + 4 * 96
    assert len(cli.json("search", "op:*")) == 4 * 96
    assert cli("search", "--last", "3", "op:*") == 0
    assert len(cli.out.splitlines()) == 1 + 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--app", "galery"], "no app 'galery' .* did you mean gallery?"),
        (["--app", "maps", "--app", "map"], "no app 'map' .* did you mean maps?"),
        (["--op", "unlnk"], "no operation 'unlnk' .* did you mean unlink"),
        (["--op", "dance"], "no operation 'dance' .* there are access, attr, create"),
        (["--rule", "no-privat"], "no rule 'no-privat' .* did you mean no-private"),
        (["--rule", "of-a-polcy"], "did you mean of-a-policy"),
        (["--app", "\x1b[2J"], "no app .*x1b"),
    ],
)
def test_what_is_no_name_is_refused_with_what_may_be_meant(
    cli: Cli, trail: Path, words: list[str], said: str
) -> None:
    keep_a_policy(trail)
    with pytest.raises(UsageError, match=said) as refused:
        cli("search", *words)
    assert str(refused.value).isprintable()


def keep_a_policy(root: Path) -> None:
    text = POLICY.encode()
    with a_journal(root) as journal:
        policy = policy_text(hashlib.sha256(text).hexdigest(), [("p.yaml", text)])
        journal.tell("mount", {"policy": policy.digest}, policy=policy)


@pytest.mark.parametrize(
    "words",
    [
        ["--app", "silent"],
        ["--app", "stranger"],
        ["--rule", "of-a-policy"],
        ["--op", "xattr"],
        ["--rule", "strict"],
    ],
)
def test_what_a_policy_or_the_trail_names_is_a_name(cli: Cli, trail: Path, words: list[str]) -> None:
    keep_a_policy(trail)
    assert cli("search", *words) in {0, 1}


def test_the_words_for_operations_are_those_that_are_recorded() -> None:
    """mypy refuses a call that names no operation; this finds operations that no call names."""
    sources = (Path(audit.__file__).parents[2] / "fs").rglob("*.py")
    recorded = {word for source in sources for word in re.findall(r'\bCall\(\s*"(\w+)"', source.read_text())}
    assert set(OPERATIONS) == recorded
