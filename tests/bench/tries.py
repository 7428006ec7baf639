"""Programs in a try, beside the same in an overlay over the bare directory.

`python -m tests.bench.tries [ROUNDS]` prints medians in seconds, and their ratio; rounds come in turns.
Needs root; npm is left out where it is not installed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.machine.namespace import enter_private_namespace

POLICY: Final = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: try}
apps: {tool: {uid: 0}}
rules:
  - {id: secrets, deny: [all], paths: "/**/.env"}
  - {id: all, allow: [all], paths: "/***"}
"""
FILES: Final = 1000
PROGRAMS: Final = {
    "git clone": "git clone -q --no-hardlinks repository new && git -C new status >/dev/null",
    "build and test": "make -s -C project",
    "python3 -m venv": "python3 -m venv env",
    "npm install": "npm install --silent --offline --no-audit --no-fund --install-links"
    " --prefix npm ./package",
    "SQLite, 200 transactions": 'for n in $(seq 200); do echo "INSERT INTO t VALUES ($n);"; done'
    " | sqlite3 base.db",
    f"sed -i of {FILES} files": "sed -i s/a/b/ text/*",
    "ffmpeg": "ffmpeg -v error -y -f lavfi -i testsrc=d=4:s=640x480 -c:v mpeg4 film.mp4",
}
MAKEFILE: Final = """\
all: $(patsubst %.c,%.o,$(wildcard *.c))
\t@cc -o program *.o && ./program
"""


def furnish(store: Path) -> None:
    """Make what the programs work on."""
    for name in ("text", "project", "npm", "package"):
        (store / name).mkdir(parents=True)
    for number in range(FILES):
        (store / "text" / str(number)).write_text(f"hello a {number}\n")
    subprocess.run(["git", "clone", "-q", "--bare", ".", store / "repository"], check=True)
    (store / "package/package.json").write_text('{"name": "words", "version": "1.0.0"}')
    for number in range(FILES):
        (store / f"package/{number}.js").write_text(f"module.exports = {number};\n")
    (store / "project/Makefile").write_text(MAKEFILE)
    for number in range(40):
        (store / f"project/f{number}.c").write_text(f"int f{number}(void) {{ return {number}; }}\n")
    (store / "project/main.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["sqlite3", store / "base.db", "CREATE TABLE t (n)"], check=True)


def seconds(words: Sequence[str], environment: dict[str, str]) -> float:
    """Run a command that prints its own seconds last."""
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Command line."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    enter_private_namespace()
    with tempfile.TemporaryDirectory(prefix="policyfs-bench-") as name:
        arena = Path(name)
        furnish(store := arena / "store")
        store.chmod(0o700)
        (policy := arena / "try.yaml").write_text(POLICY)
        places = {key: str(arena / key.lower()) for key in ("RUNTIME", "TRAIL", "LAYERS")}
        environment = os.environ | {f"POLICYFS_{key}_DIR": place for key, place in places.items()}
        program = [sys.executable, "-m", "policyfs.cli.main"]
        tried = [
            *program,
            "run",
            "--try",
            "--keep",
            "l",
            "--app",
            "tool",
            "--policy",
            str(policy),
            str(store),
            "--",
        ]
        layers = (
            "mkdir u w m && mount -t overlay -o lowerdir=store,upperdir=u,workdir=w,userxattr o m && cd m && "
        )
        for what, script in PROGRAMS.items():
            if not shutil.which(script.split()[0]) and script.startswith("npm"):
                continue
            timed = (
                f'export HOME=$PWD; b=$(date +%s.%N); {script}; e=$(date +%s.%N); echo; echo "$e - $b" | bc'
            )
            found: tuple[list[float], list[float]] = ([], [])
            for _ in range(rounds):
                found[0].append(seconds([*tried, "sh", "-ec", f"cd '{store}'; {timed}"], environment))
                subprocess.run([*program, "try", "drop", "l"], env=environment, check=True)
                bare = ["unshare", "-m", "sh", "-ec", f"cd '{arena}'; {layers}{timed}"]
                found[1].append(seconds(bare, environment))
                for one in ("u", "w", "m"):
                    shutil.rmtree(arena / one)
            ours, bare_s = map(statistics.median, found)
            print(f"{what}: {ours:.2f} s, bare {bare_s:.2f} s, {ours / bare_s:.2f}", flush=True)
            time.sleep(0.1)


if __name__ == "__main__":
    main()
