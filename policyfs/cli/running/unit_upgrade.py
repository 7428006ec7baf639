"""The upgrade of a mount that a unit of systemd runs: its reload (ExecReload=) lets installed code take over.

The command of the reload is in the unit's control group, with its limits. It forks the candidate there
(policyfs/daemon/keeper/upgrade.py), and tells systemd the new main process. As a program
(``python -m policyfs.cli.running.unit_upgrade``) the module reloads all such units, for a package.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path, PurePath

from policyfs.cli.common.colour import print_error
from policyfs.cli.common.live_mounts import all_status, ask, is_renewed_by_reload, part
from policyfs.cli.mounts.mount import add_mount, check_options, prepared
from policyfs.cli.mounts.serve import fork_daemon
from policyfs.cli.mounts.start import Start
from policyfs.cli.site.own_units import UNITS, remove_misplaced
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.linux import procfs
from policyfs.linux.code_digest import VERSION, code_digest
from policyfs.linux.interpreter import clean_environment, program
from policyfs.linux.service_manager import ServiceManager


def upgraded(path: str, manager: ServiceManager) -> str:
    """Let this code take over the mount at a path, if other code serves it, and can be followed. Return a
    line of text; empty if not. manager: the one that runs this command as the unit's reload.

    The policy in force stays. Raises PolicyfsError if the daemon before goes on, or the policy's text is
    another one than is in force.
    """
    status = ask(path, "status")
    if not _is_due(status):
        return ""
    args = _arguments(status)
    start = Start.of(args)
    try:
        check_options(args)
        start.claim()
        options, loader = prepared(args, start)
        pid = fork_daemon(options, loader, None, start, of_unit=True)
    except (PolicyfsError, OSError) as error:
        start.failed(str(error))
        raise PolicyfsError(
            f"the installed code, {VERSION}, has not taken over, and {status.get('version')} goes on: {error}"
        ) from error
    manager.main_is(pid)
    told = f"{VERSION} has taken over from {status.get('version')}"
    if options.before is not None and options.before.is_changed:
        raise PolicyfsError(
            f"{told}, and the policy in force stays: the text of {args.policy} was changed; reload once more"
        )
    return told


def _is_due(status: control.Json) -> bool:
    return is_renewed_by_reload(status) and status.get("code") != code_digest()


def _arguments(status: control.Json) -> argparse.Namespace:
    """Return the arguments of the command that would follow a daemon with its own options."""
    parser = argparse.ArgumentParser()
    add_mount(parser)
    given = part(status, "options")
    args = parser.parse_args(
        ["--policy", *(str(given.get(name)) for name in ("policy", "store", "mountpoint"))]
    )
    known = vars(args).keys() & given.keys()
    vars(args).update({name: given[name] for name in known}, follow=True, command="reload")
    return args


def _unit_of(status: control.Json) -> str:
    """Return the unit of policyfs that runs a daemon; empty if there is none. Raises OSError."""
    pid = status.get("pid")
    groups = procfs.text(pid, "cgroup").splitlines() if isinstance(pid, int) else []
    names = (PurePath(line).name for line in groups)
    return next((name for name in names if name.startswith("policyfs-") and name.endswith(".service")), "")


def main() -> None:
    """Remove what older code has written wrongly. Reload each unit whose mount this code can take over.
    systemctl(1) tells what fails."""
    try:
        if remove_misplaced(Path(UNITS)):
            _systemctl("daemon-reload")
    except PolicyfsError as error:  # the units are to be renewed even so
        print_error(error)
    for status in all_status([]):
        if _is_due(status) and (unit := _unit_of(status)):
            _systemctl("reload", unit)


def _systemctl(*words: str) -> None:
    tool = program("systemctl") or "/bin/systemctl"
    subprocess.run([tool, *words], env=clean_environment(), stdin=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
