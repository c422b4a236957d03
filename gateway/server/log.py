"""The log: a line for each event, as a JSON object for programs or as text for people.

Lines are limited in rate by kind, since clients can provoke many of them.
"""

import logging
import os
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from time import monotonic, time
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
_WORDS = {level: level.name.lower() for level in Level}


class Log:
    """Reads events."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        later: Callable[[Callable[[], str]], None] | None = None,
        as_json: bool = False,
        level: Level = Level.INFO,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``write`` takes a line, may be called by several threads, and returns at once.

        ``later`` takes what makes the line of an event that comes with each request; None: it is made at once.
        """
        self._write = write
        self._later = later or (lambda make: write(make()))
        self._as_json = as_json
        self._clock = clock
        self._limits: dict[type[Event], _Limit] = {}
        self._utc = _Seconds(lambda second: datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
        self._local = _Seconds(
            lambda second: datetime.fromtimestamp(second).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        )
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
        if not event.is_limited:
            self._later(partial(self._line, event, time()))
            return
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
        return self._line(event, time())

    def _line(self, event: Event, now: float) -> str:
        """``now``: in seconds of the Unix epoch."""
        if not self._as_json:
            return f"[{self._local.at(now)}] [{os.getpid()}] [{event.level.name}] {_text_of(event)}"
        # PERF: nothing is collected that the encoder can read by itself.
        front = (
            f'{{"time":"{self._utc.at(now)}.{int(now % 1.0 * 1000):03}Z","level":"{_WORDS[event.level]}",'
            f'"event":"{event.name}","pid":{os.getpid()},"message":'
        )
        try:
            line = f"{front}{_rest_of(event)}"
        except UnicodeEncodeError:
            line = ""
        return line if 0 < len(line) <= LONGEST else _shortened(front, event)

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
        self._observe(ServerSaid(text=self.format(record), severity_of_line=level))


class _Seconds:
    """Writes points in time to the second, each second once."""

    def __init__(self, written: Callable[[int], str]) -> None:
        self._written = written
        self._last = (0, "")

    def at(self, now: float) -> str:
        """Return this second of the Unix epoch as text."""
        second, text = self._last
        if second != int(now):
            second, text = self._last = int(now), self._written(int(now))
        return text


def _text_of(event: Event) -> str:
    """Return what a line for people says, which has the form of gunicorn's own."""
    text = str(event)
    if isinstance(event, BugFound):
        text += f"\n{_traceback(event.error)}"
    # SECURITY: words of servers and clients are in it, which must not look like another line, or move a cursor.
    if not text.isprintable():
        text = "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)
        text = text.replace("\n", "\n    ")
    return text


def _rest_of(event: Event) -> str:
    """Return the end of a JSON object from the value of its ``message`` on. Raises UnicodeEncodeError."""
    said = msgspec.json.encode(str(event)).decode()
    if event.is_text:
        return f"{said}}}"
    if isinstance(event, BugFound):
        traced = msgspec.json.encode(_traceback(event.error)).decode()
        said = f'{said},"traceback":{traced}'
    fields = msgspec.json.encode(event, enc_hook=_name_of).decode()
    return f"{said},{fields[1:]}" if fields != "{}" else f"{said}}}"


def _shortened(front: str, event: Event) -> str:
    """Return the whole line of an event with text that is too long, or that JSON cannot have."""
    fields: dict[str, Any] = {"message": str(event)}
    if not event.is_text:
        fields |= {name: value for name, value in msgspec.structs.asdict(event).items() if value not in (None, "", ())}
    if isinstance(event, BugFound):
        fields["traceback"] = _traceback(event.error)
    line = ""
    rooms = iter(ROOMS)
    while not 0 < len(line) <= LONGEST:
        room = next(rooms)
        fitting = {name: _fitting(value, room) for name, value in fields.items()}
        written = msgspec.json.encode(fitting, enc_hook=_name_of).decode()
        line = front + written.removeprefix('{"message":')
    return line


def _name_of(error: object) -> str:
    """Return what stands for an exception in JSON."""
    return type(error).__name__


def _fitting(value: Any, room: int) -> Any:
    """Return a value as JSON can have it; of a text that is too long the end, which is what counts in a traceback."""
    if isinstance(value, tuple):
        return [_fitting(" ".join(value), room)]
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
