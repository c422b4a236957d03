"""Has the server parse a statement and describe it: what its parameters and columns are, without running it.

libpq's ``PQsendPrepare`` and ``PQsendDescribePrepared``, which psycopg2 does not pass on, are called through ctypes
on the connection's own libpq, in their asynchronous form, so that the deadline holds here too. Unlike the SQL
statement PREPARE they take a CALL as well, and types as OIDs, free of any search_path.
"""

import ctypes
import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import psycopg2
import psycopg2._psycopg

from gateway.postgres.session import Session
from gateway.postgres.waiting import READABLE, WRITABLE, park

_COMMAND_OK = 1
_UNNAMED = b""
"""Replaced by the next statement that is parsed, whatever its name: nothing to clean up."""
_NAME = "gw_learning"
_UTILITY = re.compile(r"\{QUERY\s+:commandType\s+6")
"""The tree of a PREPARE, SET or the like."""
_SQLSTATE, _MESSAGE, _HINT = (ord(field) for field in "CMH")


class Description(NamedTuple):
    """Type OIDs of the parameters, name and type OID of each column."""

    parameters: tuple[int, ...]
    columns: tuple[tuple[str, int], ...]


class Undescribed(Exception):
    """The server does not take the statement; the message is its own, with hint and SQLSTATE."""

    def __init__(self, sqlstate: str, message: str, hint: str | None) -> None:
        super().__init__(f"{message} [{sqlstate}]" + (f"; hint: {hint}" if hint else ""))
        self.sqlstate = sqlstate


def describe(connection: Session, sql: str, types: Sequence[int | None], deadline: float) -> Description:
    """Describe one statement; ``types`` are OIDs of its parameters, None for the server to say.

    Raises Undescribed; or psycopg2.OperationalError where the connection broke, or DeadlinePassed, after which the
    connection is closed.
    """
    connection.clean(deadline)
    try:
        return _describe(connection, sql, types)
    except Undescribed:
        raise
    except BaseException:
        connection.close()  # an answer may still be on its way, and nobody would read it
        raise


def rewritten(connection: Session, sql: str, types: Sequence[str], deadline: float, *, label: str, quiet: bool) -> str:
    """The tree of a statement after the server has rewritten it: views, rules, policies and defaults are in it.

    The server sends it as a notice while it prepares the statement, and writes it to its log as well unless it may be
    told not to (``quiet``). ``label`` is a comment that names the query: pg_stat_statements keeps the text that it sees
    first, and this is it. Nothing runs. Raises a GatewayError.
    """
    settings = {"client_min_messages": "log", "debug_pretty_print": "off", "debug_print_rewritten": "on"}
    if quiet:
        settings["log_min_messages"] = "fatal"
    listed = f"({', '.join(types)})" if types else ""
    message = [f"SET LOCAL {name} = {value}" for name, value in settings.items()]
    message += [f"PREPARE {label}{_NAME}{listed} AS {sql}", f"DEALLOCATE {_NAME}"]
    connection.notices.clear()
    try:
        connection.ask(";\n".join(message), deadline)
        return "\n".join(notice for notice in connection.notices if not _UTILITY.search(notice))
    finally:
        connection.notices.clear()


def _describe(connection: Session, sql: str, types: Sequence[int | None]) -> Description:
    libpq = _libpq()
    handle = connection.pgconn_ptr
    oids = (ctypes.c_uint * len(types))(*(oid or 0 for oid in types))
    if not libpq.PQsendPrepare(handle, _UNNAMED, sql.encode(), len(types), oids):
        raise psycopg2.OperationalError(libpq.PQerrorMessage(handle).decode())
    libpq.PQclear(_result(connection))
    if not libpq.PQsendDescribePrepared(handle, _UNNAMED):
        raise psycopg2.OperationalError(libpq.PQerrorMessage(handle).decode())
    result = _result(connection)
    try:
        return Description(
            tuple(libpq.PQparamtype(result, index) for index in range(libpq.PQnparams(result))),
            tuple(
                (libpq.PQfname(result, index).decode(), libpq.PQftype(result, index))
                for index in range(libpq.PQnfields(result))
            ),
        )
    finally:
        libpq.PQclear(result)


@functools.cache
def _libpq() -> ctypes.CDLL:
    """The libpq that psycopg2 is linked with; its symbols are found through psycopg2's own module."""
    library = ctypes.CDLL(psycopg2._psycopg.__file__)  # noqa: SLF001 - no public name for the module itself
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("PQsendPrepare", number, (pointer, text, text, number, pointer)),
        ("PQsendDescribePrepared", number, (pointer, text)),
        ("PQflush", number, (pointer,)),
        ("PQconsumeInput", number, (pointer,)),
        ("PQisBusy", number, (pointer,)),
        ("PQgetResult", pointer, (pointer,)),
        ("PQresultStatus", number, (pointer,)),
        ("PQresultErrorField", text, (pointer, number)),
        ("PQresultErrorMessage", text, (pointer,)),
        ("PQerrorMessage", text, (pointer,)),
        ("PQnparams", number, (pointer,)),
        ("PQparamtype", ctypes.c_uint, (pointer, number)),
        ("PQnfields", number, (pointer,)),
        ("PQfname", text, (pointer, number)),
        ("PQftype", ctypes.c_uint, (pointer, number)),
        ("PQclear", None, (pointer,)),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def _result(connection: Session) -> int | None:
    """The good result of what was sent, with the connection idle again."""
    libpq = _libpq()
    result = _next_result(connection)
    _next_result(connection)  # always NULL
    if libpq.PQresultStatus(result) == _COMMAND_OK:
        return result
    try:
        sqlstate = libpq.PQresultErrorField(result, _SQLSTATE)
        if sqlstate is None:
            raise psycopg2.OperationalError(libpq.PQresultErrorMessage(result).decode())
        message = libpq.PQresultErrorField(result, _MESSAGE) or b""
        hint = libpq.PQresultErrorField(result, _HINT)
        raise Undescribed(sqlstate.decode(), _line(message), _line(hint) if hint else None)
    finally:
        libpq.PQclear(result)


def _next_result(connection: Session) -> int | None:
    libpq = _libpq()
    handle = connection.pgconn_ptr
    while libpq.PQflush(handle) == 1:
        park(connection, WRITABLE)
        _consume(libpq, connection)
    while libpq.PQisBusy(handle):
        park(connection, READABLE)
        _consume(libpq, connection)
    result: int | None = libpq.PQgetResult(handle)
    return result


def _consume(libpq: ctypes.CDLL, connection: Session) -> None:
    if not libpq.PQconsumeInput(connection.pgconn_ptr):
        raise psycopg2.OperationalError(libpq.PQerrorMessage(connection.pgconn_ptr).decode())


def _line(message: bytes) -> str:
    return " ".join(message.decode(errors="replace").split())
