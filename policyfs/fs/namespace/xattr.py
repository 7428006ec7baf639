"""Extended attributes in user.*, and ACLs if the kernel checks them (--posix)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final, TypeVar

from policyfs.domain import NO_FACTS, REDACTIONS, Audit, Decision, Facts, FileType, Need, Op, to_clean
from policyfs.fs.access.audit import Call
from policyfs.fs.access.gate import Gate
from policyfs.fs.access.ledger import recorded_first
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.context import FsContext, FsPart
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import ROOT_ID, Node
from policyfs.fs.namespace.setid import SetIdBits
from policyfs.fs.opening.open_files import OpenFiles
from policyfs.fs.saved.intents import ChangeKind, Intent, Side
from policyfs.store.tree import ACLS


class AttributeBans:
    """The ban on extended attributes where a rule has ``require: {no: [...]}``: one could contain the data.

    Apps that the rule is about cannot set ``user.*`` attributes there (ACLs with --posix they can), nor move
    a file with such there from a path with fewer requirements (Settled.holds). link(2) from a path with other
    content requirements is refused anyway (Engine.link)."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def need(self, node: Node, caller: Caller) -> Need:
        """Return the facts that check() needs: none if no rule forbids words."""
        if not self._words(node, caller, NO_FACTS):
            return Need.NOTHING
        return Need.OWNER

    def check(self, node: Node, caller: Caller, call: Call, facts: Facts) -> None:
        """Raise FUSEError(EOPNOTSUPP), on record, if a rule forbids some data at one of the file's paths.

        INVARIANT: no await between this call and the change, because the check uses the node's present names.
        """
        words = self._words(node, caller, facts)
        if not words:
            return
        refusal = Decision(allowed=False, errno=errno.EOPNOTSUPP, audit=Audit.REQUIRED)
        named = ", ".join(sorted((words | to_clean(words)) & REDACTIONS))
        note = f"an extended attribute could contain {named}, so apps cannot set extended attributes here"
        self._gate.refuse(caller, call, node.path(), refusal, note=note)

    def _words(self, node: Node, caller: Caller, facts: Facts) -> frozenset[str]:
        """Return the words forbidden for any kind: attributes stay if an app gives the file another."""
        who, engine, facts = caller.principal, self._gate.engine, facts._replace(kind=None)
        found: frozenset[str] = frozenset()
        for state in node.states():
            found |= engine.bans(who, state, node.ftype, facts)
        return found


T = TypeVar("T")
_READ: Final = Op.SEE | Op.READ
_CHANGE: Final = Op.SEE | Op.ATTR
_LABEL: Final = b"security.selinux"
_HIDDEN: Final = "xattrs are hidden if the file is redacted for the app, or if the app may not read it"


