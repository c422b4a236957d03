"""Names, parameter lists and result kinds of headers."""

import pytest

from gateway.catalogue.headers import HEADER, Header, read_header
from gateway.catalogue.query import Kind


@pytest.mark.parametrize(
    ("rest", "name", "declared", "kind"),
    [
        ("all_orders", "all_orders", None, Kind.MANY),
        ("get-user^", "get-user", None, Kind.ONE),
        ("count_users $", "count_users", None, Kind.SCALAR),
        ("touch!", "touch", None, Kind.EXEC),
        ("add<!", "add", None, Kind.ONE),
        ("load*!", "load", None, Kind.EXEC),
        ("GetAuthor :one", "GetAuthor", None, Kind.ONE),
        ("ListAuthors :many", "ListAuthors", None, Kind.MANY),
        ("DeleteAuthor :exec", "DeleteAuthor", None, Kind.EXEC),
        ("DeleteAuthors :execrows", "DeleteAuthors", None, Kind.EXEC),
        ("GetAuthor:one", "GetAuthor", None, Kind.ONE),
        ("f()", "f", (), Kind.MANY),
        ("f( )^", "f", (), Kind.ONE),
        ("f(a)", "f", ("a",), Kind.MANY),
        ("f ( a ,b ) <!", "f", ("a", "b"), Kind.ONE),
        ("f(a) :exec", "f", ("a",), Kind.EXEC),
        ("_" + "x" * 127, "_" + "x" * 127, None, Kind.MANY),
        ("Touch :execresult", "Touch", None, Kind.EXEC),
    ],
)
def test_headers_of_both_conventions_are_read(
    rest: str, name: str, declared: tuple[str, ...] | None, kind: Kind
) -> None:
    assert read_header(rest) == (Header(name, declared, kind), [])


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("", '"" cannot be a query\'s name'),
        ("1st", '"1st" cannot be a query\'s name'),
        ("été", '"été" cannot be a query\'s name'),
        ("a.b", '"a.b" cannot be a query\'s name'),
        ("x" * 129, "cannot be a query's name"),
        ("f :two", '":two" is no result kind'),
        ("f^ :one", 'cannot read the header "f^ :one"'),
        ("f^(a)", '"^(a)" is no result kind'),
        ("the customer's name", "cannot read the header"),
        ("f(a, a)", "a is twice in the parameter list"),
        ("f(a,)", '"" in the parameter list'),
        ("f(1)", '"1" in the parameter list'),
    ],
)
def test_headers_that_cannot_be_served_are_faults(rest: str, fault: str) -> None:
    _, faults = read_header(rest)
    assert len(faults) == 1
    assert fault in faults[0]


def test_all_faults_of_a_header_are_told() -> None:
    header, faults = read_header("1(2):two")
    assert header is None
    assert len(faults) == 3


@pytest.mark.parametrize(
    ("rest", "instead"),
    [
        ("f#", "a query is one statement"),
        ("f :copyfrom", "use :exec, :one or :many, and send a list of objects or a bulk body"),
        ("f :batchone", "use :exec, :one or :many, and send a list of objects or a bulk body"),
        ("f :execlastid", "use :one, and add RETURNING"),
    ],
)
def test_a_kind_that_cannot_be_served_says_what_to_do_instead(rest: str, instead: str) -> None:
    header, faults = read_header(rest)
    assert faults == []
    assert header is not None
    assert header.unserved == f"result kind {rest.removeprefix('f').strip()} cannot be served: {instead}"


@pytest.mark.parametrize(
    "comment",
    [
        "-- name: a",
        "--name:a",
        "--  name  :  a  ",
        "-- name: a\r",
        "/* name: a */",
        "/*name:a*/",
        "/* name: a\n more */",
    ],
)
def test_spaces_around_the_name_do_not_matter(comment: str) -> None:
    match = HEADER.match(comment)
    assert match is not None
    assert match["rest"] == "a"


@pytest.mark.parametrize("comment", ["-- Name: a; Type: TABLE", "-- the name: a", "-- named: a"])
def test_other_comments_are_no_headers(comment: str) -> None:
    assert HEADER.match(comment) is None
