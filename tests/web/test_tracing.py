"""A trace is read as the W3C has it, and anything else is none."""

import pytest

from gateway.web.tracing import sampled, trace_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "trace", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", TRACE, True),
        (f"00-{TRACE}-{SPAN}-03", TRACE, True),
        (f"00-{TRACE}-{SPAN}-00", TRACE, False),
        (f"01-{TRACE}-{SPAN}-01-what-is-to-come", TRACE, True),
        (f"ff-{TRACE}-{SPAN}-01", "", False),
        (f"00-{'0' * 32}-{SPAN}-01", "", False),
        (f"00-{TRACE}-{'0' * 16}-01", "", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", "", False),
        (f"00-{TRACE}-{SPAN}-01'*/; DROP TABLE x; --", "", False),
        (f"00-{TRACE}-{SPAN}", "", False),
        ("", "", False),
    ],
)
def test_it_is_taken_where_it_is_one(text: str, trace: str, is_sampled: bool) -> None:
    environ = {"HTTP_TRACEPARENT": text}
    assert trace_id(environ) == trace
    assert (sampled(environ) is not None) == is_sampled


def test_what_is_passed_on_has_nothing_but_hex_and_dashes() -> None:
    later = {"HTTP_TRACEPARENT": f"01-{TRACE}-{SPAN}-01-'*/ DROP TABLE x"}
    assert sampled(later) == f"00-{TRACE}-{SPAN}-01"


def test_without_the_header_there_is_none() -> None:
    assert sampled({}) is None
    assert trace_id({}) == ""
