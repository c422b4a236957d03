"""Looks host names up with a deadline: a slow resolver holds up nobody for longer than they allow.

``getaddrinfo(3)`` has no time limit, so it runs in a thread beside whoever waits for it (on a loop: in the loop's
pool of threads), at most once at a time for each name. What was found is good for a second, and after that for as long
as the resolver has nothing newer to say.
"""

import threading
from collections.abc import Callable, Sequence
from time import monotonic

from gateway.postgres.dsn import addresses_of
from gateway.postgres.waiting import DeadlinePassed

FRESH = 1.0
"""Seconds for which an answer is used without asking again."""
PATIENCE = 0.25
"""Seconds to wait for a newer answer where there is an old one."""


class _Name:
    """What is known of one name."""

    __slots__ = ("addresses", "answered_at", "failure", "pending")

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.answered_at = 0.0
        self.failure: OSError | None = None
        self.pending: threading.Event | None = None
        """Set when the look-up under way has ended; None: there is none."""


class Resolver:
    """The names of one process."""

    def __init__(self, look_up: Callable[[str], Sequence[str]] = addresses_of) -> None:
        """``look_up`` blocks; raises OSError."""
        self._look_up = look_up
        self._names: dict[str, _Name] = {}
        self._lock = threading.Lock()

    def addresses(self, name: str, deadline: float) -> tuple[str, ...]:
        """The addresses of a name. Raises OSError if it has none, DeadlinePassed if the resolver does not answer."""
        known = self._names.setdefault(name, _Name())
        if known.addresses and monotonic() - known.answered_at < FRESH:
            return known.addresses
        pending = self._asked(name, known)
        until = min(deadline, monotonic() + PATIENCE) if known.addresses else deadline
        if not pending.wait(max(0.0, until - monotonic())) and not known.addresses:
            raise DeadlinePassed
        if not known.addresses:
            raise known.failure or OSError(f"{name} has no address")
        return known.addresses

    def newest(self, name: str, deadline: float) -> tuple[str, ...] | None:
        """The addresses of a name as they are now; None, if that cannot be learnt before the deadline."""
        known = self._names.setdefault(name, _Name())
        try:
            found = self.addresses(name, deadline)
        except (OSError, DeadlinePassed):
            return None
        return found if known.failure is None and monotonic() - known.answered_at < FRESH else None

    def _asked(self, name: str, known: _Name) -> threading.Event:
        """Ask, unless that is under way; what is set when the answer is there."""
        with self._lock:
            if known.pending is not None:
                return known.pending
            pending = threading.Event()
            thread = threading.Thread(target=self._ask, args=(name, known, pending), daemon=True, name="resolver")
            known.pending = pending
            try:
                thread.start()
            except RuntimeError as error:  # there can be no more threads
                known.pending = None
                raise OSError(f"{name} cannot be looked up: {error}") from error
            return pending

    def _ask(self, name: str, known: _Name, pending: threading.Event) -> None:
        try:
            known.addresses, known.answered_at = tuple(self._look_up(name)), monotonic()
            known.failure = None
        except OSError as error:
            known.failure = error
        except UnicodeError:  # as the codec "idna" says of what cannot be a name
            known.failure = OSError(f"{name} is no host name")
        finally:
            known.pending = None
            pending.set()
