"""What a query means depends on objects of the server's catalogue; these are what has to be watched for it."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Self

import msgspec

SETTINGS = "settings"
"""The part of a look that holds what is set for the role or the database. It changes no query, but sessions keep what
was set when they began."""
_OF_ALL = frozenset({"operators", "casts", "memberships", "path"})
"""Parts of a look that concern every query."""
ALWAYS = _OF_ALL | {SETTINGS}
"""Parts that every look is at, whatever is watched. What there is nothing of has no hash."""


class Dependencies(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Objects of a database, by OID where the server has resolved them and by name where it might resolve others.

    A name is watched because an object that is created under it may take the place of the one that was found.
    """

    relations: frozenset[int] = frozenset()
    types: frozenset[int] = frozenset()
    relation_names: frozenset[str] = frozenset()
    type_names: frozenset[str] = frozenset()
    function_names: frozenset[str] = frozenset()
    schemas: frozenset[str] = frozenset()
    """Schemas, besides those of the search path, in which names are looked for."""

    def __or__(self, other: "Dependencies") -> "Dependencies":
        """All that either depends on."""
        return Dependencies(*(getattr(self, field) | getattr(other, field) for field in self.__struct_fields__))

    def touched_by(self, changed: AbstractSet[str]) -> bool:
        """Whether any of these parts of a look concerns what depends on this."""
        return not changed.isdisjoint(_OF_ALL) or not changed.isdisjoint(self.parts)

    @classmethod
    def of_all(cls, several: Iterable["Dependencies"]) -> Self:
        """All that any of several depends on."""
        sets: list[set[Any]] = [set() for _ in cls.__struct_fields__]
        for each in several:
            for found, field in zip(sets, cls.__struct_fields__, strict=True):
                found |= getattr(each, field)
        return cls(*map(frozenset, sets))

    @property
    def parts(self) -> set[str]:
        """The parts of a look that these are."""
        return {
            *(f"relation {oid}" for oid in self.relations),
            *(f"type {oid}" for oid in self.types),
            *(f"relation {name}" for name in self.relation_names),
            *(f"type {name}" for name in self.type_names),
            *(f"function {name}" for name in self.function_names),
            *(f"schema {name}" for name in self.schemas),
        }
