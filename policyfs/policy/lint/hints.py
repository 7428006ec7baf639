"""Findings that `policy check` shows, too: from decisions on sample paths, made from the rules' globs."""

from __future__ import annotations

from collections.abc import Iterator

from policyfs.policy.decide import Engine
from policyfs.policy.lint.findings import Finding, on_app, on_rule
from policyfs.policy.lint.mixed import mixed_directories
from policyfs.policy.lint.modes import looks_like_backup
from policyfs.policy.lint.synced import cleaned_for_readers
from policyfs.policy.model import Modes


def hints(engine: Engine) -> Iterator[Finding]:
    """Yield findings on three sorts of problems that concern whole directories or apps.

    These are: directories in which an app sees only some files; backup programs that see modes made from the
    policy; apps that write files, and then read them without the removed data (``clean``).
    """
    for mixed in mixed_directories(engine):
        yield on_rule(
            "hidden-beside-visible",
            mixed.rule,
            f"in {mixed.directory} the app {mixed.app} sees only some files; in a shared mount, inotify on"
            " this directory shows the app the names of all files",
            f"give the app its own mount (--app {mixed.app})",
        )
    for app in engine.policy.apps:
        if app.modes is Modes.POLICY and looks_like_backup(engine, app):
            yield on_app(
                "backup-of-modes",
                engine.policy,
                app,
                f"the app {app.name} has modes: policy, reads every file unchanged and writes nothing; if the"
                " app is a backup, the backup has wrong modes and owners",
                "remove modes: policy",
            )
    for cleaned in cleaned_for_readers(engine):
        yield on_rule(
            "cleaned-for-reader",
            cleaned.rule,
            f"the app {cleaned.app} reads its own files cleaned (at {cleaned.path}); a sync job would take"
            " the cleaned file for a change and overwrite the original",
            "exclude the app from the rule, or remove the app's right to read there",
        )


def line(finding: Finding) -> str:
    """Return a finding as one line of text."""
    subject = f"{finding.subject}: " if finding.subject.startswith(("rule ", "exception ")) else ""
    where = finding.where
    return f"{where.file}:{where.line}: warning: {subject}{finding.message}; {finding.todo} [{finding.id}]"
