"""Speaks the Model Context Protocol as agents do, in both of its eras, by hand and with the Python SDK."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import httpx
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}

T = TypeVar("T")


class Agent:
    """One that sends messages by hand."""

    def __init__(self, client: httpx.Client, key: str = "", *, path: str = "/mcp", modern: bool = True) -> None:
        """``key``: an API key or a token; ``modern``: it speaks the newest revision, and else an older one."""
        self._client = client
        self._path = path
        self._modern = modern
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def send(self, method: str, headers: dict[str, str] | None = None, /, **params: Any) -> httpx.Response:
        """Send a message with all that must be said with it."""
        said = {}
        if self._modern:
            said = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            said |= {"Mcp-Name": params["name"]} if method == "tools/call" else {}
            params = params | {"_meta": META}
        message = {"jsonrpc": "2.0", "id": "1", "method": method, "params": params}
        return self._client.post(self._path, json=message, headers={**self.headers, **said, **(headers or {})})

    def result(self, method: str, headers: dict[str, str] | None = None, /, **params: Any) -> dict[str, Any]:
        """What a message that is in order is answered."""
        answer = self.send(method, headers, **params)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["result"]
        return result

    def tools(self) -> dict[str, dict[str, Any]]:
        """The tools by name, in the order in which they are listed."""
        return {tool["name"]: tool for tool in self.result("tools/list")["tools"]}

    def call(self, tool: str, headers: dict[str, str] | None = None, /, **arguments: Any) -> dict[str, Any]:
        """What a tool answers."""
        return self.result("tools/call", headers, name=tool, arguments=arguments)

    def refusal(self, method: str, **params: Any) -> tuple[int, int]:
        """The status and the code with which a message is refused."""
        answer = self.send(method, **params)
        return answer.status_code, answer.json()["error"]["code"]


def with_sdk(url: str, key: str, use: Callable[[Client], Awaitable[T]], *, mode: str = "auto") -> T:
    """What comes of using the Python SDK's client; ``mode``: ``auto`` finds out what is spoken, ``legacy`` does not."""

    async def connected() -> T:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with create_mcp_http_client(headers) as http:
            made: Any = streamable_http_client(url, http_client=http)
            async with Client(made, mode=mode) as client:
                return await use(client)

    return anyio.run(connected)
