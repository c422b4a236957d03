"""``gateway recompile``: what a running node starts to have its settings and queries compiled anew."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.catalogue.query import Catalogue
from gateway.cli.compiled import compile_both, warnings_of
from gateway.cli.options import config_option
from gateway.faults import Fault
from gateway.server.artefact import ArtefactUnusable, Compiled, read, write
from gateway.server.reloading import SERVED, Recompiled
from gateway.settings import Settings, with_members

GIVES_WAY = 5
"""By how much its niceness is above that of the workers."""
FIXED = ("bind", "admin_bind", "socket_mode", "socket_group", "reuse_port", "worker", "runtime_dir")
"""Keys of [server] that are in force from the start to the end of a node."""


@click.command(hidden=True)
@config_option
@click.option("--given", default="{}", help="Options of the node's command line, as JSON.")
@click.option(SERVED, "is_served", is_flag=True, help="Read no files: what is served, with the members found.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def recompile(config: Path | None, given: str, is_served: bool, directory: Path) -> None:
    """Compile and check what the node with this runtime DIRECTORY is to serve; prints JSON for its master."""
    os.nice(GIVES_WAY)  # requests are served meanwhile
    found = _with_members(directory) if is_served else _recompile(config, json.loads(given), directory)
    sys.stdout.write(msgspec.json.encode(found).decode())


def _recompile(config: Path | None, given: dict[str, Any], directory: Path) -> Recompiled:
    settings, catalogue, faults = compile_both(config, given, directory=directory)
    if faults or settings is None or catalogue is None:
        return Recompiled(tuple(faults))
    try:
        before = read(directory)
    except ArtefactUnusable as error:
        return Recompiled((Fault("reload", 0, str(error)),))
    if faults := list(_fixed_faults(before.settings, settings)):
        return Recompiled(tuple(faults))
    from gateway.node.checking import check_beside

    found = check_beside(settings, _changed(catalogue, before), directory)
    if found.faults:
        return Recompiled(found.faults)
    try:
        write(directory, Compiled.of(settings, catalogue))
    except OSError as error:
        return Recompiled((Fault(str(directory), 0, f"cannot be written to: {error.strerror}"),))
    return Recompiled((), (*warnings_of(settings, catalogue), *found.warnings))


def _with_members(directory: Path) -> Recompiled:
    from gateway.node.discovery import recall

    try:
        before = read(directory)
        known = {**before.settings.members, **recall(directory, before.settings.sources)}
        write(directory, Compiled.of(with_members(before.settings, known), before.catalogue))
    except ArtefactUnusable as error:
        return Recompiled((Fault("reload", 0, str(error)),))
    except OSError as error:
        return Recompiled((Fault(str(directory), 0, f"cannot be written to: {error.strerror}"),))
    return Recompiled()


def _fixed_faults(before: Settings, after: Settings) -> Iterator[Fault]:
    for key in FIXED:
        served, wanted = getattr(before.server, key), getattr(after.server, key)
        if served != wanted:
            shown = ", ".join(served) if isinstance(served, tuple) else served
            message = f"cannot be changed by a reload (it is {shown} now); start the gateway again"
            yield Fault(f"server.{key}", 0, message)


def _changed(catalogue: Catalogue, before: Compiled) -> Catalogue:
    """The queries that are not served already as they stand: only these may be a reason to refuse a reload."""
    served = before.catalogue.queries
    queries = {name: query for name, query in catalogue.queries.items() if served.get(name) != query}
    return msgspec.structs.replace(catalogue, queries=queries)
