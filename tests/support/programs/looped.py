"""A program that runs a shell script again and again, as people's programs use a file system.

    python3 looped.py DIRECTORY SCRIPT PAUSE_S

SCRIPT is a name of SCRIPTS. The script gets the number of its run as $n. It works, with a pause after each
run, until its standard input has a line, then prints the same as tree_changes.py, but counts runs, and no
call is timed (null). A run that does not end with 0 has failed. It imports nothing of policyfs: it runs as an
app.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys

SCRIPTS = {
    "git": (
        """
        [ -d .git ] || git init -q
        mkdir -p $((n % 7)); echo $n >$((n % 7))/$n; git add --all
        git -c user.name=a -c user.email=a@b -c gc.autoDetach=false commit -qm $n
        [ $((n % 8)) != 0 ] || git fsck --strict --no-dangling --no-progress
        """,
        'git fsck --strict; [ $(git rev-list --count HEAD) = $n ]; [ -z "$(git status --porcelain)" ]',
    ),
    "rsync": (
        """
        mkdir -p from; echo $n >from/$((n % 40)); rm -f from/$((n * 7 % 40))
        rsync -a --delete from/ to/; diff -r from to
        """,
        "diff -r from to",
    ),
    "fio": (
        """
        fio --name=$((n % 2)) --size=2m --bs=4k --rw=randwrite --verify=crc32c --fsync=64
        fio --name=mapped --ioengine=mmap --size=2m --bs=4k --rw=randwrite --verify=crc32c
        """,
        "true",
    ),
    "save": (
        "echo $n >.new; sync .new; mv .new text; [ $(cat text) = $n ]; cp -p text text~; cmp text text~",
        "[ $(cat text~) = $n ]",
    ),
    "flock": (
        "flock lock sh -ec ': >>numbers; echo $(($(tail -n 1 numbers) + 1)) >>numbers'",
        "flock lock sh -ec '[ $(sort -u numbers | wc -l) = $(tail -n 1 numbers) ]'",
    ),
}
"""Scripts by name: the one that is run again and again, and the one that looks at the end."""


def run(script: str, number: int) -> list[str]:
    """Run a script. Return nothing if it ended with 0, else what it wrote."""
    words = ["sh", "-ec", script]
    environment = os.environ | {"n": str(number), "HOME": "/nonexistent"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    said = f"run {number}: {done.returncode} {done.stdout[-1000:]} {done.stderr[-1000:]}"
    return [said] if done.returncode else []


def main() -> None:
    top, name, pause_s = sys.argv[1:4]
    again, at_the_end = SCRIPTS[name]
    os.makedirs(top, exist_ok=True)
    os.chdir(top)
    print("ready", flush=True)
    failed, runs = [], 0
    while not failed and not (runs and select.select([sys.stdin], [], [], float(pause_s))[0]):
        runs += 1
        failed = run(again, runs)
    print(json.dumps([failed, runs, None, run(at_the_end, runs)]), flush=True)


if __name__ == "__main__":
    main()
