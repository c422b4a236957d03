"""Bytes in and out of a non-blocking socket, in the clear or through TLS; nothing here ever waits."""

import _socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

READ_SIZE = 65536
RECORDS = 131072
"""Bytes that are encrypted at a time: what a slow reader has not taken yet is neither worked on nor held twice."""

_NOTHING = memoryview(b"")


class Gone(Exception):
    """The other side reset the connection, or TLS broke: nothing can be sent any more."""


class Plain:
    """A socket as it is."""

    __slots__ = ("_out", "_sock")

    certificate: Mapping[str, Any] | None = None
    """That the client has shown, as ``ssl.SSLObject.getpeercert`` gives it, once it is verified."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._out = _NOTHING

    def receive(self) -> bytes | None:
        """What has arrived; None if nothing yet, ``b""`` at the end. Raises Gone."""
        try:
            return self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise Gone(error.strerror or "") from None

    def write(self, data: bytes) -> bool:
        """Send ``data``, now or by later calls of ``flush``; whether all of it is out. Raises Gone."""
        if self._out:
            self._out = memoryview(bytes(self._out) + data)
            return self.flush()
        try:  # PERF: nearly always all of it fits at once
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise Gone(error.strerror or "") from None
        if sent < len(data):
            self._out = memoryview(data)[sent:]
            return False
        return True

    def write_framed(self, front: bytes, data: bytes, end: bytes) -> bool:
        """Send ``data``, with something short in front of it and behind it, as ``write`` does.

        PERF: the kernel takes the three from where they are; joining them would copy the data.
        """
        if self._out:
            return self.write(front + data + end)
        try:
            sent = self._sock.sendmsg((front, data, end))
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            raise Gone(error.strerror or "") from None
        if sent < len(front) + len(data) + len(end):
            self._out = memoryview(front + data + end)[sent:]
            return False
        return True

    def flush(self) -> bool:
        """Send what is left to send; whether all of it is out. Raises Gone."""
        while self._out:
            try:
                sent = self._sock.send(self._out)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                raise Gone(error.strerror or "") from None
            self._out = self._out[sent:]
        self._out = _NOTHING  # an empty view would keep all that was sent
        return True

    @property
    def unsent(self) -> int:
        """Bytes that wait for ``flush``."""
        return len(self._out)

    def end(self) -> None:
        """Say that nothing more will be sent."""
        with suppress(OSError):
            self._sock.shutdown(_socket.SHUT_WR)

    def reset_on_close(self) -> None:
        """Have the close tell the other side that what it has is not all."""
        with suppress(OSError):
            self._sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        """Close the socket."""
        self._out = _NOTHING
        self._sock.close()


class Tls(Plain):
    """A socket with TLS in between, by memory buffers: the loop sees one kind of connection only."""

    __slots__ = ("_clear", "_incoming", "_is_open", "_object", "_outgoing", "certificate")

    def __init__(self, sock: _socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_open = False
        self.certificate = None
        self._clear = _NOTHING
        """What waits for being encrypted."""

    def receive(self) -> bytes | None:
        """What has arrived, decrypted; makes the handshake on the way. Raises Gone."""
        raw = super().receive()
        if raw is None:
            return None
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()
        pieces = []
        try:
            if not self._is_open:
                self._object.do_handshake()
                self._is_open = True
                self.certificate = self._object.getpeercert() or None
            while piece := self._object.read(READ_SIZE):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            self._push()
            return b"".join(pieces) or None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b"".join(pieces)
        except ssl.SSLError as error:
            with suppress(Gone):
                self._push()  # the alert
            raise Gone(error.reason or "TLS") from None
        self._push()
        return b"".join(pieces)

    def write(self, data: bytes) -> bool:
        """Encrypt and send ``data``, now or by later calls of ``flush``."""
        self._clear = memoryview(bytes(self._clear) + data) if self._clear else memoryview(data)
        return self.flush()

    def write_framed(self, front: bytes, data: bytes, end: bytes) -> bool:
        """Encrypt and send all three."""
        return self.write(front + data + end)

    def flush(self) -> bool:
        """Encrypt and send what is left to send, a piece at a time."""
        while super().flush():
            if self._clear:
                self._encrypt(self._clear[:RECORDS])
                self._clear = self._clear[RECORDS:] or _NOTHING
            elif not self._outgoing.pending:
                return True
            self._out = memoryview(self._outgoing.read())
        return False

    @property
    def unsent(self) -> int:
        """Bytes that wait for ``flush``, encrypted or not."""
        return len(self._out) + len(self._clear)

    def end(self) -> None:
        """Say that nothing more will be sent, in TLS too: what ends without that may have been cut off."""
        with suppress(ssl.SSLError):  # the other side's close_notify is not waited for
            self._object.unwrap()
        with suppress(Gone):
            self._push()
            super().end()

    def close(self) -> None:
        """Close the socket, after a close_notify if nothing is still to be sent."""
        if not self.unsent:
            self.end()
        self._clear = _NOTHING
        super().close()

    def _encrypt(self, data: memoryview) -> None:
        try:
            self._object.write(data)
        except ssl.SSLError as error:
            raise Gone(error.reason or "TLS") from None

    def _push(self) -> None:
        """Send what TLS itself has to say, behind what is being sent."""
        if self._outgoing.pending:
            super().write(self._outgoing.read())
