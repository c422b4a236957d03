"""What is a parameter and what is not; the text around them stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.lexing import SyntaxFault, tokens
from gateway.catalogue.placeholders import Marked, find_parameters


def marked(body: str, declared: tuple[str, ...] | None = None) -> Marked:
    found, faults = find_parameters(body, declared)
    assert faults == []
    return found


def rendered(body: str) -> str:
    return marked(body).text().render()


def faults(body: str, declared: tuple[str, ...] | None = None) -> list[str]:
    return [fault.message for fault in find_parameters(body, declared)[1]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("SELECT :a, :b, :a", "SELECT $1, $2, $1"),
        ("SELECT :A, :a", "SELECT $1, $2"),
        ("SELECT :limit, :select, :_x1", "SELECT $1, $2, $3"),
        ("SELECT :a::int, (:b)::text[]", "SELECT $1::int, ($2)::text[]"),
        ("SELECT x::int, ':a', \":b\", E'\\':c', $$ :d $$, $q$ :e $q$", None),
        ("SELECT 1 /* :a /* :b */ :c */ -- :d", None),
        ("SELECT U&'\\003a:a', x':a'", None),
        ("SELECT a ? 'x', a ?| b, 5 % 3, '%s'", None),
        ("SELECT : a", None),
        ("SELECT f(x := 1, y => 2)", None),
        ("SELECT f(x := :a, y => :b, z:=:c)", "SELECT f(x := $1, y => $2, z:=$3)"),
        ("SELECT a=:b, a<:c, a>=:d, -:e", "SELECT a=$1, a<$2, a>=$3, -$4"),
        ("SELECT @a, b <@ c, b @> :d, @ e, @@f", "SELECT $1, b <@ c, b @> $2, @ e, @@f"),
        ("SELECT x = @a AND y = :a", "SELECT x = $1 AND y = $1"),
        ("SELECT $1, $2, $1", "SELECT $1, $2, $1"),
        ("SELECT sqlc.arg(a), sqlc.arg('b'), sqlc.narg( limit )", "SELECT $1, $2, $3"),
        ("SELECT sqlc . arg /* x */ ( a\n)", "SELECT $1"),
        ("SELECT sqlc.embed(orders), :a", "SELECT orders, $1"),
        ("SELECT 1 WHERE a IN (sqlc.slice('ids'))", "SELECT 1 WHERE a = ANY($1)"),
        ("SELECT 1 WHERE a not in ( sqlc.slice(ids) )", "SELECT 1 WHERE a <> ALL( $1 )"),
        ("SELECT 1 WHERE a = ANY(sqlc.slice(ids))", "SELECT 1 WHERE a = ANY($1)"),
        ("SELECT 1 WHERE a IN (sqlc.slice(ids), 1)", "SELECT 1 WHERE a IN ($1, 1)"),
        ('SELECT sqlc.arg("a")', "SELECT $1"),
        ("SELECT sqlc.name, sqlc.arg FROM sqlc", None),
    ],
)
def test_parameters_are_found_in_every_spelling(body: str, expected: str | None) -> None:
    assert rendered(body) == (body if expected is None else expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("SELECT arr[1:2], arr[a:b], arr[1:b], arr[f(x):b], arr[x[1]:b], arr['1':b]", None),
        ("SELECT arr[:lo::int]", "SELECT arr[$1::int]"),
        ("SELECT arr[1: :hi]", "SELECT arr[1: $1]"),
        ("SELECT arr[:lo:hi]", "SELECT arr[$1:hi]"),
        ("SELECT arr[:lo: :hi]", "SELECT arr[$1: $2]"),
        ("SELECT arr[:2], arr[1:]", None),
        ("SELECT arr[name:value]", None),
        ("SELECT arr[null:b], arr[current_date:b]", None),
        ("SELECT arr[:a /* x */ :b]", "SELECT arr[$1 /* x */ :b]"),
        ("SELECT arr[1 + :a], ARRAY[:a, :b]", "SELECT arr[1 + $1], ARRAY[$1, $2]"),
        (
            "SELECT arr[(SELECT x FROM t FETCH FIRST :n ROWS ONLY)]",
            "SELECT arr[(SELECT x FROM t FETCH FIRST $1 ROWS ONLY)]",
        ),
        ("SELECT JSON_OBJECT('k':v, 'l': :v, k:v)", "SELECT JSON_OBJECT('k':v, 'l': $1, k:v)"),
        ("SELECT JSON_OBJECT(:k: :v)", "SELECT JSON_OBJECT($1: $2)"),
        ("SELECT json_object('k' VALUE :v, value :v)", "SELECT json_object('k' VALUE $1, value :v)"),
        ("SELECT JSON_OBJECT('k': x BETWEEN :a AND :b)", "SELECT JSON_OBJECT('k': x BETWEEN $1 AND $2)"),
        ("SELECT JSON_OBJECTAGG(k:v) FILTER (WHERE a :b)", "SELECT JSON_OBJECTAGG(k:v) FILTER (WHERE a $1)"),
        ("SELECT json_build_object('a', :x)", "SELECT json_build_object('a', $1)"),
    ],
)
def test_colons_in_slices_and_json_objects_separate(body: str, expected: str | None) -> None:
    assert rendered(body) == (body if expected is None else expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("SELECT 1 LIMIT:n", "SELECT 1 LIMIT $1"),
        ("SELECT a FROM t WHERE a and:b", "SELECT a FROM t WHERE a and $1"),
        ("SELECT sqlc.arg(a)and true", "SELECT $1 and true"),
        ("SELECT u&:a", "SELECT u& $1"),
        ("SELECT é:a", "SELECT é $1"),
    ],
)
def test_a_parameter_never_grows_together_with_its_neighbours(body: str, expected: str) -> None:
    assert rendered(body) == expected


def test_parameters_come_in_order_of_appearance_or_of_the_header() -> None:
    assert marked("SELECT :b, :a, :b").names == ("b", "a")
    found = marked("SELECT :b, :a, :b", ("a", "b"))
    assert found.names == ("a", "b")
    assert found.text().render() == "SELECT $2, $1, $2"
    assert marked("SELECT $2, $1").names == ("arg1", "arg2")
    assert marked("SELECT $2, $1", ("x", "y")).names == ("x", "y")
    assert marked("SELECT 1", ()).names == ()


def test_numbers_stay_and_names_take_the_free_ones() -> None:
    found = marked(
        "UPDATE boat SET name = coalesce(sqlc.narg('new_name'), name), sold = @sold WHERE id = $1 OR id = $3"
    )
    assert found.text().render() == "UPDATE boat SET name = coalesce($2, name), sold = $4 WHERE id = $1 OR id = $3"
    assert found.names == ("arg1", "new_name", "arg3", "sold")
    assert found.unnamed == {0, 2}


def test_a_list_in_the_header_names_numbers_and_has_the_place_of_names() -> None:
    found = marked("SELECT $2, :a, :b", ("a", "b"))
    assert found.text().render() == "SELECT $2, $1, $2"
    assert (found.names, found.unnamed) == (("a", "b"), frozenset())


@pytest.mark.parametrize(
    ("body", "doubled"), [("SELECT a %% 2", True), ("SELECT '50%%'", True), ("SELECT a % 2", False)]
)
def test_a_doubled_percent_sign_is_noticed(body: str, doubled: bool) -> None:
    assert marked(body).doubled is doubled


def test_only_narg_makes_a_parameter_nullable() -> None:
    assert marked("SELECT sqlc.narg(a), sqlc.arg(b), sqlc.arg(a)").nullable == {"a"}


@pytest.mark.parametrize(
    ("body", "declared", "fault"),
    [
        ("SELECT :a.b", None, "a parameter has no attributes: for a field of a composite write (:a).field"),
        ("SELECT :'x'", None, ":'x' is psql's spelling; a parameter is written :x"),
        ('SELECT :"x"', None, ':"x" is psql\'s spelling; a parameter is written :x'),
        ("SELECT :1", None, ":1 is no parameter; by number it is written $1"),
        ("SELECT id=@id", None, "=@ is one operator here; for a parameter put a space: = @id"),
        ("SELECT a||@id", None, "||@ is one operator here; for a parameter put a space: || @id"),
        ("SELECT :é", None, ":é cannot be a parameter's name: a letter or _, then at most 62 letters, digits and _"),
        (
            "SELECT :a$b",
            None,
            ":a$b cannot be a parameter's name: a letter or _, then at most 62 letters, digits and _",
        ),
        (f"SELECT @{'x' * 64}", None, "cannot be a parameter's name"),
        ("SELECT $0", None, "parameters are numbered from $1"),
        ("SELECT $1, $3", None, "$3 is used, but $2 is not"),
        ("SELECT $2147483647", None, "$2147483647 is used, but $1 is not"),
        ("SELECT $1, $4, :a", None, "$4 is used, but $3 is not"),
        ("SELECT sqlc.foo(a)", None, "sqlc.foo is not one of sqlc.arg(name), sqlc.narg(name), sqlc.slice(name), "),
        ("SELECT sqlc.arg()", None, "sqlc.arg takes one name, as in sqlc.arg(name): it is called without one"),
        ("SELECT sqlc.slice(a, b)", None, "sqlc.slice takes one name, as in sqlc.slice(ids): more than a stands there"),
        ("SELECT sqlc.narg(a.b)", None, "sqlc.narg takes one name, as in sqlc.narg(name): more than a stands there"),
        ("SELECT sqlc.embed(1)", None, "sqlc.embed takes one name, as in sqlc.embed(orders): 1 is none"),
        ("SELECT 1 WHERE a IN :ids", None, "IN :ids is no SQL: write = ANY(:ids), which takes an array"),
        ("SELECT 1 WHERE a NOT IN @ids", None, "IN @ids is no SQL: write <> ALL(@ids), which takes an array"),
        ("SELECT 1 WHERE a in $1", None, "IN $1 is no SQL: write = ANY($1), which takes an array"),
        ("SELECT :a", (), "a is not in the header's parameter list"),
        ("SELECT :a", ("a", "b"), "b is in the header's parameter list, but not in the statement"),
        ("SELECT $1, $2", ("a",), "$2 is not in the header's parameter list"),
        ("SELECT $1", ("a", "b"), "b is in the header's parameter list, but not in the statement"),
    ],
)
def test_what_was_hardly_meant_is_a_fault_with_a_hint(body: str, declared: tuple[str, ...] | None, fault: str) -> None:
    found = faults(body, declared)
    assert len(found) == 1
    assert fault in found[0]


def test_all_faults_of_a_statement_are_told_with_their_places() -> None:
    _, found = find_parameters("SELECT :a.b,\n :'c',\n id=@d", ("z",))
    assert [(fault.offset, fault.message.split()[0]) for fault in found] == [
        (0, "z"),
        (7, "a"),
        (9, "a"),
        (14, ":'c'"),
        (23, "=@"),
    ]


def test_parts_of_the_text_keep_their_parameters() -> None:
    found = marked("SELECT :a, :b FROM t")
    assert found.text(11).render() == "$2 FROM t"
    assert found.text(0, 10).render() == "SELECT $1,"


def test_places_in_the_rendered_text_lead_back_to_the_body() -> None:
    body = "SELECT :customer, sqlc.arg(x)and sqlc.embed(t), LIMIT:n + é"
    found = marked(body)
    text = found.text().render()
    for word in ("SELECT", "and", "LIMIT", "+", "é"):
        assert found.origin(text.index(word)) == body.index(word)
    assert found.origin(text.index("$1")) == body.index(":customer")
    assert found.origin(len(text) + 5) == len(body)


# Each fragment with the parameters it holds; none ends so that it could run into the next one after a newline.
FRAGMENTS: list[tuple[str, list[str]]] = [
    ("':a'", []),
    ("E'\\':b\\\\'", []),
    ("U&':c'", []),
    ("$$ :d ' $$", []),
    ("$f$ $$ :e $$ $f$", []),
    ('":f"', []),
    ("/* :g /* ' */ @h */", []),
    ("-- :i '", []),
    ("x::int", []),
    ("x :: text", []),
    ("arr[1:2]", []),
    ("arr[lo:hi]", []),
    ("arr[:p1::int]", ["p1"]),
    ("arr[lo: :p2]", ["p2"]),
    ("JSON_OBJECT('k':v)", []),
    ("JSON_OBJECT('k': :p3)", ["p3"]),
    ("a ? b", []),
    ("a <@ b", []),
    ("a % :p4", ["p4"]),
    ("f(y := 1)", []),
    ("f(y := :p5)", ["p5"]),
    (":p6", ["p6"]),
    (":p6::numeric(10, 2)", ["p6"]),
    ("(:p7)", ["p7"]),
    ("@p8", ["p8"]),
    ("@ x", []),
    ("sqlc.arg(p9)", ["p9"]),
    ("LIMIT:p10", ["p10"]),
    ("é:p11", ["p11"]),
    ("'😀' || :p12 || 'ß'", ["p12"]),
    ("x'12' n':q'", []),
    (":select", ["select"]),
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12), st.sampled_from(["\n", "\r\n", "\n,\n", "\n /* : */ "]))
def test_tricky_fragments_in_any_order_hold_their_own_parameters_only(
    parts: list[tuple[str, list[str]]], between: str
) -> None:
    body = between.join(text for text, _ in parts)
    found = marked(body)
    names = [name for _, here in parts for name in here]
    assert found.names == tuple(dict.fromkeys(names))
    assert [found.names[index] for index in found.text().references] == names


def respelled(found: Marked) -> str:
    """The text with every parameter as it was written, and without the spaces put between it and a word."""
    pieces = found.text().pieces
    out = [pieces[0]]
    for span, piece in zip((span for span in found.spans if span.parameter is not None), pieces[1:], strict=True):
        if out[-1].endswith(" ") and found.body[span.start - 1] != " ":
            out[-1] = out[-1][:-1]
        out.append(found.body[span.start : span.end])
        out.append(piece)
    return "".join(out)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12), st.sampled_from(["\n", "\r\n\t", "\n + \n"]))
def test_text_outside_of_parameters_is_untouched(parts: list[tuple[str, list[str]]], between: str) -> None:
    body = between.join(text for text, _ in parts)
    assert respelled(marked(body)) == body


RAW = [
    ":",
    "@",
    "$1",
    "a",
    "b1",
    " ",
    "\n",
    "'",
    '"',
    "::",
    "[",
    "]",
    "(",
    ")",
    ",",
    "=",
    ".",
    "é",
    "1",
    "sqlc.arg(a)",
    "--",
    "/*",
    "*/",
    "$$",
]


@given(st.lists(st.sampled_from(RAW), max_size=25).map("".join))
def test_any_text_that_lexes_is_either_refused_or_read_without_touching_it(body: str) -> None:
    try:
        tokens(body)
    except SyntaxFault:
        return
    found, wrong = find_parameters(body, None)
    if wrong:
        assert all(0 <= fault.offset <= len(body) for fault in wrong)
        return
    text = found.text()
    if "sqlc" not in body:
        assert respelled(found) == body
    assert {*text.references} == {*range(len(found.names))}
    again = [token.text for token in tokens(text.render()) if token.kind == "PARAM"]
    assert again == [f"${index + 1}" for index in text.references]
