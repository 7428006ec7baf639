"""The program that forks several commands: what each says, and what none gets of another."""

from __future__ import annotations

import json
import subprocess
import sys

from policyfs.errors import EXIT_REFUSED, EXIT_USAGE


def test_each_command_has_its_own_exit_code_and_errors_in_their_order() -> None:
    wrong = ["--policy", "/nowhere", "--posix", "--no-xattrs", "/", "/"]
    lines = [[], ["--policy", "/nowhere", "/", "/"], wrong]
    done = subprocess.run(
        [sys.executable, "-m", "policyfs.cli.mounts.forked_mounts"],
        input=json.dumps(lines), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert [code for code, _ in found] == [EXIT_USAGE, EXIT_REFUSED, EXIT_USAGE]
    assert "arguments are required" in found[0][1]
    assert found[1][1].startswith("policyfs: ")
    assert "--posix and --no-xattrs cannot be used together" in found[2][1]
    assert done.stderr == ""


PROGRAM = """
import json, os, sys
from policyfs.cli.mounts import forked_mounts

def run(options, launcher):
    if options.store == "raise":
        raise ValueError("why")
    found = {fd for fd in range(1000) if os.path.lexists(f"/proc/self/fd/{fd}")}
    print(found == {0, 1, 2, *launcher.descriptors()}, file=sys.stderr)
    return 0

forked_mounts.run_mount = run
os.set_inheritable(os.pipe()[1], True)
commands = [["--policy=p", store, "m"] for store in ("raise", "a", "b", "c")]
print(json.dumps(forked_mounts.run_side_by_side(commands)))
"""


def test_a_command_has_no_descriptor_of_the_others_and_fails_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    (code, said), *others = json.loads(done.stdout)
    assert (code, others) == (EXIT_REFUSED, [[0, "True\n"]] * 3)
    assert "ValueError: why" in said
