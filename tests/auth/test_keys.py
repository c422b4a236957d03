"""What a key looks like."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import keys


def test_a_key_has_an_id_a_secret_and_a_check() -> None:
    made = keys.make()
    assert re.fullmatch(r"gwk_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", made)
    assert (len(made), keys.id_of(made)) == (keys.LENGTH, made[4:12])


def test_no_two_keys_are_the_same() -> None:
    assert len({keys.make()[4:12] for _ in range(1000)}) == 1000


def test_the_check_is_over_all_that_stands_before() -> None:
    made = keys.make()
    for index in range(len("gwk_"), len(made)):
        other = "a" if made[index] != "a" else "b"
        assert keys.id_of(f"{made[:index]}{other}{made[index + 1 :]}") is None


@given(st.text(max_size=80))
def test_what_is_no_key_has_no_id_and_a_digest_all_the_same(text: str) -> None:
    assert keys.id_of(text) is None
    assert len(keys.digest_of(text)) == 32


@pytest.mark.parametrize("text", ["", "gwk_", "gwk_\ud800", "gwk_" + "é" * 60])
def test_any_text_can_be_asked_about(text: str) -> None:
    assert keys.id_of(text) is None
    assert len(keys.digest_of(text)) == 32
