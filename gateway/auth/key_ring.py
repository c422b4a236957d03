"""The keys in force in one worker, taken anew from their file whenever that changes."""

import hmac
import time
from collections.abc import Callable
from pathlib import Path

from gateway.auth import keys_file
from gateway.auth.claims import SessionSettings
from gateway.auth.keys import LENGTH, PREFIX, Key, digest_of
from gateway.errors import Unauthenticated
from gateway.events import KeysFileRefused, Observer
from gateway.execution.call import Caller
from gateway.faults import FaultsFound
from gateway.settings.units import rate

LOOK_EVERY = 0.5
"""Seconds between two looks at the file: a revoked key is refused by all workers within two seconds."""
_ID = slice(len(PREFIX), len(PREFIX) + 8)
_NO_DIGEST = digest_of("")


class _Held:
    """A key in force."""

    __slots__ = ("caller", "digest", "expires", "label", "used")

    def __init__(self, key: Key, caller: Caller, used: float) -> None:
        self.digest = bytes.fromhex(key.sha256)
        self.expires = float("inf") if key.expires is None else key.expires
        self.caller = caller
        self.label = f"{key.name}:{key.id}"
        self.used = used
        """When it was last shown to this worker, in seconds of the Unix epoch; 0: never."""


class KeyRing:
    """Finds the caller of a key."""

    def __init__(
        self,
        path: Path,
        *,
        sent: SessionSettings,
        observe: Observer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the file. Without one that can be read there is no key until there is one. ``clock``: Unix time."""
        self._path = path
        self._sent = sent
        self._observe = observe
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._good: dict[str, _Held] = {}
        """Keys that were found good, as they are shown: at most as many as there are."""
        self._seen: tuple[int, ...] | None = None
        self.fault: str | None = None
        """What is wrong with the file as it is now; then the keys of the last good one are in force."""
        self.look()

    def __len__(self) -> int:
        return len(self._held)

    def caller_of(self, key: str) -> Caller:
        """Return who a key belongs to. Raises Unauthenticated, in the same words whatever is wrong with it.

        SECURITY: a digest is compared whether or not there is such a key, and by a comparison that takes the same
        time wherever two digests differ. Nobody can choose the digest of what they send.

        PERF: to look up a key that was good before takes a tenth of that. How long it takes to find that another one
        is not among them depends on its hash alone, which is keyed at random.
        """
        good = self._good
        known = good.get(key)
        now = self._clock()
        if known is not None and now < known.expires:
            known.used = now
            return known.caller
        held = self._held.get(key[_ID]) if len(key) == LENGTH else None
        is_right = hmac.compare_digest(digest_of(key), _NO_DIGEST if held is None else held.digest)
        if held is None or not is_right or now >= held.expires:
            raise Unauthenticated
        # NOTE: into the dictionary that was there before the key was looked for. Where another thread has taken over a
        # changed file meanwhile, that one is not in force any more.
        good[key] = held
        held.used = now
        return held.caller

    def last_used(self) -> dict[tuple[str, ...], float]:
        """When each key was last shown to this worker, of those that were."""
        return {(held.label,): held.used for held in self._held.values() if held.used}

    def expiring(self) -> dict[tuple[str, ...], float]:
        """When each key expires, of those that do."""
        return {(held.label,): held.expires for held in self._held.values() if held.expires != float("inf")}

    def look(self) -> None:
        """Take over the file's keys, if it has changed."""
        try:
            status = self._path.stat()
            seen: tuple[int, ...] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        except OSError as error:
            seen = (error.errno or -1,)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            keys = keys_file.read(self._path)
        except FaultsFound as found:
            self.fault = str(found.faults[0])
            self._observe(KeysFileRefused(faults=len(found.faults), first=self.fault))
            return
        self.fault = None
        self._held = {key.id: self._hold(key) for key in keys}
        self._good = {}  # NOTE: behind the former, see caller_of

    def _hold(self, key: Key) -> _Held:
        claims = {"sub": key.name, "roles": list(key.roles), **key.parameters}
        caller = Caller(
            name=f"key:{key.name}",
            roles=frozenset(key.roles),
            claims=claims,
            settings=self._sent.of(claims),
            rate=None if key.rate is None else rate(key.rate),
        )
        before = self._held.get(key.id)
        return _Held(key, caller, 0.0 if before is None else before.used)
