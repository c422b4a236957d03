"""The resource that agents speak to: it lists tools and runs them, as the same calls that HTTP makes."""

from collections.abc import Callable
from typing import Any

import falcon
import msgspec
import orjson

from gateway import __version__
from gateway.catalogue.query import Access
from gateway.errors import GatewayError, ResultTooLarge
from gateway.execution.call import JSON
from gateway.settings import Settings
from gateway.web import answers, asking, bodies
from gateway.web.compression import LONG
from gateway.web.mcp import messages
from gateway.web.mcp.messages import INVALID_PARAMS, LEGACY, METHOD_NOT_FOUND, MODERN, SERVER_INFO, Message, Refused
from gateway.web.mcp.tools import Tools
from gateway.web.messages import Response
from gateway.web.queries import Calling
from gateway.web.reporting import ending

KEPT_FOR = 60_000
"""Milliseconds for which a client may keep a list of tools, if it does not hear of another one."""
_ME = {"name": "pg-query-gateway", "version": __version__}
_CACHED = b'"ttlMs":%d,"cacheScope":"private"' % KEPT_FOR
_COMPLETE = b'"resultType":"complete","_meta":%b' % orjson.dumps({SERVER_INFO: _ME})
_LONGEST_SHOWN = 128

Method = Callable[[falcon.Request, Response, Message], bytes]
"""Answers a message with the members of its result, as JSON text without the braces around them; raises Refused."""


class McpResource(Calling):
    """Answers the messages of agents, each with one JSON object."""

    def __init__(self, *, tools: Tools, settings: Settings, **calling: Any) -> None:
        """``calling``: what ``Calling`` takes."""
        super().__init__(**calling)
        self._tools = tools
        self._max_body = settings.server.max_body
        self._max_result = settings.mcp.max_result
        self._about: dict[str, object] = {"capabilities": {"tools": {}}}
        if settings.mcp.instructions:
            self._about["instructions"] = settings.mcp.instructions
        self._modern: dict[str, Method] = {
            "server/discover": self._discover,
            "tools/list": self._list,
            "tools/call": self._call,
        }
        self._legacy: dict[str, Method] = {
            "initialize": self._initialize,
            "ping": lambda _request, _response, _message: b"",
            "tools/list": self._list,
            "tools/call": self._call,
        }

    def on_post(self, request: falcon.Request, response: Response) -> None:
        """Answer a message."""
        asking.require_json(request)
        response.content_type = JSON
        response.set_header("Cache-Control", "no-store")
        message = None
        try:
            message = messages.read(bodies.read_json(request, self._max_body))
            members = self._result(request, response, message)
        except Refused as refused:
            response.status = falcon.code_to_http_status(refused.status)
            response.data = refused.written(None if message is None else message.id)
            return
        if message.id is None:
            response.status = falcon.HTTP_202
            response.content_type = None
            return
        response.data = b'{"jsonrpc":"2.0","id":%b,"result":{%b}}' % (message.id, members)
        if len(response.data) >= LONG:
            self._compression.apply(request, response)

    def _result(self, request: falcon.Request, response: Response, message: Message) -> bytes:
        """Return the members of the result, none for a notification: there is none that we would act on.

        NOTE: an agent that gives up a call hangs up, as callers over HTTP do; what it says of a call by its id could
        be about another agent's.
        """
        modern = messages.is_modern(message, request)
        if message.id is None:
            return b""
        method = (self._modern if modern else self._legacy).get(message.method)
        # Older clients take any status but 200 for a failure of the transport.
        status = None if modern else 200
        if method is None:
            raise Refused(METHOD_NOT_FOUND, f"no method {message.method[:_LONGEST_SHOWN]} here", status=status)
        try:
            members = method(request, response, message)
        except Refused as refused:
            refused.status = refused.status if modern else 200
            raise
        return b",".join(filter(None, [members, _COMPLETE if modern else b""]))

    def _discover(self, _request: falcon.Request, _response: Response, _message: Message) -> bytes:
        about = self._about | {"supportedVersions": [MODERN]}
        return orjson.dumps(about)[1:-1] + b"," + _CACHED

    def _initialize(self, _request: falcon.Request, _response: Response, message: Message) -> bytes:
        wanted = message.text("protocolVersion")
        spoken = wanted if wanted in LEGACY else LEGACY[-1]
        return orjson.dumps(self._about | {"protocolVersion": spoken, "serverInfo": _ME})[1:-1]

    def _list(self, request: falcon.Request, _response: Response, message: Message) -> bytes:
        if "cursor" in message.params:
            raise Refused(INVALID_PARAMS, "there is one page of tools, and no cursor to another one")
        return b'"tools":%b,%b' % (self._tools.listed(request.context.caller), _CACHED)

    def _call(self, request: falcon.Request, response: Response, message: Message) -> bytes:
        """Run a tool. Whatever it fails with is a result, too, which the agent's model gets to see."""
        name, arguments = message.text("name"), message.members("arguments")
        query = None if name is None else self._tools.find(name, request.context.caller)
        if query is None:
            raise Refused(INVALID_PARAMS, f"there is no tool {(name or '')[:_LONGEST_SHOWN]!r}; see tools/list")
        request.context.query = query.name
        try:
            call = self._calls.of_tool(request, query, arguments)
            if self._deprecations:
                self._deprecations.note(query.name, request, response)
            answer = self._execution.run(call)
            if len(answer.body) > self._max_result:
                outcome = ending(call) if query.access is Access.WRITE else None
                raise ResultTooLarge(
                    f"{len(answer.body)} bytes, an agent is given at most {self._max_result}: ask for less",
                    outcome=outcome,
                ).but(served=answer.served)
        except GatewayError as error:
            _, problem = self._failures.described(request, response, error)
            return b'"content":[%b],"isError":true' % _text(problem)
        if answer.kept is not None:
            # How long it is good is told to caches of HTTP, none of which keeps what a POST answers.
            answer = msgspec.structs.replace(answer, kept=None)
        answers.write(response, call, answer)
        self._answered(query.name, request, call, answer)
        return b'"content":[%b],"structuredContent":%b,"isError":false' % (_text(answer.body), answer.body)


def _text(body: bytes) -> bytes:
    """Return JSON as a piece of text, for models and for clients that know no structured content."""
    return b'{"type":"text","text":%b}' % msgspec.json.encode(body.decode())
