"""What each worker of a node has in hand, in memory that forked processes share: clients, and bytes of requests.

Connections are kept: whoever accepts one serves all its requests. Left to chance, the worker that wakes up first takes
most of a burst, and the others stay idle for as long as those clients live. Memory for requests that are still
arriving, or being answered, is the node's: one worker may have all of it.
"""

import mmap

_WORKERS = 512
"""More than can be alive at once; a worker's number counts on with each that is started."""


class Tally:
    """Two counts for each worker. Made by the master, before it forks."""

    def __init__(self) -> None:
        self._clients = memoryview(mmap.mmap(-1, _WORKERS * 4)).cast("I")
        self._bytes = memoryview(mmap.mmap(-1, _WORKERS * 8)).cast("Q")

    def note_clients(self, worker: int, clients: int) -> None:
        """The worker of this number accepts connections, and has so many."""
        self._clients[worker % _WORKERS] = clients + 1

    def leave(self, worker: int) -> None:
        """It accepts no more."""
        self._clients[worker % _WORKERS] = 0

    def fewest_clients(self) -> int:
        """How many clients the emptiest worker has; 0 without any."""
        return min(filter(None, self._clients), default=1) - 1

    def note_bytes(self, worker: int, size: int) -> int:
        """The worker holds so many bytes of requests; returns how many all of them hold."""
        self._bytes[worker % _WORKERS] = size
        return sum(self._bytes)

    def forget(self, worker: int) -> None:
        """It has ended."""
        self.leave(worker)
        self._bytes[worker % _WORKERS] = 0
