"""What each worker of a node has in hand, in memory that forked processes share: clients, and bytes of requests.

It is also where a worker says that it is ready, and where the master says that the node is about to stop.

Connections are kept: whoever accepts one serves all its requests. Left to chance, the worker that wakes up first takes
most of a burst, and the others stay idle for as long as those clients live. Memory for requests that are still
arriving, or being answered, is the node's: one worker may have all of it.
"""

import mmap

_WORKERS = 512
"""More than can be alive at once; a worker's number counts on with each that is started."""

_ENDLESS = 2**63


class Tally:
    """Two counts and a flag for each worker, and who of them is to serve. Made by the master, before it forks."""

    def __init__(self) -> None:
        self._ready = memoryview(mmap.mmap(-1, _WORKERS))
        self.stopping = memoryview(mmap.mmap(-1, 1))
        """1 once the node is about to stop. PERF: looked at for each answer."""
        self._waiting = memoryview(mmap.mmap(-1, 16)).cast("Q")
        self._clients = memoryview(mmap.mmap(-1, _WORKERS * 4)).cast("I")
        self._bytes = memoryview(mmap.mmap(-1, _WORKERS * 8)).cast("Q")

    def note_clients(self, worker: int, clients: int) -> None:
        """The worker of this number accepts connections, and has so many."""
        self._clients[worker % _WORKERS] = clients + 1

    def leave(self, worker: int) -> None:
        """It accepts no more."""
        self._clients[worker % _WORKERS] = 0

    def accepts(self, worker: int) -> bool:
        """Whether it accepts connections."""
        return self._clients[worker % _WORKERS] > 0

    def fewest_clients(self) -> int:
        """How many clients the emptiest worker has; 0 without any."""
        return min(filter(None, self._clients), default=1) - 1

    def note_bytes(self, worker: int, size: int) -> int:
        """The worker holds so many bytes of requests; returns how many all of them hold."""
        self._bytes[worker % _WORKERS] = size
        return sum(self._bytes)

    def note_ready(self, worker: int) -> None:
        """The worker of this number can serve."""
        self._ready[worker % _WORKERS] = 1

    def is_ready(self, worker: int) -> bool:
        """Whether it can, or could once."""
        return self._ready[worker % _WORKERS] == 1

    def let_wait(self, first: int, last: int = _ENDLESS) -> None:
        """Workers of these numbers do not serve: all of a reload wait until each of them is ready."""
        self._waiting[0], self._waiting[1] = first, last

    def let_serve(self) -> None:
        """Nobody waits any more."""
        self._waiting[1] = 0

    def is_waiting(self, worker: int) -> bool:
        """Whether the worker of this number does not serve."""
        return self._waiting[0] <= worker <= self._waiting[1]

    def stop(self) -> None:
        """The node is about to stop: nobody who can choose should send it requests any more."""
        self.stopping[0] = 1

    @property
    def is_stopping(self) -> bool:
        """Whether it is."""
        return self.stopping[0] == 1

    def forget(self, worker: int) -> None:
        """It has ended."""
        self._ready[worker % _WORKERS] = 0
        self.leave(worker)
        self._bytes[worker % _WORKERS] = 0
