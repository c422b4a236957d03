"""Which messages of agents are read, and which are refused."""

import base64
import json
from typing import Any

import falcon
import falcon.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.mcp.messages import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY,
    MODERN,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
    Refused,
    is_modern,
    read,
)

META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
CALL = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "a"}


def written(method: str = "ping", **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def refusal(body: bytes, **headers: str) -> dict[str, Any]:
    """What a message is refused with."""
    with pytest.raises(Refused) as caught:
        speaks_modern(body, **headers)
    answer = json.loads(caught.value.written(None))
    assert answer.keys() == {"jsonrpc", "id", "error"}
    error: dict[str, Any] = answer["error"]
    return error


def speaks_modern(body: bytes, **headers: str) -> bool:
    return is_modern(read(body), falcon.Request(falcon.testing.create_environ(headers=headers)))


def modern(headers: dict[str, str], *, name: str = "a", **meta: Any) -> tuple[bytes, dict[str, str]]:
    return written("tools/call", name=name, _meta=META | meta), headers


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", INVALID_REQUEST),
        (b"{", PARSE_ERROR),
        (b'"text"', PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', PARSE_ERROR),
        (b"[]", INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', INVALID_REQUEST),
        (b'{"id":1,"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":[],"method":"ping"}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":7}}', INVALID_PARAMS),
    ],
)
def test_what_is_no_message_is_refused(body: bytes, code: int) -> None:
    assert refusal(body)["code"] == code


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "_meta"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    try:
        message = read(body)
    except Refused:
        return
    assert isinstance(message.method, str)


@pytest.mark.parametrize("id_", ["1", "-7", '"a"', '"\\u00e9"', "123456789012345678901234567890"])
def test_an_id_is_given_back_as_it_was_written(id_: str) -> None:
    assert read(b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % id_.encode()).id == id_.encode()


@pytest.mark.parametrize("version", [None, *LEGACY])
def test_a_client_that_does_not_say_what_it_is_with_each_message_is_an_older_one(version: str | None) -> None:
    assert speaks_modern(written(), **({} if version is None else {"MCP-Protocol-Version": version})) is False


def test_a_revision_that_nobody_knows_here_is_refused_but_where_one_is_agreed_on() -> None:
    error = refusal(written(), **{"MCP-Protocol-Version": "1999-01-01"})
    assert error["code"] == UNSUPPORTED_VERSION
    assert error["data"] == {"supported": [MODERN], "requested": "1999-01-01"}
    assert speaks_modern(written("initialize"), **{"MCP-Protocol-Version": "1999-01-01"}) is False


def test_headers_say_what_the_message_does_with_or_without_white_space() -> None:
    body, headers = modern(CALL)
    assert speaks_modern(body, **headers)
    assert speaks_modern(body, **(headers | {"Mcp-Name": " \ta "}))


@pytest.mark.parametrize("name", ["a", "crème", "=?base64?YQ==?="])
def test_a_name_may_be_written_in_base64(name: str) -> None:
    encoded = f"=?base64?{base64.b64encode(name.encode()).decode()}?="
    body, headers = modern(CALL | {"Mcp-Name": encoded}, name=name)
    assert speaks_modern(body, **headers)


@pytest.mark.parametrize(
    "changed",
    [
        {"MCP-Protocol-Version": None},
        {"MCP-Protocol-Version": "2025-11-25"},
        {"Mcp-Method": None},
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": "TOOLS/CALL"},
        {"Mcp-Name": None},
        {"Mcp-Name": "b"},
        {"Mcp-Name": "=?base64?YQ?="},
        {"Mcp-Name": "=?base64?YR==?="},
        {"Mcp-Name": "=?base64?/w==?="},
        {"Mcp-Name": "a,a"},
    ],
)
def test_headers_that_say_something_else_are_refused(changed: dict[str, str | None]) -> None:
    body, headers = modern({name: value for name, value in (CALL | changed).items() if value is not None})
    assert refusal(body, **headers)["code"] == HEADER_MISMATCH


def test_what_a_modern_client_must_say_is_required() -> None:
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}
    assert refusal(written("tools/list"), **headers)["code"] == INVALID_PARAMS
    for key in META:
        meta = {name: value for name, value in META.items() if name != key}
        error = refusal(written("tools/list", _meta=meta), **headers)
        assert (error["code"], error["message"]) == (INVALID_PARAMS, f"params._meta lacks {key}")
    wrong = META | {"io.modelcontextprotocol/clientCapabilities": 7}
    assert refusal(written("tools/list", _meta=wrong), **headers)["code"] == INVALID_PARAMS


def test_a_modern_revision_that_is_not_spoken_is_refused_with_those_that_are() -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2030-01-01"}
    body, headers = modern(CALL | {"MCP-Protocol-Version": "2030-01-01"}, **meta)
    error = refusal(body, **headers)
    assert (error["code"], error["data"]["supported"]) == (UNSUPPORTED_VERSION, [MODERN])
