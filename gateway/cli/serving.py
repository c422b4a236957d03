"""``gateway serve``: checks what it is to serve, then becomes the server."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from msgspec.structs import replace

from gateway.catalogue.query import Catalogue
from gateway.cli.compiled import compile_or_fail, warn
from gateway.cli.options import config_option
from gateway.cli.reporting import fail
from gateway.faults import Fault
from gateway.server.artefact import Origin
from gateway.settings import DEFAULT_FILE, Settings, inherits_sockets


@click.command()
@config_option
@click.option("--bind", multiple=True, metavar="ADDRESS", help="host:port, [ipv6]:port or unix:/path; may be repeated.")
@click.option("--workers", metavar="N", help="Processes; 0 is one a processor.")
@click.option("--reuse-port", is_flag=True, default=None, help="Share the port with other gateways (SO_REUSEPORT).")
@click.option("--watch", is_flag=True, help="For development: reload when a file of settings or queries changes.")
def serve(
    config: Path | None, bind: tuple[str, ...], workers: str | None, reuse_port: bool | None, watch: bool
) -> None:
    """Serve the catalogue.

    Settings and queries are checked first; with any fault nothing is started. Options beat the environment, and
    that beats the file.

    \b
    gateway serve
    gateway serve --watch
    gateway serve -c /etc/gateway/gateway.toml --bind 127.0.0.1:9000 --workers 4
    DATABASE_URL=postgresql://me@localhost/shop gateway serve
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    given = {"server.bind": bind or None, "server.workers": workers, "server.reuse_port": reuse_port}
    settings, catalogue = compile_or_fail(config, given)
    warn(settings, catalogue)
    from gateway.server import listening
    from gateway.server.process import open_standard_streams

    open_standard_streams()
    server = settings.server
    faults = [] if inherits_sockets() else list(listening.faults_of(server.bind, reuse_port=server.reuse_port))
    if server.admin_bind:
        faults += listening.faults_of([server.admin_bind], key="server.admin_bind")
    if faults:
        fail(faults)
    _become_server(settings, catalogue, _origin(config, given, is_watched=watch))


def _origin(config: Path | None, given: Mapping[str, Any], *, is_watched: bool) -> Origin:
    """How the server finds this anew: with the same options, in the same folder and environment."""
    file = config or Path(DEFAULT_FILE)
    named = ["-c", str(config)] if config else []
    command = [sys.executable, *path_flags(), "-m", "gateway", "recompile", *named, "--given", json.dumps(given)]
    return Origin(str(file.resolve()) if file.exists() else "", tuple(command), is_watched)


def _become_server(settings: Settings, catalogue: Catalogue, origin: Origin) -> NoReturn:
    """Write the artefact and replace this process, parser and all, by the one that serves it."""
    from gateway.server.artefact import Compiled, write
    from gateway.server.runtime import RuntimeUnusable, open_runtime, remove

    try:
        runtime = open_runtime(settings.server.runtime_dir)
    except RuntimeUnusable as error:
        fail([Fault("server.runtime_dir", 0, str(error))])
    try:
        write(runtime.path, Compiled.of(settings, catalogue))
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None is one that was closed from the start
            stream.flush()
        owner = "private" if runtime.is_private else "configured"
        origin = replace(origin, command=(*origin.command, str(runtime.path)))
        told = msgspec.json.encode(origin).decode()
        arguments = ["-m", "gateway.server", str(runtime.path), str(runtime.lock), owner, told]
        os.execv(sys.executable, [sys.executable, *path_flags(), *arguments])  # noqa: S606 - our own interpreter
    except OSError as error:
        remove(runtime)
        fail([Fault(str(runtime.path), 0, f"the server cannot be started: {error.strerror}")])


def path_flags() -> list[str]:
    """``-P`` keeps the current folder, where a file may be called ``json.py``, out of the server's imports.

    Not where it is in this process's already, by ``python -m gateway``: the package itself may be found through it.
    """
    return [] if Path(sys.argv[0]).name == "__main__.py" else ["-P"]
