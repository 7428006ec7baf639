"""Sentences for people about the journal's own records, such as ``mount`` or ``close`` (pure)."""

from __future__ import annotations

from typing import Final

from policyfs.trail.chain.verification import describe_trouble
from policyfs.trail.lines.record import Fields, Record
from policyfs.trail.lines.table import shown
from policyfs.trail.query.summary import TROUBLE

_UNDONE: Final = {
    "undo": "undid changes of", "restore": "brought back a file of", "drop": "dropped what was kept of",
}  # fmt: skip


def describe(record: Record) -> str:
    """Return a sentence about one of the journal's own records (a record that is no event)."""
    fields = record.fields
    if record.kind in TROUBLE:
        return shown(describe_trouble(record))
    if record.kind == "header":
        return f"segment {shown(str(fields.get('segment')))} begins"
    if record.kind == "pruned":
        names = fields.get("segments")
        return f"rotation removed {len(names) if isinstance(names, list) else '?'} segments"
    if record.kind == "others":
        chains = fields.get("chains")
        count = len(chains) if isinstance(chains, dict) else "?"
        return f"recorded the ends of {count} other chains at this trail root"
    if record.kind in {"close", "detached"}:
        return _ended(record)
    if record.kind in {"mount", "failed", "policy"}:
        return _of_the_mount(record)
    if record.kind == "quarantine":
        return _of_the_quarantine(record)
    if record.kind == "brake":
        return _of_the_brake(record)
    if record.kind == "undo":
        what = _UNDONE.get(str(fields.get("done")), "changed what is kept of")
        return f"{what} {shown(str(fields.get('app')))} in {shown(str(fields.get('store')))}: {_by(fields)}"
    if record.kind == "owners":
        return f"owners in {shown(str(fields.get('store')))} changed: {_by(fields)}"
    if record.kind == "proof":
        return _of_the_proof(record)
    sentences = {
        "resume": "recording goes on after a restart",
        "sealed": f"sealed {shown(str(fields.get('segment')))} to seq {shown(str(fields.get('last_seq')))}",
        "hold": f"hold {shown(str(fields.get('name')))}: {shown(str(fields.get('done')))}, {_by(fields)}",
        "stale_handles": f"{shown(str(fields.get('count')))} files stay open that the new policy would not"
        " open in this way",
        "killed": f"killed {_process(fields)}: {shown(str(fields.get('reason')))}",
        "worker": f"workers were lost: {shown(str(fields.get('lost')))}: {shown(str(fields.get('reason')))}",
        "clock": f"the clock went back by {shown(str(fields.get('seconds')))} s",
    }
    return sentences.get(record.kind, f"record of unknown type {shown(record.kind)}")


def _ended(record: Record) -> str:
    fields = record.fields
    what = "recording ended" if record.kind == "close" else "unmounted while in use"
    return what if "cause" not in fields else f"{what}: {_by(fields)}"


def _of_the_mount(record: Record) -> str:
    fields = record.fields
    digests = {name: shown(str(fields.get(name, "?"))[:16]) for name in ("policy", "previous", "refused")}
    reason = shown(" ".join(str(fields.get("reason", "")).split()))
    if record.kind == "mount":
        if "takeovers" in fields:
            eio = f"; EIO for {fields['eio']} requests that may have killed it" if "eio" in fields else ""
            policy = digests["policy"]
            if "upgraded_from" in fields:
                code = shown(str(fields["upgraded_from"]))
                return f"upgraded in use from code {code}, with policy {policy}{eio}: {_by(fields)}"
            return f"the daemon was killed, and another one has taken over, with policy {policy}{eio}"
        return f"mounted with policy {digests['policy']}: {_by(fields)}"
    if record.kind == "failed":
        return f"did not mount: {reason}: {_by(fields)}"
    if fields.get("result") == "refused":
        return f"policy {digests['refused']} refused, {digests['policy']} stays: {_by(fields)}: {reason}"
    return f"policy {digests['policy']} in force in place of {digests['previous']}: {_by(fields)}"


def _of_the_quarantine(record: Record) -> str:
    fields = record.fields
    what = "dropped" if fields.get("done") == "drop" else "released"
    to = f" to {shown(str(fields['to']))}" if "to" in fields else ""
    name, path = shown(str(fields.get("id", "?"))), shown(str(fields.get("path", "?")))
    return f"refused file {name} ({path}) {what}{to}: {_by(fields)}"


def _of_the_brake(record: Record) -> str:
    fields = record.fields
    names = ("app", "rule", "changes", "within_s", "path", "uid")
    app, rule, changes, within_s, path, uid = (shown(str(fields.get(name, "?"))) for name in names)
    if fields.get("done") == "release":
        return f"the brake of {app} released: {_by(fields)}"
    what = f"more than {changes} files in {within_s} s (rule {rule})"
    return f"the brake of {app} is on: {what}, at {path} by uid {uid}"


def _of_the_proof(record: Record) -> str:
    fields = record.fields
    if fields.get("result") != "held":
        return shown(" ".join(str(fields.get("reason", "?")).split()))
    counts = fields.get("canaries")
    told = ", ".join(f"{name} {count}" for name, count in counts.items()) if isinstance(counts, dict) else "?"
    return f"all sample requests of `policyfs prove` got the right answers: {shown(told)}"


def _process(fields: Fields) -> str:
    names = ("exe", "pid", "uid", "blocked_s")
    exe, pid, uid, blocked_s = (shown(str(fields.get(name, "?"))) for name in names)
    return f"{exe or '?'} (pid {pid}, uid {uid}) after {blocked_s} s"


def _by(fields: Fields) -> str:
    """Return a text with the cause of a recorded change and, if known, the process that made the change."""
    names = ("cause", "how", "exe", "pid", "uid", "login")
    cause, how, exe, pid, uid, login = (shown(str(fields.get(name, "?"))) for name in names)
    what = how if cause == "command" else f"{cause}, {how}"
    logged_in = f", logged in as uid {login}" if "login" in fields and login != uid else ""
    return what + (f", by {exe or '?'} (pid {pid}, uid {uid}{logged_in})" if "pid" in fields else "")
