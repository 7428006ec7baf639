"""What is around the program: lock file, Makefile, mount helper, systemd units, the built package."""

from __future__ import annotations

import ast
import importlib.metadata
import mmap
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from policyfs.cli.main import build_parser
from tests.support.machine.alone import NAME
from tests.support.machine.failures import failures

CHECKOUT = Path(__file__).resolve().parents[2]
HELPER = CHECKOUT / "packaging" / "mount.fuse.policyfs"
MANUAL = CHECKOUT / "packaging" / "man"


def _texts() -> dict[str, str]:
    """Every text file of the checkout that is no product of building or testing."""
    made = {".git", ".venv", "build", "dist", "__pycache__"}
    found = {}
    for directory, names, files in os.walk(CHECKOUT):
        names[:] = [name for name in names if name not in made and not name.endswith((".egg-info", "_cache"))]
        for file in files:
            path = Path(directory, file)
            if path.suffix not in {".so", ".pyc"}:
                text = path.read_text(encoding="utf-8", errors="replace")
                found[str(path.relative_to(CHECKOUT))] = text
    return found


# ---------------------------------------------------------------- lock file


def _locked() -> dict[str, str]:
    text = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    return {
        match[1].lower().replace("_", "-"): match[0]
        for match in re.finditer(
            r"^([A-Za-z0-9._-]+)==\S+(?:.*\\\n(?:    --hash=\S+(?: \\)?\n?)+)", text, re.MULTILINE
        )
    }


def test_the_lock_file_names_no_index() -> None:
    text = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text
    assert "find-links" not in text


def test_every_locked_package_has_hashes() -> None:
    text = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    assert len(re.findall(r"^[A-Za-z0-9._-]+==", text, re.MULTILINE)) == len(_locked())


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace(".", "-") for line in wanted}
    locked = {name.replace(".", "-") for name in _locked()}
    assert names - {"policyfs"} <= locked


def test_the_extra_all_has_every_optional_part() -> None:
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]

    def parts(name: str) -> set[str]:
        found: set[str] = set()
        for line in extras[name]:
            nested = re.fullmatch(r"policyfs\[(.+)\]", line)
            if nested:
                for inner in nested[1].split(","):
                    found |= parts(inner)
            else:
                found.add(line)
        return found

    assert parts("all") == set().union(*(parts(name) for name in extras))


STACK = {"pyfuse3", "trio", "pydantic", "ruamel-yaml", "python-magic", "structlog"}
"""The libraries that were agreed for the program; pytest for its tests."""


def _imported(directory: str) -> set[str]:
    """The distributions that a directory's modules import (a distribution in dashes and small letters)."""
    names = set[str]()
    for path in (CHECKOUT / directory).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    of = importlib.metadata.packages_distributions()
    return {re.sub("[._-]+", "-", one).lower() for name in names for one in of.get(name, ())} - {"policyfs"}


def test_the_program_stands_on_the_stack_that_was_agreed() -> None:
    """Each library is a dependency, and imported; and no other is imported than the dependencies."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]

    def names(lines: list[str]) -> set[str]:
        return {re.sub("[._-]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in lines}

    wanted, imported = names(project["dependencies"]), _imported("policyfs")
    assert wanted >= STACK
    assert imported >= STACK
    assert imported - wanted <= {"pydantic-core"}
    assert "pytest" in names(project["optional-dependencies"]["test"]) & _imported("tests")


# ---------------------------------------------------------------- Makefile


def test_ci_runs_make_test_as_people_have_it(tmp_path: Path) -> None:
    """In a clone of HEAD. Its output and result come through, and nothing of it stays."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(CHECKOUT / ".ci/run", tmp_path / ".ci")
    probe = "pwd; echo $$TMPDIR; LC_ALL= ls none; getent passwd 1000 1001; cat /etc/subuid; stat -c %a .."
    (tmp_path / "Makefile").write_text(f"setup:\n\t@echo made\ntest:\n\t@{probe}; cat file; exit 3\n")
    (tmp_path / "file").write_text("committed\n")
    git = ("git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x")
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "first")):
        subprocess.run([*git, *words], check=True, timeout=30)
    (tmp_path / "file").write_text("changed\n")
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    said = subprocess.run([tmp_path / ".ci/run"], **quiet, timeout=60, check=False)
    made, where, own, *users, mode, text = said.stdout.splitlines()
    assert (made, text, mode, said.returncode) == ("made", "committed", "700", 2), said
    place = where.removesuffix("/a b/policyfs")
    assert (place != where, own) == (True, f"{place}/t")
    assert users == [
        "anna:x:1000:1000::/home/anna:/bin/sh", "bert:x:1001:1001::/home/bert:/bin/sh",
        "anna:100000:65536", "bert:165536:65536",
    ]  # fmt: skip
    assert "No such file" not in said.stderr
    assert not Path(place).exists()


