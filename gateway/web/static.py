"""Pages and what they are made of: files of this package, which are the same for everybody."""

import gzip
import hashlib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import PurePath
from typing import Final

import falcon

from gateway.errors import NotFound
from gateway.web.accepting import has_already, takes_gzip

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""SECURITY: nothing from another host and no script but our files."""


class StaticResource:
    """Serves files of ``static/``, compressed beforehand or as they are."""

    def __init__(self, page: str, parts: Iterable[str]) -> None:
        """``page``: the file that is served itself; ``parts``: those that it is made of."""
        self._page = page
        self._parts = frozenset(parts)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send the page, or 304 to whoever has it."""
        _send(self._page, request, response)

    on_head = on_get

    def on_get_part(self, request: falcon.Request, response: falcon.Response, file: str) -> None:
        """Send one of the files that the page is made of."""
        if file not in self._parts:
            raise NotFound("the page has no such part")
        _send(file, request, response)

    on_head_part = on_get_part


def _send(name: str, request: falcon.Request, response: falcon.Response) -> None:
    # Read each time: pages are asked for seldom, and half a megabyte would stay in every worker.
    stored = files("gateway.web").joinpath("static")
    packed = stored.joinpath(f"{name}.gz")
    is_packed = packed.is_file()
    data = packed.read_bytes() if is_packed else stored.joinpath(name).read_bytes()
    tag = falcon.ETag(hashlib.sha256(data).hexdigest()[:32])
    response.set_header("Cache-Control", "no-cache")
    response.set_header("Content-Security-Policy", _POLICY)
    response.set_header("X-Content-Type-Options", "nosniff")
    response.set_header("Referrer-Policy", "no-referrer")
    if is_packed:
        response.set_header("Vary", "Accept-Encoding")
    if has_already(request, response, tag):
        return
    response.content_type = _TYPES[PurePath(name).suffix]
    if is_packed and takes_gzip(request.get_header("Accept-Encoding")):
        response.set_header("Content-Encoding", "gzip")
    elif is_packed:
        data = gzip.decompress(data)
    response.data = data
