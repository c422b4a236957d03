"""One entry a type family: values worth trying by hand, and a strategy for many more, in PostgreSQL's input form."""

import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from hypothesis import strategies as st

SCHEMA = """
CREATE SCHEMA "Odd Place";
CREATE TYPE "Odd Place".mood AS ENUM ('sad', 'ok', 'so-so', 'it''s "fine"', 'ä\\b', '');
CREATE DOMAIN "Odd Place".positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN "Odd Place".short AS text CHECK (length(VALUE) <= 20);
CREATE DOMAIN "Odd Place".shorts AS text[];
CREATE TYPE "Odd Place".pair AS (number integer, "Some Text" text);
CREATE TYPE "Odd Place".nest AS (
    id bigint, one "Odd Place".pair, many "Odd Place".pair[], mood "Odd Place".mood, amounts numeric[], note jsonb);
CREATE TYPE "Odd Place".span AS RANGE (subtype = text, collation = "C");
"""


class Sample(NamedTuple):
    """A type as it is written after ``@param x``, and values of it."""

    type: str
    texts: Sequence[str]
    more: st.SearchStrategy[str]
    dimensions: bool = True
    """Whether arrays of it may have two dimensions and come back the same (json arrays do not)."""
    array: bool = True
    """Whether there are arrays of it."""

    @property
    def returns(self) -> bool:
        """Whether it is taken as an argument: all are but the system catalogs' vectors, shown as lists."""
        return not self.type.endswith("vector") or self.type == "tsvector"


def _integers(bits: int) -> st.SearchStrategy[str]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


def _floats(width: Literal[32, 64]) -> st.SearchStrategy[str]:
    return st.floats(width=width).map(repr)


_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
_UGLY = st.text(st.sampled_from(list("aB '\"\\{}(),;[]:$%?\n\t\r\v\f\x01\x7fäß€𝄞\u2028\u200b\ufeffN")), max_size=12)
_STRING = _TEXT | _UGLY | st.sampled_from(["NULL", "null", '"', "\\", "''", "{}", "()", "E'x'", "$1", ":x"])
_DIGITS = st.text("0123456789", min_size=1, max_size=100)


@st.composite
def _numerics(draw: st.DrawFn) -> str:
    sign = draw(st.sampled_from(["", "-"]))
    whole = draw(_DIGITS)
    fraction = draw(st.just("") | _DIGITS.map(lambda digits: f".{digits}"))
    return f"{sign}{whole}{fraction}"


def _json(draw_float: bool) -> st.SearchStrategy[str]:
    numbers = st.integers().map(str) | _numerics()
    leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | _STRING
    if draw_float:
        leaves |= st.floats(allow_nan=False, allow_infinity=False)
    trees = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_STRING, inner, max_size=3)
    )
    plain = trees.map(lambda tree: json.dumps(tree, ensure_ascii=False))
    spread = trees.map(lambda tree: json.dumps(tree, indent=1))
    return plain | spread | numbers.map(_as_json_number)


def _as_json_number(text: str) -> str:
    sign = "-" if text.startswith("-") else ""
    whole, dot, fraction = text.lstrip("-").partition(".")
    return f"{sign}{whole.lstrip('0') or '0'}{dot}{fraction}"


_DATES = st.dates().map(str)
_TIMES = st.times().map(lambda time: time.replace(tzinfo=None).isoformat())
_OFFSETS = st.integers(-15 * 60 + 1, 15 * 60 - 1).map(
    lambda minutes: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
)
_MOMENTS = st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)).map(str)


@st.composite
def _intervals(draw: st.DrawFn) -> str:
    months, days = draw(st.integers(-100_000, 100_000)), draw(st.integers(-1_000_000, 1_000_000))
    microseconds = draw(st.integers(-(10**15), 10**15))
    return f"{months} mons {days} days {microseconds} microseconds"


