"""``python -m tests.bench.bare SETTINGS``: the gateway without its safety net, to see what the net costs.

The product has no such switch: in each event-loop worker, before the app is made, less is put in its place. Off are

* the look at an idle connection before work is put on it, and the ping of one that has rested for long;
* all that ends a wait for the server or in the queue: deadline, hang-up, endpoint withdrawn, report of a silence;
* a write's ``statement_timeout`` and ``lock_timeout``, and what else goes in front of a statement;
* the settling of a connection: whatever is not closed is clean;
* what a connection that comes back tells the rotation: its server's role, and that it was lost;
* around the work: re-runs, freshness, tokens, the endpoint of an error, all headers of ``web.running``.

On are probes, sweeps over clients, and the notes in ``single.run`` of how far it has come. Never serve like this.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

from gateway.catalogue.query import Catalogue
from gateway.events import Observer
from gateway.server.application import serve
from gateway.server.artefact import Compiled, write
from gateway.server.runtime import Runtime, open_runtime
from gateway.settings import Settings, load_settings
from gateway.waiting import Waits


def become_server(file: Path, module: str) -> NoReturn:
    """As ``gateway serve``: compile, and leave the parser behind by exec of a module that then serves."""
    from gateway.catalogue.compiling import compile_project

    settings = load_settings(file)
    catalogue = compile_project(settings)
    runtime = open_runtime(settings.server.runtime_dir)
    write(runtime.path, Compiled.of(settings, catalogue))
    words = [sys.executable, "-m", module, str(runtime.path), str(runtime.lock)]
    os.execv(sys.executable, words)  # noqa: S606 - our own interpreter


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
    from gateway.execution.call import Call
    from gateway.execution.running import Runner
    from gateway.pool.group import Group
    from gateway.pool.slot import Slot
    from gateway.postgres import single
    from gateway.postgres.looping import LoopWaits
    from gateway.postgres.session import Session
    from gateway.served import Served
    from gateway.web import answers

    def put_back(group: Group[Session], slot: Slot[Session], now: float, *, keep: bool) -> None:
        group.exchange.put_back(slot, now, keep=keep)

    def sweep(waits: LoopWaits) -> None:
        waits.turned_at = monotonic()

    def read(runner: Runner, call: Call, work: Callable[..., Any]) -> Any:
        with runner._pool.groups[call.group].lease(call.deadline) as lease:
            return work(call, lease.connection, ""), told

    def change(runner: Runner, call: Call, work: Callable[..., Any]) -> Any:
        with runner._pool.groups[call.group].lease(call.deadline) as lease:
            return work(call, lease.connection), told

    told = Served(endpoint="primary")
    answers.write_served = lambda *_: None
    Group._is_fit = lambda *_: True  # type: ignore[method-assign]
    Group._put_back = put_back  # type: ignore[assignment, method-assign]
    Session.settle = lambda connection, _deadline: not connection.closed  # type: ignore[assignment, method-assign]
    Session.abandon = lambda _connection: None  # type: ignore[assignment, method-assign]
    single._head = lambda *_: ""
    LoopWaits.sweep = sweep  # type: ignore[assignment, method-assign]
    Runner.read = read  # type: ignore[assignment, method-assign]
    Runner.write = change  # type: ignore[assignment, method-assign]
    return app.create_app(settings, catalogue, directory, is_draining, waits, observe)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        become_server(Path(sys.argv[1]), "tests.bench.bare")
    serve(Runtime(Path(sys.argv[1]), int(sys.argv[2]), is_private=False), create_app)
