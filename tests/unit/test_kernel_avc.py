"""The table of access vectors by itself: its C source under threads, with and without sanitizers."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.machine.counts import count, first
from tests.support.machine.objects import build, options, text_of

PARTS = (
    "_avc.c", "_changes.c", "_avc_directories.c", "_avc_table.c", "_closes.c", "_events.c", "_messages.c",
    "_opens.c", "_saved_nodes.c", "_seats.c", "_store.c", "_tree.c", "_writers.c", "_xattrs.c",
)  # fmt: skip
RACE = Path(__file__).with_name("avc_race.c")
MILLISECONDS = count(250, 60_000)
LEAST_CHANGES = count(2_000, 8_000)
"""On a busy machine they take longer than MILLISECONDS."""
RACED = "-fsanitize=thread"
UNGRANTED = "without a grant|taken over|an event of another open"
"""The race's messages about an open that nobody was granted."""
SANITIZERS = {
    "thread": (RACED,),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover"),
    "plain": (),
}


def race(
    arena: Path, flags: tuple[str, ...], source: str | None = None, name: str = "_avc.c"
) -> subprocess.CompletedProcess[str]:
    """Compile the table with the race, and run it on a file system with birth times. source: of one file."""
    texts = {part: text_of(part) for part in PARTS}
    texts[RACE.name] = RACE.read_text(encoding="utf-8")
    if source is not None:
        texts[name] = source
    program = arena / "race"
    build(program, options(*flags), [*texts.values()], arena)
    with tempfile.TemporaryDirectory(dir=arena) as files:  # a tmpfs keeps no absent names
        return subprocess.run(
            [program, files, str(MILLISECONDS), str(LEAST_CHANGES)],
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip


def source_with(good: str) -> tuple[str, str]:
    """The file that has this text, once, and its source."""
    texts = {name: text_of(name) for name in PARTS}
    (name,) = (name for name, text in texts.items() if good in text)
    assert texts[name].count(good) == 1, "the source has changed: plant the fault elsewhere"
    return name, texts[name]


def plant(arena: Path, good: str, bad: str, fault: str) -> None:
    """Plant a fault in one file: the race must end with a message that matches *fault*."""
    name, source = source_with(good)
    done = race(arena, (), source.replace(good, bad), name)
    assert done.returncode == 1, done.stdout
    assert re.search(fault, done.stdout), done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        SANITIZERS["thread"], pytest.param(SANITIZERS["address"], marks=pytest.mark.night),
        pytest.param(SANITIZERS["plain"], marks=pytest.mark.soak),
    ],
    ids=SANITIZERS,
)
def test_readers_and_changes_do_not_get_in_each_others_way(tmp_path: Path, flags: tuple[str, ...]) -> None:
    done = race(tmp_path, flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr


def test_a_drop_without_its_locks_is_found_out(tmp_path: Path) -> None:
    source = text_of("_avc_table.c")
    start, end = source.index("uint64_t avc_drop("), source.index("void avc_drop_all(")
    weaker = source[start:end].replace("\tavc_lock_all();\n", "").replace("\tavc_unlock_all();\n", "")
    assert weaker != source[start:end]
    done = race(tmp_path, (RACED,), source[:start] + weaker + source[end:], "_avc_table.c")
    assert done.returncode != 0
    assert "data race" in done.stderr or "after a drop" in done.stdout or "use" in done.stderr


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    first(1, [
        ("now.stx_ino != node->ino || avc_birth_ns(&now) != node->birth_ns", "false",
         "another inode|another handle|another open"),
        ("node->grants[i].bits != 0 && node->grants[i].uid == uid)\n\t\t\treturn",
         "node->grants[i].bits != 0 && uid != 0)\n\t\t\treturn", "without a grant"),
        ("avc_reply(seat, device, header->unique, 0, &out, sizeof(out)))\n\t\t\tatomic_fetch_sub",
         "avc_reply(seat, device, header->unique, 0, &out, sizeof(out)) || true)\n\t\t\tatomic_fetch_sub",
         "lost or counted twice"),
        (' || strcmp(name, "security.capability") != 0', "", "without a grant"),
        ("ENODATA, NULL, 0", "0, NULL, 0", "another error"),
        ("most_s = node->kept_ms / 1000;", "most_s = 9000;", "another time"),
        ("seconds < most_s ? seconds : most_s;", "seconds + 46;", "another time"),
        (" && strnlen((const char *)body, size) == size - 1", "", "without a grant|overflow"),
    ]),
    ids=["identity unchecked", "uid unchecked", "uncounted", "any attribute", "no error", "always kept",
         "kept for long", "half a name"],
)  # fmt: skip
def test_a_fault_is_found_out(tmp_path: Path, good: str, bad: str, fault: str) -> None:
    plant(tmp_path, good, bad, fault)


