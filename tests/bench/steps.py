"""Where the time of first opens and changes of names goes: `python -m tests.bench.steps`.

First the steps of the handlers, on a store in memory without a kernel. The time of a step includes that of
steps inside it, and of their timers. Then, on a mount, the daemon's processor time, requests and system calls
for each operation, and the context switches of an idle daemon."""

from __future__ import annotations

import functools
import inspect
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import trio

from policyfs.policy.decide import compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.bench.comparison.contenders import UIDS, Contender, Ground, Setting, make_store
from tests.bench.comparison.rows import build_loop
from tests.support.machine.namespace import clear_away, enter_private_namespace
from tests.support.machine.processes import tool_as
from tests.support.mount.daemons import Mount
from tests.support.mount.file_system import Parts, parts

ROUNDS: Final = 1_000
FILES: Final = 500
LOOP_S: Final = 1.5
IDLE_S: Final = 5.0
STEPS: Final = (
    "lookup.lookup", "creator.create", "creator._new_file", "creator._own_new", "opener.created",
    "lookup.created", "sync.finish", "opener.close", "opener.open", "gate.require",
    "passthrough.choose", "renamer.rename", "remover.remove", "remover._remove_now",
)  # fmt: skip
"""The timed methods, each after the name of its part (`Parts`)."""
OPERATIONS: Final = (
    ("create", "app"), ("rename", "app"), ("open", "app"), ("stat", "app"), ("stat", "shared"),
)  # fmt: skip


class Timers:
    """Times in ns of each step, by its name."""

    def __init__(self, made: Parts) -> None:
        self.spent: dict[str, list[int]] = defaultdict(list)
        for step in STEPS:
            part, name = step.split(".")
            setattr(getattr(made, part), name, self._timed(step, getattr(getattr(made, part), name)))

    def _timed(self, step: str, method: Any) -> Any:
        @contextmanager
        def timer() -> Iterator[None]:
            began = time.perf_counter_ns()
            try:
                yield
            finally:
                self.spent[step].append(time.perf_counter_ns() - began)

        def call(*args: Any, **kwargs: Any) -> Any:
            with timer():
                return method(*args, **kwargs)

        async def wait(*args: Any, **kwargs: Any) -> Any:
            with timer():
                return await method(*args, **kwargs)

        return wait if inspect.iscoroutinefunction(inspect.unwrap(method)) else call


async def _requests(made: Any) -> None:
    """Answer the requests of a create, a rename, an open and an unlink, as the handlers do."""
    root, caller = made.root, functools.partial(made.caller, UIDS[0])
    for _ in range(ROUNDS):
        await made.lookup.lookup(root, b"new.jpg", caller())
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle, entry = await made.creator.create(root, b"new.jpg", 0o644, flags, caller())
        await made.release(handle)
        made.passthrough.expire(everything=True)
        await made.renamer.rename(root, b"new.jpg", root, b"other.jpg", 0, caller())
        node = made.nodes.get(entry.st_ino)
        await made.release(await made.opener.open(node, os.O_RDONLY, caller()))
        await made.remover.remove(root, b"other.jpg", caller(), directory=False)
        made.nodes.forget(entry.st_ino, node.lookups)


def steps(directory: Path) -> dict[str, float]:
    """Return the tenth percentile of each step in µs, which depends least on other work of the machine."""
    engine = compile_policy(parse_policy([SourceText("steps.yaml", Setting("app").policy().encode())]))
    with parts(directory, engine, app="bench") as made:
        timers = Timers(made)
        trio.run(_requests, made)
    return {step: statistics.quantiles(timers.spent[step], n=10)[0] / 1e3 for step in STEPS}


def _switches(pid: int) -> int:
    status = "".join((one / "status").read_text("ascii") for one in Path(f"/proc/{pid}/task").iterdir())
    return sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))


def _work(loop: Path, operation: str, path: Path) -> int:
    """Run the loop on a mount, and return the number of its operations."""
    words = (str(loop), operation, str(path / "many"), str(FILES), str(LOOP_S))
    return int(tool_as(UIDS[0], *words, check=True).stdout.split()[2])


def _line(loop: Path, operation: str, contender: Contender, mount: Mount) -> str:
    """Measure one operation on a mount twice: without and with strace(1)."""
    before, spent = mount.fuse_counters(), contender.spent_us()
    count = _work(loop, operation, contender.path)
    spent = (contender.spent_us() - spent) / count
    after = mount.fuse_counters()
    asked = {name: (number - before[name]) / count for name, number in after.items()}
    told = " ".join(f"{name} {each:.2g}" for name, each in asked.items() if each > 0.05)
    line = ("strace", "-qq", "-f", "-c", "-U", "calls,name", "-p", str(mount.pid))
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as strace:
        time.sleep(1)
        count = _work(loop, operation, contender.path)
        strace.send_signal(2)
        _, table = strace.communicate(timeout=30)
    lines = re.findall(r"^ *(\d+) (\w+)$", table, re.MULTILINE)
    calls = {name: int(number) / count for number, name in lines}
    total = calls.pop("total", 0.0)
    most = " ".join(f"{name} {each:.1f}" for name, each in calls.items() if each > 0.2)
    return f"{contender.name} {operation}: {spent:.0f} µs; {told}; {total:.0f} system calls: {most}"


def main() -> None:
    """Print both tables."""
    enter_private_namespace()
    directory = Path(tempfile.mkdtemp(prefix="policyfs-steps-", dir="/dev/shm"))
    directory.chmod(0o711)
    try:
        make_store(store := directory / "store")
        for step, each in steps(store).items():
            print(f"{step:25} {each:6.0f} µs", flush=True)
        many = store / "many"
        many.mkdir()
        for number in range(FILES):
            (many / f"name-{number:05d}.jpg").touch()
        tool_as(0, "chown", "-R", str(UIDS[0]), many, check=True)
        loop = build_loop(directory)
        for operation, name in OPERATIONS:
            (place := directory / f"{operation}-{name}").mkdir(mode=0o711)
            with Ground(place, store).contender(name) as contender:
                assert contender.mount is not None
                if operation == OPERATIONS[0][0]:
                    time.sleep(IDLE_S)
                    idle = _switches(contender.mount.pid)
                    time.sleep(IDLE_S)
                    idle = _switches(contender.mount.pid) - idle
                    print(f"idle: {idle / IDLE_S:.1f} context switches a second")
                print(_line(loop, operation, contender, contender.mount), flush=True)
    finally:
        clear_away(directory)


if __name__ == "__main__":
    main()
