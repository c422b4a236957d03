"""``gateway plan``: does this many nodes fit the servers, and what are they to be given."""

import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console

from gateway.cli import tables
from gateway.cli.compiled import discovered
from gateway.cli.options import config_option
from gateway.cli.reporting import count, fail
from gateway.settings import Settings, examine

if TYPE_CHECKING:
    from gateway.postgres.capacity import Capacity

CONNECT_TIMEOUT = 5.0


@click.command()
@config_option
@click.option("--nodes", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Gateways in all.")
@click.option(
    "--surge", type=click.IntRange(0, 10_000), default=1, show_default=True, help="More of them during a roll-out."
)
@click.option("--offline", is_flag=True, help="Ask no server; needs no secrets.")
@click.option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
def plan(config: Path | None, nodes: int, surge: int, offline: bool, form: str) -> None:
    """Compute the connections, the time to end in and the memory of some nodes with these settings.

    Every server is asked how many connections it has. Exit status: 0 it fits, 1 it does not, or there are faults.

    \b
    gateway plan --nodes 20
    gateway plan --nodes 20 --surge 5 --format json
    gateway plan --offline
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    from gateway.node import planning
    from gateway.server.options import GRACE

    found = examine(config, overrides={}, with_secrets=not offline)
    if found.faults or found.settings is None:
        fail(found.faults)
    settings = found.settings if offline else discovered(found.settings)
    capacities = {} if offline else _capacities(settings)
    computed = planning.plan(settings, capacities, nodes=nodes, surge=surge, grace=GRACE)
    unfit = [name for name, server in computed.servers.items() if not server.fits]
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(computed)))
    else:
        Console(soft_wrap=True).print(tables.plan(computed))
        if unfit:
            click.secho(f"{count(nodes, 'node', 'nodes')} do not fit {', '.join(unfit)}", fg="red", err=True)
    sys.exit(1 if unfit else 0)


def _capacities(settings: Settings) -> dict[str, "Capacity"]:
    from gateway.errors import GatewayError
    from gateway.pool.driver import ConnectError
    from gateway.postgres.capacity import capacity
    from gateway.postgres.checking import reading

    driver = reading(settings)
    found: dict[str, Capacity] = {}
    for name in settings.endpoints:
        deadline = monotonic() + CONNECT_TIMEOUT
        try:
            connection = driver.connect(name, deadline)
        except ConnectError as error:
            click.secho(f"{name}: cannot connect: {error.message}", fg="yellow", err=True)
            continue
        try:
            found[name] = capacity(connection, deadline)
        except GatewayError as error:
            click.secho(f"{name}: {error.server_message or error.detail}", fg="yellow", err=True)
        finally:
            connection.close()
    return found
