"""The certificate that clients are shown: taken anew when its files change, without a restart."""

import ssl
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from gateway.events import CertificateNotTaken, CertificateTaken, Observer
from gateway.settings import Settings

LOOK_EVERY = 1.0
"""Seconds between two looks at the files. Nobody looks while nobody connects."""

_State = tuple[tuple[int, int, int] | None, ...]


class Certificates:
    """The TLS context for clients' connections, of ``[server] certfile``, ``keyfile`` and ``client_ca``.

    What cannot be loaded changes nothing: the last good certificate is shown until files that fit are there. Made
    before workers are forked, so that one that is started while the files do not fit has the last good one as well.
    """

    def __init__(self, settings: Settings, *, observe: Observer, clock: Callable[[], float] = monotonic) -> None:
        """Load the files. Raises OSError (ssl.SSLError is one)."""
        self._server = server = settings.server
        self._asked_for = _asked_for(settings)
        self._observe = observe
        self._clock = clock
        self._files = [Path(file) for file in (server.certfile, server.keyfile, server.client_ca) if file]
        # NOTE: here and below the state is taken first, so that a change that comes meanwhile is seen at the next look.
        self._loaded = self._state()
        self._failed: _State | None = None
        self._is_told = False
        self._context = self._load()
        self._next = clock() + LOOK_EVERY

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        now = self._clock()
        if now >= self._next:
            self._next = now + LOOK_EVERY
            self._look()
        return self._context

    def _look(self) -> None:
        state = self._state()
        if state == self._loaded:
            return
        try:
            self._context = self._load()
        except OSError as error:
            # A renewal replaces certificate and key one after the other: told only if they still do not fit later.
            if state != self._failed:
                self._failed, self._is_told = state, False
            elif not self._is_told:
                self._is_told = True
                self._observe(CertificateNotTaken(file=self._server.certfile, detail=_sentence(error)))
        else:
            self._loaded, self._failed = state, None
            self._observe(CertificateTaken(file=self._server.certfile))

    def _load(self) -> ssl.SSLContext:
        server = self._server
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server.client_ca or None)
        # A key that wants a passphrase gets an empty one: else OpenSSL would ask on the terminal.
        context.load_cert_chain(server.certfile, server.keyfile or None, password="")
        context.verify_mode = self._asked_for
        return context

    def _state(self) -> _State:
        return tuple(map(_identity, self._files))


def _asked_for(settings: Settings) -> ssl.VerifyMode:
    """Whether clients must show a certificate: not where those may who show a key or a token."""
    if not settings.server.client_ca:
        return ssl.CERT_NONE
    others = settings.auth.allow_anonymous or set(settings.auth.mode) - {"certificates"}
    return ssl.CERT_OPTIONAL if "certificates" in settings.auth.mode and others else ssl.CERT_REQUIRED


def _identity(file: Path) -> tuple[int, int, int] | None:
    """What tells one content of a file from the next; None where there is no file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _sentence(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"certificate and key do not load: {error.reason or error}"
    return error.strerror or str(error)
