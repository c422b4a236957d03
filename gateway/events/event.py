"""What an event is, and who takes it."""

from collections.abc import Callable
from enum import IntEnum
from typing import ClassVar

import msgspec


class Level(IntEnum):
    """How urgent an event is; the numbers are those of ``logging``."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened. ``level`` may differ between events of one class.

    The log writes the fields beside ``time``, ``level``, ``event``, ``pid`` and ``message``, which is the sentence, so
    none is called that. One that says nothing where it has its default is then left out.
    """

    name: ClassVar[str] = "event"
    """What the event is called in logs."""

    severity: ClassVar[Level] = Level.WARNING
    """How urgent such an event is, where that does not depend on what it says."""

    is_limited: ClassVar[bool] = True
    """Whether the log leaves some out where there are many of a class, which clients can provoke."""

    is_text: ClassVar[bool] = False
    """Whether the sentence is all that there is to be told: the log then writes no field."""

    @property
    def level(self) -> Level:
        """How urgent this one is."""
        return self.severity


Observer = Callable[[Event], None]
"""Takes an event. It returns at once and never raises: it is called while requests wait, and under no lock."""


def ignore(_event: Event) -> None:
    """Observe nothing: for what is constructed outside of a worker."""
