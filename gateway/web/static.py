"""Pages and what they are made of: files of this package, which are the same for everybody."""

import gzip
import hashlib
from importlib.resources import files
from pathlib import PurePath
from typing import Final

import falcon

from gateway.web.accepting import takes_gzip

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
    """Serves one file of ``static/``, compressed beforehand or as it is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._type = _TYPES[PurePath(name).suffix]

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Send it, or 304 to whoever has it."""
        # Read each time: pages are asked for seldom, and half a megabyte would stay in every worker.
        stored = files("gateway.web").joinpath("static")
        packed = stored.joinpath(f"{self._name}.gz")
        is_packed = packed.is_file()
        data = packed.read_bytes() if is_packed else stored.joinpath(self._name).read_bytes()
        tag = falcon.ETag(hashlib.sha256(data).hexdigest()[:32])
        response.etag = tag
        response.set_header("Cache-Control", "no-cache")
        response.set_header("Content-Security-Policy", _POLICY)
        response.set_header("X-Content-Type-Options", "nosniff")
        response.set_header("Referrer-Policy", "no-referrer")
        if is_packed:
            response.set_header("Vary", "Accept-Encoding")
        if any(given in ("*", tag) for given in request.if_none_match or ()):
            response.status = falcon.HTTP_304
            return
        response.content_type = self._type
        if is_packed and takes_gzip(request.get_header("Accept-Encoding")):
            response.set_header("Content-Encoding", "gzip")
        elif is_packed:
            data = gzip.decompress(data)
        response.data = data

    on_head = on_get
