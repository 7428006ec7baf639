"""A month of a family's media on a signed and compressed trail, with the truth about it beside the trail.

The product's own journal writes the trail. The truth is counted from the requests themselves, not from lines.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.domain import Audit
from policyfs.journal.files.compression import compress
from policyfs.journal.files.policy_texts import policy_text
from policyfs.journal.files.segments import SegmentDirectory
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import iso_time
from tests.support.mount.trail import ROOMY, SECOND_NS, Clock, an_event

FIRST, SECOND = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
BEGIN_NS: Final = 1_772_323_200 * SECOND_NS
"""2026-03-01T00:00:00Z."""
DAY_NS: Final = 86_400 * SECOND_NS
POLICY: Final = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: family}
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
  sync: {uid: 10012}
  tidy: {uid: 10013}
rules:
  - {id: gallery-sees, allow: [see, read], who: {app: gallery}, paths: "/DCIM/***"}
  - {id: no-location, require: {redact: [location]}, who: {app: gallery}}
  - {id: camera-adds, allow: [see, create, write], who: {app: camera}, paths: "/DCIM/***"}
  - {id: sync-reads, allow: [see, read], who: {app: sync}, paths: "/***"}
  - {id: tidy-cleans, allow: [see, read, write, create, delete], who: {app: tidy}, paths: "/DCIM/***"}
  - {id: no-private, deny: [all], paths: "/Private/***"}
"""
STRICTER: Final = POLICY + b"""\
  - {id: keep-originals, deny: [write, delete], who: {app: tidy}, paths: "/DCIM/***"}
"""
_DIGEST: Final = hashlib.sha256(POLICY).hexdigest()
_UIDS: Final = {"camera": 10010, "gallery": 10011, "sync": 10012, "tidy": 10013, "stranger": 1500}
_MIB: Final = 1 << 20


class Household(NamedTuple):
    """The requests of the month, one event for each (also for those that the trail counts together)."""

    requests: list[Event]

    def count(self, **wanted: object) -> int:
        """Return how many requests have these values in these fields."""
        fields = wanted.items()
        return sum(all(getattr(one, name) == value for name, value in fields) for one in self.requests)


def write(root: Path, keys: Path, events: int, segment_bytes: int) -> Household:
    """Write a trail of about this number of requests below *root*. Return the truth."""
    requests: list[Event] = []
    with ExitStack() as stack:
        clocks = {name: Clock(BEGIN_NS) for name in (FIRST, SECOND)}
        journals = {
            name: stack.enter_context(closing(Journal(
                str(root / name), name, keep=0, clock_ns=clock, steady_ns=clock, limits=ROOMY,
                segment_bytes=segment_bytes, keys=KeyStore(keys),
            )))
            for name, clock in clocks.items()
        }  # fmt: skip
        for journal in journals.values():
            text = policy_text(_DIGEST, [("family.yaml", POLICY)])
            start = {"policy": _DIGEST, "cause": "command", "options": {"store": "/srv/media"}}
            journal.tell("mount", start, policy=text, previous="")
        for at, event in enumerate(_requests(events)):
            name = SECOND if event.app in {"camera", "sync"} else FIRST
            clocks[name].now_ns = event.time_ns
            journals[name].record(event, Audit.REQUIRED)
            requests.append(event)
            if at == events * 3 // 5:
                _lose(journals[name], event.time_ns)
            if at % 500 == 0:
                for journal in journals.values():
                    journal.flush()
        digest = hashlib.sha256(STRICTER).hexdigest()
        for journal, clock in zip(journals.values(), clocks.values(), strict=True):
            clock.now_ns = BEGIN_NS + 30 * DAY_NS
            change = {"result": "in force", "policy": digest, "previous": _DIGEST, "generation": 2}
            change |= {"cause": "command", "how": "policyfs reload"}
            text = policy_text(digest, [("family.yaml", STRICTER)])
            journal.tell("policy", change, policy=text, previous="")
    for name in clocks:
        with SegmentDirectory.at(root / name) as place:  # small ones, too: the sealer leaves them as they are
            for segment in place.names()[:-1]:
                compress(place.fd, segment, 1)
    return Household(requests)