def _ranges(bounds: st.SearchStrategy[str], key: Callable[[str], object]) -> st.SearchStrategy[str]:
    def write(pair: tuple[str, str], ends: tuple[str, str], open_ends: tuple[bool, bool]) -> str:
        low, high = sorted(pair, key=key)  # type: ignore[arg-type]  # every key used here can be compared
        low, high = f'"{low}"' if not open_ends[0] else "", f'"{high}"' if not open_ends[1] else ""
        return f"{ends[0]}{low},{high}{ends[1]}"

    written = st.builds(
        write,
        st.tuples(bounds, bounds),
        st.tuples(st.sampled_from("[("), st.sampled_from("])")),
        st.tuples(st.booleans(), st.booleans()),
    )
    return written | st.just("empty")


def _several(ranges: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(ranges, max_size=3).map(lambda found: "{" + ",".join(found) + "}")


_INT_RANGES = _ranges(st.integers(-(10**9), 10**9).map(str), int)
_NUMERIC_RANGES = _ranges(st.decimals(-1000, 1000, places=3).map(str), float)
_DATE_RANGES = _ranges(_DATES, str)
_MOMENT_RANGES = _ranges(_MOMENTS, str)
_COORDINATE = st.floats(-1e9, 1e9).map(repr)
_POINT = st.tuples(_COORDINATE, _COORDINATE).map(lambda pair: f"({pair[0]},{pair[1]})")
_BITS = st.text("01", max_size=40)
_HEX = st.binary(max_size=40).map(lambda data: f"\\x{data.hex()}")
_PAIR_TEXT = st.builds(
    lambda number, text: f"({number},{_field(text)})", _integers(32) | st.just(""), _STRING | st.just("")
)


def _field(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '""')
    return f'"{quoted}"'


@st.composite
def _nests(draw: st.DrawFn) -> str:
    pairs = ",".join(_element(pair) for pair in draw(st.lists(_PAIR_TEXT, max_size=3)))
    parts = [
        draw(_integers(64) | st.just("")),
        _field(draw(_PAIR_TEXT)),
        _field("{" + pairs + "}"),
        draw(st.sampled_from(["sad", "so-so", '"it\'s ""fine"""', ""])),
        _field("{" + ",".join(draw(st.lists(_numerics(), max_size=3))) + "}"),
        _field(draw(_json(draw_float=False))),
    ]
    return "(" + ",".join(parts) + ")"


def _element(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


_ASCII = st.characters(min_codepoint=1, max_codepoint=127)
_HUNDRED = "9" * 100
_WORDS = st.lists(st.text("abcxyzäöß'\\", min_size=1, max_size=8), max_size=4)

# NOTE: no xml, which the embedded server is built without.
SAMPLES = [
    Sample("bool", ["t", "f"], st.sampled_from(["true", "false"])),
    Sample("int2", ["0", "-32768", "32767"], _integers(16)),
    Sample("int4", ["0", "-2147483648", "2147483647"], _integers(32)),
    Sample("int8", ["0", "9007199254740993", "-9223372036854775808", "9223372036854775807"], _integers(64)),
    Sample("float4", ["0", "-0", "1.5", "1e-45", "3.4028235e38", "0.1", "NaN", "Infinity", "-Infinity"], _floats(32)),
    Sample(
        "float8",
        ["0", "-0", "0.1", "1e23", "5e-324", "1.7976931348623157e308", "123456789012345680", "NaN", "-Infinity"],
        _floats(64),
    ),
    Sample(
        "numeric",
        ["0", "-0", "1.10", "0.000", _HUNDRED, f"-{_HUNDRED}.{_HUNDRED}", "1e100", "1e-100", "NaN", "-Infinity"],
        _numerics(),
    ),
    Sample("text", ["", " ", "'\"\\", "Ünï 𝄞", "{a,b}", "a\nb\tc\x01\x7f\u2028", "NULL", "$1 :x %s ? E''"], _STRING),
    Sample("varchar", ["", "x" * 1000, "\\x"], _STRING),
    Sample("bpchar", ["", "a  ", "ä"], _STRING),
    Sample('"char"', ["", "a", "\\", "'", "\\377"], _ASCII),
    Sample("name", ["", "x" * 63, 'Tab"le'], st.text("aä'\"\\ ", max_size=20)),
    Sample("bytea", ["\\x", "\\x00ff", "\\xdeadbeef", "abc\\\\d\\000"], _HEX),
    Sample(
        "uuid", ["00000000-0000-0000-0000-000000000000", "ABCDEFAB-0123-4567-89ab-ffffffffffff"], st.uuids().map(str)
    ),
    Sample("date", ["2026-11-23", "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"], _DATES),
    Sample("time", ["00:00", "24:00:00", "23:59:59.999999"], _TIMES),
    Sample("timetz", ["00:00+00", "12:30:00.5-11:30"], st.tuples(_TIMES, _OFFSETS).map("".join)),
    Sample("timestamp", ["2026-11-23 12:00", "infinity", "-infinity", "4713-01-01 00:00 BC", "294276-12-31"], _MOMENTS),
    Sample(
        "timestamptz",
        [
            "2026-11-23 12:00+05:30",
            "infinity",
            "-infinity",
            "0001-01-01 00:00:00+00 BC",
            "2026-07-01 00:00 Europe/Rome",
        ],
        _MOMENTS,
    ),
    Sample(
        "interval",
        [
            "0",
            "-1 day",
            "1 year -2 mons +3 days -04:05:06.789",
            "-00:00:00.000001",
            "infinity",
            "-infinity",
            "P1Y2M3DT4H",
        ],
        _intervals(),
    ),
    Sample(
        "json",
        ['{"a" :  [1, 2.50 ,null]\n}', '"\\u00e4\\n"', "1e400", "-0", '{"a":1,"a":2}', "[]"],
        _json(draw_float=True),
        dimensions=False,
    ),
    Sample(
        "jsonb",
        ['{"b":1,"a":[]}', "-0.0", '"\\u00e4\\""', "1e100", "[[1],[2]]"],
        _json(draw_float=True),
        dimensions=False,
    ),
    Sample(
        '"Odd Place".mood', ["sad", "so-so", 'it\'s "fine"', "ä\\b", ""], st.sampled_from(["ok", "sad", "ä\\b", ""])
    ),
    Sample('"Odd Place".positive', ["1", "2147483647"], st.integers(1, 2**31 - 1).map(str)),
    Sample('"Odd Place".short', ["", "'\\\""], _STRING.map(lambda text: text[:20])),
    Sample('"Odd Place".shorts', ["{}", '{"",NULL,"NULL","{}"}'], st.just('{a,"b\\"c\\\\"}'), array=False),
    Sample('"Odd Place".pair', ["(1,a)", "(,)", '(,"")', '(-5,"q""\\\\,()\n{}")'], _PAIR_TEXT),
    Sample(
        '"Odd Place".nest', ["(,,,,,)", '(9007199254740993,"(1,x)","{""(2,)"",NULL}",sad,"{1.10,NaN}","{}")'], _nests()
    ),
    Sample('"Odd Place".span', ["empty", '["a,b","z""\\\\")', "(,x]"], st.just('["",zz)')),
    Sample("int4range", ["empty", "[1,5]", "(,3)", "(,)"], _INT_RANGES),
    Sample("int8range", ["[9007199254740993,9007199254740995)", "(,)"], _INT_RANGES),
    Sample("numrange", ["[1.10,2.200]", "[NaN,NaN]", "(-infinity,infinity)"], _NUMERIC_RANGES),
    Sample("daterange", ["[2026-01-01,infinity)", "[2026-01-01,2026-01-02]"], _DATE_RANGES),
    Sample("tsrange", ["[2026-01-01 10:00,2026-01-02)", "empty"], _MOMENT_RANGES),
    Sample("tstzrange", ['["2026-01-01 10:00+02",)', "(,infinity]"], _MOMENT_RANGES),
    Sample("int4multirange", ["{}", "{[1,3),[5,9)}", "{(,)}"], _several(_INT_RANGES)),
    Sample("nummultirange", ["{[1.5,2.50]}"], _several(_NUMERIC_RANGES)),
    Sample("tstzmultirange", ['{["2026-01-01 10:00+02","2026-01-02 00:00+00")}'], _several(_MOMENT_RANGES)),
    Sample("inet", ["10.0.0.1", "10.0.0.1/8", "::1", "fe80::1/64"], st.ip_addresses().map(str)),
    Sample("cidr", ["10.0.0.0/8", "2001:db8::/32"], st.ip_addresses().map(str)),
    Sample("macaddr", ["08:00:2b:01:02:03"], st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))),
    Sample("macaddr8", ["08:00:2b:01:02:03:04:05"], st.binary(min_size=8, max_size=8).map(lambda data: data.hex(":"))),
    Sample(
        "money", ["0", "-1.50", "92233720368547758.07"], st.integers(-(10**15), 10**15).map(lambda cents: f"{cents}.25")
    ),
    Sample("bit", ["", "1", "0101"], _BITS),
    Sample("varbit", ["", "1", "0101"], _BITS),
    Sample("point", ["(0,-0)", "(1e300,NaN)", "(Infinity,0.1)"], _POINT),
    Sample(
        "line", ["{1,2,3}"], st.tuples(*[st.integers(1, 9).map(str)] * 3).map(lambda abc: "{" + ",".join(abc) + "}")
    ),
    Sample("lseg", ["[(0,0),(1,1)]"], st.tuples(_POINT, _POINT).map(",".join)),
    Sample("box", ["(1,1),(0,0)"], st.tuples(_POINT, _POINT).map(",".join)),
    Sample(
        "path",
        ["[(0,0),(1,1)]", "((0,0),(1,1))"],
        st.lists(_POINT, min_size=1, max_size=4).map(lambda p: f"[{','.join(p)}]"),
    ),
    Sample(
        "polygon", ["((0,0),(1,1),(2,0))"], st.lists(_POINT, min_size=1, max_size=4).map(lambda p: f"({','.join(p)})")
    ),
    Sample(
        "circle",
        ["<(0,0),1>"],
        st.tuples(_POINT, st.floats(0, 1e9).map(repr)).map(lambda pair: f"<{pair[0]},{pair[1]}>"),
    ),
    Sample(
        "tsvector",
        ["", "'a':1A 'b''c':2,3B", "'it''s' '\\\\x'"],
        _WORDS.map(lambda words: " ".join("'" + word.replace("\\", "\\\\").replace("'", "''") + "'" for word in words)),
    ),
    Sample("tsquery", ["", "'a' & !'b' | 'c':*A <2> 'd'"], st.sampled_from(["a & b", "'x y' <-> !z", "(a|b)&c"])),
    Sample("oid", ["0", "4294967295"], st.integers(0, 2**32 - 1).map(str)),
    Sample("regclass", ["pg_class", "pg_catalog.pg_type", "0"], st.sampled_from(["pg_proc", "1259", "99999999"])),
    Sample("regtype", ["int4", "text[]", "timestamptz"], st.sampled_from(["numeric", '"Odd Place".pair', "xml"])),
    Sample("regprocedure", ["lower(text)", "0"], st.sampled_from(["upper(text)", "now()"])),
    Sample(
        "pg_lsn",
        ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"],
        st.integers(0, 2**64 - 1).map(lambda n: f"{n >> 32:X}/{n & 0xFFFFFFFF:X}"),
    ),
    Sample("jsonpath", ["$", 'lax $."a b"[*]?(@ > 1)', "strict $.a"], st.sampled_from(["$[0 to 3]", '$."\\u00e4"'])),
    Sample("xid8", ["0", "18446744073709551615"], st.integers(0, 2**64 - 1).map(str)),
    Sample("tid", ["(0,1)", "(4294967295,65535)"], st.just("(7,8)")),
    Sample("pg_snapshot", ["10:20:10,14,15"], st.just("10:10:")),
    Sample("int2vector", ["", "1 -2 3"], st.nothing(), array=False),
    Sample("oidvector", ["", "1 2"], st.nothing(), array=False),
    Sample("refcursor", ["", "c'\"\\"], _STRING),
    Sample("aclitem", ["postgres=r/postgres", "=r/postgres"], st.just("postgres=rw*/postgres")),
]