def test_the_workflow_runs_goals_of_the_makefile() -> None:
    text = (CHECKOUT / ".github/workflows/ci.yml").read_text("utf-8")
    jobs = YAML(typ="safe").load(text)["jobs"]
    goals = set(re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE))
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    asked = [run.split()[1] for run in runs if run.startswith("make ") and "{" not in run]
    asked += [goal.split()[0] for goal in jobs["night"]["strategy"]["matrix"]["goal"]]
    assert ".ci/run" in runs
    assert {"check", "try-deb", "try-arm64", "try-image", "site", "soak", "fuzz", "sanitize"} == set(asked)
    assert set(asked) <= goals


def test_make_test_lints_checks_types_and_layers_and_runs_the_suite() -> None:
    lines = subprocess.run(
        ["make", "-n", "test"], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    for part in ("packages.sh test", "ruff check", "mypy", "lint-imports", "pytest"):
        assert part in lines


def test_make_test_leaves_no_test_out() -> None:
    """Two runs side by side: one has the directories that the other ignores. Alone: all files that say so."""
    lines = subprocess.run(
        ["make", "-n", "test"], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=30
    ).stdout.splitlines()
    passes = [line.split(" || ")[0] for line in lines if "-m pytest -q" in line and " -m " in line]
    alone, forking, others = passes
    marked = {path for path in (CHECKOUT / "tests").rglob("test_*.py") if NAME in path.read_text("utf-8")}
    assert '-m "alone and not soak"' in alone
    assert {CHECKOUT / path for path in alone.split() if path.startswith("tests/")} == marked
    for run in (forking, others):
        assert '-m "not soak and not alone"' in run
    directories = [word for word in forking.split() if word.startswith("tests/")]
    assert directories
    ignored = [word for word in others.split() if "tests/" in word]
    assert ignored == [f"--ignore={name}" for name in directories]


PASSES = ("alone", "mounts", "others")
PYTHON = """#!/bin/sh
echo "$*" >>calls
case "$*" in
*--second-try*) exit {second} ;;
*cache_dir=.pytest_cache/pass-{fails}*) exit {first} ;;
esac
"""


def _make_test(directory: Path, fails: str, first: int, second: int) -> tuple[int, list[str]]:
    """The exit code, and Python's arguments, where one pass and its second try end by these codes."""
    python = directory / "python"
    python.write_text(PYTHON.format(fails=fails, first=first, second=second))
    python.chmod(0o755)
    (directory / "tests").mkdir()
    said = subprocess.run(
        ["make", "-s", "-f", CHECKOUT / "Makefile", "test", "MAKE=true", f"PY={python}"],
        cwd=directory, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return said.returncode, (directory / "calls").read_text().splitlines()


@pytest.mark.parametrize("fails", PASSES)
@pytest.mark.parametrize(
    ("first", "second", "fine"), [(1, 0, True), (1, 1, False), (1, 4, False), (2, 0, False), (3, 0, False)]
)
def test_a_pass_that_fails_keeps_no_other_from_running(
    tmp_path: Path, fails: str, first: int, second: int, fine: bool
) -> None:
    code, calls = _make_test(tmp_path, fails, first, second)
    assert (code == 0) == fine
    ran = [call.split("pass-")[1] for call in calls if "cache_dir" in call and "--second-try" not in call]
    assert ran == list(PASSES)
    again = [call for call in calls if "--second-try" in call]
    assert [call.endswith(f"pass-{fails}") for call in again] == [True] * (first == 1)
    told = [call for call in calls if "support.machine.failures" in call]
    assert [call.split()[2:] for call in told] == [[".pytest_cache/pass-", *[fails] * (not fine)]]


def test_what_failed_is_told_once_more(tmp_path: Path) -> None:
    (tmp_path / "pass-others/v/cache").mkdir(parents=True)
    (tmp_path / "pass-others/v/cache/lastfailed").write_text('{"t.py::test_b": true, "t.py::test_a": true}')
    assert failures(f"{tmp_path}/pass-", ["alone", "others"]) == [
        "make test: the pass 'alone' failed; its output above says why",
        "make test: the pass 'others' failed",
        "    t.py::test_a",
        "    t.py::test_b",
    ]


@pytest.mark.parametrize(("head", "refused"), [(f"@{NAME}", False), ("@getattr(pytest.mark, 'alone')", True)])
def test_a_test_that_is_alone_without_saying_so_is_refused(tmp_path: Path, head: str, refused: bool) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\n{head}\ndef test_it(): pass\n")
    (tmp_path / "conftest.py").write_text(
        "from tests.support.machine.alone import hold_to_the_name\n"
        "def pytest_collection_modifyitems(items): hold_to_the_name(items)\n"
    )
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", tmp_path, tmp_path, "-m", "other"],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert said.returncode == (pytest.ExitCode.USAGE_ERROR if refused else pytest.ExitCode.NO_TESTS_COLLECTED)
    assert (f"write {NAME} out" in said.stdout + said.stderr) == refused


def test_packages_that_need_a_compiler_are_left_until_it_is_there() -> None:
    """One hash: the lock file knows sources only."""
    lock = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^([A-Za-z0-9._-]+)==((?:.*\\\n)*.*)", lock, re.MULTILINE)
    sources = [name for name, entry in entries if entry.count("--hash=") == 1]
    script = (CHECKOUT / "packaging/setup/venv.sh").read_text(encoding="utf-8")
    assert re.search(r'^sources="(.*)"$', script, re.MULTILINE)[1].split() == sources


def test_wheels_are_installed_without_what_needs_a_compiler_and_the_bridge_with_it(tmp_path: Path) -> None:
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor last; do :; done\n[ "$last" = . ] || cat "$last" >>installed\n')
    python.chmod(0o755)
    shutil.copy(CHECKOUT / "requirements.lock", tmp_path)

    def installed(part: str) -> set[str]:
        (tmp_path / "installed").write_text("")
        subprocess.run([CHECKOUT / "packaging/setup/venv.sh", part], cwd=tmp_path, timeout=30, check=True)
        return set((tmp_path / "installed").read_text().splitlines())

    lock = set((CHECKOUT / "requirements.lock").read_text(encoding="utf-8").splitlines())
    left_out = {line for line in lock - installed("wheels") if not line.startswith((" ", "#"))}
    assert {line.split("==")[0] for line in left_out} == {"pyfuse3"}
    assert installed("bridge") == lock


@pytest.mark.parametrize(
    ("system", "old_first", "chosen"),
    [
        (sys.executable, False, sys.executable),
        (sys.executable, True, sys.executable),
        ("/nonexistent/python3", False, "{first}"),
        ("{old}", False, "{first}"),
    ],
)
def test_the_environment_is_made_from_the_systems_python(
    tmp_path: Path, system: str, old_first: bool, chosen: str
) -> None:
    """The system's own, whatever PATH begins with; the first of PATH if the system's is absent or too old."""
    old, first = tmp_path / "old", tmp_path / "bin/python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    first.parent.mkdir()
    first.symlink_to(old if old_first else sys.executable)
    script = tmp_path / "python.sh"
    text = (CHECKOUT / "packaging/setup/python.sh").read_text(encoding="utf-8")
    own = shlex.quote(system.format(old=old))
    script.write_text(text.replace("system=/usr/bin/python3", f"system={own}"))
    printed = subprocess.run(
        ["sh", script],
        env={"PATH": f"{first.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert printed == chosen.format(first=first) + "\n"


@pytest.mark.parametrize("part", ["wheels", "bridge"])
@pytest.mark.parametrize("code", [0, 1])
def test_what_pip_says_is_shown_if_it_fails(tmp_path: Path, code: int, part: str) -> None:
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho noise\necho louder >&2\nexit {code}\n")
    python.chmod(0o755)
    script = CHECKOUT / "packaging/setup/venv.sh"
    shutil.copy(CHECKOUT / "requirements.lock", tmp_path)
    said = subprocess.run(
        [script, part], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert said.returncode == code
    assert len(said.stdout.splitlines()) == (part == "wheels")
    assert ("noise\nlouder\n" in said.stderr) == bool(code)
    assert bool(said.stderr) == bool(code)


# ---------------------------------------------------------------- mount helper


@pytest.fixture
def helper(tmp_path: Path) -> Path:
    """The helper with a `policyfs` beside it that prints its arguments, one a line."""
    shutil.copy(HELPER, tmp_path)
    stub = tmp_path / "policyfs"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    return tmp_path / HELPER.name


def _call(helper: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(helper), *arguments], capture_output=True, text=True, timeout=10, check=False)


def test_the_helper_translates_options(helper: Path) -> None:
    options = "rw,policy=/etc/p q.yaml,app=jelly,any_uid,trail=/t,monitor,posix,no_passthrough,nofail,x-a=b"
    options += ",quarantine_max=2G,quarantine_files=9,nodes_max=70000,trail_keep_age=90d,no_avc,watch"
    said = _call(helper, "/srv/my media", "/mnt/m", "-o", options)
    assert said.returncode == 0, said
    assert said.stdout.splitlines() == [
        *("mount", "--policy", "/etc/p q.yaml", "--app", "jelly", "--any-uid", "--trail", "/t"),
        *("--monitor", "--posix", "--no-passthrough", "--quarantine-max", "2G", "--quarantine-files", "9"),
        *("--nodes-max", "70000", "--trail-keep-age", "90d", "--no-avc", "--watch"),
        *("/srv/my media", "/mnt/m"),
    ]


def test_the_helper_has_every_option_of_mount_that_concerns_a_mount(helper: Path) -> None:
    parser = build_parser("mount")
    bare = parser.parse_args(["mount", "--policy", "p", "/s", "/m"])
    apart = {"policy", "store", "mountpoint", "run", "foreground", "follow", "log", "command"}
    for name, value in vars(bare).items():
        if name in apart:
            continue
        word = f"no_{name}" if name in {"avc", "keeper"} else name
        rest = [] if isinstance(value, bool) or word == "no_keeper" else ["1"]
        option = "=".join(["ro" if word == "read_only" else word, *rest])
        said = _call(helper, "/srv", "/mnt", "-o", f"policy=p,{option}")
        assert said.returncode == 0, said
        assert said.stdout.splitlines()[3:-2] == [f"--{word.replace('_', '-')}", *rest]
    assert _call(helper, "/srv", "/mnt", "-o", "policy=p,keeper").stdout.splitlines()[3:-2] == ["--keeper"]


def test_the_helper_takes_options_as_they_are(helper: Path, tmp_path: Path) -> None:
    """A name in the working directory of mount(8) changes no option."""
    (tmp_path / "policy=").mkdir()
    (tmp_path / "policy=/other.yaml").touch()
    said = subprocess.run(
        [str(helper), "/srv", "/mnt", "-o", "policy=/*.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    assert said.stdout.split()[1:3] == ["--policy", "/*.yaml"]


def test_the_helper_takes_options_that_every_fstab_has(helper: Path) -> None:
    said = _call(helper, "/srv", "/mnt", "-o", "policy=/p,app=jelly,uid=10101,gid=100")
    assert said.stdout.split()[3:-2] == ["--app", "jelly", "--uid", "10101", "--gid", "100"]
    options = "policy=/p,ro,noatime,nodiratime,lazytime,relatime,norelatime,nolazytime,nofail"
    said = _call(helper, "/srv", "/mnt", "-o", options)
    assert said.returncode == 0, said
    assert said.stdout.splitlines() == ["mount", "--policy", "/p", "--read-only", "/srv", "/mnt"]


def test_the_helper_takes_what_mount_gives_it(helper: Path) -> None:
    said = _call(helper, "/srv", "/mnt", "-n", "-v", "-o", "rw,policy=/p", "-t", "fuse.policyfs")
    assert said.returncode == 0, said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("rw", "policy=FILE is missing"),
        ("policy=/p,allow_everything", "unknown option: allow_everything"),
    ],
)
def test_the_helper_refuses(helper: Path, options: str, complaint: str) -> None:
    said = _call(helper, "/srv", "/mnt", "-o", options)
    assert said.returncode == 1
    assert complaint in said.stderr


def test_a_failed_mount_is_exit_code_32(helper: Path) -> None:
    (helper.parent / "policyfs").write_text("#!/bin/sh\nexit 3\n")
    assert _call(helper, "/srv", "/mnt", "-o", "policy=/p").returncode == 32


def test_a_fake_mount_does_nothing(helper: Path) -> None:
    said = _call(helper, "/srv", "/mnt", "-f", "-o", "policy=/p")
    assert (said.returncode, said.stdout) == (0, "")


# ---------------------------------------------------------------- the built package


@pytest.mark.night
@pytest.mark.timeout(180)
def test_the_package_builds_with_the_bridge_and_the_command(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, source / name)
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(CHECKOUT / "policyfs", source / "policyfs", ignore=ignore)
    (source / "PKG-INFO").write_text("Name: policyfs\nVersion: 7.8.dev9+gabc\n")  # as an sdist is
    (source / "packaging").mkdir()
    shutil.copy(HELPER, source / "packaging")
    for name in ("man", "completion", "bin"):
        shutil.copytree(CHECKOUT / "packaging" / name, source / "packaging" / name)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--wheel-dir", str(tmp_path), str(source)),
        ],
        check=True,
        timeout=170,
        capture_output=True,
        env=os.environ | {"POLICYFS_STRICT_BUILD": "1"},
    )
    [wheel] = tmp_path.glob("policyfs-7.8.dev9+gabc-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        # Installed into bin/, where the helper finds the command beside itself.
        for file in (HELPER, CHECKOUT / "packaging/bin/policyfs"):
            [script] = [name for name in names if name.endswith(f".data/scripts/{file.name}")]
            assert archive.read(script) == file.read_bytes()
        for page in ("man1/policyfs.1", "man5/policyfs-policy.5", "man8/mount.fuse.policyfs.8"):
            # Below the prefix, where man looks.
            [found] = [name for name in names if name.endswith(f".data/data/share/man/{page}")]
            assert archive.read(found) == (MANUAL / Path(page).name).read_bytes()
    for file in ("bash-completion/completions/policyfs", "zsh/site-functions/_policyfs",
                 "fish/vendor_completions.d/policyfs.fish"):  # fmt: skip
        assert any(name.endswith(f".data/data/share/{file}") for name in names)
    assert any(re.fullmatch(r"policyfs/kernel/_bridge\..*\.so", name) for name in names)
    assert "policyfs/py.typed" in names
    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "policyfs").rglob("*.py")}
    assert modules <= set(names)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    said = [sys.executable, "-c", "from policyfs.linux.code_digest import VERSION; print(VERSION)"]
    assert subprocess.check_output(said, cwd=installed, text=True, timeout=30) == "7.8.dev9+gabc\n"


def test_without_headers_the_build_says_what_to_install(tmp_path: Path) -> None:
    bare = {"PATH": "/usr/bin:/bin", "PKG_CONFIG_LIBDIR": str(tmp_path), "PKG_CONFIG_PATH": ""}
    said = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        env=os.environ | bare,
        timeout=60,
        check=False,
    )
    assert said.returncode != 0
    assert "apt install" in said.stderr
    assert "libfuse3-dev" in said.stderr


def test_a_version_in_use_stays_and_only_other_code_is_to_be_renewed(tmp_path: Path) -> None:
    for version, code in (("1", "old"), ("2", "new"), ("3", "new"), ("4", "new")):
        module = tmp_path / version / "lib/python3.11/site-packages/policyfs/module.py"
        module.parent.mkdir(parents=True)
        module.write_text(code)
    (tmp_path / "current").symlink_to("4")
    script = (CHECKOUT / "packaging/debian/remove-versions").read_text(encoding="utf-8")
    script = script.replace("root=/usr/lib/policyfs", f"root={tmp_path}")
    same = ", whose code is the same: nothing is to be done"
    with ExitStack() as stack:
        for version in "13":
            file = stack.enter_context(open(next((tmp_path / version).rglob("*.py")), "rb"))
            stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for kept, told in (
            ("4", ("1; `policyfs up --restart SITE` renews them", f"3{same}")),
            ("", ("1", "3")),
        ):
            done = subprocess.run(
                ["sh", "-c", script, "sh", *([kept] if kept else [])],
                capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip
            lines = [f"policyfs: running mounts go on with {tmp_path}/{what}" for what in told]
            assert done.stderr.splitlines() == lines
            left = sorted(path.name for path in tmp_path.iterdir())
            assert left == (["1", "3", "4", "current"] if kept else ["1", "3", "current"])


# ---------------------------------------------------------------- what the repository says


def test_no_file_names_a_package_index() -> None:
    host = re.compile("pypi[.]org|python[h]osted|--(extra-)?index[-]url|deb[.]debian[.]org|/simpl[e]/")
    assert not [name for name, text in _texts().items() if host.search(text)]


def test_no_layout_assumes_pages_of_four_kilobytes() -> None:
    """Kernels of arm64 may have pages of 16 or 64 KiB: code asks for the size (mmap.PAGESIZE, sysconf)."""
    rounding = re.compile(r"[%/&]\s*\(?~?\(?(4096|4095|0x1000)\b|\bPAGE_(SIZE|MASK|SHIFT)\b")
    code = {name: text for name, text in _texts().items() if name.startswith("policyfs/")}
    assert not [name for name, text in code.items() if rounding.search(text)]
