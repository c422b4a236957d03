"""``python -m tests.bench.silent SETTINGS``: the gateway that counts nothing and logs no call, to see what that costs.

The product has no such switch: in each worker, before the app is made, nothing is put in the place of what counts calls
that were answered, of what looks whether they were slow, and of what shares the counts with the other workers. With
``BENCH_COUNTS`` in the environment it is the product as it is, started in the same way: a process's memory is laid out
otherwise if it was started otherwise, and that alone makes some percent.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.catalogue.query import Catalogue
from gateway.events import Observer
from gateway.server.application import serve
from gateway.server.runtime import Runtime
from gateway.settings import Settings
from gateway.waiting import Waits
from tests.bench.bare import become_server


def create_app(
    settings: Settings,
    catalogue: Catalogue,
    directory: Path,
    is_draining: Callable[[], bool],
    waits: Waits,
    observe: Observer,
) -> Any:
    """Make the app of one worker. As in ``gateway.server`` the data path is imported here, not by the master."""
    from gateway import app
    from gateway.node.metering import Metering
    from gateway.web.reporting import Reporting

    if "BENCH_COUNTS" not in os.environ:
        Reporting.answered = lambda *_: None  # type: ignore[method-assign]
        Metering.tend = lambda *_: None  # type: ignore[method-assign]
    return app.create_app(settings, catalogue, directory, is_draining, waits, observe)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        become_server(Path(sys.argv[1]), "tests.bench.silent")
    serve(Runtime(Path(sys.argv[1]), int(sys.argv[2]), is_private=False), create_app)
