"""The comment lines between header and statement."""

import msgspec
import pytest

from gateway.catalogue.annotations import ANNOTATIONS, Annotations, Comment, declared_names, read_annotations
from gateway.catalogue.query import Access, Cache, Deprecation, Expect, Order, Page, Parameter, Query, Sort
from gateway.settings.units import Rate

_PAGE = "@page is written `key(column [DESC], ...) size=N [max=N]`, with at most 8 columns"
_SORT = "@sort is written `name: column [DESC], ... | name: ...`, with at most 8 columns each"
_CACHE = '@cache is written `D` or `D stale=D`, with durations such as 30s, at most 24d, not "{}"'


def read(*lines: str) -> tuple[Annotations, list[tuple[int, str]]]:
    said, faults = read_annotations(
        [Comment(number, line) for number, line in enumerate(lines, 10)], ("length", "tenant")
    )
    return said, [(fault.line, fault.text) for fault in faults]


def test_every_annotation_is_read() -> None:
    said, faults = read(
        "What it does.",
        "",
        "@group reporting",
        "@access write",
        "@timeout 2s",
        "@param a int4 = 1 -- first",
        "@param b",
        "@role sales,  support, sales",
        "@cache 1h stale=5m",
        "@max_rows 500",
        "@outcome tracked",
        "@retry serialization",
        "@expect affected >= 1",
        "@batch off",
        "@join off",
        "@coalesce",
        "@page key(placed_at desc, id) size=50 max=400",
        "@sort newest: placed_at DESC, id | by-name: name",
        "@rate 100/s burst=200",
        "@concurrency 4",
        "@media image/PNG",
        "@deprecated use that instead",
        "@tool What it is",
        "@sqlc-vet-disable",
        "  More of it.",
        "",
    )
    assert faults == []
    assert said == Annotations(
        lines=said.lines,
        values={
            "group": "reporting",
            "access": Access.WRITE,
            "timeout": 2.0,
            "roles": ("sales", "support"),
            "cache": Cache(3600.0, 300.0),
            "max_rows": 500,
            "tracked": True,
            "retry_serialization": True,
            "expect": Expect("affected>=1", 1),
            "batch": False,
            "join": False,
            "coalesce": True,
            "page": Page((Order("placed_at", descends=True), Order("id")), 50, 400),
            "sorts": (
                Sort("newest", (Order("placed_at", descends=True), Order("id"))),
                Sort("by-name", (Order("name"),)),
            ),
            "rate": Rate(100, 1, 200),
            "concurrency": 4,
            "media": "image/png",
            "deprecated": Deprecation("use that instead"),
            "tool": "What it is",
        },
        parameters=((15, Parameter("a", "int4", "1", {}, "first")), (16, Parameter("b"))),
        description="What it does.\n\n  More of it.",
    )
    assert said.lines["timeout"] == 14
    assert set(said.lines) == set(ANNOTATIONS)


def test_every_annotation_is_kept_in_a_field_of_the_query() -> None:
    fields = {field.name for field in msgspec.structs.fields(Query)}
    assert {annotation.field for annotation in ANNOTATIONS.values()} <= fields


