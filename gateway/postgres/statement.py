"""A query ready to run: its prepared form, and the one message that runs it.

No text is built from a request here: literals arrive written by ``catalogue.arguments.literal``.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Self, TypeVar

import msgspec

from gateway.catalogue import exporting
from gateway.catalogue.arguments import NULL
from gateway.catalogue.paging import is_own, page
from gateway.catalogue.query import Access, Kind, Order, Query, Text
from gateway.catalogue.types import INTEGER, Column, Form, Signature, Type
from gateway.catalogue.wrapping import ALIAS, accumulate, quoted, total, wrap
from gateway.postgres.dsn import APPLICATION

NAME = re.compile(r"\bgw_[0-9a-f]{16}\b")
"""Names of what we prepare, as they appear in the server's messages."""


STALE = f"gateway-{secrets.token_hex(8)}"
"""What the server complains of, as no number, where a check fails. No one outside this process knows it,
so that no error that a caller provokes is taken for that."""


GENERIC_PLANS_SINCE = 160000
"""Server version from which EXPLAIN plans a statement with parameters that have no values."""


def explained(text: Text, types: Sequence[Type], *, server_version: int) -> str:
    """The EXPLAIN that plans a statement whose parameters have these types, whatever their values; NULL before 16."""
    generic = server_version >= GENERIC_PLANS_SINCE

    def write(_occurrence: int, index: int) -> str:
        return f"({f'${index + 1}' if generic else NULL}::{types[index].sql})"

    return f"EXPLAIN {'(GENERIC_PLAN) ' if generic else ''}{text.render(write)}"


