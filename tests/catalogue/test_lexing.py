"""PostgreSQL's lexer and parser as plain values."""

import threading

import pytest

from gateway.catalogue.lexing import Node, SyntaxFault, parse, tokens


def test_tokens_carry_offsets_in_characters() -> None:
    found = tokens("SELECT 'é', ü -- ß")
    assert [(token.kind, token.text, token.start, token.end) for token in found] == [
        ("SELECT", "SELECT", 0, 6),
        ("SCONST", "'é'", 7, 10),
        (",", ",", 10, 11),
        ("IDENT", "ü", 12, 13),
        ("SQL_COMMENT", "-- ß", 14, 18),
    ]


def test_words_comments_and_keywords_are_told_apart() -> None:
    found = tokens('limit "limit" limits /* limit */ name')
    assert [(token.is_word, token.is_comment, token.keyword) for token in found] == [
        (True, False, "reserved"),
        (False, False, ""),
        (True, False, ""),
        (False, True, ""),
        (True, False, "unreserved"),
    ]


@pytest.mark.parametrize(
    ("sql", "offset", "message"),
    [
        ("SELECT 'é', 'abc", 12, "unterminated quoted string"),
        ("é /* a /* b */", 2, "unterminated /* comment"),
        ("é $x$ abc", 2, "unterminated dollar-quoted string"),
        ("é 12abc", 2, "trailing junk"),
        ("SELECT E'\\xff'", None, "invalid byte sequence"),
    ],
)
def test_what_does_not_lex_says_where_in_characters(sql: str, offset: int | None, message: str) -> None:
    with pytest.raises(SyntaxFault, match=message.replace("*", r"\*")) as caught:
        tokens(sql)
    assert caught.value.offset == offset


def test_a_fault_shows_the_beginning_of_what_it_is_near_to() -> None:
    with pytest.raises(SyntaxFault) as caught:
        tokens("SELECT '" + "x" * 1000 + "\n" * 1000)
    assert len(caught.value.message) < 100
    with pytest.raises(SyntaxFault) as caught:
        parse("SELECT é FROM FROM")
    assert (caught.value.message, caught.value.offset) == ('syntax error at or near "FROM"', 14)


def test_a_tree_has_nodes_without_wrappers() -> None:
    (root,) = parse("SELECT a.b, f(1) FROM a")
    assert root.kind == "SelectStmt"
    first, second = (target.node("val") for target in root.nodes("target_list"))
    assert first is not None
    assert second is not None
    assert [field.string("sval") for field in first.nodes("fields")] == ["a", "b"]
    assert [name.string("sval") for name in second.nodes("funcname")] == ["f"]
    assert root.node("with_clause") is None
    assert [child.kind for child in root.children()] == ["ResTarget", "ResTarget", "RangeVar"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "+".join(["1"] * 48),
        "SELECT " + "+".join(["1"] * 32_000),
        "SELECT 1" + "::a" * 20_000,
        "SELECT " + "NOT " * 9_000 + "a",
        "SELECT " + "(SELECT " * 3_000 + "1" + ")" * 3_000,
        "SELECT 1" + " UNION SELECT 1" * 4_000,
        "SELECT 1 FROM t" + " JOIN t ON a" * 5_000,
        "SELECT " + "a AND " * 10_000 + "a",
    ],
    ids=lambda sql: f"{sql[:20]}…{len(sql)}",
)
def test_deeply_nested_statements_of_64_kb_are_parsed_without_harm(sql: str) -> None:
    (root,) = parse(sql)
    assert root.kind == "SelectStmt"


@pytest.mark.parametrize("sql", ["SELECT " + "(" * 30_000, "SELECT " + "array[" * 6_000 + "]" * 6_000])
def test_what_the_parser_cannot_take_is_a_fault(sql: str) -> None:
    with pytest.raises(SyntaxFault, match="memory exhausted"):
        parse(sql)


def test_the_roomy_stack_is_for_the_parser_alone() -> None:
    before = threading.stack_size()
    parse("SELECT " + "+".join(["1"] * 5_000))
    assert threading.stack_size() == before


def test_an_empty_text_has_no_statements() -> None:
    assert parse("") == []
    assert parse("-- only this\n;") == []
    assert [node.kind for node in parse("SELECT 1; CHECKPOINT")] == ["SelectStmt", "CheckPointStmt"]


def test_fields_that_are_not_set_are_empty() -> None:
    node = Node("Any", {"flag": True})
    assert (node.node("flag"), node.nodes("flag"), node.string("flag"), node.children()) == (None, [], "", [])