def test_a_request_that_nobody_knows_is_left_to_python_in_two_places(tmp_path: Path) -> None:
    source = text_of("_avc.c")
    weaker = source.replace("return header.opcode == OPCODE_LOOKUP ||", "return true ||")
    assert weaker != source
    done = race(tmp_path, (), weaker)
    assert done.returncode == 0, done.stdout + done.stderr
    weakest = weaker.replace("\tcase OPCODE_ACCESS:\n\t\tif", "\tdefault:\n\t\tif").replace(
        "\tdefault:\n\t\treturn false;\n", ""
    )
    done = race(tmp_path, (), weakest)
    assert done.returncode == 1
    assert "an unknown request is answered" in done.stdout


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    first(1, [
        ("if (directory->seers[i] == uid)", "if (uid != 0)", "without a grant"),
        ("\tdirectory->seer_count = 0;\n", "", "absence after a drop"),
        ("\tif (directory != NULL)\n\t\tclose_one(directory);", "\t(void)directory;",
         "after a drop"),
        (" || !(known_absent || is_absent(directory, is_loop, name))", "",
         "another error|after a drop"),
    ]),
    ids=["uid unchecked", "kept for another directory", "left, and kept", "store not asked"],
)  # fmt: skip
def test_a_fault_of_absent_names_is_found_out(tmp_path: Path, good: str, bad: str, fault: str) -> None:
    plant(tmp_path, good, bad, fault)


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    first(1, [
        ("return grant->gid == header->gid ? grant : NULL", "return grant", UNGRANTED),
        (" && grant->flags == (in->flags & ~AVC_HARMLESS)", "", UNGRANTED),
        (" || in->open_flags & ~(writes(in->flags) ? OPEN_KILL_SUIDGID : 0)", "", UNGRANTED),
        ("opens.outlive ? slot->opened.fh | FH_TAKEN : 0", "0", "would be lost"),
        ("\tnode->backing_id = 0;\n", "", "no room"),
        ("\t\tnode->grants[i].bits &= ~(AVC_OPEN | AVC_LIST | AVC_RECORDED);\n\tnode->backing_id = 0;",
         "\t\t;\n\t(void)node;", "no room|an open after its end|an event is missing after the end"),
        ("~(AVC_OPEN | AVC_LIST | AVC_RECORDED)", "~(AVC_OPEN | AVC_RECORDED)",
         "an open after its end|an event is missing after the end"),
        (" && grant->uid == header->uid)", ")", UNGRANTED),
        (" ||\n\t    !avc_ask_store(node, false, &slot->opened.attr))\n", ")\n",
         "another handle|another open"),
        ("grant == NULL || size != sizeof(struct wire_open_in)", "grant == NULL", UNGRANTED),
        ("\tatomic_store(&slot->fh, opens.outlive ? slot->opened.fh | FH_TAKEN : 0);\n", "", "left over"),
        ("++slot->serial", "slot->serial", "taken over"),
        ("\tif (atomic_load(&node->handles) > 0)\n\t\ttake_those(",
         "\tif (!ending && atomic_load(&node->handles) > 0)\n\t\ttake_those(", "left over"),
    ]),
    ids=["any gid", "any flags", "set-id bits", "not saved", "id kept", "grant kept",
         "grant of a directory kept", "any uid", "a directory unchecked in the store", "a request cut short",
         "slot kept", "number used again", "handles not taken over"],
)  # fmt: skip
def test_a_fault_of_the_opens_is_found_out(tmp_path: Path, good: str, bad: str, fault: str) -> None:
    plant(tmp_path, good, bad, fault)


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    first(1, [
        ("atomic_store_explicit(&ring->taken, taken, memory_order_release);", "",
         "two events|out of order|missing"),
        ("put - atomic_load_explicit(&ring->taken, memory_order_acquire) >= RING ||", "",
         "missing|lost|another open|out of order|came before"),
        ("event->time_ns = avc_clock_ns(CLOCK_REALTIME);", "event->time_ns = -(int64_t)put;",
         "out of order"),
        (" && ring->events[taken % RING].number < end", "", "two readers are out of order"),
        ("program->pid == pid)", "pid != 0)", "another program"),
        (">= atomic_load(&enough)", "> atomic_load(&enough)", "the bell"),
        ("early ? 1 : ENOUGH", "ENOUGH", "the bell does not ring"),
        ("early && rings", "false && rings", "the bell does not ring"),
        ("\tatomic_exchange(&rung, false);\n", "", "the bell"),
        ("\t\tevents_put(number); ", "\t\t", "missing|lost|came before"),
        ("bits & AVC_RECORDED && ", "", "another open|nobody asked"),
    ]),
    ids=["taken twice", "overwritten", "out of order", "of readers in turn", "program of another process",
         "a late bell", "a late bell during a rest", "events before a rest",
         "a bell that rings once", "never published", "of all opens"],
)  # fmt: skip
def test_a_fault_of_the_events_is_found_out(tmp_path: Path, good: str, bad: str, fault: str) -> None:
    plant(tmp_path, good, bad, fault)


