"""Commands for a running node: what an operator may ask it for."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gateway.cli.options import Duration, Wanted, of_node
from gateway.cli.reporting import count, print_columns

if TYPE_CHECKING:
    from gateway.server.control import Target


@click.command()
@click.argument("name")
@click.option(
    "--wait",
    type=Duration(),
    default="30s",
    show_default=True,
    metavar="TIME",
    help="How long its requests may take to end; at most 1h.",
)
@of_node
def drain(name: str, wait: float, node: Wanted) -> None:
    """Give the PostgreSQL server NAME no new work, and wait until it has none.

    NAME is that of its [endpoints.NAME]. It stays drained until `gateway resume NAME` or the end of the gateway, also
    where its requests take longer than --wait.

    It is the gateway of this user on this machine; where there is more than one, -c or --pid says which. --url speaks
    to another one, with the key or token in GATEWAY_KEY.
    Exit status: 0 drained, 3 drained but requests are still at work on it, 1 not done.

    \b
    gateway drain replica1 && ssh replica1 sudo systemctl restart postgresql && gateway resume replica1 --wait 30s
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    _post(node, f"endpoints/{quote(name, safe='')}/drain", wait)
    click.echo(f"{name} is drained: no request is at work on it, and none will be")


@click.command()
@click.argument("name")
@click.option(
    "--wait", type=Duration(), default="0s", metavar="TIME", help="How long to wait until it serves; at most 1h."
)
@of_node
def resume(name: str, wait: float, node: Wanted) -> None:
    """Let the PostgreSQL server NAME, which was drained, have work again.

    It gets some when the gateway has found it fit; with --wait the command ends then.

    It is the gateway of this user on this machine; where there is more than one, -c or --pid says which. --url speaks
    to another one, with the key or token in GATEWAY_KEY.
    Exit status: 0 resumed, 3 resumed but not in the rotation when --wait was over, 1 not done.

    \b
    gateway resume replica1 --wait 30s
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    body = _post(node, f"endpoints/{quote(name, safe='')}/resume", wait)
    said = "is in the rotation" if body["state"] == "in_rotation" else "may have work as soon as it is found fit"
    click.echo(f"{name} {said}")


@click.command()
@click.option(
    "--wait", type=Duration(), default="30s", show_default=True, metavar="TIME", help="How long that may take."
)
@of_node
def learn(wait: float, node: Wanted) -> None:
    """Look at the database now: learn every query's types again, on all workers.

    The gateway notices migrations by itself, within two seconds. As the last step of a deployment this ends when they
    are known everywhere, and says which queries they broke.

    It is the gateway of this user on this machine; where there is more than one, -c or --pid says which. --url speaks
    to another one, with the key or token in GATEWAY_KEY.
    Exit status: 0 all queries can be served, 3 not finished within --wait, 1 a query cannot be served, or not done.

    \b
    gateway learn
    psql -f migration.sql && gateway learn --wait 2m
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    body = _post(node, "learn", wait)
    for name in body["faulty"]:
        click.echo(f"{name} cannot be served: see the gateway's log, or gateway check", err=True)
    learnt = count(body["queries"], "query", "queries")
    click.secho(f"{learnt} learnt, {len(body['faulty'])} cannot be served", fg="red" if body["faulty"] else "green")
    sys.exit(1 if body["faulty"] else 0)


@click.command()
@click.option(
    "--wait", type=Duration(), default="60s", show_default=True, metavar="TIME", help="How long that may take."
)
@of_node
def reload(wait: float, node: Wanted) -> None:
    """Have a running node serve what settings and queries say now.

    The node reads them itself, in the folder and the environment that it was started in, checks them, and has new
    workers take over when these are ready. With any fault nothing is changed. [server] bind, admin_bind, worker and
    runtime_dir stay those of the start.

    It is the gateway of this user on this machine; where there is more than one, -c or --pid says which. --url speaks
    to another one, with the key or token in GATEWAY_KEY.
    Exit status: 0 the new workers serve, 1 nothing was changed, 3 not finished within --wait.

    \b
    gateway reload
    gateway reload -c /etc/gateway/gateway.toml --wait 2m
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    body = _post(node, "reload", wait)
    click.secho(f"{count(body['queries'], 'query', 'queries')} served, catalogue {body['hash']}", fg="green")


@click.command()
@click.option("--end", "ended", metavar="ID", help="End the one with this id.")
@of_node
def requests(ended: str | None, node: Wanted) -> None:
    """List the requests in flight, of all workers; or end one of them.

    A read that is ended stops at once. A write is cancelled on its server, and its answer says what became of it.

    It is the gateway of this user on this machine; where there is more than one, -c or --pid says which. --url speaks
    to another one, with the key or token in GATEWAY_KEY.
    Exit status: 0 listed or ended, 1 not done, or there is none with this id.

    \b
    gateway requests
    gateway requests --end 7f0c1d2e3a4b5c6d-1a
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    if ended is not None:
        ask_node(node, "DELETE", f"/admin/requests/{quote(ended, safe='')}")
        click.echo(f"{ended} was ended")
        return
    found = ask_node(node, "GET", "/admin/requests")["requests"]
    rows = [("AGE", "STATE", "QUERY", "ENDPOINT", "CALLER", "WORKER", "ID")] + [
        (
            f"{each['age_ms'] / 1000:.1f}s",
            each["state"],
            each["query"],
            each["endpoint"] or "-",
            each["caller"] or "-",
            str(each["worker"]),
            each["id"],
        )
        for each in found
    ]
    print_columns(rows)


