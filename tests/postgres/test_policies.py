"""Which conditions of policies are asked for every row; in the form in which the server writes them."""

import pytest

from gateway.postgres.policies import calls_per_row


@pytest.mark.parametrize(
    "condition",
    [
        "(tenant = (current_setting('app.tenant'::text))::integer)",
        "((tenant)::text = current_setting('app.tenant'::text, true))",
        "((a = ( SELECT 1 AS x)) AND (tenant = (current_setting('app.tenant'::text))::integer))",
        "(tenant = (pg_catalog.current_setting('a.b'::text))::integer)",
        "(x = '('::text) AND (y = current_setting('(SELECT'::text))",
    ],
)
def test_what_is_called_beside_subqueries_is_called_per_row(condition: str) -> None:
    assert calls_per_row(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "true",
        "(tenant = (( SELECT current_setting('app.tenant'::text) AS current_setting))::integer)",
        "(tenant = ((( SELECT (current_setting('a.b'::text))::jsonb AS s) ->> 'tenant'::text))::integer)",
        "(name = 'current_setting('::text)",
        '("current_setting(" = 1)',
        "(EXISTS ( SELECT 1 FROM t WHERE (t.id = (current_setting('a.b'::text))::integer)))",
    ],
)
def test_what_is_called_in_a_subquery_is_not(condition: str) -> None:
    assert not calls_per_row(condition)
