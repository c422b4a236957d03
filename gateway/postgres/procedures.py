"""Learns the signature of a CALL from the catalogs: it cannot be prepared, so the server cannot be asked directly."""

import re
from collections.abc import Sequence

import msgspec

from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Query, Text
from gateway.catalogue.types import Column, Form, Signature
from gateway.postgres.connection import Connection
from gateway.postgres.declared import CannotLearn, declared_oid
from gateway.postgres.types import TypeBook

_PROCEDURE = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*call\s+(?P<name>[^(]+?)\s*\(", re.IGNORECASE | re.DOTALL)
_MARK = re.compile(r"\x00(\d+)\x00")
_NAMED = re.compile(r'\s*"?(?P<name>\w+)"?\s*=>')
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|[(),\[\]]|\x00\d+\x00""", re.DOTALL)


class _Candidate(msgspec.Struct):
    modes: list[str]
    names: list[str]
    types: list[int]

    def inputs(self) -> list[tuple[str, int]]:
        return [(name, oid) for mode, name, oid in self._all() if mode in "biv"]

    def outputs(self) -> list[tuple[str, int]]:
        return [(name, oid) for mode, name, oid in self._all() if mode in "bo"]

    def places(self) -> list[tuple[str, int]]:
        """Arguments as CALL counts them: OUT ones have their place too (PostgreSQL >= 14)."""
        return [(name, oid) for mode, name, oid in self._all() if mode in "biov"]

    def _all(self) -> Sequence[tuple[str, str, int]]:
        return list(zip(self.modes, self.names, self.types, strict=True))


def learn_call(connection: Connection, query: Query, book: TypeBook, deadline: float) -> Signature:
    """The signature of a CALL: types of the one procedure that fits by name and number of arguments.

    An argument that is a parameter and nothing else gets that argument's type; others need ``@param``. Raises
    CannotLearn, or a GatewayError where the connection is at fault.
    """
    name, arguments = _arguments(query.statement.bare)
    candidates = [c for c in _procedures(connection, name, deadline) if len(c.places()) == len(arguments)]
    if len(candidates) != 1:
        found = f"{len(candidates)} procedures" if candidates else "no procedure"
        raise CannotLearn(f"{found} {name} with {len(arguments)} arguments")
    procedure = candidates[0]
    oids: dict[int, int] = {}
    for position, argument in enumerate(arguments):
        named = _NAMED.match(argument)
        mark = _MARK.fullmatch(argument[named.end() if named else 0 :].strip())
        if mark is None:
            continue
        places = dict(procedure.places()) if named else {}
        oid = places.get(named["name"], 0) if named else procedure.places()[position][1]
        if oid:
            oids.setdefault(int(mark[1]), oid)
    for index, parameter in enumerate(query.parameters):
        declared = declared_oid(connection, parameter, deadline)
        if declared:
            oids[index] = declared
        elif index not in oids:
            raise CannotLearn(
                f'parameter {parameter.name} has no type of its own; add "-- @param {parameter.name} TYPE"'
            )
    outputs = procedure.outputs()
    book.read(connection, [*oids.values(), *(oid for _, oid in outputs)], deadline)
    return Signature(
        parameters=tuple(book.type(oids[index]) for index in range(len(query.parameters))),
        columns=tuple(
            Column(label or f"column{position}", book.type(oid)) for position, (label, oid) in enumerate(outputs, 1)
        ),
        form=Form.CALL,
        harmless=False,
    )


_PROCEDURES = """
SELECT json_build_object(
    'modes', coalesce(p.proargmodes::text[], array_fill('i'::text, ARRAY[p.pronargs::int])),
    'names', coalesce(p.proargnames, array_fill(''::text, ARRAY[cardinality(a.types)])),
    'types', a.types::int8[])::text
  FROM (SELECT parse_ident({name})) AS i(name)
  JOIN pg_catalog.pg_proc p ON p.proname = i.name[cardinality(i.name)]
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 CROSS JOIN LATERAL (SELECT coalesce(p.proallargtypes, p.proargtypes::oid[])) AS a(types)
 WHERE p.prokind = 'p'
   AND CASE cardinality(i.name) WHEN 1 THEN pg_function_is_visible(p.oid) ELSE n.nspname = i.name[1] END
"""


def _procedures(connection: Connection, name: str, deadline: float) -> list[_Candidate]:
    rows = connection.ask(_PROCEDURES.format(name=literal(name)), deadline)
    return [msgspec.json.decode(row[0] or "", type=_Candidate) for row in rows]


def _arguments(text: Text) -> tuple[str, list[str]]:
    """The procedure's name and its arguments as text, parameters written as their index between two NULs."""
    sql = text.render(lambda _, index: f"\0{index}\0")
    head = _PROCEDURE.match(sql)
    if head is None:
        raise CannotLearn("the CALL's procedure name cannot be read")
    arguments, depth, start, end = [], 1, head.end(), len(sql)
    for token in _TOKEN.finditer(sql, head.end()):
        match token[0]:
            case "(" | "[":
                depth += 1
            case ")" | "]":
                depth -= 1
                if depth == 0:
                    end = token.start()
                    break
            case "," if depth == 1:
                arguments.append(sql[start : token.start()])
                start = token.end()
    arguments.append(sql[start:end])
    return head["name"], [] if len(arguments) == 1 and not arguments[0].strip() else arguments
