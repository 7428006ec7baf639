"""Where a mount with --posix and a policy that allows everything differs from the native file system.

Each with its reason. A difference that is not here fails the suite; so does one that is here and
is not seen any more.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Listed(NamedTuple):
    """A known difference. step and said: patterns of the step and of what differed (re.search).

    sometimes: it hangs on what the kernel happens to keep, and need not be seen in every run.
    """

    name: str
    reason: str
    step: str
    said: str
    sometimes: bool = False


LISTED: Final = (
    Listed(
        "suid is removed too early",
        "suid, sgid and file capabilities go when a file is opened for writing or truncated, whoever does"
        " it: writes in passthrough are not seen here. Natively they stay while nothing is written, when"
        " root writes, and sgid without group execution also when a member of the group does.",
        r"of mode [26]\d\d\d: (0:0|6553[34]:65534) |of mode [4-6]\d\d\d: 0:0 "
        r"|: [\d:]+ (open to write|write nothing)",
        r"^x is \('0o1000?0?[67][67][67]'[^;]*natively$|^x is \('0o100767'[^;]*natively$",
    ),
    Listed(
        "no suid on a file that is being written",
        "A file does not get suid or sgid while somebody has it open for writing, its maker among them, for"
        " the same reason: the writes that must clear them would not be seen.",
        r"^made with suid by who writes it",
        r"",
    ),
    Listed(
        "offsets beyond the store's largest file",
        "lseek(2) takes any offset: the kernel asks FUSE for no limit. Writing and truncating there is EFBIG"
        " as natively.",
        r"^far away: .* seek",
        r"through the mount, EINVAL natively$",
    ),
    Listed(
        "times of fifos",
        "What goes through a fifo is between the kernel and those who have it open: nobody tells the store.",
        r"^through a fifo: .*_through_fifo",
        r"",
    ),
    Listed(
        "access time of directories",
        "The kernel keeps listings where everyone sees the same, and does not say that one was read.",
        r"^atime of a directory: .* listdir",
        r"'' ?\) through the mount, .*'a'\) natively$",
        sometimes=True,
    ),
    Listed(
        "access time of symlinks",
        "The kernel keeps the targets of symlinks and does not say that one was read.",
        r"^atime of a symlink: .* readlink",
        r"'' ?\) through the mount, .*'a'\) natively$|, ''\) through the mount",
    ),
    Listed(
        "trusted attributes",
        "trusted.* attributes are the store's own: nobody is shown them, root neither (xfs keeps ACLs in"
        " some).",
        r": 0:0 listxattr",
        r" natively$",
        sometimes=True,
    ),
    Listed(
        "ctime when suid is removed",
        "moves, as POSIX wants it. A xfs takes suid away by a truncation to the same size and leaves ctime.",
        r"^truncate to the same of mode [246]",
        r"'c'\) through the mount, .* ''\) natively$",
        sometimes=True,
    ),
    Listed(
        "sgid when an empty ACL is set",
        "stays: that removes the ACL and nothing else. A tmpfs takes sgid away as if one had been set.",
        r" setxattr\('x', 'system.posix_acl_access', b''\)",
        r"^x is \('0o42[0-7]+', .* through the mount, \('0o40[0-7]+', .* natively$",
        sometimes=True,
    ),
    Listed(
        "names made after a directory was opened",
        "are listed by who has it open and reads it from its start. A btrfs leaves them out, which POSIX"
        " allows.",
        r"^directory descriptors: .* _directory_fd",
        r"^\[\['hard', 'link', 'sub'\], .* through the mount, \[\[\], .* natively$",
        sometimes=True,
    ),
    Listed(
        "mappings of files that can only grow",
        "mmap(2) does not know that chattr +a forbids the write, so msync ends in EPERM, and the bytes stay.",
        r"^\+a file: .* map_appending",
        r"^EPERM through the mount, EACCES natively$",
        sometimes=True,
    ),
)


def listed_for(step: str, said: str) -> Listed | None:
    """The entry that allows a difference."""
    for one in LISTED:
        if re.search(one.step, step) and re.search(one.said, said):
            return one
    return None