@click.command()
@click.argument("name")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--analyze", is_flag=True, help="Run the query, too, and roll back what it did.")
@of_node
def explain(name: str, arguments: tuple[str, ...], analyze: bool, node: Wanted) -> None:
    """Show the plan of a call of the query NAME, as PostgreSQL's EXPLAIN has it, in JSON.

    A value is written as in a GET request: in the text form of its type.

    It is the gateway of this user on this machine; where there is more than one, -c or --pid says which. --url speaks
    to another one, with the key or token in GATEWAY_KEY.
    Exit status: 0 shown, 1 not done.

    \b
    gateway explain orders_of_customer customer_id=7
    gateway explain orders_of_customer customer_id=7 --analyze
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    pairs = [tuple(argument.split("=", 1)) for argument in arguments]
    if wrong := [argument for argument, pair in zip(arguments, pairs, strict=True) if len(pair) == 1]:
        raise click.UsageError(f"{wrong[0]} is not KEY=VALUE")
    path = f"/admin/explain/{quote(name, safe='')}{'?analyze=true' if analyze else ''}"
    found = ask_node(node, "POST", path, form=[(pair[0], pair[1]) for pair in pairs])
    click.echo(json.dumps(found["plan"], indent=2))


@click.command()
@click.argument("level", type=click.Choice(("debug", "info", "warning", "error")))
@of_node
def log(level: str, node: Wanted) -> None:
    """Have a running node leave out of its log what is less urgent than LEVEL.

    It holds on all workers, until the node ends or is reloaded with another [log] level.

    It is the gateway of this user on this machine; where there is more than one, -c or --pid says which. --url speaks
    to another one, with the key or token in GATEWAY_KEY.
    Exit status: 0 changed, 1 not done.

    \b
    gateway log debug && sleep 60 && gateway log info
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    ask_node(node, "POST", "/admin/log", told={"level": level})
    click.echo(f"what is less urgent than {level} is not logged")


def _post(node: Wanted, what: str, wait: float) -> dict[str, Any]:
    return ask_node(node, "POST", f"/admin/{what}?wait={wait * 1000:.0f}ms", wait=wait)


def ask_node(
    node: Wanted,
    method: str,
    path: str,
    *,
    form: Sequence[tuple[str, str]] = (),
    told: Mapping[str, str] | None = None,
    wait: float = 0.0,
) -> dict[str, Any]:
    """Ask the node for what an operator may ask for, or end the command: status 1, or 3 where it goes on there."""
    from gateway.server import control, registry

    try:
        return control.ask(found(node), method, path, form=form, told=told, wait=wait)
    except registry.NodeNotFound as error:
        is_vague = node.config is None and node.pid is None
        click.secho(f"{error}{'; --url speaks to one elsewhere' if is_vague else ''}", fg="red", err=True)
        sys.exit(1)
    except control.NotDone as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(3 if isinstance(error, control.NotDoneYet) else 1)


def found(node: Wanted) -> "Target":
    """Return the node that is wanted; raises NodeNotFound."""
    from gateway.server.control import Target
    from gateway.server.registry import find

    if node.url and node.config is None and node.pid is None:
        return Target(node.url, f"the gateway at {node.url}", os.environ.get("GATEWAY_KEY", ""))
    local = find(node.config, node.pid)
    return Target(local.admin, f"the gateway with process {local.pid}")
