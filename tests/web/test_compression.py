"""Which answers are compressed, and by what."""

import gzip
import sys
from collections.abc import Callable, Iterator

import falcon
import falcon.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.values import no_pause
from gateway.web.compression import PART, Compression, codings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

READ: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "zstd": zstd.decompress}


def answered(accept: str | None, data: bytes, *, method: str = "GET", tag: str | None = None) -> falcon.Response:
    headers = {} if accept is None else {"Accept-Encoding": accept}
    request = falcon.Request(falcon.testing.create_environ(method=method, headers=headers))
    response = falcon.Response()
    response.data = data
    if tag is not None:
        response.set_header("ETag", tag)
    Compression(no_pause).apply(request, response)
    return response


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("GZIP", "gzip"),
        ("*", "zstd"),
        ("*;q=0.1, zstd;q=0", "gzip"),
        ("br, deflate", None),
        ("gzip;q=0", None),
        ("gzip;q=much", None),
        ("identity", None),
        ("", None),
        (None, None),
        ("gzip," * 1000, None),
    ],
)
def test_the_coding_is_one_that_is_accepted(accept: str | None, coding: str | None) -> None:
    data = b"[1, 2, 3]" * 1000
    response = answered(accept, data)
    assert response.get_header("Content-Encoding") == coding
    assert response.get_header("Vary") == "Accept-Encoding"
    assert response.data is not None
    assert (READ[coding](response.data) if coding else response.data) == data
    assert (len(response.data) < len(data)) is (coding is not None)


def test_a_tag_of_the_bytes_becomes_one_of_what_they_say() -> None:
    assert answered("gzip", b"x" * 9000, tag='"abc"').get_header("ETag") == 'W/"abc"'
    assert answered("gzip", b"x" * 9000, tag='W/"abc"').get_header("ETag") == 'W/"abc"'
    assert answered(None, b"x" * 9000, tag='"abc"').get_header("ETag") == '"abc"'


def test_a_head_is_not_compressed() -> None:
    assert answered("gzip", b"x" * 9000, method="HEAD").get_header("Content-Encoding") is None


@pytest.mark.parametrize("coding", codings())
def test_others_have_their_turn_between_the_parts_of_a_long_answer(coding: str) -> None:
    pauses: list[None] = []
    request = falcon.Request(falcon.testing.create_environ(headers={"Accept-Encoding": coding}))
    response = falcon.Response()
    response.data = data = bytes(range(256)) * (PART // 64)
    Compression(lambda: pauses.append(None)).apply(request, response)
    assert len(pauses) == len(data) // PART
    assert response.data is not None
    assert READ[coding](response.data) == data


class Stream:
    """Pieces of an answer that is still coming."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("coding", codings())
@given(pieces=st.lists(st.binary(max_size=2000), max_size=20))
def test_each_piece_of_a_stream_can_be_read_when_it_arrives(coding: str, pieces: list[bytes]) -> None:
    request = falcon.Request(falcon.testing.create_environ(headers={"Accept-Encoding": coding}))
    response = falcon.Response()
    response.stream = stream = Stream(*pieces)
    Compression(no_pause).apply(request, response)
    sent = list(response.stream)
    assert READ[coding](b"".join(sent)) == b"".join(pieces)
    read = zstd.ZstdDecompressor().decompress if coding == "zstd" else _gunzip()
    for piece, compressed in zip(filter(None, pieces), sent, strict=False):
        assert read(compressed) == piece
    response.stream.close()
    assert stream.is_closed


def _gunzip() -> Callable[[bytes], bytes]:
    import zlib

    return zlib.decompressobj(31).decompress
