"""Where the messages of a PostgreSQL session begin and end ("Frontend/Backend Protocol", Message Formats)."""

_LENGTH = 4
_STARTUP_MAJOR = 3
READY_FOR_QUERY = ord("Z")


class Requests:
    """Splits what a client sends. Not for sessions with TLS: nothing of those can be read."""

    def __init__(self) -> None:
        self._begun = b""
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete, whole, in order; the rest is kept for the next time."""
        self._begun += data
        messages = []
        while (size := self._size()) is not None and len(self._begun) >= size:
            message, self._begun = self._begun[:size], self._begun[size:]
            if not self._started:
                # Before the session starts messages have no type: SSLRequest and its like, or StartupMessage.
                self._started = int.from_bytes(message[4:6], "big") == _STARTUP_MAJOR
            messages.append(message)
        return messages

    def _size(self) -> int | None:
        at = 1 if self._started else 0
        if len(self._begun) < at + _LENGTH:
            return None
        return at + max(_LENGTH, int.from_bytes(self._begun[at : at + _LENGTH], "big"))


class Answers:
    """Looks through what a server sends, from the beginning of any message of a started session."""

    def __init__(self) -> None:
        self._begun = b""

    def ready(self, data: bytes) -> bool:
        """Whether these bytes complete a ReadyForQuery: the server has done all it was asked."""
        self._begun += data
        while len(self._begun) > _LENGTH:
            size = 1 + int.from_bytes(self._begun[1 : 1 + _LENGTH], "big")
            if len(self._begun) < size:
                return False
            kind, self._begun = self._begun[0], self._begun[size:]
            if kind == READY_FOR_QUERY:
                return True
        return False
