"""Types that a query's author declared with ``@param``, looked up on the server."""

from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Parameter
from gateway.postgres.connection import Connection


class CannotLearn(Exception):
    """The server does not take a query, or not say what its parameters are; the message is for its author."""


class TryLater(Exception):
    """The server cannot tell now, as somebody holds a lock, and may a moment later; the message says what it was."""


def declared_oid(connection: Connection, parameter: Parameter, deadline: float) -> int | None:
    """The OID of a declared type, None if none was; a modifier (``numeric(10,2)``) is the column's business.

    Raises CannotLearn where the server does not know the type, and a GatewayError where the connection is at fault.
    """
    if parameter.type is None:
        return None
    rows = connection.ask(f"SELECT to_regtype({literal(parameter.type)})::oid::int8::text", deadline)
    if rows[0][0] is None:
        raise CannotLearn(f"parameter {parameter.name}: there is no type {parameter.type}")
    return int(rows[0][0])
