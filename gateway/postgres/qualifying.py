"""Catalogue queries with every operator and type named with its schema, written without that."""

import re

_OPERATOR = re.compile(r"(?<=\s)(=|<>|<=|>=|<|>|~|\|\|)(?=\s)")
_TYPE = re.compile(r'::(?=[a-z]|")(?!pg_catalog\.)')


def qualified(sql: str) -> str:
    """Return the query with the operators that stand between spaces, and the types of casts, in ``pg_catalog``.

    SECURITY: whoever may create objects in a schema of the search path can put an operator or a type of their own in
    the place of PostgreSQL's. Functions and relations are to be written with their schema; ``IN``, ``BETWEEN`` and
    ``LIKE``, which mean operators too, are not to be used. No string in the query may hold what looks like either.
    """
    return _TYPE.sub("::pg_catalog.", _OPERATOR.sub(r"OPERATOR(pg_catalog.\1)", sql))
