"""Fixtures of the whole suite: a private mount namespace, stores, media, real mounts.

Every test that mounts is marked `mount`, needs root and /dev/fuse, and fails (never skips) where
they are missing. Temporary directories can be entered by plain uids; stores are root's alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import hypothesis
import pytest

from tests.support.machine.alone import hold_to_the_name
from tests.support.machine.block_groups import spread
from tests.support.machine.counts import SOAK
from tests.support.machine.huge_pages import Collapsed
from tests.support.machine.namespace import clear_away, enter_private_namespace, mount_memory
from tests.support.machine.proofs import settled
from tests.support.machine.second_try import SecondTry
from tests.support.machine.side_by_side import SideBySide
from tests.support.machine.spent import Spent
from tests.support.machine.watchdog import Watchdog
from tests.support.mount.corners import Corner, Corners
from tests.support.mount.stores import IN_MEMORY, Mounts, populate, work_directory
from tests.support.samples import media as media_tools

WATCHDOG_GRACE_S = 10.0
LONGEST_TMPDIR_BYTES = 24
"""A socket below has 107 bytes for its path."""

hypothesis.settings.register_profile(
    "policyfs",
    max_examples=100 if SOAK else 60,
    deadline=None,  # two shared CPUs: a slow example says nothing
    print_blob=True,
    derandomize=not SOAK,  # the quick suite is the same every time; the long one looks further
    database=None,
)
hypothesis.settings.load_profile("policyfs")


class Run:
    """What one process that runs tests has once: its directory, and the watchdog once something may hang.

    Where tests run side by side, each of these processes has its own, mounts and all, below the
    directory of the process that hands the tests out and runs none itself.
    """

    def __init__(self, above: Path | None = None) -> None:
        """above: the directory of the process that hands out the tests, if this is not it."""
        if len(os.fsencode(tempfile.gettempdir())) > LONGEST_TMPDIR_BYTES:
            raise pytest.UsageError(f"use a TMPDIR of at most {LONGEST_TMPDIR_BYTES} bytes, for its sockets")
        prefix = "pf-" if above is None else "w-"
        self.directory = Path(tempfile.mkdtemp(prefix=prefix, dir=above))
        self.directory.chmod(0o711)
        spread(self.directory)
        self.common = self.directory if above is None else above
        """What all processes of the run share."""
        self.watchdog: Watchdog | None = None
        os.environ["POLICYFS_CACHE_DIR"] = str(self.directory / "cache")
        os.environ["POLICYFS_KEY_DIR"] = str(self.directory / "keys")
        os.environ["POLICYFS_STATE_DIR"] = str(self.directory / "stores")

    def may_mount(self) -> None:
        """Enter the private namespace, have a directory in memory, and start the watchdog, once."""
        if self.watchdog is None:
            enter_private_namespace()
            mount_memory(self.directory / IN_MEMORY)
            self.watchdog = Watchdog(self.directory)

    def media(self) -> dict[str, Path]:
        """One of each kind of media file, by name; made by the process that needs them first."""
        made = self.common / "media"
        with (self.common / "media.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                media_tools.make_all(self.common / "media.new")
                (self.common / "media.new").rename(made)
        return {path.name: path for path in sorted(made.iterdir())}

    def close(self) -> None:
        """Clear everything away."""
        if self.watchdog is not None:
            self.watchdog.close()
            clear_away(self.directory)  # also what a test has left in its tmp_path
        remove = ["rm", "-rf", "--one-file-system", self.directory]
        if subprocess.run(remove, capture_output=True, check=False).returncode:  # mountpoints with chattr +i
            subprocess.run(["chattr", "-Rf", "-i", self.directory], capture_output=True, check=False)
            subprocess.run(remove, check=False)


RUN = pytest.StashKey[Run]()
PAGES = pytest.StashKey[Collapsed]()
MOUNTING = pytest.StashKey[bool]()
SPENT = pytest.StashKey[Spent]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--second-try", action="store_true", help="let what failed beside others pass alone, if it may"
    )
    parser.addoption(
        "--everyday", action="store_true",
        help="leave out tests of `make night`, and those of tests/proofs.txt about which nothing has changed",
    )  # fmt: skip
    parser.addoption("--spent", type=Path, metavar="FILE", help="add each test's processor time to FILE")
    parser.addoption("--jobs", type=int, default=1, metavar="N", help="run the tests in N processes")


def pytest_configure(config: pytest.Config) -> None:
    # A shell has it ignored in what it starts in the background, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run = config.stash[RUN] = Run()
    config.option.basetemp = config.option.basetemp or str(run.directory / "p")  # shorter than pytest's own
    samples = run.common / "samples"
    samples.mkdir(exist_ok=True)
    os.environ[media_tools.KEPT_IN] = str(samples)
    config.pluginmanager.register(SecondTry(config))
    if config.getoption("jobs") > 1:
        config.pluginmanager.register(SideBySide(config.getoption("jobs"), lambda: _own_run(config)))
    elif config.getoption("spent"):
        config.stash[SPENT] = _note_spent(config)


@contextlib.contextmanager
def _own_run(config: pytest.Config) -> Iterator[None]:
    """Have a Run in this process, which was forked to run tests beside others."""
    run = config.stash[RUN] = Run(config.stash[RUN].common)
    spent = _note_spent(config) if config.getoption("spent") else None
    try:
        if config.stash[MOUNTING]:
            run.may_mount()
        yield
    finally:
        run.close()
        if spent is not None:
            spent.close()


def _note_spent(config: pytest.Config) -> Spent:
    spent = Spent(config.getoption("spent"))
    config.pluginmanager.register(spent)
    return spent


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is not None:
        run.close()
    spent = config.stash.get(SPENT, None)
    if spent is not None:
        spent.close()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[object]:
    """Modules and tests stay until the end: no collector is to go through them again and again, and forks are
    to share them cheaply."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        session.config.stash[PAGES] = Collapsed()