def test_no_comment_lines_say_nothing() -> None:
    assert read() == (Annotations({}, {}), [])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1.5s", 1.5), ("2 s", 2.0), ("1m", 60.0), ("1h", 3600.0), ("7d", 604800.0), ("1ms", 0.001)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert read(f"@timeout {text}")[0].values["timeout"] == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "0s", "-1s", "0.1ms", "25d", "5 seconds", "1e3s", "999999999999h", "٣s"]
)
def test_what_is_no_duration_is_a_fault(text: str) -> None:
    message = f'@timeout is a duration such as 250ms, 2s or 1h, at most 24d, not "{text}"'
    assert read(f"@timeout {text}")[1] == [(10, message)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("@group", "@group names one group"),
        ("@group a b", "@group names one group"),
        ("@access admin", '@access is `read` or `write`, not "admin"'),
        ("@role", "@role names roles, with commas between them"),
        ("@role a b", "@role names roles, with commas between them"),
        ("@role a,", "@role names roles, with commas between them"),
        ("@cache", _CACHE.format("")),
        ("@cache soon", _CACHE.format("soon")),
        ("@cache 1s stale", _CACHE.format("1s stale")),
        ("@cache 1s stale=0s", _CACHE.format("1s stale=0s")),
        ("@cache stale=1s", _CACHE.format("stale=1s")),
        ("@cache 1s stale=1s 2s", _CACHE.format("1s stale=1s 2s")),
        ("@max_rows 0", '@max_rows is a number of rows from 1 to 999999999, not "0"'),
        ("@max_rows ٣", '@max_rows is a number of rows from 1 to 999999999, not "٣"'),
        ("@outcome", '@outcome is `tracked`, not ""'),
        ("@retry always", '@retry is `serialization`, not "always"'),
        ("@expect", '@expect is `row`, `affected=N` or `affected>=N`, not ""'),
        ("@expect rows", '@expect is `row`, `affected=N` or `affected>=N`, not "rows"'),
        ("@expect affected>1", '@expect is `row`, `affected=N` or `affected>=N`, not "affected>1"'),
        ("@expect affected>=0", '@expect is `row`, `affected=N` or `affected>=N`, not "affected>=0"'),
        ("@batch", '@batch is `on` or `off`, not ""'),
        ("@join maybe", '@join is `on` or `off`, not "maybe"'),
        ("@coalesce yes", '@coalesce takes no value, not "yes"'),
        ("@page key() size=5", _PAGE),
        ("@page key(a, a) size=5", _PAGE),
        ("@page key(a) size=0", _PAGE),
        ("@page size=5", _PAGE),
        ("@page key(a up) size=5", _PAGE),
        ("@page key(a) size=5 max=x", _PAGE),
        ("@page key(a, b, c, d, e, f, g, h, i) size=5", _PAGE),
        ("@page key(a) size=5 max=4", "@page has max=4, less than size=5"),
        ("@sort", _SORT),
        ("@sort newest", _SORT),
        ("@sort newest: ", _SORT),
        ("@sort new est: a", _SORT),
        ("@sort a: b, b", _SORT),
        ("@sort a: b | a: c", "@sort gives a name twice"),
        (f"@sort {' | '.join(f's{n}: a' for n in range(17))}", "@sort has 17 orders, and at most 16 are prepared"),
        ("@rate 0/s", '@rate must be a rate such as "100/s", "100/s burst=200" or "30/min", not "0/s"'),
        ("@rate 1/d burst=400", '@rate must have a burst that is back after a year at most, not "1/d burst=400"'),
        ("@concurrency 0", '@concurrency is a number of calls from 1 to 999999, not "0"'),
        ("@media", '@media is a media type such as image/png, without parameters, not ""'),
        ("@media png", '@media is a media type such as image/png, without parameters, not "png"'),
        ("@media a/b;c=d", '@media is a media type such as image/png, without parameters, not "a/b;c=d"'),
        ("@media text/csv", "@media names what no value is without more around it"),
        ("@deprecated", "@deprecated says what to use instead"),
        ("@deprecated since=2026-01-01", "@deprecated says what to use instead"),
        ("@deprecated since=soon x", '@deprecated has dates such as since=2026-12-31, not "soon"'),
        ("@deprecated sunset=2026-02-30 x", '@deprecated has dates such as sunset=2026-12-31, not "2026-02-30"'),
        (
            "@deprecated since=2026-02-01 sunset=2026-01-01 x",
            "@deprecated is since 2026-02-01, later than its sunset 2026-01-01",
        ),
        ("@param", "@param: names no parameter"),
    ],
)
def test_a_wrong_value_is_a_fault(line: str, fault: str) -> None:
    assert read(line)[1] == [(10, fault)]


@pytest.mark.parametrize("word", ["foo", "rol", "Role", "role:", "someone's"])
def test_an_unknown_annotation_is_a_fault_that_names_the_known(word: str) -> None:
    ((line, message),) = read("fine", f"@{word} x")[1]
    assert line == 11
    assert message.startswith(f"@{word} is no annotation; there are @param, @group, ")


@pytest.mark.parametrize("line", ["@ home", "mail me@example.org", "@", "@1"])
def test_other_at_signs_belong_to_the_description(line: str) -> None:
    said, faults = read(line)
    assert (said.description, faults) == (line, [])


def test_what_is_said_twice_is_a_fault() -> None:
    assert read("@role a", "@role b", "@param x", "@param x int4")[1] == [
        (11, "@role is given twice, first in line 10"),
        (13, "@param x is given twice, first in line 12"),
    ]


def test_all_faults_are_told() -> None:
    assert [line for line, _ in read("@foo", "@timeout x", "@param a = y", "fine", "@batch z")[1]] == [10, 11, 12, 14]


def test_a_line_that_begins_with_a_parameter_describes_it() -> None:
    said, faults = read("Boats.", "@length: the least, in metres", "@tenant whose they are")
    assert faults == []
    assert said.description == "Boats.\n@length: the least, in metres\n@tenant whose they are"


def test_an_unknown_word_that_is_no_parameter_stays_a_fault() -> None:
    _, faults = read("@authorize admin")
    assert [message.partition(";")[0] for _, message in faults] == ["@authorize is no annotation"]


def test_the_names_of_declarations_are_known_before_they_are_read() -> None:
    lines = [Comment(1, "@param arg2 int4 = x"), Comment(2, "@param"), Comment(3, "param arg1")]
    assert declared_names(lines) == {"arg2", ""}
