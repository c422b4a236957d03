"""Follows what a statement depends on through the catalogues, and proves from it whether it is harmless.

The server rewrites a statement before it is planned: views, rules, policies and defaults are in the tree that it shows.
From there the way leads on through what the statement only causes: domains, constraints, indexes, generated columns,
partitions, triggers, and the tables that foreign keys lead to. Everything that users have made has an OID from 16384
on, so no name is looked at; whatever is not known to be without effect on the session counts against the statement.
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from gateway.postgres.objects import DELETE, FIRST_OF_USERS, INSERT, UPDATE, Book, Relation
from gateway.postgres.session import Session

_NUMBER = re.compile(r"(?<![^\s(])\d{5,10}(?![^\s)}])")
"""A number that stands alone in a tree; every OID of an object that users have made is one."""
_CALLED = re.compile(r":(?:funcid|opfuncid|aggfnoid|winfnoid)\s+(\d+)")
_SAMPLE = "{TABLESAMPLECLAUSE"
"""A part of a table that is chosen by chance."""
_TARGET = re.compile(r":relid\s+(\d+)\s[^{}]*?:rellockmode\s+3\b")
"""A table that is written to: in its entry of the range table, locked as ROW EXCLUSIVE."""
_COMMAND = re.compile(r":commandType\s+(\d)")
_UPDATES_ON_CONFLICT = re.compile(r"\{ONCONFLICTEXPR\s+:action\s+2")
_PERMISSIONS = re.compile(
    r":relid\s+(\d+)\s[^{}]*?:requiredPerms\s+\d+\s+:checkAsUser\s+0\s+:selectedCols\s+\(b([\d\s]*)\)"
    r"\s+:insertedCols\s+\(b([\d\s]*)\)\s+:updatedCols\s+\(b([\d\s]*)\)"
)
"""Which columns of a relation are used, with our role's privileges."""
_BEFORE_COLUMNS = 7
"""Numbers of columns are moved by so much there, as system columns have negative ones."""
_COMMANDS = {"2": UPDATE, "3": INSERT, "4": DELETE}
_EVERY = INSERT | UPDATE | DELETE
_DEFAULTS = 1 << 10
"""Beside those: columns are set to their defaults, by a foreign key and not by the statement."""
_READABLE = frozenset("rpvmS")
"""Kinds of relations whose rows are had without anybody else's code: tables, views, sequences."""
_ON_DELETE = {"c": DELETE, "n": UPDATE, "d": UPDATE | _DEFAULTS}
"""What ON DELETE CASCADE, SET NULL and SET DEFAULT do to the rows that refer."""
_ON_UPDATE = {"c": UPDATE, "n": UPDATE, "d": UPDATE | _DEFAULTS}
_IN_WRITES = frozenset({"nextval"})
_MOST_REASONS = 3


class Proof(NamedTuple):
    """What was found."""

    relations: frozenset[int] = frozenset()
    types: frozenset[int] = frozenset()
    functions: frozenset[int] = frozenset()
    """Functions that users have made, as far as the statement itself calls them."""
    unproven: str = ""
    """Why the statement may leave something in the session, or write behind our back; empty if it cannot."""
    columns: Mapping[int, frozenset[int]] = {}
    """Numbers of the columns that the statement itself uses of each relation; 0 stands for all."""
    unlogged: bool = False
    """Whether it reads or writes what is not on standbys."""
    varies: bool = False
    """Whether its result may be another one each time, though no data changes."""


def prove(connection: Session, tree: str, book: Book, deadline: float, *, writes: bool) -> Proof:
    """Follow everything from the rewritten tree of a statement; raises a GatewayError.

    ``writes``: it may take numbers from sequences, whose traces are removed before they could be seen.
    """
    return _Search(connection, book, deadline, _IN_WRITES if writes else frozenset()).run(tree)


def _columns(tree: str) -> dict[int, frozenset[int]]:
    found: dict[int, frozenset[int]] = {}
    for relation, *numbers in _PERMISSIONS.findall(tree):
        used = frozenset(int(number) - _BEFORE_COLUMNS for number in " ".join(numbers).split())
        found[int(relation)] = found.get(int(relation), frozenset()) | used
    return found


