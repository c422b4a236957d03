"""What an answer is written as, by the ``Accept`` header."""

import pytest
from msgspec.structs import replace

from gateway.catalogue.exporting import Format, Layout
from gateway.catalogue.query import Kind, Text
from gateway.errors import NotAcceptable
from gateway.web.formats import accepts_json, wanted
from tests.execution.samples import query

MANY = query()
MANY = replace(MANY, kind=Kind.MANY, statement=replace(MANY.statement, source=Text(("(SELECT 1)",))))
ONE = replace(MANY, kind=Kind.ONE)
WRITE = replace(query("pay", write=True), kind=Kind.MANY, statement=MANY.statement)
PICTURE = replace(MANY, kind=Kind.SCALAR, media="image/png")
NDJSON = Format(Layout.NDJSON)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/x-ndjson", NDJSON),
        ("Application/X-NDJSON", NDJSON),
        ("application/json", None),
        ("text/html, */*", None),
        ("application/*", None),
        ("application/x-ndjson, */*", NDJSON),
        ("application/x-ndjson;q=0.5, application/json", None),
        ("application/json, application/x-ndjson", None),
        ("application/json;q=0.5, text/csv;q=0.6", Format(Layout.CSV)),
        ("text/csv", Format(Layout.CSV)),
        ("text/csv;charset=UTF-8", Format(Layout.CSV)),
        ("text/*", Format(Layout.CSV)),
        ("text/csv;header=absent", Format(Layout.CSV, has_header=False)),
        ('text/csv; delimiter=";"; header=present', Format(Layout.CSV, delimiter=";")),
        ("text/csv;delimiter=tab", Format(Layout.CSV, delimiter="\t")),
        ('text/csv;delimiter=","', Format(Layout.CSV)),
        ('text/csv;delimiter="|";q=0.9, application/x-ndjson;q=0.8', Format(Layout.CSV, delimiter="|")),
        ("", None),
    ],
)
def test_many_rows_are_json_or_lines(accept: str, expected: Format | None) -> None:
    assert wanted(accept, MANY) == expected


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/json;q=0",
        "text/csv;header=maybe",
        "text/csv;delimiter=x",
        "text/csv;delimiter=::",
        "text/csv;charset=latin-1",
        "text/csv;escape=no",
        "text/csv;q=2",
        "a" * 1025,
    ],
)
def test_what_cannot_be_written_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        wanted(accept, MANY)


@pytest.mark.parametrize("asked", [ONE, WRITE])
def test_lines_are_for_reads_with_many_rows(asked: object) -> None:
    assert wanted("application/x-ndjson, application/json;q=0.1", asked) is None  # type: ignore[arg-type]
    with pytest.raises(NotAcceptable, match="answered as application/json"):
        wanted("application/x-ndjson", asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/png", "image/png"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/png"),
        ("image/*;q=0.5, application/json", None),
        ("*/*", None),
        ("application/json", None),
    ],
)
def test_a_value_is_given_as_it_is_to_whoever_names_its_type(accept: str, expected: str | None) -> None:
    assert wanted(accept, PICTURE) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/html, */*;q=0.1", True),
        ("application/*", True),
        ("text/csv", False),
        ("application/json;q=0, */*", False),
    ],
)
def test_whether_json_will_do(accept: str, expected: bool) -> None:
    assert accepts_json(accept) is expected
