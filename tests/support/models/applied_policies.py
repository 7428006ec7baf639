"""Policies for `policyfs policy apply`: two sees nothing (HEAD), one directory (NARROW), or all (WIDE)."""

from __future__ import annotations

ONE, TWO = 10010, 10011
HEAD = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: applied}}
apps:
  one: {{uid: {ONE}}}
  two: {{uid: {TWO}}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}, paths: "/***"}}
"""
NARROW = HEAD + '  - {id: some, allow: [see, read], who: {app: two}, paths: "/Documents/***"}\n'
WIDE = HEAD + '  - {id: some, allow: [see, read], who: {app: two}, paths: "/***"}\n'
TESTS = """\
apiVersion: policyfs/v1
kind: PolicyTests
tests:
  - {id: no-music, app: two, operation: see, path: /Music/song.mp3, expect: {decision: deny}}
"""
