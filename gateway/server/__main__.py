"""``python -m gateway.server DIRECTORY LOCK OWNER ORIGIN``: serve the artefact in a runtime directory.

``gateway serve`` becomes this process by exec, so that what serves has never loaded a parser and keeps its pid.
LOCK is the number of the descriptor that owns the directory, OWNER ``private`` or ``configured``, ORIGIN an
``artefact.Origin`` as JSON.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gateway.catalogue.query import Catalogue
from gateway.events import Observer
from gateway.server.application import serve
from gateway.server.artefact import Origin
from gateway.server.runtime import Runtime
from gateway.settings import Settings
from gateway.waiting import Waits


def _create_app(
    settings: Settings,
    catalogue: Catalogue,
    directory: Path,
    is_draining: Callable[[], bool],
    waits: Waits,
    observe: Observer,
) -> Any:
    # Imported by each worker: psycopg2's wait callback and everything else of the data path stay out of the master.
    from gateway.app import create_app

    return create_app(settings, catalogue, directory, is_draining, waits, observe)


if __name__ == "__main__":
    _, directory, lock, owner, origin = sys.argv
    serve(
        Runtime(Path(directory), int(lock), owner == "private"),
        _create_app,
        msgspec.json.decode(origin, type=Origin),
    )
