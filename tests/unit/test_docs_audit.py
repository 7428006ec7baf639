"""docs/audit.md against the program: its commands run, its example and tables are true."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policyfs.cli.main import build_parser
from policyfs.domain import Audit
from policyfs.journal.files.policy_texts import policy_text
from policyfs.journal.files.segments import Chain
from policyfs.journal.sealing.checkpoint import checkpoint_of_chain
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from policyfs.trail.lines.bounds import PATH_BYTES, bounded
from policyfs.trail.lines.event import BY_DIRECTORY
from policyfs.trail.lines.line import LineFormatter
from policyfs.trail.query.parser import QueryError
from policyfs.trail.query.query import parse_when
from policyfs.trail.query.selection import parse_query
from policyfs.trail.query.terms import COLUMNS
from tests.support.mount.trail import START_NS, Clock, a_denial, an_event

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"
TEXT = PAGE.read_text(encoding="utf-8")
MOUNT_ID = "3f1c9a0b7d2e4455"
NO_TEXT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


EXAMPLE = an_event(
    rules=("gallery-sees", "no-location"),
    kind="image/jpeg",
    view="redacted(location)",
    redacted=((412, 86),),
    handle=7,
    policy_digest=NO_TEXT,
)
COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


POLICY = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: page}
apps: {gallery: {uid: 10011}, maps: {uid: 10012}}
rules:
  - {id: gallery-sees, allow: [see, read], who: {app: gallery}, paths: "/***"}
"""


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """A trail in which each command of the page finds something; its second line is the example."""
    now = datetime.now(UTC)
    keys = KeyStore(tmp_path / "keys")
    journal = Journal(str(tmp_path / MOUNT_ID), MOUNT_ID, keep=0, clock_ns=Clock(), keys=keys)
    journal.record(EXAMPLE, Audit.REQUIRED)
    journal.record(EXAMPLE._replace(time_ns=parse_when("yesterday", now)), Audit.REQUIRED)
    journal.record(a_denial(time_ns=parse_when("1m", now)), Audit.REQUIRED)
    journal.record(EXAMPLE._replace(operation="create", path=b"/DCIM/new.jpg"), Audit.REQUIRED)
    policy = policy_text(hashlib.sha256(POLICY).hexdigest(), [("home.yaml", POLICY)])
    start = {"policy": policy.digest, "cause": "command", "how": "policyfs mount"}
    journal.tell("mount", start, policy=policy, previous="")
    journal.close()
    return tmp_path


def digest_of_line(directory: Path, number: int) -> str:
    segment = next(directory.glob("*.jsonl"))
    digest = json.loads(segment.read_text().splitlines()[number - 1])["chain"]
    assert isinstance(digest, str)
    return digest


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page(
    command: str, trail: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trail.parent)  # reports go there
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(trail / "keys"))
    line = checkpoint_of_chain(Chain(MOUNT_ID, trail / MOUNT_ID), KeyStore(trail / "keys").signer())
    (trail / "policyfs.checkpoints").write_bytes(line or b"")
    (trail / "policyfs.checkpoints").chmod(0o600)
    command = command.replace("/etc/policyfs/", f"{trail}/")
    words = shlex.split(command.replace("/mnt/other/", f"{trail}/").partition(" > ")[0])
    assert words[0] == "policyfs"
    parser = build_parser("audit")
    # The digest of a header hangs on boot id and pid, so the page cannot know it.
    words = [re.sub("=[0-9a-f]{64}$", "=" + digest_of_line(trail / MOUNT_ID, 2), word) for word in words]
    args = parser.parse_args([*words[1:], "--trail", str(trail)])
    if "--follow" in words or "follow" in words:
        return  # tests/unit/test_cli_audit_command.py and test_cli_audit_follow.py run them
    assert args.run(args) == 0, capsys.readouterr()
    assert capsys.readouterr().out


def test_the_example_is_a_line_as_it_is_written(trail: Path) -> None:
    (example,) = blocks("json")
    segment = next((trail / MOUNT_ID).glob("*.jsonl"))
    written = segment.read_text().splitlines(keepends=True)[1]
    assert re.sub("[0-9a-f]{64}", "DIGEST", written) == re.sub("[0-9a-f]{64}", "DIGEST", example)


def run_verifier(tmp_path: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "check.py"
    program.write_text(blocks("python")[0])
    command = [sys.executable, program, directory]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def test_the_stranger_program_agrees(trail: Path, tmp_path: Path) -> None:
    assert len(blocks("python")[0].splitlines()) <= 20
    directory = trail / MOUNT_ID
    done = run_verifier(tmp_path, directory)
    assert (done.returncode, done.stdout) == (0, f"whole: 7={digest_of_line(directory, 7)}\n")
    segment = next(directory.glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b"10011", b"10012", 1))
    done = run_verifier(tmp_path, directory)
    assert done.returncode == 1
    assert "line 2: changed" in done.stderr


def documented(heading: str) -> set[str]:
    section = TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_table_of_fields_is_complete() -> None:
    full = EXAMPLE._replace(
        path=b"/" + b"\xff" * PATH_BYTES,
        new_path=b"/" + b"\xff" * PATH_BYTES,
        rules=tuple(f"rule-{number}" for number in range(1000)),
        folded=BY_DIRECTORY,
        decision="would_deny",
        errno=5,
        would_deny=("a",),
        would_allow=("b",),
        bytes_read=1,
        bytes_written=1,
        size_before=1,
        size_after=1,
        mtime_before_ns=1,
        mtime_after_ns=1,
        note="n",
        redacted=((0, 1),) * 257,
        repeats=1,
        since_ns=START_NS,
    )
    fields = set(json.loads(LineFormatter().event(bounded(full), 1) + b"}")) | {"chain"}
    assert documented("The fields of an event") == fields


def test_the_table_of_the_query_language_is_the_programs() -> None:
    names = (", ".join(f"`{name}`" for name in (column.name, *column.aliases)) for column in COLUMNS)
    rows = [f"| {name} | {one.kind} | {one.meaning} |" for name, one in zip(names, COLUMNS, strict=True)]
    table = "\n".join(["| field | type of value | meaning |", "|---|---|---|", *rows, ""])
    marker = "<!-- made by `make docs` from policyfs/trail/query/terms.py -->\n\n"
    before, begin, rest = TEXT.partition(marker)
    shown, after = re.match(r"((?:\|.*\n)*)([\s\S]*)", rest).groups()
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        PAGE.write_text(before + begin + table + after, encoding="utf-8")
        pytest.fail("the page was written: read it, then run without updating")
    assert shown == table, "make docs"


def test_the_error_of_the_page_is_what_the_program_says() -> None:
    (text,) = (block.rstrip("\n") for block in blocks("text") if "no field is called" in block)
    query = text.split("\n")[1].strip()
    with pytest.raises(QueryError) as info:
        parse_query(query)
    assert f"policyfs: {info.value}" == text


def test_the_table_of_records_is_complete() -> None:
    sources = (Path(__file__).parents[2] / "policyfs").rglob("*.py")
    writes = "".join(source.read_text() for source in sources)
    kinds = set(re.findall(r'(?:\.note|_format\.record|journal\.tell|\.announce)(?:\(|,)\s*"(\w+)"', writes))
    kinds |= set(re.findall(r'_notes\.insert\(0, \("(\w+)"', writes))  # before those that wait
    kinds |= set(re.findall(r'(?<![\w.])record\((?:[\w.()]+,\s*)+"(\w+)"', writes))  # by commands
    assert documented("The journal's own records") == kinds | {"hold"}, "hold: of an earlier version"
