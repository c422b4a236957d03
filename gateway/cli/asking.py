"""Commands that ask a gateway over HTTP, as any client does: what it serves, how it is, and to run a query."""

import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import click
import orjson

from gateway.cli.http import Answer, Refused, Site
from gateway.cli.operating import ask_node, found
from gateway.cli.options import F, Wanted, of_node

HERE = "http://127.0.0.1:8080"
PATIENCE = 2.0
"""Seconds that somebody who has pressed a key waits for what may follow."""
UNKNOWN = 3
"""Exit status where nobody can say whether a write was committed."""
_ARGUMENT = re.compile(r"([A-Za-z_]\w*)(:?=)(.*)", re.DOTALL)
_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric", "real", "double precision"})
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "t": True, "yes": True, "on": True, "false": False, "f": False, "no": False, "off": False}


def _of_site(command: F) -> F:
    """Add the options by which a gateway is found and told who asks."""
    url = click.option(
        "--url",
        default=HERE,
        show_default=True,
        envvar="GATEWAY_URL",
        metavar="URL",
        help="Where the gateway is; also GATEWAY_URL.",
    )
    return url(command)


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print what GET /health answers.")
@of_node
def status(node: Wanted, watch: bool, as_json: bool) -> None:
    """Show the servers, the groups of connections and the workers of a gateway.

    It is the gateway of this user on this machine; where there is more than one, -c or --pid says which. --url speaks
    to another one: with authentication on, GATEWAY_KEY has to hold a key or token with the role monitor or admin.
    Exit status: 0 every group can serve, 1 one cannot, or the gateway does not answer.

    \b
    gateway status --watch
    gateway status --url https://gateway.example:8080
    """  # noqa: D301 - click must see the control character \b: it keeps the lines below as they are
    # Imported when needed: tables take a tenth of a second to load.
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from gateway.cli.tables import health
    from gateway.server.control import NotDone, ask
    from gateway.server.registry import NodeNotFound

    told = ask_node(node, "GET", "/health")
    if as_json:
        click.echo(orjson.dumps(told))
    elif not watch:
        Console().print(health(told))
    else:
        with suppress(KeyboardInterrupt), Live(health(told), refresh_per_second=1) as live:
            while True:
                time.sleep(1.0)
                try:
                    told = ask(found(node), "GET", "/health")
                    live.update(health(told))
                except (NotDone, NodeNotFound) as error:
                    told = {"status": "down"}
                    live.update(Text(str(error), style="red"))
    sys.exit(1 if told["status"] == "down" else 0)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what GET /queries answers.")
@_of_site
def queries(url: str, as_json: bool) -> None:
    """List the queries that the caller may run; GATEWAY_KEY may hold a key or token.

    \b
    gateway queries
    """  # noqa: D301 - as above
    from rich.console import Console

    from gateway.cli.tables import catalogue

    answer = _ask(Site(url), "GET", "/queries")
    if as_json:
        click.echo(answer.text)
    else:
        Console().print(catalogue(answer.body["queries"]))


def _complete_name(context: click.Context, _argument: click.Parameter, begun: str) -> list[str]:
    """Return the queries that a name which was begun may be."""
    return [query["name"] for query in _listed(context, "/queries", "queries") if query["name"].startswith(begun)]


def _complete_argument(context: click.Context, _argument: click.Parameter, begun: str) -> list[str]:
    """Return the parameters that an argument which was begun may be for."""
    parameters = _listed(context, f"/queries/{quote(context.params['name'], safe='')}", "parameters")
    return [f"{parameter['name']}=" for parameter in parameters if parameter["name"].startswith(begun)]


def _listed(context: click.Context, path: str, member: str) -> list[dict[str, Any]]:
    """Return what the gateway lists; nothing where none answers."""
    site = Site(context.params.get("url") or os.environ.get("GATEWAY_URL") or HERE, longest=PATIENCE)
    try:
        listed: list[dict[str, Any]] = site.ask("GET", path).body[member]
    except Refused:
        return []
    return listed


@click.command()
@click.argument("name", shell_complete=_complete_name)
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=_complete_argument)
@click.option(
    "--lines", is_flag=True, help="Read objects of arguments from standard input, one a line: one transaction."
)
@click.option("--key", "idempotency_key", metavar="KEY", help="Idempotency key: a write runs at most once with it.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as it came, also on a terminal.")
@_of_site
def call(
    name: str, arguments: Sequence[str], lines: bool, idempotency_key: str | None, as_json: bool, url: str
) -> None:
    """Run the query NAME.

    KEY=VALUE is text that becomes what the parameter's type asks for; a key that is given again makes a list.
    KEY:=JSON is taken as it is. The answer is a table on a terminal, and JSON elsewhere. GATEWAY_KEY may hold a key or
    token.
    Exit status: 0 done, 1 not done, 3 nobody knows whether the write was committed.

    \b
    gateway call orders_of_customer customer_id=7 max_rows=2
    gateway call customers_by_external_id 'external_ids:=[]'
    gateway call add_line --lines < lines.ndjson
    """  # noqa: D301 - as above
    site = Site(url)
    described = _ask(site, "GET", f"/queries/{quote(name, safe='')}").body
    if lines:
        if arguments:
            raise click.UsageError("--lines takes the arguments from standard input")
        body = b"[%s]" % b",".join(line for line in sys.stdin.buffer.read().splitlines() if line.strip())
    else:
        types = {parameter["name"]: parameter["type"] for parameter in described["parameters"]}
        body = orjson.dumps(_arguments(arguments, types))
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    writes = described["access"] == "write"
    answer = _ask(site, "POST", f"/query/{quote(name, safe='')}", body, headers, writes=writes)
    if as_json or not sys.stdout.isatty():
        sys.stdout.buffer.write(answer.text + b"\n")
        return
    from rich.console import Console

    from gateway.cli.tables import result

    Console().print(result(answer.body))


def _arguments(given: Sequence[str], types: dict[str, str | None]) -> dict[str, Any]:
    values: dict[str, list[Any]] = {}
    for each in given:
        found = _ARGUMENT.fullmatch(each)
        if found is None:
            raise click.UsageError(f"{each!r} is neither KEY=VALUE nor KEY:=JSON")
        name, sign, text = found.groups()
        if name not in types:
            known = ", ".join(types) or "none"
            raise click.UsageError(f"the query has no parameter {name}; its parameters: {known}")
        type_ = types[name] or "text"
        element = type_.removesuffix("[]")
        values.setdefault(name, []).append(_json(name, text) if sign == ":=" else _typed(name, text, element))
    return {
        name: each if len(each) > 1 or _is_list_of_one(given, name, types[name]) else each[0]
        for name, each in values.items()
    }


def _is_list_of_one(given: Sequence[str], name: str, type_: str | None) -> bool:
    return (type_ or "").endswith("[]") and not any(each.startswith(f"{name}:=") for each in given)


def _typed(name: str, text: str, type_: str) -> Any:
    if type_ in _NUMBERS and _NUMBER.fullmatch(text):
        return orjson.Fragment(text)  # at its full length
    if type_ == "boolean":
        return _BOOLEANS.get(text.lower(), text)
    return _json(name, text) if type_ in ("json", "jsonb") else text


def _json(name: str, text: str) -> Any:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"{name}: not JSON: {error}") from None
    return orjson.Fragment(text)


def _ask(
    site: Site,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    writes: bool = False,
) -> Answer:
    try:
        return site.ask(method, path, body, headers)
    except Refused as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(UNKNOWN if writes and error.outcome == "unknown" else 1)
