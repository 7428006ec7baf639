"""The bound on an analysis: processor time, and only in its context."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from policyfs.cli.common.time_bound import bounded
from policyfs.policy.globs.classes import TooHardError
from tests.support.machine.counts import count
from tests.support.mount.recorded import write_recorded
from tests.unit.test_cli_policy_replay import opened


def test_endless_work_ends() -> None:
    before = signal.getsignal(signal.SIGPROF)
    with pytest.raises(TooHardError), bounded(0.05):
        for _ in itertools.count():
            pass
    assert signal.getsignal(signal.SIGPROF) == before
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0


def test_work_that_begins_again_when_something_is_too_hard_ends() -> None:
    with pytest.raises(TooHardError), bounded(0.05):
        while True:
            with contextlib.suppress(TooHardError):
                for _ in itertools.count():
                    pass


DEAR = {
    "a glob of 200 KB": ["/" + "*a" * 100_000],
    "a glob of 4 KB": [("/" + "*a" * 127) * 16],
    "many globs": [f"/d{number}/*.jpg" for number in range(count(600, 9_000))],
    "many patterns": [f"/**/*{number}*" for number in range(count(600, 9_000))],
    "1 KB of stars": [f"/*{'*'.join(order)}*" for order in list(itertools.permutations("abcde"))[:100]],
    "1 KB of braces": ["/" + "{*a,b*,*c*}" * 5, "/" + "{*b,a*,*d*}" * 5, "/" + "{a" * 30 + ",b}" * 30],
    "2,000 kinds": ["/**"],
}
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 10011}, camera: {uid: 10012}}
rules:
  - {id: all, allow: [see, read], who: {app: camera}, paths: "/**"}
  - {id: dear, allow: [see, read], who: {app: gallery}, paths: %s, when: {type: %s}}
"""
COMMANDS = """\
import os, re, sys, time
from policyfs.cli.main import main
COMMANDS = (
    "policy check a", "policy lint a", "policy matrix a", "policy diff a b",
    "policy explain --app gallery a /d1/a.jpg", "audit who-could --trail trail /d1/a.jpg",
    "policy learn trail",
)
for number, directory in enumerate(sys.argv[1:]):
    if number and not (child := os.fork()):
        os.chdir(directory)
        break
    if number:
        os.waitpid(child, 0)
        continue
    os.chdir(directory)
    for words in COMMANDS:  # a small policy, so that everything is imported
        main(words.split())
else:
    sys.exit()
for words in COMMANDS:
    began = time.process_time()
    code = main(words.split())
    taken = time.process_time() - began
    most = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]  # not the parent's
    print("\\0", number, words, code, taken, most, sep="\\t", flush=True)
"""


def _record(directory: Path, name: str) -> None:
    """Write a dear policy, another one, and a trail."""
    seen = [opened(f"/d{number}/a.jpg", "camera", 10012, rules=("all",), view="raw") for number in range(5)]
    kinds = [f"image/x-{number}" for number in range(2_000 if name == "2,000 kinds" else 1)]
    text = POLICY % (json.dumps(DEAR.get(name, "/d1/**")), json.dumps(kinds))
    (directory / "a").write_text(text)
    (directory / "b").write_text(text.replace("[see, read], who: {app: gal", "[see], who: {app: gal"))
    write_recorded(directory / "trail", text, seen)


def test_no_command_takes_long_for_a_dear_policy(tmp_path: Path) -> None:
    """10 s of processor time for each command, and 500 MB."""
    names = ["small", *DEAR]
    directories = [tmp_path / str(number) for number in range(len(names))]
    for directory, name in zip(directories, names, strict=True):
        directory.mkdir()
        _record(directory, name)
    argv = [sys.executable, "-P", "-c", COMMANDS, *map(str, directories)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)
    told = [line.split("\t")[1:] for line in said.stdout.splitlines() if line.startswith("\0")]
    rows = [(names[int(number)], *row) for number, *row in told]
    print(*rows, sep="\n")
    assert len(rows) == 7 * len(DEAR), said.stderr
    assert [row for row in rows if float(row[3]) > 10 or int(row[4]) > 500 << 10] == []


def test_time_in_which_the_machine_is_busy_does_not_count() -> None:
    with bounded(0.05):
        time.sleep(0.1)


def test_another_thread_has_no_bound() -> None:
    done: list[bool] = []

    def work() -> None:
        with bounded(0.001):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
