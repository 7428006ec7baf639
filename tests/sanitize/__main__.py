"""`make sanitize`: the tests of what is in C with AddressSanitizer and UndefinedBehaviorSanitizer in it.

    python -m tests.sanitize [test files ...]

All C code is built with both in a private copy of the checkout, and tests run there. (In tests of mounts
the C code of redaction is plain.) Each daemon, and each process that has such code loaded, ends with a
report at the first bad access or undefined behaviour, and each daemon looks for leaks when it ends.
Python's own allocator is switched off, so that its objects are seen, too. First faults are planted in a
copy of the C source, each in its own build: if they are not found nothing else is believed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

CHECKOUT: Final = Path(__file__).resolve().parents[2]
FLAGS: Final = "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
LEFT_OUT: Final = shutil.ignore_patterns(".*", "build", "*.so", "__pycache__")
TESTS: Final = (
    "tests/mount/test_kernel_*.py", "tests/mount/test_ops_*.py", "tests/mount/test_passthrough.py",
    "tests/mount/test_locks.py", "tests/attack/test_beside_the_main_road.py",
    "tests/mount/test_vectors.py", "tests/attack/test_vectors.py", "tests/mount/test_open_vectors.py",
    "tests/mount/test_raw_*.py",
    "tests/mount/test_open_vectors_of_directories.py",
    "tests/unit/test_redact_bitstreams_heads.py", "tests/unit/test_redact_bitstreams_frame_table.py",
    "tests/unit/test_redact_jpeg_scan.py", "tests/unit/test_redact_jpeg_markers.py",
    "tests/unit/test_redact_isobmff_stbl.py", "tests/unit/test_redact_isobmff_mp4.py",
)  # fmt: skip
DEADLINE_S: Final = 3600.0
FOUND: Final = 99
"""The exit code of a process that the sanitizers ended."""

SUPPRESSIONS: Final = """\
# Made once, when a module or a policy is loaded or the session begins, and kept to the end.
leak:_cffi_backend
leak:_pydantic_core
leak:fuse_opt_add_arg
leak:libmagic
"""


class Fault(NamedTuple):
    """A fault to plant in a C file: this instead of that. test: what walks into it. report: what is said."""

    file: str
    good: str
    bad: str
    test: str
    report: str


FAULTS: Final = (
    Fault(
        "kernel/device/_device.c",
        "unsigned char last[LAST_CAPACITY];",
        "unsigned char last[16];",
        "tests/mount/test_kernel_operations.py::test_handlers_answer_and_refuse",
        r"(global-buffer-overflow|runtime error)",
    ),
    Fault(
        "kernel/device/_operations.c",
        "\tPy_XDECREF(result);\n\tPy_DECREF(pending);\n",
        "\tPy_XDECREF(result);\n",
        "tests/mount/test_ops_extra.py::test_space_is_given_back[passthrough on ext4]",
        r"detected memory leaks",
    ),
    Fault(
        "redact/bitstreams/_heads.c",
        "PyMem_Calloc(count ? count : 1, sizeof(*frames))",
        "PyMem_Calloc(1, sizeof(*frames))",
        "tests/unit/test_redact_bitstreams_heads.py::test_frames_are_sorted",
        r"heap-buffer-overflow",
    ),
    Fault(
        "redact/isobmff/_stbl.c",
        "samples && *at < sizes->count",
        "samples && *at <= sizes->count",
        "tests/unit/test_redact_isobmff_stbl.py::test_ranges_by_listed_sizes_are_those_of_python",
        r"heap-buffer-overflow",
    ),
)


class Sanitized:
    """A private copy of the checkout with a sanitized bridge in it."""

    def __init__(self, fault: Fault | None = None) -> None:
        """Copies and builds. Raises CalledProcessError if it does not compile."""
        self.directory = Path(tempfile.mkdtemp(prefix="policyfs-sanitize-"))
        self.directory.chmod(0o711)
        self.copy = self.directory / "checkout"
        shutil.copytree(CHECKOUT, self.copy, ignore=LEFT_OUT)
        self.reports = self.directory / "reports"
        self.reports.mkdir()
        self.reports.chmod(0o777)  # plain uids report, too
        (self.directory / "suppressions").write_text(SUPPRESSIONS, encoding="utf-8")
        if fault is not None:
            path = self.copy / "policyfs" / fault.file
            source = path.read_text(encoding="utf-8")
            assert source.count(fault.good) == 1, f"{fault.file} has changed: plant the fault elsewhere"
            path.write_text(source.replace(fault.good, fault.bad), encoding="utf-8")
        self._build()

    def _build(self) -> None:
        environment = os.environ | {"CFLAGS": f"-O1 -g -fno-omit-frame-pointer {FLAGS}", "LDFLAGS": FLAGS}
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(
            [*command, "--build-temp", str(self.directory / "build")],
            cwd=self.copy, env=environment, check=True, timeout=120, capture_output=True,
        )  # fmt: skip

    def run(self, tests: Sequence[str]) -> int:
        """pytest's exit code; of the tests of mounts if those without have passed."""
        units = [test for test in tests if test.startswith("tests/unit/")]
        mounts = [test for test in tests if test not in units]
        code = self._run(units) if units else 0
        if code or not mounts:
            return code
        self._let_workers_start()
        return self._run(mounts)

    def _let_workers_start(self) -> None:
        """Put the plain C code of redaction into the copy. A worker starts without our environment, so the
        sanitizers' library would not be the first in it."""
        for path in (CHECKOUT / "policyfs/redact").rglob("*.so"):
            shutil.copy(path, self.copy / path.relative_to(CHECKOUT))

    def _run(self, tests: Sequence[str]) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=600", *tests],
            cwd=self.copy, env=self._environment(), timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        return done.returncode

    def _environment(self) -> dict[str, str]:
        library = subprocess.run(
            ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
        options = {
            "exitcode": FOUND, "log_path": self.reports / "report",
            "detect_leaks": 1, "leak_check_at_exit": 0,  # but in daemons: see daemon.py
            # The libasan of GCC 12 looks before each thread-local block of a loaded library for a header that
            # old versions of glibc wrote. If the block begins 16 bytes into a page, libasan takes the words
            # there for this header. The search for leaks then reads unmapped memory, and ends with "Tracer
            # caught signal 11" (google/sanitizers issue 1322). Each allocation before the block can move it:
            # any change of the code can bring this crash or take it away. With 0, libasan does not look.
            # No leak is hidden by this: the search begins in fewer places. No memory that only such a block
            # points to is reported: the search also begins in all memory that the loader allocates.
            "intercept_tls_get_addr": 0,
        }  # fmt: skip
        return os.environ | {
            "LD_PRELOAD": library,
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(self.copy),
            "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in options.items()),
            "LSAN_OPTIONS": f"suppressions={self.directory / 'suppressions'}:print_suppressions=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "POLICYFS_TEST_DAEMON": "tests.sanitize.daemon",
            "POLICYFS_TEST_PATIENCE": "6",
        }

    def found(self) -> str:
        """All reports, empty if there are none."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.reports.iterdir()))

    def close(self) -> None:
        """Remove the copy."""
        shutil.rmtree(self.directory, ignore_errors=True)


def faults_are_found() -> bool:
    """Plants each fault and walks into it."""
    for fault in FAULTS:
        sanitized = Sanitized(fault)
        try:
            print(f"planted in {fault.file}: {fault.bad.strip()}", flush=True)
            code, report = sanitized.run([fault.test]), sanitized.found()
        finally:
            sanitized.close()
        if code == 0 or not re.search(fault.report, report):
            print(f"not found (pytest said {code}):\n{report}")
            return False
        print(f"found, as it must be: {next(re.finditer(r'SUMMARY.*|runtime error.*', report)).group()}")
    return True


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 if the planted faults were found, and nothing else was."""
    if not arguments and not faults_are_found():
        return 1
    sanitized = Sanitized()
    try:
        names = [str(path.relative_to(CHECKOUT)) for pattern in TESTS for path in CHECKOUT.glob(pattern)]
        code = sanitized.run(list(arguments) or sorted(names))
        report = sanitized.found()
    finally:
        sanitized.close()
    print(report or "no finding, no leak")
    return 1 if code or report else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
