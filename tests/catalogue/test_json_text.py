"""Bodies are cut into checked JSON texts, or refused with a reason."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.catalogue import json_text
from gateway.errors import InvalidJSON


def cut(body: bytes) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in json_text.split_object(body).items()}


def detail(body: bytes) -> str:
    with pytest.raises(InvalidJSON) as caught:
        json_text.split_object(body)
    return caught.value.detail


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t ", b"{}", b" { } "])
def test_an_empty_body_is_an_empty_object(body: bytes) -> None:
    assert cut(body) == {}


def test_members_keep_their_own_text_without_the_space_around_it() -> None:
    body = b' {"a" : 1.50 ,"b": [1 , 2], "c":"\\u00e9\\n", "d":{"x" :null}} '
    assert cut(body) == {"a": b"1.50", "b": b"[1 , 2]", "c": b'"\\u00e9\\n"', "d": b'{"x" :null}'}


def test_keys_are_decoded() -> None:
    assert cut(b'{"\\u0061\\ud83d\\ude00":1}') == {"a\U0001f600": b"1"}


def test_the_last_of_duplicate_keys_wins() -> None:
    assert cut(b'{"a":1,"b":2,"\\u0061":3}') == {"a": b"3", "b": b"2"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":"\xff"}', "not UTF-8 (byte 6)"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8 (byte 6)"),
        (b'{"a":"\xc0\x80"}', "not UTF-8 (byte 6)"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8 (byte 0)"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark (byte 0)"),
        (b"\xef\xbb\xbf", "begins with a byte order mark (byte 0)"),
        (b"[]", "the body must be a JSON object, not array"),
        (b"null", "the body must be a JSON object, not null"),
        (b'"a"', "the body must be a JSON object, not str"),
        (b'{"a":1', "ends too early (byte 6)"),
        (b'{"a":"\\', "ends too early (byte 7)"),
        (b'{"a":1} x', "goes on after its end"),
        (b'{"a":[1,]}', "trailing comma in array (byte 8)"),
        (b'{"a":01}', "invalid number (byte 6)"),
        (b'{"a":[{"b":"\x00"}]}', "invalid character (byte 12)"),
        (b'{"a":"\\u0000"}', "NUL (\\u0000) is no text (byte 6)"),
        (b'{"a":{"b":["x\\u0000"]}}', "NUL (\\u0000) is no text (byte 13)"),
        (b'{"\\u0000":1}', "NUL (\\u0000) is no text (byte 2)"),
        (b'{"a":"\\ud83d"}', "half a surrogate pair is no text (byte 6)"),
        (b'{"a":"\\ude00"}', "half a surrogate pair is no text (byte 6)"),
        (b'{"a":"\\uDE00\\uD83D"}', "half a surrogate pair is no text (byte 6)"),
        (b'{"a":"\\ud83d\\\\ude00"}', "half a surrogate pair is no text (byte 6)"),
        (b'{"a":"\\\\ud83d\\ude00"}', "half a surrogate pair is no text (byte 13)"),
        (b'{"a":"\\ud83d\\ude00\\ude00"}', "half a surrogate pair is no text (byte 18)"),
        (b'{"\\ud83d":1}', "half a surrogate pair is no text (byte 2)"),
    ],
)
def test_what_is_no_json_of_ours_is_refused_with_its_place(body: bytes, reason: str) -> None:
    assert detail(body) == reason


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"undefined", b"True", b"'a'", b"0x10"])
def test_words_that_are_not_json_are_refused(word: bytes) -> None:
    detail(b'{"a":' + word + b"}")


@pytest.mark.parametrize(
    "text", [b"\\\\u0000", b"\\\\ud83d", b"\\ud83d\\ude00", b"\\uD83D\\uDE00\\\\u0000", b"\\u0001"]
)
def test_escapes_that_only_look_bad_are_let_through(text: bytes) -> None:
    assert cut(b'{"a":"' + text + b'"}') == {"a": b'"' + text + b'"'}


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k":', "}"), ('[{"]":', "}]")])
def test_sixty_four_levels_are_let_through_and_one_more_is_not(opening: str, closing: str) -> None:
    levels = 2 if "[{" in opening else 1
    fits = f'{{"a":{nested(62 // levels, opening, closing)},"b":[{nested(62 // levels, opening, closing)}]}}'
    assert list(cut(fits.encode())) == ["a", "b"]
    deeper = f'{{"a":[[{nested(62 // levels, opening, closing)}]]}}'
    assert detail(deeper.encode()) == "nested more than 64 levels deep"


def test_brackets_side_by_side_or_inside_strings_are_no_depth() -> None:
    body = json.dumps({"a": [[]] * 100, "b": '["[{\\' * 100, "c": [{"x": []}] * 100}).encode()
    assert list(cut(body)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"]" * 200_000,
        b'{"a":' + b"[" * 70 + b'"' + b'\\"' * 100_000,
        b'{"a":' + b"[" * 70 + b'"' + b'\\"' * 100_000 + b"\\",
        b"[}" * 200_000,
    ],
)
def test_a_depth_bomb_is_refused_without_a_fuss(body: bytes) -> None:
    detail(body)


def test_one_value_is_read_by_the_same_rules() -> None:
    assert bytes(json_text.value(' {"a": 1} ')) == b'{"a": 1}'
    for text in ("", " ", "1 2", "nul", "\ufeff1", '"\\u0000"', "[" * 65 + "]" * 65, '"\ud800"'):
        with pytest.raises(InvalidJSON):
            json_text.value(text)


def strictly(body: bytes) -> dict[str, Any] | None:
    """The standard library's opinion, None for a refusal."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        text = body.decode()
        if not text.strip(" \t\r\n"):
            return {}
        decoded = json.loads(text, parse_constant=refuse)
        json.dumps(decoded, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(decoded, dict) or "\\u0000" in json.dumps(decoded).replace("\\\\", ""):
        return None
    return decoded


@given(st.binary(max_size=40) | st.text('{}[]",:\\u0dc8 1e.-ntrf', max_size=40).map(str.encode))
@example(b'{"a":"\\ud8001"}')
@example(b'{"a":"\\u0000')
def test_any_bytes_are_cut_or_refused_as_the_standard_library_does(body: bytes) -> None:
    expected = strictly(body)
    try:
        parts = cut(body)
    except InvalidJSON:
        assert expected is None
    else:
        assert {name: json.loads(part) for name, part in parts.items()} == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.booleans())
def test_any_object_comes_back_as_it_was_unless_it_holds_what_text_cannot(value: dict[str, Any], ascii_: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_).encode()
    holds_nul = "\\u0000" in json.dumps(value).replace("\\\\", "")
    try:
        parts = cut(body)
    except InvalidJSON:
        assert holds_nul
    else:
        assert not holds_nul
        assert {name: json.loads(part) for name, part in parts.items()} == value