def deadline_s(item: pytest.Item) -> float:
    """How long a test may take: its own marker's number, else that of the run."""
    marker = item.get_closest_marker("timeout")
    of_the_run = item.config.getvalue("timeout") or item.config.getini("timeout")
    return float(marker.args[0] if marker else of_the_run)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything below mount/, attack/, faults/ and posix/ mounts; a test that uses `mounts` does too.

    Tests with more time than others come first, and tests without a mount, which take milliseconds, last:
    where several processes share the tests out, none of them is to begin a long one at the end.
    """

    @functools.cache
    def is_below(path: Path) -> bool:
        return not {"mount", "attack", "faults", "posix"}.isdisjoint(path.relative_to(config.rootpath).parts)

    for item in items:
        if is_below(item.path) or {"mounts", "module_mounts"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.mount)
    hold_to_the_name(items)
    if config.getoption("everyday"):
        _leave_out(config, items, settled())
    mounting = config.stash[MOUNTING] = any(item.get_closest_marker("mount") for item in items)
    if mounting and os.geteuid() != 0:
        raise pytest.UsageError("tests that mount need root; choose others with: -m 'not mount'")
    if mounting and config.getoption("jobs") == 1:
        config.stash[RUN].may_mount()
    items.sort(key=lambda item: (-deadline_s(item), item.get_closest_marker("mount") is None))


def _leave_out(config: pytest.Config, items: list[pytest.Item], unchanged: AbstractSet[str]) -> None:
    """Deselect tests marked night, and those that are, or whose file is, among these (without parameters)."""
    out = {
        item for item in items
        if item.get_closest_marker("night") or {item.nodeid.split(end)[0] for end in ("[", "::")} & unchanged
    }  # fmt: skip
    config.hook.pytest_deselected(items=list(out))
    items[:] = [item for item in items if item not in out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    watchdog = item.config.stash[RUN].watchdog
    if watchdog is None or item.get_closest_marker("mount") is None:
        return (yield)
    item.config.stash[PAGES].renew()
    watchdog.arm(deadline_s(item) + WATCHDOG_GRACE_S, item.nodeid)
    try:
        return (yield)
    finally:
        watchdog.disarm()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test that has failed shows what its mounts have refused: an errno alone does not say why."""
    report = yield
    if report.failed:
        for made in getattr(item, "funcargs", {}).values():
            if isinstance(made, Mounts):
                report.sections.append(("refused by its mounts", made.refusals()))
    # Names that are no UTF-8 stand in it as lone surrogates, which no process can send to another.
    report.sections = [(title, _sendable(text)) for title, text in report.sections]
    if report.failed and _sendable(text := str(report.longrepr)) != text:
        report.longrepr = _sendable(text)
    return report


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.fixture(scope="session")
def media(request: pytest.FixtureRequest) -> dict[str, Path]:
    """One of each kind of media file, made once: name -> path (see tests/support/samples/media.py)."""
    return request.config.stash[RUN].media()


