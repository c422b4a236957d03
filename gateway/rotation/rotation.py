"""What a node knows of its endpoints, as one process sees it, and who wants to know when that changes."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from gateway.rotation.choosing import Candidates, Needs, candidates, objection
from gateway.rotation.endpoint import EndpointView, Reason
from gateway.rotation.moves import Event, step

log = logging.getLogger("gateway.pool")

LATELY = 5.0
"""Seconds for which reads wait for the only server there is, as writes do (reliability.md, promise 4)."""


class Views(Protocol):
    """Where the views are kept: here (``LocalViews``), or shared by the processes of a node (``node.board``)."""

    @property
    def version(self) -> int:
        """Grows with every change, whoever made it."""

    def read(self) -> Mapping[str, EndpointView]:
        """The newest view of every endpoint, in the order they were given."""

    def change(self, change: Callable[[Mapping[str, EndpointView]], EndpointView]) -> EndpointView:
        """Replace one view, with nobody changing any of them meanwhile; returns what ``change`` returned.

        Nothing is written, and the version stays, where that is the very object it was given.
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
        """The newest view of every endpoint, in the order they were given."""
        return dict(self._views)

    def change(self, change: Callable[[Mapping[str, EndpointView]], EndpointView]) -> EndpointView:
        """Replace one view, with nobody changing any of them meanwhile."""
        with self._lock:
            view = change(self._views)
            if view is not self._views[view.name]:
                self._views[view.name] = view
                self.version += 1
        return view


class Rotation:
    """All endpoints of a node as this process sees them, and who wants to know when something is learnt of one.

    NOTE: readers take no lock: the views are replaced all together. Listeners are told after that and look for
    themselves, so that the later of two changes leaves them with what holds.
    """

    def __init__(
        self,
        *,
        views: Views,
        max_lags: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``max_lags``: seconds by group, for groups that read."""
        self._store = views
        self._max_lags = dict(max_lags or {})
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._seen = self.told = views.version
        """``told``: the version that every listener has been told of."""
        self._views = views.read()
        self._listeners: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        """The version of the views, whoever made it; after ``apply`` what was learnt is in it."""
        return self._store.version

    @property
    def names(self) -> tuple[str, ...]:
        """All endpoints, in the order they were given."""
        return tuple(self._views)

    def view(self, name: str) -> EndpointView:
        """The newest view of an endpoint; KeyError for a name that was not given."""
        return self._views[name]

    def views(self) -> tuple[EndpointView, ...]:
        """The newest view of every endpoint."""
        return tuple(self._views.values())

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change, in the thread that brought it."""
        self._listeners.append(listener)

    def apply(self, name: str, event: Event) -> EndpointView:
        """Learn something of an endpoint, tell the listeners, return the new view. Hold no lock when calling."""

        def change(views: Mapping[str, EndpointView]) -> EndpointView:
            others = (view for view in views.values() if view.name != name)
            now, wall = self._clock(), self._wall()
            return step(views[name], event, others=others, max_lags=self._max_lags, now=now, wall=wall)

        view = self._store.change(change)
        self.poll()
        return view

    @property
    def has_news(self) -> bool:
        """Whether something changed, here or in another process, that ``poll`` has not taken over yet."""
        return self._store.version != self._seen

    def poll(self) -> bool:
        """Take over what changed, here or in another process, and tell the listeners; False if nothing did."""
        if not self.has_news:
            return False
        with self._lock:
            seen = self._seen = self._store.version
            self._views = self._store.read()
        for listener in self._listeners:
            try:
                listener()
            except Exception:  # a bug of ours must not keep the others from hearing of it
                log.exception("a listener of the rotation failed")
        with self._lock:
            self.told = max(self.told, seen)
        return True

    def candidates(self, names: Iterable[str], needs: Needs) -> Candidates:
        """Who of these endpoints may be given work now."""
        return candidates([self.view(name) for name in names], needs)

    def objection(self, name: str, names: Iterable[str], needs: Needs) -> Reason | None:
        """Why an endpoint may not serve a group with these endpoints now; None: it may."""
        return objection(self.view(name), [self.view(other) for other in names], needs)

    def is_back_soon(self, now: float) -> bool:
        """Whether reads better wait than fail: the only server there is was in the rotation lately."""
        if len(self._views) != 1:
            return False
        (view,) = self.views()
        return view.in_until is not None and now - view.in_until < LATELY

    def __repr__(self) -> str:
        return f"<Rotation {'; '.join(map(str, self.views()))}>"
