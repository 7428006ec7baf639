"""Single measurements: fio, the C client, the daemon's memory, the engine's decisions."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.bench.report import RATIO
from tests.bench.targets import UID, Target
from tests.support.machine.processes import tool_as

HERE: Final = Path(__file__).parent
REPEATS: Final = 5
FIO_SECONDS: Final = 1.5
FIO_FILE_MIB: Final = 128
CLIENT_SECONDS: Final = 1.0


def build_client(directory: Path, source: Path = HERE / "client.c") -> Path:
    """Compile a client into a directory that plain uids can reach; returns the program."""
    program = directory / source.stem
    subprocess.run(["gcc", "-O2", "-o", str(program), str(source)], check=True, timeout=60)
    program.chmod(0o755)
    return program


def medians(targets: Sequence[Target], measure: Callable[[Target], float]) -> dict[str, float]:
    """The median of REPEATS measurements per target, and under RATIO that of the last to the first. Targets
    take turns and each turn has its own ratio, so that a busy moment hits all alike."""
    seen: dict[str, list[float]] = {target.name: [] for target in targets}
    for _ in range(REPEATS):
        for target in targets:
            seen[target.name].append(measure(target))
    found = {name: statistics.median(values) for name, values in seen.items()}
    turns = zip(seen[targets[0].name], seen[targets[-1].name], strict=True)
    return found | {RATIO: statistics.median(ours / native for native, ours in turns)}


def fio(target: Target, kind: str, block: str) -> float:
    """MiB/s of fio (psync, one job, page cache warm) on a file of FIO_FILE_MIB. kind: read, write."""
    done = tool_as(
        UID,
        "fio",
        "--name=bench",
        f"--filename={target.path}/fio.bin",
        f"--rw={kind}",
        f"--bs={block}",
        f"--size={FIO_FILE_MIB}m",
        "--ioengine=psync",
        "--invalidate=0",
        "--fallocate=none",
        "--time_based",
        f"--runtime={FIO_SECONDS}",
        "--output-format=json",
        check=True,
        deadline_s=120,
    )
    text = done.stdout.decode()
    job = json.loads(text[text.index("{") :])["jobs"][0]
    return float(job[kind]["bw_bytes"]) / (1 << 20)


def commits(path: str, journal: str, count: int) -> float:
    """Microseconds of one commit of one row, the median; SQLite's own, each synced."""
    costs = []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode={journal}")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE IF NOT EXISTS rows (text)")
        for _ in range(count):
            start = time.perf_counter_ns()
            database.execute("INSERT INTO rows VALUES ('what an app writes down of a photo')")
            costs.append(time.perf_counter_ns() - start)
    return statistics.median(costs) / 1000


def client(program: Path, uid: int, *arguments: str) -> tuple[int, int]:
    """Run the C client as a plain uid; returns its count and nanoseconds."""
    done = tool_as(uid, program, *arguments, check=True, deadline_s=300)
    count, nanoseconds = done.stdout.split()
    return int(count), int(nanoseconds)


def rate(program: Path, uid: int, *arguments: str) -> float:
    """Operations a second."""
    count, nanoseconds = client(program, uid, *arguments, str(CLIENT_SECONDS))
    return count * 1e9 / nanoseconds


def second_listing(program: Path, uid: int, directory: Path) -> float:
    """Names a second of the second of two passes over a directory."""
    client(program, uid, "list", str(directory))
    count, nanoseconds = client(program, uid, "list", str(directory))
    return count * 1e9 / nanoseconds


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM and its own (anonymous), bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


def engine_with(rules: int) -> Engine:
    """A compiled policy of so many rules, most of which speak of other directories."""
    lines = [
        "apiVersion: policyfs/v1",
        "kind: Policy",
        "metadata: {name: many}",
        "apps: {a: {uid: 1000}}",
        "rules:",
        '  - {id: base, allow: [all], who: {app: a}, paths: ["/**"]}',
    ]
    for number in range(rules - 1):
        glob = f"/d{number % 97}/*/x{number}/**"
        lines.append(f'  - {{id: r{number}, deny: [write], who: {{app: a}}, paths: ["{glob}"]}}')
    return compile_policy(parse_policy([SourceText("many.yaml", "\n".join(lines).encode())]))


def decision_ns(engine: Engine, rounds: int = 200_000) -> float:
    """Nanoseconds of one memoised decision."""
    who = engine.principal(1000)
    state = engine.state_of(b"/d5/some/deep/path/photo.jpg")
    facts = Facts("image/jpeg", "a")
    ops = Op.SEE | Op.READ
    engine.decide(who, ops, state, FileType.REGULAR, facts)
    start = time.perf_counter_ns()
    for _ in range(rounds):
        engine.decide(who, ops, state, FileType.REGULAR, facts)
    return (time.perf_counter_ns() - start) / rounds
