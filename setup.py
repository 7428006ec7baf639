"""What pyproject.toml cannot say: the version, and how to build the C bridge to libfuse.

Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys

from setuptools import Extension, setup

MINIMUM_LIBFUSE = "3.14"
PACKAGES = "gcc pkg-config libfuse3-dev python3-dev"


def version() -> str:
    """The version of an sdist from its metadata, and otherwise of the source."""
    if os.path.exists("PKG-INFO"):
        with open("PKG-INFO", encoding="utf-8") as metadata:
            return re.search("^Version: (.+)$", metadata.read(), re.MULTILINE)[1]
    return subprocess.check_output(["packaging/version.sh"], text=True).strip()


def fuse_flags(question: str) -> list[str]:
    """What pkg-config answers about fuse3; ends the build with advice if it cannot."""
    if shutil.which("pkg-config") is None:
        sys.exit(f"policyfs needs pkg-config to be built. On Debian: apt install {PACKAGES}")
    command = ["pkg-config", question, f"fuse3 >= {MINIMUM_LIBFUSE}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        sys.exit(
            f"policyfs needs the headers of libfuse {MINIMUM_LIBFUSE} or newer to be built.\n"
            f"On Debian: apt install {PACKAGES}\npkg-config says: {answer.stderr.strip()}"
        )
    return answer.stdout.split()


# The bridge's rooms (docs/architecture/vectors.md) have its sources and headers.
BRIDGE = "policyfs/kernel"

# Building the package must not fail on a future compiler's new warning; our own builds must.
STRICT = ["-Werror"] if os.environ.get("POLICYFS_STRICT_BUILD") else []

# gcc 14 refuses these by itself, an older gcc does not: what is not declared would be missed at import.
FLAGS = [
    "-std=gnu11", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-Werror=implicit-int",
    "-Werror=int-conversion", "-Werror=incompatible-pointer-types", *STRICT,
    "-fstack-protector-strong",  # not every Python has it among its own flags
    f"-ffile-prefix-map={os.getcwd()}=.",  # two builds have the same bytes, wherever they are made
]  # fmt: skip

# Without it in memory a thread that ends aborts a confined daemon: glibc loads it for pthread_exit(3).
UNWINDER = ["-Wl,--push-state,--no-as-needed", "-lgcc_s", "-Wl,--pop-state"]

setup(
    ext_modules=[
        Extension(
            "policyfs.kernel._bridge",
            sorted(glob.glob(f"{BRIDGE}/*/_*.c")),
            depends=sorted(glob.glob(f"{BRIDGE}/*/_*.h")),
            include_dirs=[BRIDGE],
            extra_compile_args=[*FLAGS, *fuse_flags("--cflags")],
            extra_link_args=[*fuse_flags("--libs"), *UNWINDER],
        ),
        *(
            Extension(
                f"policyfs.redact.{part}",
                [f"policyfs/redact/{part.replace('.', '/')}.c", *more],
                depends=["policyfs/redact/bitstreams/_heads.h"] * bool(more),
                extra_compile_args=["-O2", *FLAGS],
            )
            for part, *more in (
                ("bitstreams._heads", *(f"policyfs/redact/bitstreams/_{c}.c" for c in ("units", "pictures"))),
                ("isobmff._stbl",),
                ("jpeg._scan",),
            )
        ),
    ],
    version=version(),  # after what asks for missing packages: it needs some, too
)
