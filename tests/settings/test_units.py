"""Durations, sizes and rates: every unit, and what is none."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.units import Rate, duration_text, rate, seconds, size, size_text


@pytest.mark.parametrize(
    ("text", "value"),
    [("250ms", 0.25), ("5s", 5.0), ("2m", 120.0), ("2min", 120.0), ("1h", 3600.0), ("1d", 86400.0), ("1.5 s", 1.5)],
)
def test_durations_have_units(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("64kB", 65536), ("1MB", 1048576), ("1.5kB", 1536), ("7", 7), ("2GB", 2**31)]
)
def test_sizes_count_by_1024(text: str, value: int) -> None:
    assert size(text) == value


@given(st.integers(0, 10**9), st.sampled_from([("us", 1), ("ms", 10**3), ("s", 10**6), ("m", 60 * 10**6)]))
def test_any_whole_number_of_a_unit_is_that_many_seconds(number: int, unit: tuple[str, int]) -> None:
    assert seconds(f"{number}{unit[0]}") == pytest.approx(number * unit[1] / 10**6, rel=1e-15)


@given(st.integers(1, 10**12))
def test_what_is_written_as_a_duration_or_a_size_reads_back_the_same(number: int) -> None:
    assert seconds(duration_text(number / 1000)) == number / 1000
    assert size(size_text(number)) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.25, "250ms"), (5.0, "5s"), (75.0, "75s"), (120.0, "120s"), (86400.0, "24h"), (0.0005, "500us")],
)
def test_a_duration_is_written_in_the_largest_fitting_unit(number: float, text: str) -> None:
    assert duration_text(number) == text


@given(st.text(max_size=12))
def test_any_text_is_a_duration_and_a_size_or_a_sentence(text: str) -> None:
    for parse in (seconds, size):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100/s", Rate(100, 1, 100)),
        ("100/s burst=200", Rate(100, 1, 200)),
        (" 10 / min burst=5 ", Rate(10, 60, 5)),
        ("90/m", Rate(90, 60, 2)),
        ("1/h", Rate(1, 3600, 1)),
        ("1000000/d", Rate(1_000_000, 86400, 12)),
    ],
)
def test_a_rate_without_a_burst_may_be_used_for_a_second_at_once(text: str, value: Rate) -> None:
    assert rate(text) == value


@pytest.mark.parametrize(
    "text", ["", "5", "5/", "/s", "0/s", "5/w", "5/s burst=0", "5/s burst", "1.5/s", "-1/s", "٣/s"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a rate such as"):
        rate(text)
