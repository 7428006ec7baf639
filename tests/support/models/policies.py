"""Engines from a few lines of YAML, for tests of decisions."""

from __future__ import annotations

import textwrap

from policyfs.domain import Decision, Facts, FileType, Op, Principal
from policyfs.policy.decide import REMEMBERED, End, Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy

HEAD = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: test}
"""

APPS = """\
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
  maps: {uid: 10012, grants: [media.location]}
"""

FAMILY = """\
apps:
  camera:  {uid: 10010}
  gallery: {uid: 10011}
  maps:    {uid: 10012, grants: [media.location]}
  backup:  {uid: 10020, grants: [manage, media.location]}
sets:
  photos: [image/jpeg, image/heic, image/png, image/webp, image/tiff]
rules:
  - id: media.read
    allow: [see, read]
    who: {app: [camera, gallery, maps]}
    paths: ["/DCIM/**", "/Pictures/**"]
  - id: media.own
    allow: [see, read, write, create, delete, attr]
    who: {app: camera}
    paths: ["/DCIM/**"]
    when: {owner: self}
  - id: media.types
    require: {content: "@photos"}
    paths: ["/DCIM/**"]
  - id: media.no-location
    require: {redact: [location]}
    who: {not: {grant: media.location}}
    unless: {owner: self}
    raw_types: [text/csv]
    audit: required
  - id: app.private
    deny: [all]
    who: {not: {grant: manage}}
    paths: ["/Android/{data,obb}/*/***"]
    unless: {path: "/Android/{data,obb}/{app}/***"}
    errno: ENOENT
  - id: backup.all
    allow: [see, read]
    who: {grant: manage}
    paths: ["/**"]
"""
"""The policy of docs/architecture.md."""

FILE, DIRECTORY, SYMLINK = FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK
NOBODYS = Facts("image/jpeg", "none")


def engine_of(text: str, *, apps: str = APPS, monitor: bool = False, remembered: int = REMEMBERED) -> Engine:
    """The engine of a policy; ``text`` has its rules, or is whole but for the head."""
    body = textwrap.dedent(text)
    if "rules:" not in body:
        body = apps + "rules:\n" + textwrap.indent(body, "  ")
    policy = parse_policy([SourceText("test.yaml", (HEAD + body).encode())])
    return compile_policy(policy, monitor=monitor, remembered=remembered)


class Asked:
    """An engine with its callers by name; ``stranger`` and uids too."""

    def __init__(
        self, text: str, *, apps: str = APPS, monitor: bool = False, remembered: int = REMEMBERED
    ) -> None:
        self.engine = engine_of(text, apps=apps, monitor=monitor, remembered=remembered)

    def who(self, name: str | int) -> Principal:
        if isinstance(name, int):
            return self.engine.principal(name)
        if name == "stranger":
            return self.engine.principal(4242)
        uids = {app.name: app.uids[0][0] for app in self.engine.policy.apps if app.uids}
        return self.engine.principal(uids[name])

    def ask(
        self, name: str | int, ops: Op, path: str, ftype: FileType = FILE, facts: Facts = NOBODYS
    ) -> Decision:
        return self.engine.decide(self.who(name), ops, self.engine.state_of(path.encode()), ftype, facts)

    def code(
        self, name: str | int, ops: Op, path: str, ftype: FileType = FILE, facts: Facts = NOBODYS
    ) -> int:
        """The errno; 0: allowed."""
        return self.ask(name, ops, path, ftype, facts).errno

    def end(self, path: str, ftype: FileType = FILE, facts: Facts = NOBODYS) -> End:
        return End(self.engine.state_of(path.encode()), ftype, facts)

    def rename(
        self,
        name: str,
        old: str,
        new: str,
        ftype: FileType = FILE,
        facts: Facts = NOBODYS,
        replaced: Facts | None = None,
        **more: bool,
    ) -> int:
        there = None if replaced is None else self.end(new, ftype, replaced)
        exchange = more.pop("exchange", False)
        ends = (self.end(old, ftype, facts), self.end(new, ftype, facts))
        return self.engine.rename(self.who(name), *ends, there, exchange, **more).errno

    def link(self, name: str, old: str, new: str, facts: Facts = NOBODYS) -> int:
        return self.engine.link(self.who(name), self.end(old, FILE, facts), self.end(new, FILE, facts)).errno
