"""Reports changes of endpoints as events: one line a change, by the process that made it and no other."""

from collections.abc import Callable, Iterator, Mapping

from gateway.events import EndpointLagged, EndpointMoved, EndpointUnprepared, Event, Observer
from gateway.rotation.endpoint import EndpointState, EndpointView
from gateway.rotation.rotation import Views


class Announced:
    """Views whose changes are told. Satisfies ``rotation.rotation.Views``."""

    def __init__(self, views: Views, observe: Observer) -> None:
        self._views = views
        self._observe = observe

    @property
    def version(self) -> int:
        """Grows with every change, whoever made it."""
        return self._views.version

    def read(self) -> Mapping[str, EndpointView]:
        """The newest view of every endpoint."""
        return self._views.read()

    def change(self, change: Callable[[Mapping[str, EndpointView]], EndpointView]) -> EndpointView:
        """Replace one view, and tell what that means."""
        before: EndpointView | None = None

        def noting(views: Mapping[str, EndpointView]) -> EndpointView:
            nonlocal before
            view = change(views)
            before = views[view.name]
            return view

        view = self._views.change(noting)
        if before is not None and view is not before:
            for event in _changes(before, view):
                self._observe(event)
        return view


def _changes(before: EndpointView, view: EndpointView) -> Iterator[Event]:
    standing = _standing(view)
    if standing != _standing(before):
        serves = view.state is EndpointState.IN and not view.held
        yield EndpointMoved(endpoint=view.name, standing=standing, serves=serves, detail=view.message)
    if view.unprepared and not before.unprepared:
        yield EndpointUnprepared(endpoint=view.name)
    for group in set(view.lagging) ^ set(before.lagging):
        lags = group in view.lagging
        yield EndpointLagged(endpoint=view.name, group=group, lags=lags, lag_ms=view.lag_ms)


def _standing(view: EndpointView) -> str:
    match view.state:
        case EndpointState.IN if view.held:
            return f"held back as {view.role}"
        case EndpointState.IN:
            return f"in the rotation as {view.role}"
        case EndpointState.SUSPECT:
            return f"suspect, {view.reason}"
        case EndpointState.OUT:
            return f"out of the rotation, {view.reason}"
        case EndpointState.UNKNOWN:
            return "not known yet"
