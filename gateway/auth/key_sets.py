"""The key set in force, kept up to date beside requests: from a file, or from the issuer by one worker for all.

Whatever the issuer does, a request only looks at the set that is there: one that is slow, dead or sends rubbish
changes nothing, until the set has not been confirmed for a day.
"""

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from time import monotonic

import msgspec

from gateway.auth.key_set import KeySet, Unusable
from gateway.events import KeySetNotFetched, NodeNotShared, Observer
from gateway.node.election import Election
from gateway.node.fetching import FetchFailed, fetch
from gateway.node.files import open_shared, replace
from gateway.node.tasks import Task

LOOK_EVERY = 0.25
"""Seconds between two looks at what has changed."""
FETCH_EVERY = 300.0
ASKED_AGAIN = 30.0
"""Seconds between an attempt and the next one, where tokens were signed by a key that is not there or an attempt
failed: whoever makes up keys causes no more."""
WITHOUT_ANY = 10.0
"""Seconds between an attempt and the next one while there is no set at all."""
TIMEOUT = 3.0
STALE_AFTER = TIMEOUT + 3.0
"""Seconds without a sign of life after which the worker that fetches is stopped or stuck."""
LARGEST = 1 << 20
LONGEST_USE = 86_400.0
"""Seconds for which a set is used after it was last fetched."""
PATIENCE_AT_START = 0.5
_STAMPS = struct.Struct("=dd")
_WANTED, _ATTEMPTED = 0, 8


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What workers share: the last good answer, and what is wrong with the issuer now."""

    content: str = ""
    at: float = 0.0
    """When it was fetched, by ``time.monotonic``."""
    fault: str | None = None


class FileKeySet:
    """The set in a file of the operator's, taken over whenever it changes."""

    def __init__(self, path: Path, algorithms: Collection[str], *, observe: Observer) -> None:
        self._path = path
        self._algorithms = algorithms
        self._observe = observe
        self._seen: tuple[int, ...] | None = None
        self._current: KeySet | None = None
        self.fault: str | None = None
        self.task = Task("the reading of the key set", self._turn, observe=observe)
        self.look()

    def current(self) -> KeySet | None:
        """The set in force."""
        return self._current

    def want(self) -> None:
        """A key is missing: the file is looked at all the time."""

    def start(self) -> None:
        """Begin to look."""
        self.task.start(after=LOOK_EVERY)

    def close(self) -> None:
        """End it."""
        self.task.close()

    @property
    def age(self) -> float | None:
        """Seconds since it was confirmed: a file always is."""
        return None

    def look(self) -> None:
        """Take over the file, if it has changed."""
        try:
            status = self._path.stat()
            seen: tuple[int, ...] = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return
            found = KeySet.parse(self._path.read_bytes()[: LARGEST + 1], self._algorithms)
        except OSError as error:
            seen, problem = (error.errno or -1,), f"{self._path} cannot be read: {error.strerror}"
        except Unusable as error:
            problem = f"{self._path}: {error}"
        else:
            problem = ""
            if found != self._current:
                self._current = found
        if problem and (seen != self._seen or problem != self.fault):
            self._observe(KeySetNotFetched(detail=problem))
        self._seen, self.fault = seen, problem or None

    def _turn(self) -> float:
        self.look()
        return 2 * LOOK_EVERY