@pytest.mark.soak
def test_an_event_that_is_published_after_the_reply_is_found_out(tmp_path: Path) -> None:
    source = text_of("_opens.c")
    early = "\t\tevents_put(number);"
    late = "\treturn true;\n}\n\nbool opens_answer_open("
    assert source.count(early) == source.count(late) == 1
    put = "\tif (event != NULL) {\n\t\textern int usleep(unsigned);\n\t\tusleep(200);\n\t" + early + "\n\t}\n"
    later = source.replace(early, "\t\t;").replace(late, put + late)
    done = race(tmp_path, (), later, "_opens.c")
    assert done.returncode == 1, done.stdout
    assert "came before" in done.stdout


@pytest.mark.soak
def test_opens_that_end_without_locks_are_found_out(tmp_path: Path) -> None:
    source = text_of("_opens.c")
    weaker = source.replace("\tavc_lock_all();\n", "").replace("\tavc_unlock_all();\n", "")
    assert weaker != source
    done = race(tmp_path, (RACED,), weaker, "_opens.c")
    assert done.returncode != 0
    assert "data race" in done.stderr or done.stdout


@pytest.mark.parametrize("flags", [" | AT_STATX_DONT_SYNC", ""], ids=["mended", "as stat"])
def test_no_answer_waits_for_a_file_system_on_top_of_a_name(tmp_path: Path, flags: str) -> None:
    """The event loop waits for the reader that answers, and all apps wait for the event loop."""
    texts = [text_of(part) for part in PARTS]
    assert sum(text.count(" | AT_STATX_DONT_SYNC") for text in texts) == 1
    texts = [text.replace(" | AT_STATX_DONT_SYNC", flags) for text in texts]
    program = tmp_path / "mounted"
    source = Path(__file__).with_name("avc_mounted.c").read_text(encoding="utf-8")
    build(program, options(), [*texts, source], tmp_path)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as store:
        done = subprocess.run([program, store], timeout=30, check=False)
        subprocess.run(["umount", "-l", f"{store}/d"], check=False, capture_output=True)
    assert done.returncode == (0 if flags else -signal.SIGALRM)