class _Search:
    """One walk through the catalogue, breadth first, so that each level is read with a few questions."""

    def __init__(self, connection: Session, book: Book, deadline: float, allowed: AbstractSet[str]) -> None:
        self._connection = connection
        self._book = book
        self._deadline = deadline
        self._allowed = allowed
        """Builtin functions that do no harm here."""
        self._seen: dict[int, int] = {}
        """Every OID, with what is done to it if it is a table."""
        self._waiting: dict[int, int] = {}
        self._relations: set[int] = set()
        self._types: set[int] = set()
        self._functions: set[int] = set()
        self._reasons: dict[str, None] = {}

    def run(self, tree: str) -> Proof:
        events = 0
        for command in _COMMAND.findall(tree):
            events |= _COMMANDS.get(command, 0)
        if _UPDATES_ON_CONFLICT.search(tree):
            events |= UPDATE
        self._book.read(self._connection, (), self._deadline)
        self._look_through(tree)
        for relation in _TARGET.findall(tree):
            self._meet(int(relation), events or _EVERY)
        self._follow()
        direct = frozenset(self._functions)
        while self._waiting:
            self._follow()
        reasons = list(self._reasons)
        unproven = "; ".join(reasons[:_MOST_REASONS]) + (" …" if len(reasons) > _MOST_REASONS else "")
        relations = self._book.relations
        unlogged = any(relations[oid].persistence == "u" for oid in self._relations if oid in relations)
        return Proof(
            relations=frozenset(self._relations),
            types=frozenset(self._types),
            functions=direct,
            unproven=unproven,
            columns=_columns(tree),
            unlogged=unlogged,
            varies=_SAMPLE in tree or not self._book.volatile.isdisjoint(map(int, _CALLED.findall(tree))),
        )

    def _look_through(self, tree: str) -> None:
        """Take in all that a tree mentions."""
        builtin = self._book.builtin
        for oid in map(int, _CALLED.findall(tree)):
            if oid in builtin and builtin[oid] not in self._allowed:
                self._reasons[f"calls {builtin[oid]}"] = None
        for oid in map(int, _NUMBER.findall(tree)):
            self._meet(oid)

    def _meet(self, oid: int, events: int = 0) -> None:
        if oid < FIRST_OF_USERS or (oid in self._seen and self._seen[oid] | events == self._seen[oid]):
            return
        self._waiting[oid] = self._waiting.get(oid, 0) | events

    def _follow(self) -> None:
        """Look at all that waits, which may have more wait."""
        waiting, self._waiting = self._waiting, {}
        self._book.read(self._connection, waiting, self._deadline)
        for oid, events in waiting.items():
            self._seen[oid] = self._seen.get(oid, 0) | events
            self._follow_type(oid)
            if oid in self._book.functions:
                self._functions.add(oid)
                self._reasons[f"calls {self._book.functions[oid].name}"] = None
            if not self._book.operators.get(oid, True):
                self._reasons["has an operator that calls a function made by a user"] = None
            relation = self._book.relations.get(oid)
            if relation is not None:
                self._follow_relation(relation, self._seen[oid])

    def _follow_type(self, oid: int) -> None:
        row = self._book.types.row(oid)
        if row is None:
            return
        self._types.add(oid)
        if row.relation:
            self._relations.add(row.relation)
        if row.foreign_code:
            self._reasons[f"has values of {row.name}"] = None
        for part in row.parts:
            self._meet(part)
        for expression in row.expressions:
            self._look_through(expression)

    def _follow_relation(self, relation: Relation, events: int) -> None:
        self._relations.add(relation.oid)
        if relation.kind == "p" and events & UPDATE:
            events |= _EVERY  # a row that moves to another partition is deleted and inserted
        if relation.kind not in _READABLE or relation.foreign_code:
            self._reasons[f"{relation.name} is not an ordinary table"] = None
        for oid in (*relation.types, *relation.parents):
            self._meet(oid)
        for oid in relation.children:
            self._meet(oid, events)
        for expression in relation.expressions:
            self._look_through(expression)
        if events:
            self._follow_writes(relation, events)

    def _follow_writes(self, relation: Relation, events: int) -> None:
        if relation.rules:
            self._reasons[f"{relation.name} has rules"] = None
        for name, when in relation.triggers:
            if when & events:
                self._reasons[f"{relation.name} has the trigger {name}"] = None
        if events & _DEFAULTS:
            for expression in relation.defaults:
                self._look_through(expression)
        for oid in relation.referenced:
            self._meet(oid)
        for oid, deleted, updated in relation.referencing:
            caused = _ON_DELETE.get(deleted, 0) if events & DELETE else 0
            caused |= _ON_UPDATE.get(updated, 0) if events & UPDATE else 0
            self._meet(oid, caused)
