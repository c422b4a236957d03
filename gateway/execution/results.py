"""The body of a success. Rows pass through as the bytes PostgreSQL wrote."""

from collections.abc import Sequence

from gateway.catalogue.query import Access, Expect, Kind, Query
from gateway.errors import GatewayError, NoRow, Outcome, ResultTooLarge, UnexpectedAffected
from gateway.postgres.single import Result

COMMITTED, ROLLED_BACK = b'"outcome":"committed"}', b'"outcome":"rolled_back"}'


def rolled_back(body: bytes) -> bytes:
    """The answer of a write, made to be committed, as it is where the write is rolled back instead."""
    return body.removesuffix(COMMITTED) + ROLLED_BACK if body.endswith(COMMITTED) else body


def encode(query: Query, result: Result, *, committed: bool) -> bytes:
    """The answer to one query; raises ResultTooLarge, when a write has happened already, and what ``meet`` raises."""
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
    """The answer to several queries in one transaction; raises what ``encode_result`` raises, with the step."""
    bodies = []
    for step, (query, result) in enumerate(zip(queries, results, strict=True)):
        try:
            bodies.append(encode_result(query, result))
        except GatewayError as error:
            raise error.but(step=step) from error
    return b'{"results":[%b]%b' % (b",".join(bodies), b"," + COMMITTED if committed else b"}")


def meet(query: Query, expect: Expect, row_count: int) -> None:
    """Raise NoRow or UnexpectedAffected where a result is not what its query expects."""
    if expect.is_row:
        if not row_count:
            raise NoRow(f"{query.name} has no row for these arguments")
    elif row_count < expect.least or (expect.most is not None and row_count > expect.most):
        raise UnexpectedAffected(f"{query.name} touches {row_count} rows, and is expected to: {expect.text}")


def encode_result(query: Query, result: Result) -> bytes:
    """What one query answered, without an outcome; raises ResultTooLarge, NoRow and UnexpectedAffected."""
    text, row_count = result.text, result.row_count
    if query.expect is not None:
        meet(query, query.expect, row_count)
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
