"""The comparison of the answers to canaries (sample requests) with the answers of the policy."""

from __future__ import annotations

from policyfs.cli.common.live_mounts import part
from policyfs.cli.prove.canary_photo import photo, told
from policyfs.cli.prove.canary_requests import Answer
from policyfs.daemon.control.control import Json
from policyfs.errors import errno_name
from policyfs.policy.analysis.canaries import Canary, Sort


def wrong_with(canary: Canary, answer: Answer, *, posix: bool, reads: bool) -> str:
    """Return the fault of the answer to a canary, or an empty text if the answer is right by the policy.

    posix: True if the mount has --posix, so that the mode bits of the file may deny the request, too. reads:
    True if the canaries' files are photos, and their bytes were read.
    """
    if canary.sort is Sort.HIDING:
        if answer.listed:
            return "the directory lists the name, but the policy hides the name"
        if answer.errno != canary.errno and not (posix and answer.errno and not reads):
            return f"the answer was {_named(answer.errno)}, but the policy's answer is {_named(canary.errno)}"
        return ""
    if canary.sort is Sort.DENIAL:
        if not answer.errno:
            return "the mount allowed the request, but the policy denies it"
        if answer.errno != canary.errno and not posix:  # with --posix mode bits may deny, too
            return f"the answer was {_named(answer.errno)}, but the policy's answer is {_named(canary.errno)}"
        return ""
    if answer.errno:
        return (
            ""
            if posix and not reads
            else f"the answer was {_named(answer.errno)}, but the policy allows the request"
        )
    if not reads:
        return (
            ""
            if not canary.inode or answer.inode == canary.inode
            else "the mount shows another file of the store"
        )
    if canary.sort is Sort.PASSTHROUGH:
        return "" if answer.data == photo() else "the bytes differ from the bytes of the file"
    if len(answer.data) != len(photo()):
        return "the size differs from the size of the file"
    still = told(answer.data, canary.words)
    return f"the bytes still contain {', '.join(still)}, which the policy redacts" if still else ""


def not_passed(before: Json, after: Json) -> str:
    """Return the fault if files without any restriction were read without passthrough, or an empty text.
    before, after: the status of the mount before and after the reads."""
    passthrough = part(after, "passthrough")
    if not passthrough.get("enabled") or passthrough.get("refused"):
        return ""  # passthrough is off; `status` says why
    if part(after, "fuse").get("READ", 0) == part(before, "fuse").get("READ", 0):
        return ""
    return "passthrough is on, but the kernel asked the daemon for the bytes"


def _named(number: int) -> str:
    return errno_name(number) if number else "no error"
