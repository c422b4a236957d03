"""Follows what an endpoint's host name stands for."""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from gateway.rotation.moves import Resolved
from gateway.rotation.rotation import Rotation

log = logging.getLogger("gateway.node")

EVERY = 2.0
"""Seconds between two look-ups of a name."""
PATIENCE = 2.0
"""Seconds that the resolver has to answer."""


Resolve = Callable[[str, float], tuple[str, ...] | None]
"""What an endpoint's host names stand for, asked before a deadline; see ``postgres.driver.Driver.resolve``."""


class Follower:
    """One endpoint's name, looked up again and again while ``is_wanted``."""

    def __init__(self, name: str, *, resolve: Resolve, rotation: Rotation, is_wanted: Callable[[], bool]) -> None:
        self._name = name
        self._resolve = resolve
        self._rotation = rotation
        self._is_wanted = is_wanted
        self._woken = threading.Event()
        self._stopped = False

    def wake(self) -> None:
        """Look whether there is something to do."""
        self._woken.set()

    def close(self) -> None:
        """End after the look-up under way."""
        self._stopped = True
        self._woken.set()

    def run(self) -> None:
        """Follow until stopped, or until it is clear that there is nothing to follow."""
        while not self._stopped:
            if self._is_wanted():
                try:
                    if not self._follow():
                        return
                except Exception:  # a bug of ours must not be the last look-up
                    log.exception("endpoint %s: its name could not be looked up, by a bug of ours", self._name)
                self._woken.wait(EVERY)
            else:
                self._woken.wait()
            self._woken.clear()

    def _follow(self) -> bool:
        found = self._resolve(self._name, monotonic() + PATIENCE)
        if found:
            self._rotation.apply(self._name, Resolved(found))
        return found != ()
