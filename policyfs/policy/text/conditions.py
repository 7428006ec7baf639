"""Conversion of the conditions in documents (parsed YAML) to values. Names are looked up, sets expanded."""

from __future__ import annotations

from typing import Final, TypedDict

from policyfs.domain import OWNER_NONE
from policyfs.policy.model import ANY, SELF, STRANGER, Block, Who
from policyfs.policy.text.declarations import Declarations
from policyfs.policy.text.document import BlockDoc, ExceptionDoc, InvariantDoc, RuleDoc, WhoDoc
from policyfs.policy.text.nodes import Loc
from policyfs.policy.text.shape import Part
from policyfs.policy.text.values import OWNER_IS_AN_APP, app_for_uid, merged

_OF_OWNERS: Final = {
    SELF: "to let each app do this with its own files, write who: {app: any} and when: {owner: self}",
    OWNER_NONE: "callers that are no app are strangers: write stranger",
}
"""Help texts for words that belong in ``owner``, if a policy uses them in ``app``."""
_OF_CALLERS: Final = {
    ANY: "to exempt files without an owner, write unless: {owner: none}; to match all files, remove owner",
    STRANGER: "files that strangers create have no owner: write none",
}
"""Help texts for words that belong in ``app``, if a policy uses them in ``owner``."""


class Resolved(TypedDict):
    """The conditions of one rule, exception or invariant, and its description, as fields of a Rule."""

    who: Who | None
    paths: tuple[str, ...] | None
    when: Block | None
    unless: tuple[Block, ...]
    ignore_case: bool
    description: str


class Conditions:
    """Converter of conditions to values. It reports names that the policy does not declare."""

    __slots__ = ("names",)

    def __init__(self, names: Declarations) -> None:
        self.names = names

    def of(self, part: Part[object], doc: RuleDoc | ExceptionDoc | InvariantDoc) -> Resolved:
        """Return the conditions of a rule, an exception or an invariant."""
        return Resolved(
            who=self._who(part, ("who",), doc.who),
            paths=self._globs(part, ("paths",), doc.paths),
            when=self._block(part, ("when",), doc.when) if doc.when is not None else None,
            unless=tuple(
                self._block(part, ("unless", index), block) for index, block in enumerate(doc.unless or ())
            ),
            ignore_case=doc.ignore_case,
            description=doc.description,
        )

    def _who(self, part: Part[object], loc: Loc, doc: WhoDoc | None) -> Who | None:
        if doc is None:
            return None
        for index, app in enumerate(doc.app or ()):
            self.names.check_app(part, (*loc, "app", index), app, (ANY, STRANGER), _calling)
        for index, grant in enumerate(doc.grant or ()):
            self.names.check_grant(part, (*loc, "grant", index), grant)
        return Who(
            apps=frozenset(doc.app) if doc.app is not None else None,
            grants=frozenset(doc.grant) if doc.grant is not None else None,
            uids=merged(doc.uid) if doc.uid is not None else None,
            not_=self._who(part, (*loc, "not"), doc.not_),
        )

    def _block(self, part: Part[object], loc: Loc, doc: BlockDoc) -> Block:
        for index, owner in enumerate(doc.owner or ()):
            self.names.check_app(part, (*loc, "owner", index), owner, (SELF, OWNER_NONE), _owning)
        return Block(
            kinds=self.kinds(part, (*loc, "type"), doc.type),
            owners=frozenset(doc.owner) if doc.owner is not None else None,
            paths=self._globs(part, (*loc, "path"), doc.path),
        )

    def kinds(self, part: Part[object], loc: Loc, members: tuple[str, ...] | None) -> frozenset[str] | None:
        """Return the kinds, also those of named sets. loc: the place of *members* in the part."""
        if members is None:
            return None
        return frozenset(kind for _, kind in self.names.expand(part, loc, members, globs=False))

    def _globs(self, part: Part[object], loc: Loc, members: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if members is None:
            return None
        expanded = self.names.expand(part, loc, members, globs=True)
        return tuple(dict.fromkeys(glob for _, glob in expanded))


def _calling(name: str) -> str:
    if name.isascii() and name.isdigit():
        return app_for_uid(name)
    return _OF_OWNERS.get(name, "")


def _owning(name: str) -> str:
    if name.isascii() and name.isdigit():
        return OWNER_IS_AN_APP
    return _OF_CALLERS.get(name, "")
