"""File handles and raw requests: packing and unpacking, without any mount."""

from __future__ import annotations

import struct
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policyfs.kernel.bridge import (
    FH_DIRECT_IO,
    FH_KEEP_CACHE,
    FH_NOFLUSH,
    FH_PASSTHROUGH,
    MAX_BACKING_ID,
    MAX_INDEX,
    RawRequest,
    counters,
    fh_index,
    open_reply,
    pack_fh,
)
from policyfs.kernel.protocol import Opcode

indexes = st.integers(0, MAX_INDEX)
passed = st.tuples(
    indexes, st.sampled_from([FH_PASSTHROUGH, FH_PASSTHROUGH | FH_NOFLUSH]), st.integers(1, MAX_BACKING_ID)
)
mediated = st.tuples(
    indexes, st.integers(0, FH_PASSTHROUGH - 1), st.just(0), st.integers(0, (1 << 24) - 1)
)
arguments = passed | mediated


@given(arguments)
def test_a_handle_is_64_bits_and_keeps_its_index(given_arguments):
    fh = pack_fh(*given_arguments)
    assert 0 <= fh < 1 << 64
    assert fh_index(fh) == given_arguments[0]
    assert bool(fh >> 63) == bool(given_arguments[1] & FH_PASSTHROUGH)


def test_a_writers_uid_changes_nothing_else_of_a_handle():
    """Of a uid above 2^24 only the lower bits count. Bit 55 alone is the bridge's own (_opens.c)."""
    plain = pack_fh(7, FH_KEEP_CACHE)
    for uid in (0, 1, 10010, (1 << 24) - 1, 1 << 24, (1 << 32) - 2):
        fh = pack_fh(7, FH_KEEP_CACHE, writer=uid)
        assert open_reply(fh)[8:] == open_reply(plain)[8:]
        assert (fh - plain) >> 31 == uid % (1 << 24)
        assert not fh >> 55 & 1


@given(arguments, arguments)
def test_different_arguments_give_different_handles(one, other):
    assume(one != other)
    assert pack_fh(*one) != pack_fh(*other)


@pytest.mark.parametrize(
    ("index", "flags", "backing_id"),
    [
        (-1, 0, 0),
        (MAX_INDEX + 1, 0, 0),
        (1, 256, 0),
        (1, -1, 0),
        (1, 0, 5),  # an id that nothing would use
        (1, FH_PASSTHROUGH, 0),
        (1, FH_PASSTHROUGH, MAX_BACKING_ID + 1),
        (1, FH_PASSTHROUGH | FH_KEEP_CACHE, 5),  # the kernel says EIO
        (1, FH_PASSTHROUGH | FH_DIRECT_IO, 5),  # mmap would show raw bytes all the same
    ],
)
def test_what_the_kernel_would_not_take_is_refused(index, flags, backing_id):
    with pytest.raises(ValueError, match=r"index|passthrough|flags"):
        pack_fh(index, flags, backing_id)


def test_raw_request_fields():
    header = struct.pack("=IIQQIIIHH", 48, 15, 1 << 63 | 7, 99, 1000, 1001, 4711, 0, 0)
    request = RawRequest(header + b"12345678")
    assert (request.length, request.opcode, request.unique, request.nodeid) == (48, 15, 1 << 63 | 7, 99)
    assert (request.uid, request.gid, request.pid, request.body) == (1000, 1001, 4711, b"12345678")


def test_counters_name_every_opcode_and_start_at_nothing():
    counts = counters()
    assert set(counts) == set(Opcode.__members__)
    assert set(counts.values()) == {0}


def test_the_daemon_loads_no_modules_for_the_version_of_pyfuse3():
    """importlib.metadata would load those for e-mail and ZIP files, too: 1.5 MiB in each daemon."""
    program = "import policyfs.kernel.bridge, sys; print(sorted({'email', 'zipfile'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert found.stdout == "[]\n"
