"""The body of a success. Rows pass through as the bytes PostgreSQL wrote."""

from collections.abc import Sequence

from gateway.catalogue.query import Access, Kind, Query
from gateway.errors import Outcome, ResultTooLarge, UnexpectedAffected
from gateway.postgres.single import Result

COMMITTED = b'"outcome":"committed"}'


def encode(query: Query, result: Result, *, committed: bool) -> bytes:
    """The answer to one query; raises ResultTooLarge, when a write has happened already."""
    try:
        body = encode_result(query, result)
    except ResultTooLarge as error:
        raise error.but(outcome=Outcome.COMMITTED if committed else None) from error
    return b"%b,%b" % (body[:-1], COMMITTED) if committed else body


def require_few(queries: Sequence[Query], results: Sequence[Result], most: int | None) -> None:
    """Raise UnexpectedAffected, with the step, where a write among these touched more than ``most`` rows."""
    if most is None:
        return
    for step, (query, result) in enumerate(zip(queries, results, strict=True)):
        if query.access is Access.WRITE and result.row_count > most:
            raise UnexpectedAffected(
                f"{query.name} touches {result.row_count} rows, and may touch {most}",
                step=step if len(queries) > 1 else None,
            )


def encode_all(queries: Sequence[Query], results: Sequence[Result], *, committed: bool) -> bytes:
    """The answer to several queries in one transaction; raises ResultTooLarge with the step."""
    bodies = []
    for step, (query, result) in enumerate(zip(queries, results, strict=True)):
        try:
            bodies.append(encode_result(query, result))
        except ResultTooLarge as error:
            raise error.but(step=step) from error
    return b'{"results":[%b]%b' % (b",".join(bodies), b"," + COMMITTED if committed else b"}")


def encode_result(query: Query, result: Result) -> bytes:
    """What one query answered, without an outcome; raises ResultTooLarge."""
    text, row_count = result.text, result.row_count
    match query.kind:
        case Kind.MANY:
            if query.max_rows is not None and row_count > query.max_rows:
                raise ResultTooLarge(f"more than {query.max_rows} rows")
            return b'{"rows":[%b],"row_count":%d}' % (text, row_count)
        case Kind.ONE:
            return b'{"row":%b}' % (text or b"null")
        case Kind.SCALAR:
            return b'{"value":%b}' % (text or b"null")
        case Kind.EXEC:
            return b'{"affected":%d}' % row_count
