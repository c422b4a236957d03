"""Row-level security policies that are slower than they look: what they ask for every row.

``current_setting`` is no immutable function, so a policy that calls it does so for each row that it judges. In a
subquery that depends on nothing of the row, ``(SELECT current_setting(…))``, it is called once a statement.
"""

import re
from collections.abc import Iterator

from gateway.postgres.session import Session

ASK = (
    "SELECT polrelid::pg_catalog.regclass::pg_catalog.text, polname::pg_catalog.text,"
    " pg_catalog.pg_get_expr(polqual, polrelid) FROM pg_catalog.pg_policy WHERE polqual IS NOT NULL ORDER BY 1, 2"
)
_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?P<open>\()\s*(?P<select>SELECT\b)?|(?P<close>\))|\bcurrent_setting(?=\s*\()""",
    re.IGNORECASE,
)


def asked_per_row(connection: Session, deadline: float) -> Iterator[tuple[str, str]]:
    """Name the table and the policy of each one that calls ``current_setting`` for every row."""
    for table, policy, condition in connection.ask(ASK, deadline):
        if calls_per_row(condition or ""):
            yield table or "", policy or ""


def calls_per_row(condition: str) -> bool:
    """Whether a condition, as the server writes it, calls ``current_setting`` outside of every subquery."""
    subqueries: list[bool] = []
    for token in _TOKEN.finditer(condition):
        if token["open"]:
            subqueries.append(token["select"] is not None)
        elif token["close"]:
            if subqueries:
                subqueries.pop()
        elif token.group().lower() == "current_setting" and not any(subqueries):
            return True
    return False
