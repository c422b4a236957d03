"""Tells agents whose tokens are taken here: OAuth 2.0 Protected Resource Metadata (RFC 9728)."""

import re
from urllib.parse import urlsplit

import falcon
import orjson

from gateway.errors import NotFound
from gateway.settings import Settings

_WELL_KNOWN = "/.well-known/oauth-protected-resource"
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


class ProtectedResource:
    """Describes the resource that agents speak to, where they show tokens; has no paths where they do not."""

    def __init__(self, settings: Settings) -> None:
        """The resource is what tokens must be made for (``audience``), if that is a URL, or else where it is asked."""
        auth, self._path = settings.auth, settings.mcp.path
        is_on = settings.mcp.enabled and "jwt" in auth.mode and _is_url(auth.issuer)
        self.paths = (_WELL_KNOWN, _WELL_KNOWN + self._path) if is_on else ()
        self._issuer = auth.issuer
        self._audience = auth.audience if _is_url(auth.audience) else None

    def challenge(self, request: falcon.Request) -> str:
        """Say how to authenticate, and for a request of an agent where that is described."""
        origin = self._origin(request) if self.paths and request.path == self._path else None
        return "Bearer" if origin is None else f'Bearer resource_metadata="{origin}{_WELL_KNOWN}{self._path}"'

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Describe it."""
        origin = self._origin(request)
        if origin is None:
            raise NotFound("the Host header does not say where this is")
        response.set_header("Cache-Control", "max-age=3600")
        response.set_header("Vary", "Host")
        response.content_type = falcon.MEDIA_JSON
        response.data = orjson.dumps(
            {
                "resource": self._audience or origin + self._path,
                "authorization_servers": [self._issuer],
                "bearer_methods_supported": ["header"],
            }
        )

    on_head = on_get

    def _origin(self, request: falcon.Request) -> str | None:
        """Return scheme and host; None where they are not known. SECURITY: a header may say anything."""
        if self._audience is not None:
            url = urlsplit(self._audience)
            return f"{url.scheme}://{url.netloc}"
        host = request.env.get("HTTP_HOST", "")
        return f"{request.env['wsgi.url_scheme']}://{host}" if _HOST.fullmatch(host) else None


def _is_url(text: str) -> bool:
    return text.startswith(("https://", "http://")) and '"' not in text
