"""Queries written in a test, run on a real connection as the gateway would: compile, learn, bind, run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg2
import psycopg2.extensions
from msgspec import Raw

from gateway.catalogue.arguments import Binder
from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.json_text import elements, split_object
from gateway.catalogue.query import Kind, Query
from gateway.catalogue.types import Signature
from gateway.demo.server import Server
from gateway.postgres import single
from gateway.postgres.driver import Address, Driver
from gateway.postgres.learning import learn
from gateway.postgres.objects import Book
from gateway.postgres.session import Session
from gateway.postgres.single import Result
from gateway.postgres.statement import Plan

GROUPS = {"read": "read", "write": "write"}


def soon(seconds: float = 10.0) -> float:
    """A deadline that no healthy test meets."""
    return monotonic() + seconds


def driver(dsn: str, *, read_only: bool = False, endpoint: str = "here", **more: Any) -> Driver:
    """A driver that knows one endpoint."""
    address = Address(dsn=dsn, prepare=more.pop("prepare", True))
    return Driver({endpoint: address}, read_only=read_only, **more)


def connect(dsn: str, *, read_only: bool = False, **more: Any) -> Session:
    """A connection as the gateway makes it."""
    return driver(dsn, read_only=read_only, **more).connect("here", soon())


@contextmanager
def plain(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    """A cursor of an ordinary connection, in autocommit, that none of our code has touched."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@contextmanager
def database(server: Server, name: str) -> Iterator[str]:
    """The DSN of a new, empty database, dropped afterwards."""
    server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    server.sql(f"CREATE DATABASE {name}")
    try:
        yield server.dsn(name)
    finally:
        server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class Desk:
    """Takes query files as text and runs them on one connection."""

    def __init__(self, connection: Session, directory: Path) -> None:
        self.connection = connection
        self._directory = directory
        self._learnt: dict[str, tuple[Query, Signature, Binder]] = {}

    def compile(self, text: str) -> Query:
        """The one query of this text; a text without a header gets one of kind many."""
        if "-- name:" not in text:
            text = f"-- name: q\n{text}"
        self._directory.mkdir(exist_ok=True)
        (self._directory / "q.sql").write_text(text, encoding="utf-8")
        (query,) = compile_catalogue([self._directory], groups=GROUPS, timeout=5.0).queries.values()
        return query

    def learn(self, text: str) -> tuple[Query, Signature]:
        """Compile and learn; raises CannotLearn."""
        query, signature, _ = self._known(text)
        return query, signature

    def plan(self, text: str, **more: Any) -> Plan:
        """How the query of this text runs."""
        return Plan.of(*self.learn(text), **more)

    def run(self, text: str, arguments: bytes | str = b"{}", **more: Any) -> Result:
        """Run with the arguments of a POST body; raises a GatewayError."""
        *_, binder = self._known(text)
        body = arguments.encode() if isinstance(arguments, str) else arguments
        return self._run(text, binder.bind_json(split_object(body)), **more)

    def get(self, text: str, arguments: Mapping[str, Sequence[str]], **more: Any) -> Result:
        """Run with the arguments of a query string."""
        *_, binder = self._known(text)
        return self._run(text, binder.bind_text(arguments), **more)

    def rows(self, text: str, arguments: bytes | str = b"{}", **more: Any) -> list[str]:
        """The JSON texts of what a query answers."""
        result = self.run(text, arguments, **more)
        pieces = elements(Raw(b"[%b]" % result.text))
        assert pieces is not None
        assert len(pieces) == result.row_count
        return [bytes(piece).decode() for piece in pieces]

    def value(self, text: str, arguments: bytes | str = b"{}", **more: Any) -> str | None:
        """The JSON text of the only row or value, None if there is none."""
        rows = self.rows(text, arguments, **more)
        assert len(rows) <= 1
        return rows[0] if rows else None

    def affected(self, text: str, arguments: bytes | str = b"{}", **more: Any) -> int:
        """What an ``exec`` answers."""
        assert self.compile(text).kind is Kind.EXEC
        return self.run(text, arguments, **more).row_count

    def _run(self, text: str, literals: list[str], **more: Any) -> Result:
        big = bool(more.pop("bigint_as_string", False))
        more.setdefault("deadline", soon())
        try:
            return single.run(self.connection, self.plan(text, bigint_as_string=big), literals, **more)
        finally:
            if not self.connection.closed:
                self.connection.settle(soon())

    def _known(self, text: str) -> tuple[Query, Signature, Binder]:
        known = self._learnt.get(text)
        if known is None:
            query = self.compile(text)
            signature = learn(self.connection, query, Book(), soon())
            known = self._learnt[text] = (query, signature, Binder(query.parameters, signature.parameters))
        return known
