"""Falcon's request and response, with less work for what nearly every call needs."""

from typing import Any

import falcon


class Request(falcon.Request):
    """A request whose other attributes are filled in when one of them is first asked for.

    PERF: Falcon fills in some twenty for each request, and a call of a query reads six of them.
    """

    _is_whole = False

    def __init__(self, env: dict[str, Any], options: falcon.RequestOptions | None = None) -> None:
        path = env["PATH_INFO"]
        if not path or not path.isascii():
            self._is_whole = True
            super().__init__(env, options)
            return
        self.env = env
        self.options = options or falcon.RequestOptions()
        self.method = env["REQUEST_METHOD"]
        self.path = path
        self.query_string = env.get("QUERY_STRING", "")
        self.is_websocket = False
        self.uri_template = None
        self.context = self.context_type()

    def __getattr__(self, name: str) -> Any:
        """Fill in the rest; called for what is not there."""
        if self._is_whole:
            raise AttributeError(name)
        self._is_whole = True
        kept = self.context, self.uri_template
        super().__init__(self.env, self.options)
        self.context, self.uri_template = kept
        return getattr(self, name)


class Response(falcon.Response):
    """A response that some headers can be given to as lines."""

    lines = ""
    """Header lines, each with its end, of values that cannot break them.

    PERF: our own worker takes them as they are (``gateway.head`` in the environ), and need not put together what was
    taken apart for Falcon. Other servers get them one by one.
    """

    @property
    def alone(self) -> bytes | None:
        """The body, where it has no headers but the lines and those of every answer; None where it has, or no body."""
        return None if self._headers else self._data

    def hand_over_lines(self, env: dict[str, Any]) -> None:
        """Give the lines to the server, in the way it takes them."""
        if "gateway.head" in env:
            env["gateway.head"] = self.lines
        else:
            for line in self.lines.splitlines():
                name, _, value = line.partition(": ")
                self.set_header(name, value)
