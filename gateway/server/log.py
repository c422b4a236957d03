"""The log: a line for each event, as a JSON object for programs or as text for people.

Lines are limited in rate by kind, since clients can provoke many of them.
"""

import logging
import os
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import msgspec

from gateway.events import BugFound, ErrorOutput, Event, Level, LinesOmitted, LogLevelChanged, Observer, ServerSaid
from gateway.server.writer import LONGEST
from gateway.settings import LogSettings

BURST = 50
"""Lines of one kind that may be written at once."""
RATE = 5.0
"""Lines of one kind a second after that."""
ROOMS = (4000, 1000, 200)
"""Characters that a field may have: the first of these with which the line is not cut, and so stays JSON."""


class Log:
    """Reads events."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        as_json: bool = False,
        level: Level = Level.INFO,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``write`` takes a line, may be called by several threads, and returns at once."""
        self._write = write
        self._as_json = as_json
        self._clock = clock
        self._limits: dict[type[Event], _Limit] = {}
        self.level = level
        """What is less urgent is not written."""

    def configure(self, settings: LogSettings, *, is_terminal: bool) -> None:
        """Write as the settings say from now on; ``is_terminal``: whether people read it as it is written."""
        self._as_json = settings.format == "json" or (settings.format == "auto" and not is_terminal)
        self.level = Level[settings.level.upper()]

    def observe(self, event: Event) -> None:
        """Write the event's line, unless it is not urgent enough, or there were too many of its kind lately.

        ``LogLevelChanged`` decides what is urgent enough from then on.
        """
        if isinstance(event, LogLevelChanged):
            self.level = Level[event.to.upper()]
        elif event.level < self.level:
            return
        if event.is_limited:
            kind = type(event)
            limit = self._limits.get(kind)
            if limit is None:
                limit = self._limits[kind] = _Limit(self._clock())
            if not limit.has_room(self._clock()):
                limit.omitted += 1
                return
            self._write_omitted(kind, limit)
            limit.tokens -= 1.0
        self._write(self.line(event))

    def report(self) -> None:
        """Write how many lines were omitted, of kinds that may be written again. To be called now and then."""
        now = self._clock()
        for kind, limit in tuple(self._limits.items()):
            if limit.has_room(now):
                self._write_omitted(kind, limit)

    def text(self, text: str) -> None:
        """Write what was written to standard error past the log: as it is, or as an event where lines are JSON."""
        self._write(self.line(ErrorOutput(text=text)) if self._as_json else text)

    def line(self, event: Event) -> str:
        """Return the event's line, without its end."""
        return _as_json(event) if self._as_json else _as_text(event)

    def _write_omitted(self, kind: type[Event], limit: "_Limit") -> None:
        if limit.omitted:
            omitted, limit.omitted = limit.omitted, 0
            self._write(self.line(LinesOmitted(count=omitted, kind=kind.name)))


class ServerLog(logging.Handler):
    """Makes events of gunicorn's log."""

    def __init__(self, observe: Observer, *, level: int = logging.NOTSET) -> None:
        """``level``: of ``logging``; what is less urgent is left out."""
        super().__init__(level)
        self._observe = observe

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as the log's settings say."""
        level = max((level for level in Level if level <= record.levelno), default=Level.DEBUG)
        self._observe(ServerSaid(message=self.format(record), severity_of_line=level))


def _as_text(event: Event) -> str:
    """Return a line in the form of gunicorn's own."""
    text = str(event)
    if isinstance(event, BugFound):
        text += f"\n{_traceback(event.error)}"
    # SECURITY: words of servers and clients are in it, which must not look like another line, or move a cursor.
    if not text.isprintable():
        text = "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)
        text = text.replace("\n", "\n    ")
    time = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    return f"[{time}] [{os.getpid()}] [{event.level.name}] {text}"


def _as_json(event: Event) -> str:
    """Return a JSON object with the event's fields; those that say nothing are left out."""
    fields: dict[str, Any] = {
        "time": f"{datetime.now(UTC).isoformat(timespec='milliseconds')[:-6]}Z",
        "level": event.level.name.lower(),
        "event": event.name,
        "pid": os.getpid(),
        "message": str(event),
    }
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is not None and value != "" and value != () and name != "severity_of_line":
            fields[name] = value
    if isinstance(event, BugFound):
        fields |= {"error": type(event.error).__name__, "traceback": _traceback(event.error)}
    try:
        line = msgspec.json.encode(fields).decode()  # PERF: nearly always that is all
    except UnicodeEncodeError:
        line = ""
    rooms = iter(ROOMS)
    while not 0 < len(line) <= LONGEST:
        room = next(rooms)
        line = msgspec.json.encode({name: _fitting(value, room) for name, value in fields.items()}).decode()
    return line


def _fitting(value: Any, room: int) -> Any:
    """Return a value as JSON can have it; of a text that is too long the end, which is what counts in a traceback."""
    if not isinstance(value, str):
        return value
    text = value if len(value) <= room else f"… {value[-room:]}"
    return text.encode(errors="backslashreplace").decode()


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


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
