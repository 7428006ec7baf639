"""Coverage-guided fuzzing of the locators, with atheris (libFuzzer).

    python -m tests.fuzz [--seconds N | --inputs N] [--corpus DIR] [KIND ...]

Each kind is fuzzed for N seconds (default 600) in a process of its own: real little files and kept inputs are
mutated towards code that was not reached yet, and what must hold for any bytes at all is checked each time.
What then reached new code is kept (minimise.py; with `--seconds 0` nothing else is done).
With `--inputs` it is so many, the same ones every time as long as the locators and the kept inputs stay as
they are, and none is kept.
Exit code 1 if it did not hold; the input is left in the corpus directory, and named.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.kept import read_corpus, write_files
from tests.fuzz.seeds import KINDS, seeds_of

_MEMORY_MIB = 1024
"""Of the whole process, instrumented interpreter and libFuzzer's corpus included."""
_SLOW_S = 25
"""libFuzzer's own watch, by the clock, for what our own limit (check.SLOW_S) cannot end."""
_SHOWN_BYTES = 8192
"""Of an input that failed, in hexadecimal."""
_SAME_ADDRESSES = ("setarch", "-R")
"""Some hashes are addresses: with others, sets have another order, and libFuzzer takes another way."""


def fuzz(kind: str, seconds: int, inputs: int, corpus: Path) -> int:
    """One kind in a process of its own; its exit code. inputs: 0 for as many as the time allows."""
    directory = corpus / kind.replace("/", "_")
    directory.mkdir(parents=True, exist_ok=True)
    write_files([*seeds_of(kind), *read_corpus(kind)], directory)
    code = _run(kind, seconds, inputs, directory) if seconds else 0
    if not inputs:
        command = [sys.executable, "-m", "tests.fuzz.minimise", kind, str(directory)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 600, check=False)
        except subprocess.TimeoutExpired:  # as above
            print(f"{kind}: its kept inputs stay: minimising them took more than {seconds + 600} s")
            return code or 1
        print(f"{kind}: {done.stdout[-4000:].strip()}", done.stderr[-2000:] if done.returncode else "")
        code = code or done.returncode
    return code


def _run(kind: str, seconds: int, inputs: int, directory: Path) -> int:
    command = [
        *(_same_addresses() if inputs else ()),
        *(sys.executable, "-m", "tests.fuzz.one", kind, str(directory)),
        *(f"-max_total_time={seconds}", f"-timeout={_SLOW_S}", f"-rss_limit_mb={_MEMORY_MIB}"),
        *("-max_len=65536", "-print_final_stats=1", f"-artifact_prefix={directory}/found-"),
        *((f"-runs={inputs + len(list(directory.iterdir()))}", "-seed=1") if inputs else ()),
    ]
    same = {"PYTHONHASHSEED": "1"} if inputs else {}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 120, check=False, env=os.environ | same
        )
    except subprocess.TimeoutExpired:  # also on a machine with much other work
        print(f"{kind}: did not end within {seconds + 120} s; it is ended, and the next kind begins")
        return 1
    runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    covered = [line for line in done.stderr.splitlines() if " cov: " in line]
    reached = covered[-1].split(" cov: ")[1].split()[0] if covered else "?"
    print(f"{kind}: {runs[0] if runs else '?'} inputs, {reached} edges reached, exit code {done.returncode}")
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-2000:], file=sys.stderr)
        for found in directory.glob("found-*"):
            print(f"{kind}: {found.name}: {found.read_bytes()[:_SHOWN_BYTES].hex()}")
    return done.returncode


def _same_addresses() -> tuple[str, ...]:
    """What a command begins with so that its addresses do not change; nothing where that is forbidden."""
    try:
        allowed = subprocess.run([*_SAME_ADDRESSES, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return _SAME_ADDRESSES if allowed else ()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="content kinds (default: all)")
    parser.add_argument("--seconds", type=int, default=600, help="for each kind (default: 600)")
    parser.add_argument("--inputs", type=int, default=0, help="for each kind, the same every time")
    parser.add_argument("--corpus", type=Path, help="directory to keep inputs in (default: a temporary one)")
    options = parser.parse_args()
    unknown = sorted(set(options.kinds) - set(KINDS))
    if unknown:
        parser.error(f"no seeds for {', '.join(unknown)}; known: {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory() as temporary:
        corpus = options.corpus or Path(temporary)
        codes = [fuzz(kind, options.seconds, options.inputs, corpus) for kind in options.kinds or KINDS]
    return 1 if any(codes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
