"""Consistency tokens: they come back as they went out, and nothing else is taken for one."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BackendUnavailable, ConnectionLost, GatewayError, InvalidRequest
from gateway.postgres.positions import token_after_commit
from gateway.postgres.tokens import Token

TOKENS = st.builds(
    Token,
    system=st.integers(0, 2**64 - 1),
    timeline=st.integers(0, 2**32 - 1),
    position=st.integers(0, 2**64 - 1),
)
URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(TOKENS)
def test_a_token_comes_back_as_it_went_out(token: Token) -> None:
    assert Token.read(str(token)) == token
    assert re.fullmatch(r"[A-Za-z0-9_-]{34}", str(token))


@given(token=TOKENS, place=st.integers(0, 33), letter=st.sampled_from(URL_SAFE + "+/= é\0"))
def test_a_token_with_one_letter_changed_is_refused(token: Token, place: int, letter: str) -> None:
    text = str(token)
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(InvalidRequest):
            Token.read(changed)


@given(token=TOKENS, cut=st.integers(0, 33), more=st.text(URL_SAFE + "=", max_size=5))
def test_a_token_cut_or_lengthened_is_refused(token: Token, cut: int, more: str) -> None:
    for text in (str(token)[:cut], str(token) + (more or "A")):
        with pytest.raises(InvalidRequest):
            Token.read(text)


@given(st.text(max_size=60))
def test_no_other_text_is_a_token(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Token.read(text)


@pytest.mark.parametrize(
    ("position", "kept"),
    [
        (0x3000000 + 24, 0x3000000),  # a page begins with a header of 24 bytes
        (0x3000000 + 40, 0x3000000),  # the first of a segment with one of 40
        (0x3002000 + 24, 0x3002000),
        (0x3002000 + 32, 0x3002000 + 32),
        (0x3002000 + 23, 0x3002000 + 23),
        (0x3002000, 0x3002000),
        (0x3001FE8, 0x3001FE8),
    ],
)
def test_a_position_right_behind_a_page_header_is_where_the_page_begins(position: int, kept: int) -> None:
    assert Token.after(system=1, timeline=1, position=position).position == kept


class FakeServer:
    def __init__(self, answer: list[tuple[str | None, ...]] | GatewayError) -> None:
        self.answer = answer
        self.asked = ""
        self.until = 0.0

    def ask(self, sql: str, deadline: float) -> list[tuple[str | None, ...]]:
        self.asked, self.until = sql, deadline
        if isinstance(self.answer, GatewayError):
            raise self.answer
        return self.answer


def test_the_cluster_is_asked_for_only_where_it_is_not_known() -> None:
    knowing, asking = FakeServer([("50331672", "3")]), FakeServer([("50331672", "3", "7711396734766719378")])
    wanted = Token(system=7711396734766719378, timeline=3, position=50331648)
    assert token_after_commit(knowing, system="7711396734766719378", deadline=1.0) == wanted
    assert token_after_commit(asking, system=None, deadline=1.0) == wanted
    assert "pg_control_system" not in knowing.asked
    assert "pg_control_system" in asking.asked


@pytest.mark.parametrize("lost", [ConnectionLost(), BackendUnavailable()])
def test_a_write_whose_position_is_not_told_has_no_token(lost: GatewayError) -> None:
    assert token_after_commit(FakeServer(lost), system="1", deadline=1.0) is None
