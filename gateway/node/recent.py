"""What has happened on the node lately: the last events of each kind, of all its processes, for whoever looks on.

Each worker keeps its own, and so does the master. It writes them into a file of its slot (see ``metering``) when there
are new ones. Whoever takes over the slot goes on from what is there, so that a worker's last words outlive it. A kind
has so much room and no more: requests that fail by the thousand do not drive out that a server was lost.
"""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.events import Event, Level, QueryRefused
from gateway.node.files import replace

KEPT = 16
"""Events of one kind that a process keeps."""
LONGEST = 400
"""Characters of one."""
PUBLISH_EVERY = 0.25
"""Seconds between two times that the file is written."""

_PREFIX = "events-"


class ShownEvent(msgspec.Struct, frozen=True, array_like=True):
    """An event, as it is shown."""

    at: float
    """In seconds of the Unix epoch."""
    level: int
    event: str
    text: str


class RecentEvents:
    """Keeps this process's events and reads those of all. Without a directory there are no others."""

    def __init__(self, directory: Path | None, *, wall: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._wall = wall
        self._file: Path | None = None
        self._kept: dict[str, deque[ShownEvent]] = {}
        self._is_published = True
        self._published_at = 0.0

    def take_over(self, place: str) -> None:
        """Go on from what is in the file of this place, such as a slot's number, which no other process has now."""
        if self._directory is not None:
            self._file = self._directory / f"{_PREFIX}{place}"
            for left in _decoded(self._file):
                self._keep(left)

    def observe(self, event: Event) -> None:
        """Keep an event, if it may concern whoever looks after the node."""
        level = event.level
        if level >= Level.INFO:
            self._keep(ShownEvent(self._wall(), level, event.name, _shown(event)))
            self._is_published = False

    def tend(self) -> bool:
        """Write what is new, if it is time to. Whether there is more to be written soon."""
        if self._is_published or self._file is None:
            return False
        if abs(self._wall() - self._published_at) < PUBLISH_EVERY:
            return True
        self.publish()
        return False

    def publish(self) -> None:
        """Write what was kept, for the others. A full directory costs them this process's events, and nothing else."""
        if self._file is None:
            return
        self._published_at = self._wall()
        self._is_published = True  # before they are collected: one that comes meanwhile is written the next time
        try:
            replace(self._file, msgspec.msgpack.encode(self._own()))
        except OSError:
            return

    def since(self, moment: float) -> list[ShownEvent]:
        """Return the events of all processes after this moment, in seconds of the Unix epoch; the oldest first."""
        found = self._own()
        if self._directory is not None:
            for file in self._directory.glob(f"{_PREFIX}*"):
                if file != self._file and file.suffix != ".draft":
                    found += _decoded(file)
        return sorted((each for each in found if each.at > moment), key=lambda each: each.at)

    def _keep(self, shown: ShownEvent) -> None:
        self._kept.setdefault(shown.event, deque(maxlen=KEPT)).append(shown)

    def _own(self) -> list[ShownEvent]:
        return [each for kept in tuple(self._kept.values()) for each in tuple(kept)]


def _shown(event: Event) -> str:
    """Return an event's sentence in one line.

    SECURITY: without what the server says of a query, which quotes SQL; whoever looks on need not read the log.
    """
    if isinstance(event, QueryRefused):
        return f"{event.file}:{event.line}: {event.query} cannot be served; the log says why"
    first, _, more = str(event).partition("\n")
    text = f"{first.removesuffix(':')} … (the log says more)" if more else first
    if not text.isprintable():  # a lone surrogate could not be written
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _decoded(file: Path) -> list[ShownEvent]:
    """Return what a file holds; nothing if there is none, or another version of the gateway has written it."""
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=list[ShownEvent])
    except (OSError, msgspec.MsgspecError):
        return []