@contextlib.contextmanager
def _arena(run: Run) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="t-", dir=run.directory))
    directory.chmod(0o711)
    yield directory
    left = clear_away(directory)
    if (work := work_directory(directory)).exists():
        shutil.rmtree(work)
    shutil.rmtree(directory)
    assert not left, f"the test left mounts behind: {left}"


@pytest.fixture
def arena(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of this test's own that plain uids may pass through (0711)."""
    with _arena(request.config.stash[RUN]) as directory:
        yield directory


@pytest.fixture(scope="module")
def module_arena(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An arena that the tests of one file share."""
    with _arena(request.config.stash[RUN]) as directory:
        yield directory


@pytest.fixture
def empty_store(arena: Path) -> Path:
    """An empty store of mode 0700 root."""
    store = arena / "store"
    store.mkdir(mode=0o700)
    return store


@pytest.fixture
def store(empty_store: Path, media: dict[str, Path]) -> Path:
    """A store of mode 0700 root with media in it; tests/support/mount/stores.py lists what."""
    populate(empty_store, media)
    return empty_store


@contextlib.contextmanager
def _mounts(arena: Path) -> Iterator[Mounts]:
    made = Mounts(arena)
    try:
        yield made
        made.assert_idle()
    finally:
        wrong = made.stop_all()
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def mounts(arena: Path) -> Iterator[Mounts]:
    """Starts mounts; afterwards stops them all and fails the test for anything that was wrong."""
    with _mounts(arena) as made:
        yield made


@pytest.fixture(scope="module")
def module_mounts(module_arena: Path) -> Iterator[Mounts]:
    """Mounts that the tests of one file share; what was wrong with them fails the last of these."""
    with _mounts(module_arena) as made:
        yield made


@pytest.fixture(scope="module")
def corner_of(module_mounts: Mounts, module_arena: Path) -> Callable[..., Corner]:
    """`corner_of(policy, *directories)`: a new directory of everybody's with such directories, in the mount
    under that policy that the tests of one file share."""
    corners: dict[str, Corners] = {}

    def new(policy: str, *directories: str) -> Corner:
        if policy not in corners:
            store = module_arena / f"store-{len(corners)}"
            store.mkdir(mode=0o700)
            corners[policy] = Corners(module_mounts.start(policy, store))
        corner = corners[policy].new(*directories)
        corner.store.chmod(0o777)
        return corner

    return new


@pytest.fixture
def shared_mount(mounts: Mounts, store: Path):
    """`shared_mount(policy, *options)`: the store behind a mount that every uid may look through."""

    def start(policy: str | Path, *options: str, store: Path = store):
        return mounts.start(policy, store, *options)

    return start


@pytest.fixture
def app_mount(mounts: Mounts, store: Path):
    """`app_mount(app, policy, *options)`: the store behind one app's own mount."""

    def start(app: str, policy: str | Path, *options: str, store: Path = store):
        return mounts.start(policy, store, "--app", app, *options)

    return start
