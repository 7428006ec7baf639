"""A store in which commands are tried, by root as an app: `policyfs run --try`, `policyfs try`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.support.machine.forked import daemon_of, prepare
from tests.support.machine.launchers import prepared
from tests.support.mount.daemons import Said

APP: Final = 10040
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: try}}
apps: {{app: {{uid: {APP}}}}}
rules:
  - {{id: hidden, deny: [all], paths: "/hidden/***"}}
  - {{id: fixed, deny: [write, create, delete, attr], paths: "/fixed/***"}}
  - {{id: open, allow: [all], paths: "/***"}}
"""
_PROGRAM: Final = ("policyfs.cli.main",)


class Tries:
    """Runs commands as the app on the store *at*, and what `try` does with their layers."""

    def __init__(self, arena: Path, store: Path) -> None:
        self.at = store
        self.policy = arena / "try.yaml"
        self.policy.write_text(POLICY)
        self.work = arena / "work"
        self.work.mkdir(mode=0o700)
        self.environment = {
            "POLICYFS_RUNTIME_DIR": str(self.work / "run"), "POLICYFS_TRAIL_DIR": str(self.work / "trail"),
            "POLICYFS_LAYERS_DIR": str(self.work / "layers"), "LC_ALL": "C.UTF-8", "LANGUAGE": "",
        }  # fmt: skip
        self.program = _PROGRAM
        self.deadline_s = 60.0

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start `policyfs WORDS`."""
        prepare(self.program)
        launchers = prepared()
        pipes: dict[str, Any] = {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": "/",
        }  # fmt: skip
        return subprocess.Popen(
            ["/nonexistent"], text=True, errors="surrogateescape", **(pipes | more),
            preexec_fn=lambda: daemon_of(self.program, words, self.environment, launchers),
        )  # fmt: skip

    def policyfs(self, *words: str) -> Said:
        """Run `policyfs WORDS` to its end."""
        with self.start(*words) as process:
            try:
                out, err = process.communicate(timeout=self.deadline_s)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
        assert "Traceback" not in err, err
        return Said(process.returncode, out, err)

    def run(self, *command: str, keep: str = "l", trying: bool = True) -> Said:
        """Run a command in the store: on a layer, or (trying is False) directly."""
        words = ["--keep", keep] if trying else []
        fixed = ["run", "--app", "app", "--policy", str(self.policy), *words, str(self.at)]
        return self.policyfs(*fixed, "--", "env", "-C", str(self.at), *command)

    def shell(self, script: str, **more: Any) -> Said:
        return self.run("sh", "-c", script, **more)

    def diff(self, *words: str) -> list[dict[str, Any]]:
        """The differences of the only layer."""
        said = self.policyfs("try", "diff", "--json", *words)
        assert said.returncode == 0, said
        return [json.loads(line) for line in said.stdout.splitlines()]

    def commit(self, *words: str) -> dict[str, str]:
        """Commit the only layer. Return why each path stays there; empty for what is in the store now."""
        said = self.policyfs("try", "commit", "--json", *words)
        lines = [json.loads(line) for line in said.stdout.splitlines()]
        assert said.returncode == any(not line["committed"] for line in lines), said
        return {line["path"]: line.get("why", "") for line in lines}

    def layers(self) -> list[str]:
        return sorted(os.listdir(self.work / "layers"))