class Guard(msgspec.Struct, frozen=True):
    """A statement without parameters that goes with a write, in its transaction, and may stop it."""

    text: str
    name: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Give a statement the name it is prepared under."""
        return cls(text, f"gw_{hashlib.sha256(text.encode()).hexdigest()[:16]}")

    @classmethod
    def expecting(cls, expected: str) -> Self:
        """Make what the server refuses where it refuses the SELECT, which is not run."""
        return cls.of(f"WITH {ALIAS} AS ({expected}) SELECT")

    @classmethod
    def checking(cls, condition: str) -> Self:
        """Make what stops a transaction in which the condition does not hold."""
        # NOTE: the text is cast after the choice: as a constant of its own it would be read when preparing.
        # PERF: in WHERE, with no row and no column to send, 2 µs less than as a column.
        choice = f"CASE WHEN {condition} THEN '0' ELSE '{STALE}' END"
        return cls.of(f"SELECT WHERE ({choice})::pg_catalog.int4 OPERATOR(pg_catalog.<>) 0")

    def prepare(self) -> str:
        """The PREPARE message."""
        return f"PREPARE {self.name} AS {self.text}"


class Plan(msgspec.Struct, frozen=True):
    """How one query runs on any connection of the node. The same plan, the same prepared name everywhere."""

    query: str
    name: str
    """``gw_`` and 16 hex digits over text and types: identifiers are cut at 63 bytes, a longer name could run
    another query."""
    form: Form
    kind: Kind
    write: bool
    harmless: bool
    text: Text
    parameters: tuple[str, ...]
    types: tuple[Type, ...]
    columns: tuple[Column, ...]
    big_as_text: bool
    """Whether int8 and numeric become JSON strings (``Prefer: bigint=string``)."""
    tag: str
    """A comment with the query's name: ``pg_stat_activity`` and slow logs show the EXECUTE only.

    In the form of sqlcommenter, as are those below."""
    max_rows: int | None = None
    max_bytes: int | None = None
    """Of a result with many rows: the server sends nothing of one that has more; None: no limit."""
    only_primary: bool = False
    """Whether no standby can run it."""
    guard: Guard | None = None
    """Of a write whose own statement cannot expect the types it was learnt with: does it in front of it."""
    check: Guard | None = None
    """Of a write: goes behind it, before the COMMIT, for what cannot be told in front of it.

    Not prepared: it would not be analysed anew when a type changes that is no table's."""

    @classmethod
    def of(
        cls,
        query: Query,
        signature: Signature,
        *,
        bigint_as_string: bool = False,
        epoch: int = 0,
        max_bytes: int | None = None,
    ) -> Self:
        """Make the plan of a query from what the server said of it; ``epoch`` sets apart what was learnt anew."""
        text, form = None, signature.form
        if bigint_as_string and not _has_names(query, signature) and form is Form.WRAPPED:
            form = Form.PLAIN
        if form is Form.WRAPPED:
            text = wrap(
                query.kind,
                query.statement,
                max_rows=query.max_rows,
                max_bytes=max_bytes,
                columns=_casts(signature) if bigint_as_string else None,
                expected=signature.expected,
            )
        text = text or query.statement.bare
        return cls(
            query=query.name,
            name=_name(text, signature, epoch),
            form=form,
            kind=query.kind,
            write=query.access is Access.WRITE,
            harmless=signature.harmless,
            text=text,
            parameters=tuple(parameter.name for parameter in query.parameters),
            types=signature.parameters,
            columns=signature.columns,
            big_as_text=bigint_as_string,
            tag=f"/*action='{query.name}'*/ ",
            max_rows=query.max_rows,
            max_bytes=max_bytes,
            only_primary=signature.primary_only,
            guard=_guard(signature, text),
            check=Guard.checking(signature.checked) if signature.checked else None,
        )

    @classmethod
    def accumulating(
        cls, query: Query, signature: Signature, *, bigint_as_string: bool = False, epoch: int = 0
    ) -> Self | None:
        """The plan that leaves its result where the message's last statement finds it; None where nothing can.

        Only the last result of a message comes back: see ``wrapping.accumulate``. A server may still refuse to
        prepare it (tables with rules), where the ordinary plan works.
        """
        if signature.form is Form.CALL or (signature.form is Form.PLAIN and query.kind is not Kind.EXEC):
            return None
        if bigint_as_string and not _has_names(query, signature):
            return None
        text = accumulate(
            query.kind,
            query.statement,
            max_rows=query.max_rows,
            columns=_casts(signature) if bigint_as_string else None,
            expected=signature.expected,
        )
        if text is None:
            return None
        plain = cls.of(query, signature, bigint_as_string=bigint_as_string, epoch=epoch)
        return _around(plain, text, signature, epoch)

    @classmethod
    def summing(cls, query: Query, signature: Signature, *, epoch: int = 0) -> Self | None:
        """The plan that adds the rows it touches to ``wrapping.TOTAL``; None where nothing can be put around it."""
        text = total(query.statement, expected=signature.expected)
        if signature.form is Form.CALL or text is None:
            return None
        return _around(cls.of(query, signature, epoch=epoch), text, signature, epoch)

    @classmethod
    def paged(
        cls,
        query: Query,
        signature: Signature,
        key: Sequence[Order],
        after: Sequence[bool] | None,
        *,
        bigint_as_string: bool = False,
        epoch: int = 0,
        max_bytes: int | None = None,
    ) -> Self:
        """The plan that answers one page, as ``paging.page`` has it.

        Its parameters are the query's, the number of rows, and the values of the key that are not NULL. ``after``: for
        each column of the key whether it has such a value; None: it is the first page. Raises ValueError where a
        column is not one of the result, or not alone of its name.
        """
        columns = {column.name: column.type for column in signature.columns}
        types = [columns[order.column] for order in key if order.column in columns]
        if len(columns) < len(signature.columns) or len(types) < len(key) or query.statement.source is None:
            raise ValueError(f"the columns must be of the result, and alone of their names: {', '.join(columns)}")
        plain, first = cls.of(query, signature, epoch=epoch), len(signature.parameters)
        places = iter(range(first + 1, first + 1 + len(key)))
        values = None if after is None else [next(places) if is_value else None for is_value in after]
        given = () if after is None else tuple(type_ for type_, is_value in zip(types, after, strict=True) if is_value)
        text = page(
            query.statement.source,
            key,
            types,
            size=first,
            after=values,
            max_bytes=max_bytes,
            columns=_casts(signature) if bigint_as_string else None,
        )
        parameters = (*signature.parameters, INTEGER, *given)
        return msgspec.structs.replace(
            plain,
            name=_name(text, msgspec.structs.replace(signature, parameters=parameters), epoch),
            form=Form.WRAPPED,
            harmless=plain.harmless and all(map(is_own, types)),
            text=text,
            parameters=(*plain.parameters, "size", *("cursor" for _ in given)),
            types=parameters,
            big_as_text=bigint_as_string,
            max_bytes=max_bytes,
        )

    @property
    def transaction(self) -> bool:
        """Whether the statement needs an explicit transaction, with its COMMIT in a second message.

        A procedure could commit by itself otherwise; rows that are encoded in a second look must not have been
        committed before that look succeeded, nor what a check is behind.
        """
        is_plain = self.form is Form.PLAIN and self.kind is not Kind.EXEC
        return is_plain or self.check is not None or self.form is Form.CALL

    def prepare(self, name: str = "") -> str:
        """The PREPARE message, under another name if one is given."""
        types = f"({', '.join(parameter.sql for parameter in self.types)})" if self.types else ""
        return f"PREPARE {label_of(self.query)}{name or self.name}{types} AS {self.text.render()}"

    def traced(self, traceparent: str) -> Self:
        """The same plan for one call, in whose comment its trace is. SECURITY: ``traceparent`` is hex and dashes."""
        tag = f"/*action='{self.query}',traceparent='{traceparent}'*/ "
        return msgspec.structs.replace(self, tag=tag)

    def execute(self, literals: Sequence[str]) -> str:
        """The statement that runs the prepared form with these literals."""
        arguments = f"({', '.join(literals)})" if literals else ""
        return f"{self.tag}EXECUTE {self.name}{arguments}"

    def inline(self, literals: Sequence[str], text: Text | None = None) -> str:
        """The statement itself with typed literals in place: for CALL, and where nothing may stay prepared.

        ``text``: another one of the same parameters.
        """
        return self.tag + (text or self.text).render(lambda _, index: f"({literals[index]}::{self.types[index].sql})")

    def raw(self, query: Query, max_bytes: int) -> Self:
        """The plan that answers the query's value as text, or in hex; of at most so many bytes."""
        if query.statement.source is None:
            raise ValueError(f"{query.name} cannot be selected from")
        text = exporting.raw(query.statement.source, self.columns[0].type, max_bytes)
        identity = f"{self.name}\0{text.render()}"
        name = f"gw_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        return msgspec.structs.replace(self, name=name, text=text, max_bytes=max_bytes)

    def encode_rows(self, rows: Sequence[Sequence[str]]) -> str:
        """The statement with which the server writes the JSON of rows that came as text (literals or NULL).

        For results that nothing can be wrapped around: a CALL's OUT row, tables with rules.
        """
        casts = [f"::{column.type.sql}{_cast(column.type) if self.big_as_text else ''}" for column in self.columns]
        values = ", ".join(
            f"({', '.join(f'{value}{cast}' for value, cast in zip(row, casts, strict=True))})" for row in rows
        )
        if self.kind is Kind.SCALAR:
            # NOTE: the first column alone is named, as another could have any name.
            return (
                f"SELECT coalesce(pg_catalog.to_json(_gw.c)::pg_catalog.text, 'null') FROM (VALUES {values}) AS _gw(c)"
            )
        names = ", ".join(quoted(column.name) for column in self.columns)
        return f"SELECT pg_catalog.row_to_json(_gw.*)::pg_catalog.text FROM (VALUES {values}) AS _gw({names})"


