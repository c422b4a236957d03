"""What a node knows of its endpoints, as one process sees it, and who is called when that changes."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from gateway.events import BugFound, Observer, ignore
from gateway.rotation.choosing import Candidates, Needs, candidates, objection
from gateway.rotation.endpoint import EndpointView, Reason
from gateway.rotation.moves import Event, step

LATELY = 5.0
"""Seconds for which reads wait for the only endpoint there is to come back, as writes do."""


class Views(Protocol):
    """Where the views are kept: in this process (``LocalViews``), or shared by those of a node (``node.board``)."""

    @property
    def version(self) -> int:
        """Grows with every change, by whichever process."""

    def read(self) -> Mapping[str, EndpointView]:
        """Return the newest view of every endpoint, in the order they were given."""

    def change(self, change: Callable[[Mapping[str, EndpointView]], EndpointView]) -> EndpointView:
        """Replace the view of the same name by what ``change`` returns, and return that.

        No view is changed by anybody else meanwhile. Nothing is written, and the version stays, if ``change`` returns
        the very object it was given.
        """


class LocalViews:
    """The views of one process."""

    def __init__(
        self,
        endpoints: Iterable[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        now, epoch = clock(), wall()
        self.version = 0
        self._views = {name: EndpointView(name=name, since=now, since_wall=epoch) for name in endpoints}
        self._lock = threading.Lock()

    def read(self) -> Mapping[str, EndpointView]:
        """Return the newest view of every endpoint, in the order they were given."""
        return dict(self._views)

    def change(self, change: Callable[[Mapping[str, EndpointView]], EndpointView]) -> EndpointView:
        """Replace the view of the same name by what ``change`` returns, and return that."""
        with self._lock:
            view = change(self._views)
            if view is not self._views[view.name]:
                self._views[view.name] = view
                self.version += 1
        return view


class Rotation:
    """All endpoints of a node as this process sees them, and the listeners to their changes.

    NOTE: readers take no lock, as the views are replaced all together. Listeners are called after that, without any
    lock, and read the views themselves. Two threads may call them at the same time for two changes: whichever reads
    later sees both.
    """

    def __init__(
        self,
        *,
        views: Views,
        max_lags: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        observe: Observer = ignore,
    ) -> None:
        """``max_lags``: seconds by group, for groups that read; ``observe`` is told of a listener that fails."""
        self._store = views
        self._max_lags = dict(max_lags or {})
        self._clock = clock
        self._wall = wall
        self._observe = observe
        self._lock = threading.Lock()
        self._seen = self.told = views.version
        """``told``: the version that every listener has been called for."""
        self._views = views.read()
        self._listeners: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        """The version of the views; after ``apply`` it includes the change."""
        return self._store.version

    @property
    def names(self) -> tuple[str, ...]:
        """All endpoints, in the order they were given."""
        return tuple(self._views)

    def view(self, name: str) -> EndpointView:
        """Return the newest view of an endpoint; KeyError for a name that was not given."""
        return self._views[name]

    def views(self) -> tuple[EndpointView, ...]:
        """Return the newest view of every endpoint."""
        return tuple(self._views.values())

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change, in the thread that made or noticed it."""
        self._listeners.append(listener)

    def apply(self, name: str, event: Event) -> EndpointView:
        """Take an event into account, call the listeners if it changed the view, and return the new view.

        To be called without any lock held that a listener may acquire.
        """

        def change(views: Mapping[str, EndpointView]) -> EndpointView:
            others = (view for view in views.values() if view.name != name)
            now, wall = self._clock(), self._wall()
            return step(views[name], event, others=others, max_lags=self._max_lags, now=now, wall=wall)

        view = self._store.change(change)
        self.poll()
        return view

    @property
    def has_news(self) -> bool:
        """Whether something changed, here or in another process, that ``poll`` has not taken over so far."""
        return self._store.version != self._seen

    def poll(self) -> bool:
        """Take over what changed, here or in another process, and call the listeners; False if nothing did."""
        if not self.has_news:
            return False
        with self._lock:
            seen = self._seen = self._store.version
            self._views = self._store.read()
        for listener in self._listeners:
            try:
                listener()
            except Exception as error:  # noqa: BLE001 -- a bug of ours must not keep the others from being called
                self._observe(BugFound(where="a listener of the rotation", error=error))
        with self._lock:
            self.told = max(self.told, seen)
        return True

    def candidates(self, names: Iterable[str], needs: Needs) -> Candidates:
        """Return which of these endpoints may be given work now."""
        return candidates([self.view(name) for name in names], needs)

    def objection(self, name: str, names: Iterable[str], needs: Needs) -> Reason | None:
        """Return why an endpoint may not serve a group with these endpoints now; None: it may."""
        return objection(self.view(name), [self.view(other) for other in names], needs)

    def is_back_soon(self, now: float) -> bool:
        """Whether reads should wait rather than fail: the only endpoint there is was in the rotation lately."""
        if len(self._views) != 1:
            return False
        (view,) = self.views()
        return view.in_until is not None and now - view.in_until < LATELY

    def __repr__(self) -> str:
        return f"<Rotation {'; '.join(map(str, self.views()))}>"
