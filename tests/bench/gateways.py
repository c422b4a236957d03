"""The gateway as a contender: one for each kind of worker, and one without its safety net."""

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import gateway
from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port
from tests.bench.contender import Program

QUERIES = Path(__file__).parent / "queries"
_ROOT = Path(__file__).parents[2]
_SETTINGS = """
[server]
bind = "127.0.0.1:{port}"
worker = "{worker}"
workers = {workers}
join = {join}
runtime_dir = "{runtime}"

[catalogue]
paths = ["{queries}"]

[endpoints.primary]
dsn = "{dsn}"

[groups.read]
access = "read"
size = {readers}
queue = {queue}

[groups.write]
access = "write"
size = {writers}
queue = {queue}
"""


class Setup(NamedTuple):
    """In what a gateway differs from the others."""

    variables: Mapping[str, str]
    """Settings, as in the environment."""
    authorization: str = ""


class Sizes(NamedTuple):
    """How big a contender may be."""

    workers: int
    """Processes."""
    pool: int
    """Connections of all of them together."""
    queue: int = 1024
    """Requests that may wait for a connection, where there is such a limit."""
    join: bool = True
    """Whether gateways answer reads of different callers together."""
    writing: float = 0.25
    """The part of a gateway's connections that are for writes: it has no more than any other contender."""

    @property
    def writers(self) -> int:
        """Connections for writes, of all processes together: each has one for writes and one for reads at least."""
        return min(max(self.workers, round(self.pool * self.writing)), max(self.workers, self.pool - self.workers))

    @property
    def pool_of_each(self) -> int:
        """Connections of one process."""
        return max(1, self.pool // self.workers)


def serving(
    name: str,
    title: str,
    *,
    worker: str = "gateway",
    command: Sequence[str] = ("gateway", "serve", "-c"),
    join: bool = True,
    setup: Callable[[Path], Setup] = lambda _: Setup({}),
) -> Callable[[Cluster, Sizes], Program]:
    """What prepares a gateway with this kind of worker; ``command``: the module that serves a settings file.

    ``join``: whether reads of different callers may be answered together. ``setup`` gets a folder for its files.
    """

    def prepare(cluster: Cluster, sizes: Sizes) -> Program:
        directory = cluster.make_directory()
        runtime = directory / "runtime"
        runtime.mkdir(mode=0o700)
        port = find_port()
        settings = directory / "gateway.toml"
        settings.write_text(
            _SETTINGS.format(
                port=port,
                worker=worker,
                workers=sizes.workers,
                join=str(join and sizes.join).lower(),
                runtime=runtime,
                queries=QUERIES,
                dsn=cluster.primary.dsn(),
                readers=max(sizes.workers, sizes.pool - sizes.writers),
                writers=sizes.writers,
                queue=sizes.queue,
            )
        )
        program = (sys.executable, "-m", *command, str(settings))
        text = f"{title} {gateway.__version__} (Python {platform.python_version()})"
        variables, authorization = setup(directory)
        return Program(name, text, program, {**os.environ, **variables}, _ROOT, port, authorization)

    return prepare
