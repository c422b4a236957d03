"""Follows what an endpoint's host name stands for."""

from collections.abc import Callable
from time import monotonic

from gateway.events import Observer
from gateway.node.tasks import Task
from gateway.rotation.moves import Resolved
from gateway.rotation.rotation import Rotation

EVERY = 2.0
"""Seconds between two look-ups of a name."""
PATIENCE = 2.0
"""Seconds that the resolver has to answer."""


Resolve = Callable[[str, float], tuple[str, ...] | None]
"""What an endpoint's host names stand for, asked before a deadline; see ``postgres.driver.Driver.resolve``."""


class Follower(Task):
    """One endpoint's name, looked up again and again while ``is_wanted``."""

    def __init__(
        self, name: str, *, resolve: Resolve, rotation: Rotation, is_wanted: Callable[[], bool], observe: Observer
    ) -> None:
        super().__init__(f"the look-up of the name of endpoint {name}", self._follow, observe=observe)
        self._endpoint = name
        self._resolve = resolve
        self._rotation = rotation
        self._is_wanted = is_wanted
        self._has_name = True

    def _follow(self) -> float | None:
        if not self._is_wanted() or not self._has_name:
            return None
        found = self._resolve(self._endpoint, monotonic() + PATIENCE)
        self._has_name = found != ()  # there is nothing to follow, and never will be
        if found:
            self._rotation.apply(self._endpoint, Resolved(found))
        return EVERY
