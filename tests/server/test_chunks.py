"""Chunked bodies, however they are cut: by the client into chunks, by the network into pieces."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.chunks import MAX_ODD, ChunkedBody
from gateway.server.head import BadRequest

SIZES = st.lists(st.one_of(st.integers(1, 20), st.integers(1, 300)), max_size=60)
FORMS = st.sampled_from(["%x", "%X", "0%x", "%x;a=b", '%x ; c = "d\\"e"'])


def body_of(data: bytes, cuts: list[int], limit: int = 1 << 20) -> tuple[bytes | None, bytes]:
    """The body, and what is left behind it, of data that arrives in pieces."""
    body, buffer = ChunkedBody(limit), bytearray()
    begin = 0
    for cut in [*sorted(cuts), len(data)]:
        buffer += data[begin:cut]
        begin = max(begin, cut)
        found = body.feed(buffer)
        if found is not None:
            return found, bytes(buffer) + data[begin:]
    return None, bytes(buffer)


@given(SIZES, st.data())
def test_however_a_body_is_cut_it_is_the_same(sizes: list[int], data: st.DataObject) -> None:
    pieces = [data.draw(st.binary(min_size=size, max_size=size)) for size in sizes]
    wire = b"".join(
        (data.draw(FORMS) % len(piece)).encode() + b"\r\n" + piece + b"\r\n" for piece in pieces
    ) + data.draw(st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0\r\nX-Trailer: 1\r\n\r\n"]))
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    assert body_of(wire + b"GET /next", cuts) == (b"".join(pieces), b"GET /next")


@pytest.mark.parametrize(
    "wire",
    [
        b"1\r\nxx\r\n",
        b"2\r\nx\r\n\r\n",
        b"1\nx\r\n",
        b"1\r\nx\n",
        b"1\r\nx\r\n\r\n",
        b"g\r\n",
        b"1 \r\nx\r\n",
        b"-1\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", b"1\r\ny\r\n" * 3])
def test_what_is_no_chunk_is_refused_also_behind_small_ones(before: bytes, wire: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        body_of(before + wire + b"0\r\n\r\n", [])
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "chunk", [b"1\r\nx\r\n", b"f\r\n" + b"x" * 15 + b"\r\n", b"01\r\nx\r\n", b"20\r\n" + b"x" * 32 + b"\r\n"]
)
def test_a_body_is_refused_when_it_becomes_too_long(chunk: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        body_of(chunk * 1001, [], limit=1000)
    assert refused.value.status == 413


def test_chunks_that_cost_more_than_they_bring_are_limited() -> None:
    chunk = b"01;a\r\nx\r\n"
    with pytest.raises(BadRequest) as refused:
        body_of(chunk * (MAX_ODD + 1), [])
    assert refused.value.status == 400
    assert body_of(chunk * 1000 + b"0\r\n\r\n", [])[0] == b"x" * 1000


def test_a_megabyte_in_chunks_of_one_byte_is_read_in_little_time() -> None:
    """It took 1.3 s of processor time, each chunk by itself."""
    wire = b"1\r\nx\r\n" * (1 << 20) + b"0\r\n\r\n"
    began = time.process_time()
    found, _ = body_of(wire, list(range(0, len(wire), 65536)))
    assert time.process_time() - began < 0.8
    assert found is not None
    assert len(found) == 1 << 20