_Plan = TypeVar("_Plan", bound=Plan)


def label_of(query: str) -> str:
    """Return the comment that names a query where its statement is prepared.

    The same whoever calls, and when it is learnt: pg_stat_statements keeps the text that it saw first. It stands behind
    the word PREPARE, since PostgreSQL 18 leaves out what is in front of it.
    """
    return f"/*action='{query}',application='{APPLICATION}'*/ "


def _name(text: Text, signature: Signature, epoch: int) -> str:
    types = ", ".join(parameter.sql for parameter in signature.parameters)
    identity = f"{epoch}\0{types}\0{text.render()}"
    return f"gw_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _around(plan: _Plan, text: Text, signature: Signature, epoch: int) -> _Plan:
    """The plan with something else around its query."""
    name, guard = _name(text, signature, epoch), _guard(signature, text)
    return msgspec.structs.replace(plan, name=name, text=text, form=Form.WRAPPED, guard=guard)


def _guard(signature: Signature, text: Text) -> Guard | None:
    """What goes in front of a write's statement: nothing, where that expects the types itself."""
    expected = signature.expected
    return None if not expected or any(expected in piece for piece in text.pieces) else Guard.expecting(expected)


def _has_names(query: Query, signature: Signature) -> bool:
    """Whether each column can be told by its name, as far as that is needed to cast it."""
    names = [column.name for column in signature.columns]
    return query.kind in (Kind.SCALAR, Kind.EXEC) or len(set(names)) == len(names)


def _casts(signature: Signature) -> list[tuple[str, str]]:
    """All columns with the cast that makes a string of a big number."""
    return [(column.name, _cast(column.type)) for column in signature.columns]


def casts_of(columns: Sequence[Column]) -> list[str]:
    """What to cast each column by, so that big numbers become strings."""
    return [_cast(column.type) for column in columns]


def _cast(column: Type) -> str:
    if column.is_big:
        return "::pg_catalog.text"
    if column.element is not None and column.element.is_big:
        return "::pg_catalog.text[]"
    return ""
