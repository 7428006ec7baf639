"""Readers, queue and event loop together, on a device that is a socket: their C source without Python."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.machine.objects import build, options, text_of

HERE = Path(__file__).parent
MILLISECONDS = count(250, 60_000)
SOURCES = (
    "_avc.c", "_avc_directories.c", "_avc_table.c", "_changes.c", "_closes.c", "_events.c", "_faults.c",
    "_lanes.c", "_messages.c", "_opens.c", "_readers.c", "_saved_nodes.c", "_seats.c", "_store.c", "_tree.c",
    "_turns.c", "_writers.c", "_xattrs.c",
)  # fmt: skip
THREAD = "-fsanitize=thread"
SANITIZERS = {"thread": (THREAD,), "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover")}


def race(
    arena: Path, flags: tuple[str, ...], good: str = "", bad: str = ""
) -> subprocess.CompletedProcess[str]:
    """Compile the sources, one of them with *bad* in place of *good*, and run the race."""
    texts = [text_of(name) for name in SOURCES]
    if good:
        texts = [text.replace(good, bad) for text in texts]
    program = arena / "race"
    build(program, options(*flags), [*texts, (HERE / "readers_race.c").read_text(encoding="utf-8")], arena)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as store:
        return subprocess.run(
            [program, store, str(MILLISECONDS)], capture_output=True, text=True, timeout=150, check=False
        )


@pytest.mark.parametrize("flags", SANITIZERS.values(), ids=SANITIZERS)
def test_each_request_is_answered_once_and_in_order(tmp_path: Path, flags: tuple[str, ...]) -> None:
    done = race(tmp_path, flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        (
            "if (got >= 0 && avc_takes(buffer, (size_t)got)) {\n\t\tpthread_mutex_unlock(&lock);",
            "if (got >= 0) {\n\t\tpthread_mutex_unlock(&lock);\n\t\tusleep(buffer[4] == 18 ? 500 : 0);",
            "overtaken",
        ),
        ("\t\trefuse(fd, message, size);\n\ttell();", "\t\trefuse(fd, message, size);", "wake-up was lost"),
    ],
    ids=["order not kept", "event loop not told"],
)
def test_a_fault_is_found_out(tmp_path: Path, good: str, bad: str, fault: str) -> None:
    assert sum(text_of(name).count(good) for name in SOURCES) == 1
    done = race(tmp_path, (), good, bad)
    assert done.returncode == 1, done.stdout
    assert fault in done.stdout


LOOK = "cpu = processor_of(header.pid);"
TESTED_LOOK = "extern int look_at_caller(const struct wire_in_header *); cpu = look_at_caller(&header);"


def test_a_reader_looks_at_a_caller_only_before_the_answer(tmp_path: Path) -> None:
    """A caller who has the answer may end, and leave the last reference to its memory to the reader."""
    assert text_of("_readers.c").count(LOOK) == 1
    done = race(tmp_path, (), LOOK, TESTED_LOOK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 looks" not in done.stdout


REGISTERED = "epoll_ctl(readers.epoll, EPOLL_CTL_ADD, readers.fd, &event)"


def test_no_request_waits_for_ever_where_the_device_cannot_be_watched(tmp_path: Path) -> None:
    """epoll_ctl(2) may fail for want of memory, and the readers must not rest then."""
    assert text_of("_readers.c").count(REGISTERED) == 1
    failing = f"({{ static unsigned times; times++ % 2 ? {REGISTERED} : (errno = ENOMEM, -1); }})"
    done = race(tmp_path, (), REGISTERED, failing)
    assert done.returncode == 0, done.stdout + done.stderr


MADE = "(places[i].buffer = memory_new(readers.buffer_size, true)) == NULL"
READ = "got = read(fd, buffer, size);\n\t\terror = errno;"
FAILING_READ = READ.replace("read(", "times++ % 4 == 0 ? (errno = EFAULT, -1) : read(")
FAILING_READS = READ.replace("read(", "times++ % 400 < 200 ? (errno = ENOMEM, -1) : read(")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (MADE, f"({{ static unsigned times; times++ % 8 != 7 || {MADE}; }})"),
        (READ, f"static unsigned times;\n\t\t{FAILING_READ}"),
        (READ, f"static unsigned times;\n\t\t{FAILING_READS}"),
    ],
    ids=["no buffer", "a read fails", "many reads fail"],
)
def test_the_event_loop_sleeps_though_memory_was_short(tmp_path: Path, good: str, bad: str) -> None:
    """Only the end of the session keeps the event loop awake. The readers begin, and go on, later."""
    assert sum(text_of(name).count(good) for name in SOURCES) == 1
    done = race(tmp_path, (), good, bad)
    assert done.returncode == 0, done.stdout + done.stderr
