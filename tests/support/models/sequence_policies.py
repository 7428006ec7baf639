"""Policies for random sequences of calls: what each denies, hides, requires and hangs on differs.

The sequences run in directories of any name, so that every path here begins with it as `*`.
"""

from __future__ import annotations

from typing import Final

ONE, TWO, STRANGER = UIDS = (10031, 10032, 10033)
APPS: Final = {ONE: "one", TWO: "two"}

_HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: sequences}}
apps:
  one: {{uid: {ONE}}}
  two: {{uid: {TWO}, grants: [g]}}
defaults: {{audit: off, audit_denied: off}}
rules:
"""

_RULES: Final = """\
  - {id: all, allow: [all], who: {app: any}}
  - {id: look, allow: [see, read], who: {app: stranger}, paths: ["/*/two/***"]}

  - {id: all, allow: [all], who: {app: any}}
  - {id: hide, deny: [all], who: {app: two}, paths: ["/*/one/***"], errno: ENOENT}
  - {id: names, allow: [see], who: {app: stranger}}

  - {id: look, allow: [see, read]}
  - {id: own, allow: [all], when: {owner: self}}

  - {id: all, allow: [all], who: {app: any}}
  - {id: places, require: {redact: location}, who: {not: {grant: g}}, unless: {owner: self}}
  - {id: look, allow: [see, read]}

  - {id: all, allow: [all], who: {app: any}}
  - {id: places, require: {redact: location}, paths: ["/*/one/***"], raw_types: [text/plain]}

  - {id: all, allow: [all]}
  - {id: kinds, require: {content: [image/jpeg]}, paths: ["/*/two/***"]}

  - {id: all, allow: [all], who: {app: any}}
  - {id: kinds, require: {content: ["image/*", "text/*"]}}
  - {id: places, require: {redact: location}, who: {app: [one, stranger]}, unless: {owner: self}}
  - {id: look, allow: [see, read], who: {app: stranger}, paths: ["/*/*"]}

  - {id: all, allow: [all], who: {app: any}}
  - {id: fixed, deny: [write, create, delete, attr], paths: ["/*/one/**"], errno: EROFS}
  - {id: look, allow: [see, read], who: {app: stranger}}

  - {id: own, allow: [all], when: {owner: self}}
  - {id: ways, allow: [see], when: {type: [inode/directory]}}

  - {id: home, allow: [all], paths: ["/*/{app}/***"]}
  - {id: look, allow: [see, read]}
  - {id: kept, deny: [delete], paths: ["/*/**/b"], errno: EPERM}

  - {id: make, allow: [all], who: {app: two}}
  - {id: pictures, allow: [see, read], when: {type: ["image/*", "inode/*"]}}

  - {id: all, allow: [all], who: {app: any}}
  - {id: shy, deny: [all], who: {app: one}, when: {owner: two}, errno: ENOENT}
  - {id: look, allow: [see, read, delete], who: {app: stranger}}

  - {id: see, allow: [see]}
  - {id: change, allow: [write, create, delete, attr], who: {app: any}}
  - {id: some, allow: [read], paths: ["/*/one/***", "/*/a"]}

  - {id: all, allow: [all]}

  - {id: all, allow: [all], paths: ["/*/***"]}
  - {id: no, deny: [all], paths: ["/*/two/a"]}
  - {id: nor, deny: [see], who: {app: stranger}, paths: ["/*/*/b"]}
"""

POLICIES: Final = tuple(_HEAD + rules for rules in _RULES.split("\n\n"))
