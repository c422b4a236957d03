"""How many clients each worker of a master has, so that none takes what an emptier one should.

Connections are kept: whoever accepts one serves all its requests. Left to chance, the worker that wakes up first takes
most of a burst, and the others stay idle for as long as those clients live.
"""

import mmap

_SEATS = 512
_SIZE = 4


class Crowd:
    """A count for each worker, in memory that forked processes share. Made by the master, before it forks."""

    def __init__(self) -> None:
        self._seats = memoryview(mmap.mmap(-1, _SEATS * _SIZE)).cast("I")

    def note(self, worker: int, clients: int) -> None:
        """The worker of this number accepts connections, and has so many."""
        self._seats[worker % _SEATS] = clients + 1

    def leave(self, worker: int) -> None:
        """It accepts no more."""
        self._seats[worker % _SEATS] = 0

    def least(self) -> int:
        """How many clients the emptiest worker has; 0 without any."""
        return min(filter(None, self._seats), default=1) - 1