class ExtendedAttributes(FsPart):
    """The handler of the xattr requests of one mount."""

    def __init__(
        self,
        fs: FsContext,
        *,
        open_files: OpenFiles,
        bans: AttributeBans,
        change_lock: ChangeLock,
        set_id_bits: SetIdBits | None,
        enabled: bool = True,
    ) -> None:
        """set_id_bits: None without --posix. enabled: False if extended attributes are switched off."""
        super().__init__(fs)
        self._enabled = enabled
        self._open_files = open_files
        self._bans = bans
        self._change_lock = change_lock
        self._set_id_bits = set_id_bits

    async def getxattr(self, node: Node, name: bytes, caller: Caller) -> bytes:
        """Return the value of a user.* xattr, or of an ACL with --posix, for the kernel's checks. Raise
        OSError: ENODATA under redaction or without `read`, else as absence()."""
        self._check_enabled()
        if self._set_id_bits is not None and name in ACLS:
            await self._gate.require(caller, Op.SEE, node, Call("getxattr", "getxattr"))
            return self._with_fd(node, lambda fd: self._tree.acl(fd, name))
        if not _is_user(name):
            await self._gate.require(caller, Op.SEE, node, Call("getxattr", "getxattr"))
            raise absence(name)
        if not await self._shows_xattrs(node, caller, Call("getxattr", "getxattr")):
            raise OSError(errno.ENODATA, _HIDDEN)
        return self._with_fd(node, lambda fd: self._tree.getxattr(fd, name))

    def absent_now(self, node: Node, name: bytes, caller: Caller) -> None:
        """Raise the error of absence(), if that needs no facts, record or look at the object. INVARIANT: not
        for a caller that may not see it, so that getxattr() refuses on record."""
        self._check_enabled()
        shown = _is_user(name) or (self._set_id_bits is not None and name in ACLS)
        if not shown and self._gate.seen_now(caller, node):
            raise absence(name)

    async def listxattr(self, node: Node, caller: Caller) -> list[bytes]:
        """Return the names of user.* xattrs, and of ACLs with --posix; none if the caller may not read."""
        self._check_enabled()
        if not await self._shows_xattrs(node, caller, Call("listxattr", "listxattr")):
            return []
        acls = [] if self._set_id_bits is None else self._with_fd(node, self._tree.acl_names)
        return [*acls, *self._with_fd(node, lambda fd: [n for n in self._tree.listxattr(fd) if _is_user(n)])]

    def _check_enabled(self) -> None:
        """Raise ENOSYS if xattrs are off: the kernel asks no more. INVARIANT: never with --posix, which needs
        ACLs."""
        if not self._enabled:
            raise OSError(errno.ENOSYS, "this mount has no extended attributes")

    async def _shows_xattrs(self, node: Node, caller: Caller, call: Call) -> bool:
        """Return True if the caller may read the xattrs. Denials go unrecorded: programs ask always."""
        await self._gate.require(caller, Op.SEE, node, call)
        decision = await self._gate.node(caller, _READ, node)
        return decision.allowed and not self._hides_xattrs(node, caller, decision)

    def _hides_xattrs(self, node: Node, caller: Caller, reading: Decision) -> bool:
        """Return True if redaction hides data of the file for its present or any other kind: xattrs stay when
        an app gives the file another kind. reading: the decision on `read`."""
        who, engine = caller.principal, self._gate.engine
        if node.ftype is not FileType.REGULAR or not any(engine.view(who, s).redact for s in node.states()):
            return False
        owner = None
        if self._gate.need(who, _READ, node) & Need.OWNER:
            owner = self._with_fd(node, self._gate.facts.owner_of)
        of_any_kind = self._gate.judge(who, _READ, node, Facts(None, owner))
        if of_any_kind.allowed:
            return bool(of_any_kind.redact)
        own = owner is not None and owner == who.app
        return bool(reading.redact) or not own

    @recorded_first
    async def setxattr(self, node: Node, name: bytes, value: bytes, caller: Caller) -> None:
        """Set a user.* xattr, or an ACL with --posix. EPERM for security.*, trusted.* and user.policyfs.*,
        EOPNOTSUPP for others, and if a rule forbids xattrs (AttributeBans) or redaction hides them."""
        self._check_enabled()
        call, generation = Call("xattr", "setxattr"), self._gate.generation
        facts = await self._facts(node, name, caller, call)
        set_id_bits = self._set_id_bits
        with contextlib.ExitStack() as stack:
            path_fd = self._open_files.descriptor(node)
            stack.callback(os.close, path_fd)
            # Until the xattr is set, no other daemon moves the file to a path where xattrs are forbidden.
            async with self._change_lock.on(path_fd):
                self._gate.unchanged(generation)
                decision = self._decided(node, name, caller, call, facts)
                if _is_user(name):
                    self._bans.check(node, caller, call, facts)
                self._gate.recorder.decided(caller, call, node.path(), decision)
                self._kept.xattr(caller, call, decision.keep, node.path(), path_fd, name, value)
                with self._open_files.bytes_stay(node.ino):
                    if set_id_bits is not None and name in ACLS:
                        self._with_fd(node, lambda fd: set_id_bits.set_acl(fd, name, value, caller))
                    else:
                        self._with_fd(node, lambda fd: self._tree.setxattr(fd, name, value))

    @recorded_first
    async def removexattr(self, node: Node, name: bytes, caller: Caller) -> None:
        """Remove a user.* xattr, or an ACL with --posix. Errors as setxattr(), but ENODATA if hidden."""
        self._check_enabled()
        call, generation = Call("xattr", "removexattr"), self._gate.generation
        facts = await self._facts(node, name, caller, call)
        self._gate.unchanged(generation)
        decision = self._decided(node, name, caller, call, facts)
        self._gate.recorder.decided(caller, call, node.path(), decision)
        remove = self._tree.remove_acl if name in ACLS else self._tree.removexattr
        comes_again = self._intents.before(caller.unique) is not None
        if self._intents.are_kept and not comes_again:
            read = self._tree.acl if name in ACLS else self._tree.getxattr
            self._with_fd(node, lambda fd: read(fd, name))  # later its absence tells that it was removed
            self._intents.begin(Intent(caller.unique, ChangeKind.ATTRIBUTE, Side(node.nodeid)))
        path = node.path()
        self._with_fd(node, lambda fd: self._kept.xattr(caller, call, decision.keep, path, fd, name))
        with self._open_files.bytes_stay(node.ino):
            try:
                self._with_fd(node, lambda fd: remove(fd, name))
            except OSError as error:
                if error.errno != errno.ENODATA or not comes_again:
                    raise

    async def _facts(self, node: Node, name: bytes, caller: Caller, call: Call) -> Facts:
        """Return the facts on which a change of an xattr depends, or refuse it if it is denied already."""
        await self._gate.require(caller, _CHANGE, node, call)
        need = self._gate.need(caller.principal, _CHANGE, node)
        if _is_user(name):
            need |= self._gate.need(caller.principal, _READ, node) | self._bans.need(node, caller)
        if not need or node.nodeid == ROOT_ID:
            return NO_FACTS
        return await self._gate.facts_of(node, need, caller.principal)

    def _decided(self, node: Node, name: bytes, caller: Caller, call: Call, facts: Facts) -> Decision:
        """Return the decision on a change of an xattr, or refuse it. INVARIANT: no await before the change:
        the file may move to a path where the caller may change nothing."""
        decision = self._gate.judge(caller.principal, _CHANGE, node, facts)
        if not decision.allowed:
            self._gate.refuse(caller, call, node.path(), decision)
        if not _is_user(name) and not (self._set_id_bits is not None and name in ACLS):
            if not name.startswith((b"security.", b"trusted.", b"user.")):
                raise OSError(errno.EOPNOTSUPP, "this mount does not support xattrs of this namespace")
            refusal = Decision(allowed=False, errno=errno.EPERM, audit=Audit.REQUIRED)
            shown = name.decode("utf-8", "backslashreplace")
            note = (
                f"apps cannot change the extended attribute {shown}. They can change user.* (but not"
                " user.policyfs.*), and ACLs with --posix"
            )
            self._gate.refuse(caller, call, node.path(), refusal, note=note)
        reading = self._gate.judge(caller.principal, _READ, node, facts)
        sets = call.syscall == "setxattr"  # this reveals nothing, so the present kind counts
        if _is_user(name) and (reading.redact or not sets) and self._hides_xattrs(node, caller, reading):
            # The answer must not depend on the file's hidden xattrs, since the answer would reveal them. A
            # change would destroy them.
            code = errno.EOPNOTSUPP if sets else errno.ENODATA
            raise OSError(code, "xattrs of a file that is redacted for the app are hidden")
        return decision

    def _with_fd(self, node: Node, use: Callable[[int], T]) -> T:
        fd = self._open_files.descriptor(node)
        try:
            return use(fd)
        finally:
            os.close(fd)


def absence(name: bytes) -> OSError:
    """Return the error for an xattr outside "user.", which no object of a mount has. For capabilities,
    kernel/answers/_avc.c gives it.

    EOPNOTSUPP for system.* (ACLs) and SELinux labels, after which `ls -l` stops asking; else ENODATA:
    getcap(8) and Samba take any other error for a failure."""
    if name.startswith(b"system.") or name == _LABEL:
        return OSError(errno.EOPNOTSUPP, "this mount has no ACLs and no labels")
    return OSError(errno.ENODATA, "no such xattr here")


def _is_user(name: bytes) -> bool:
    return name.startswith(b"user.") and not name.startswith(b"user.policyfs.")
