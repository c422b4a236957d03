"""The log: a line for each event, limited in rate by kind, since clients can provoke many of them."""

import os
import traceback
from collections.abc import Callable
from datetime import datetime
from time import monotonic

from gateway.events import BugFound, Event

BURST = 50
"""Lines of one kind that may be written at once."""
RATE = 5.0
"""Lines of one kind a second after that."""


class Log:
    """Reads events. The form of a line is that of gunicorn's own."""

    def __init__(self, write: Callable[[str], None], *, clock: Callable[[], float] = monotonic) -> None:
        """``write`` takes a line, may be called by several threads, and returns at once."""
        self._write = write
        self._clock = clock
        self._limits: dict[type[Event], _Limit] = {}

    def observe(self, event: Event) -> None:
        """Write the event's line, unless there were too many of its kind lately."""
        kind = type(event)
        limit = self._limits.get(kind)
        if limit is None:
            limit = self._limits[kind] = _Limit(self._clock())
        if not limit.has_room(self._clock()):
            limit.omitted += 1
            return
        self._write_omitted(kind, limit)
        limit.tokens -= 1.0
        text = str(event)
        if isinstance(event, BugFound):
            text += "\n" + "".join(traceback.format_exception(event.error)).rstrip()
        self._line(event.level.name, text)

    def report(self) -> None:
        """Write how many lines were omitted, of kinds that may be written again. To be called now and then."""
        now = self._clock()
        for kind, limit in tuple(self._limits.items()):
            if limit.has_room(now):
                self._write_omitted(kind, limit)

    def _write_omitted(self, kind: type[Event], limit: "_Limit") -> None:
        if limit.omitted:
            omitted, limit.omitted = limit.omitted, 0
            self._line("WARNING", f"{omitted} more events of the kind {kind.name} were not logged")

    def _line(self, level: str, text: str) -> None:
        # SECURITY: words of servers and clients are in it, which must not look like another line, or move a cursor.
        if not text.isprintable():
            text = "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)
            text = text.replace("\n", "\n    ")
        time = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        self._write(f"[{time}] [{os.getpid()}] [{level}] {text}")


class _Limit:
    """A token bucket for one kind of event."""

    __slots__ = ("_at", "omitted", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = float(BURST)
        self._at = now
        self.omitted = 0
        """Events since the last line."""

    def has_room(self, now: float) -> bool:
        """Whether one more may be written now."""
        self.tokens = min(float(BURST), self.tokens + (now - self._at) * RATE)
        self._at = now
        return self.tokens >= 1.0