class FetchedKeySet:
    """The set of an issuer: fetched by the worker that is elected, shared through the node's directory."""

    def __init__(
        self, url: str, algorithms: Collection[str], directory: Path | None, *, observe: Observer,
        get: Callable[[str], bytes] = lambda url: fetch(url, seconds=TIMEOUT, most=LARGEST),
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        """``directory``: the node's; None: nothing is shared. ``clock``: that of the machine, in seconds."""
        self._url = url
        self._algorithms = algorithms
        self._observe = observe
        self._get = get
        self._clock = clock
        self._current: KeySet | None = None
        self._stored = Stored()
        self._seen: tuple[int, ...] = ()
        self._is_confirmed = threading.Event()
        self._stamps = -1
        self._alone = [0.0, 0.0]
        self._path: Path | None = None
        self._election = Election(None, name="", stale_after=STALE_AFTER)
        if directory is not None:
            name = f"keyset-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
            try:
                self._stamps = open_shared(directory / f"{name}-stamps")
                self._election = Election(directory, name=name, stale_after=STALE_AFTER)
                self._path = directory / name
            except OSError as error:
                observe(NodeNotShared(what="this worker fetches the key set for itself", detail=str(error)))
        self.task = Task("the fetching of the key set", self._turn, observe=observe)

    def current(self) -> KeySet | None:
        """The set in force, None where there is none (any more)."""
        if self._clock() - self._stored.at > LONGEST_USE:
            return None
        return self._current

    @property
    def fault(self) -> str | None:
        """Why the last attempt to fetch it failed."""
        return self._stored.fault

    @property
    def age(self) -> float | None:
        """Seconds since it was fetched."""
        return None if self._current is None else self._clock() - self._stored.at

    def want(self) -> None:
        """Ask for a fetch: a token was signed by a key that is not there. Costs a write of some bytes."""
        self._note(_WANTED)

    def start(self) -> None:
        """Begin with what the node has, or else wait a moment for the first answer."""
        self._take_over()
        self.task.start()
        if self._current is None:
            self._is_confirmed.wait(PATIENCE_AT_START)

    def close(self) -> None:
        """End, and let another worker fetch."""
        self.task.close()
        self._election.close()
        if self._stamps >= 0:
            os.close(self._stamps)
            self._stamps = -1

    def _turn(self) -> float:
        self._take_over()
        if self._election.is_elected():
            if self._is_due():
                self._fetch()
            self._election.stamp()
        return LOOK_EVERY

    def _is_due(self) -> bool:
        wanted, attempted = self._read_stamps()
        now = self._clock()
        if not 0.0 < attempted <= now:  # never, or before the machine was started anew
            return True
        if self._current is None:
            return now >= attempted + WITHOUT_ANY
        asked = wanted > attempted or self._stored.fault is not None
        return now >= attempted + (ASKED_AGAIN if asked else FETCH_EVERY)

    def _fetch(self) -> None:
        self._note(_ATTEMPTED)
        try:
            content = self._get(self._url)
            KeySet.parse(content, self._algorithms)
            stored = Stored(content=content.decode(), at=self._clock())
        except (FetchFailed, Unusable, UnicodeDecodeError) as error:
            self._observe(KeySetNotFetched(detail=f"{self._url}: {error}"))
            stored = msgspec.structs.replace(self._stored, fault=str(error))
        if self._path is None:
            self._take(stored)
            return
        try:
            replace(self._path, msgspec.json.encode(stored))
        except OSError as error:
            self._observe(NodeNotShared(what="other workers do not get the key set", detail=str(error)))
            self._take(stored)
        else:
            self._take_over()

    def _take_over(self) -> None:
        """Take what the elected worker has stored, if that is new."""
        if self._path is None:
            return
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns)
            if seen == self._seen:
                return
            stored = msgspec.json.decode(self._path.read_bytes(), type=Stored)
        except (OSError, msgspec.MsgspecError):
            return
        self._seen = seen
        self._take(stored)

    def _take(self, stored: Stored) -> None:
        if stored.at > self._clock():  # of another life of the machine
            stored = msgspec.structs.replace(stored, at=0.0)
        if stored.content and stored.content != self._stored.content:
            try:
                found = KeySet.parse(stored.content.encode(), self._algorithms)
            except Unusable:
                return
            # NOTE: the same object stays where nothing has changed: verified tokens are kept as long as it does.
            if found != self._current:
                self._current = found
        self._stored = stored
        if self._current is not None:
            self._is_confirmed.set()

    def _note(self, place: int) -> None:
        if self._stamps < 0:
            self._alone[place // 8] = self._clock()
        else:
            os.pwrite(self._stamps, struct.pack("=d", self._clock()), place)

    def _read_stamps(self) -> tuple[float, float]:
        if self._stamps < 0:
            return self._alone[0], self._alone[1]
        read = os.pread(self._stamps, _STAMPS.size, 0).ljust(_STAMPS.size, b"\0")
        wanted, attempted = _STAMPS.unpack(read)
        return wanted, attempted
