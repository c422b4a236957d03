"""What commands show on a terminal, as tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from gateway.node.planning import Plan

_COLOURS = {"ok": "green", "degraded": "yellow", "down": "red"}


def health(told: Mapping[str, Any]) -> RenderableType:
    """Return what ``GET /health`` answers, at a glance."""
    status = Text(told["status"], style=f"bold {_COLOURS.get(told['status'], '')}")
    if "endpoints" not in told:
        return Group(status, "More is shown to callers with the role monitor or admin: set GATEWAY_KEY.")
    servers = _table("server", "role", "rotation", "ping ms", "lag ms", "since", "message")
    for name, each in told["endpoints"].items():
        place = Text("in", style="green") if each["in_rotation"] else Text(f"out: {each['reason']}", style="red")
        ping = each["ping"]["ms"] if each["ping"]["ok"] else None
        servers.add_row(name, each["role"], place, *map(_shown, (ping, each["lag_ms"], each["since"], each["message"])))
    groups = _table("group", "status", "rotation", "size", "leased", "idle", "waiting")
    for name, each in told["groups"].items():
        style = "green" if each["status"] == "ready" else "red"
        counts = (str(each[count]) for count in ("size", "leased", "idle", "waiting"))
        groups.add_row(name, Text(each["status"], style=style), ", ".join(each["rotation"]), *counts)
    workers = _table("worker", "age s", "requests")
    for each in told["workers"]:
        workers.add_row(str(each["pid"]), f"{each['age_s']:.0f}", str(each["in_flight"]))
    queries = told["catalogue"]
    served = f"{queries['queries']} queries, catalogue {queries['hash'][:12]}"
    fault = [Text(queries["fault"], style="red")] if queries["fault"] else []
    return Group(status, servers, groups, workers, served, *fault)


def catalogue(queries: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Return what ``GET /queries`` lists."""
    table = _table("query", "kind", "access", "parameters", "description")
    for query in queries:
        parameters = " ".join(
            parameter["name"] if parameter["required"] else f"[{parameter['name']}]"
            for parameter in query["parameters"]
        )
        table.add_row(
            query["name"], query["kind"], query["access"], Text(parameters), query["description"].partition("\n")[0]
        )
    return table


def result(answer: Mapping[str, Any]) -> RenderableType:
    """Return the answer to a call: its rows as a table, and what became of a write."""
    if "results" in answer:
        shown: list[RenderableType] = [result(each) for each in answer["results"]]
    elif "rows" in answer:
        shown = [_rows(answer["rows"])]
    elif "row" in answer:
        shown = [_rows([] if answer["row"] is None else [answer["row"]])]
    else:
        shown = [_shown(answer["value"]) if "value" in answer else f"{answer['affected']} affected"]
    if "outcome" in answer:
        shown.append(Text(answer["outcome"], style="green"))
    return Group(*shown)


def plan(computed: "Plan") -> RenderableType:
    """Return what ``gateway plan`` has computed."""
    more = f"with {computed.surge} more" if computed.surge else ""
    groups = _table("group", "a node", "a worker", f"{computed.nodes} nodes")
    for name, group in computed.groups.items():
        groups.add_row(name, str(group.size), f"{group.per_worker:g}", str(group.all_nodes))
    servers = _table("server", "a node", f"{computed.nodes} nodes", *filter(None, [more]), "it has", "nodes that fit")
    for name, server in computed.servers.items():
        counts = [server.per_node, server.all_nodes, *([server.at_most] if more else [])]
        free = "" if server.capacity is None else f"{server.capacity.free} of {server.capacity.max_connections}"
        fit = Text(_shown(server.nodes_that_fit), style="green" if server.fits else "red")
        servers.add_row(name, *map(str, counts), free, fit)
    return Group(
        f"{computed.workers} workers a node. Connections:",
        groups,
        "Sessions, at most:",
        servers,
        f"Time to end in (terminationGracePeriodSeconds, TimeoutStopSec): {computed.grace_seconds} s",
        f"Memory of a node: {computed.memory_at_rest >> 20} MB at rest, "
        f"{computed.memory_limit >> 20} MB with as many requests in progress as it takes; answers come on top",
    )


def _rows(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not rows:
        return "no rows"
    table = _table(*rows[0])
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    return table


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
