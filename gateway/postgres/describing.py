"""What libpq knows of a prepared statement that psycopg2 does not pass on: parameter and column types, names.

``PQdescribePrepared`` describes DML with RETURNING without running it. It is called through ctypes on the
connection's own libpq, in its asynchronous form, so that the deadline holds here too.
"""

import ctypes
import functools
import select
from typing import NamedTuple

import psycopg2
import psycopg2._psycopg
import psycopg2.extensions

from gateway.postgres.waiting import wait_for

_COMMAND_OK = 1


class Description(NamedTuple):
    """Type OIDs of the parameters, name and type OID of each column."""

    parameters: tuple[int, ...]
    columns: tuple[tuple[str, int], ...]


@functools.cache
def _libpq() -> ctypes.CDLL:
    """The libpq that psycopg2 is linked with; its symbols are found through psycopg2's own module."""
    library = ctypes.CDLL(psycopg2._psycopg.__file__)  # noqa: SLF001 - no public name for the module itself
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("PQsendDescribePrepared", ctypes.c_int, (pointer, ctypes.c_char_p)),
        ("PQconsumeInput", ctypes.c_int, (pointer,)),
        ("PQisBusy", ctypes.c_int, (pointer,)),
        ("PQgetResult", pointer, (pointer,)),
        ("PQresultStatus", ctypes.c_int, (pointer,)),
        ("PQresultErrorMessage", ctypes.c_char_p, (pointer,)),
        ("PQerrorMessage", ctypes.c_char_p, (pointer,)),
        ("PQnparams", ctypes.c_int, (pointer,)),
        ("PQparamtype", ctypes.c_uint, (pointer, ctypes.c_int)),
        ("PQnfields", ctypes.c_int, (pointer,)),
        ("PQfname", ctypes.c_char_p, (pointer, ctypes.c_int)),
        ("PQftype", ctypes.c_uint, (pointer, ctypes.c_int)),
        ("PQclear", None, (pointer,)),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def describe(connection: psycopg2.extensions.connection, name: str, deadline: float) -> Description:
    """Describe the statement that was prepared under ``name``; raises psycopg2.OperationalError or DeadlinePassed."""
    libpq = _libpq()
    handle = connection.pgconn_ptr
    if not libpq.PQsendDescribePrepared(handle, name.encode()):
        raise psycopg2.OperationalError(libpq.PQerrorMessage(handle).decode())
    result = _next_result(connection, deadline)
    try:
        if libpq.PQresultStatus(result) != _COMMAND_OK:
            raise psycopg2.OperationalError(libpq.PQresultErrorMessage(result).decode())
        return Description(
            tuple(libpq.PQparamtype(result, index) for index in range(libpq.PQnparams(result))),
            tuple(
                (libpq.PQfname(result, index).decode(), libpq.PQftype(result, index))
                for index in range(libpq.PQnfields(result))
            ),
        )
    finally:
        libpq.PQclear(result)
        _next_result(connection, deadline)  # always NULL, and only then is the connection idle again


def _next_result(connection: psycopg2.extensions.connection, deadline: float) -> int | None:
    libpq = _libpq()
    handle = connection.pgconn_ptr
    while libpq.PQisBusy(handle):
        wait_for(connection.fileno(), select.POLLIN, deadline)
        if not libpq.PQconsumeInput(handle):
            raise psycopg2.OperationalError(libpq.PQerrorMessage(handle).decode())
    result: int | None = libpq.PQgetResult(handle)
    return result
