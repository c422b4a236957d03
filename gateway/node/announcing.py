"""Tells the log what becomes of endpoints: one line a change, by the process that made it and no other."""

import logging
from collections.abc import Callable, Mapping

from gateway.rotation.endpoint import EndpointState, EndpointView
from gateway.rotation.rotation import Views

log = logging.getLogger("gateway.node")


class Announced:
    """Views whose changes are told. Satisfies ``rotation.rotation.Views``."""

    def __init__(self, views: Views) -> None:
        self._views = views

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
            _tell(before, view)
        return view


def _tell(before: EndpointView, view: EndpointView) -> None:
    said = _standing(view)
    if said != _standing(before):
        level = logging.INFO if view.state is EndpointState.IN and not view.held else logging.WARNING
        log.log(level, "endpoint %s: %s%s", view.name, said, f": {view.message}" if view.message else "")
    for group in set(view.lagging) - set(before.lagging):
        log.warning("endpoint %s: too far behind for group %s: %s ms", view.name, group, view.lag_ms)
    for group in set(before.lagging) - set(view.lagging):
        log.info("endpoint %s: not too far behind for group %s any more", view.name, group)


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