def _lose(journal: Journal, time_ns: int) -> None:
    times = {"first": iso_time(time_ns - SECOND_NS), "last": iso_time(time_ns)}
    journal.tell("gap", {"dropped": 3, "refused": 2, "reason": "disk full", **times})


def _event(app: str, path: bytes, operation: str, rule: str, time_ns: int, **fields: object) -> Event:
    return an_event(
        path, app=app, uid=_UIDS[app], gid=_UIDS[app], exe=f"/usr/bin/{app}", operation=operation,
        syscall=operation, time_ns=time_ns, mount="/mnt/media", policy_digest=_DIGEST,
        rules=(rule,) if rule else (), io=fields.pop("io", ""), view=fields.pop("view", ""), **fields,
    )  # fmt: skip


def _requests(count: int) -> Iterator[Event]:
    """Yield the requests in the order of time."""
    draw, step = random.Random(7), 30 * DAY_NS // count
    at, incident = 0, False
    while at < count:
        now = BEGIN_NS + at * step
        if not incident and at >= count * 4 // 5:
            incident = True
            for event in _incident(now):
                yield event
                at += 1
            continue
        for event in _moment(draw, now, late=at > count * 7 // 10):
            yield event
            at += 1


def _moment(draw: random.Random, now: int, *, late: bool) -> Iterator[Event]:
    chance, number = draw.random(), draw.randrange(400)
    photo = b"/DCIM/2026/%d.jpg" % number if number else b"/DCIM/2026/beach.jpg"
    if chance < 0.4:
        yield _event(
            "gallery", photo, "open", "gallery-sees", now, kind="image/jpeg", io="mediated",
            view="redacted(location)", redacted=((412, 86),), handle=number,
        )  # fmt: skip
    elif chance < 0.6:
        place = b"/Documents/%d.pdf" % number if late and chance < 0.45 else photo
        yield _event("sync", place, "open", "sync-reads", now, io="passthrough", view="raw")
    elif chance < 0.65:
        yield _event("sync", photo, "open", "sync-reads", now, io="mediated", view="raw", kind="image/jpeg")
        read = draw.randrange(4 * _MIB)
        yield _event("sync", photo, "release", "", now + 1000, io="mediated", view="raw", bytes_read=read)
    elif chance < 0.75:
        new = b"/DCIM/new/%d.jpg" % now
        yield _event("camera", new, "create", "camera-adds", now)
        sizes = {"size_before": 0, "size_after": 2 * _MIB, "bytes_written": 2 * _MIB}
        yield _event("camera", new, "release", "", now + 1000, **sizes)
    elif chance < 0.85:
        yield _event("gallery", b"/DCIM/2026", "list", "gallery-sees", now)
    elif chance < 0.95:
        for repeat in range(3):
            time_ns = now + repeat * 1000
            path = b"/Private/%d.jpg" % (number % 5)
            yield _event("gallery", path, "open", "no-private", time_ns, decision="deny", errno=13)
    else:
        yield _event("stranger", b"/DCIM/2026", "list", "", now, decision="deny", errno=2)


def _incident(now: int) -> Iterator[Event]:
    old, new = b"/DCIM/2026/beach.jpg", b"/DCIM/old/beach.jpg"
    yield _event("tidy", old, "rename", "tidy-cleans", now, new_path=new)
    yield _event("tidy", new, "unlink", "tidy-cleans", now + 1000, size_before=3 * _MIB)
    yield _event("tidy", b"/DCIM/2026/lake.jpg", "unlink", "tidy-cleans", now + 2000, size_before=2 * _MIB)
    yield _event(
        "tidy", b"/DCIM/2026/wedding.jpg", "release", "", now + 3000, size_before=4 * _MIB,
        size_after=_MIB // 4, bytes_written=_MIB // 4,
    )  # fmt: skip
