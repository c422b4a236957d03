"""Writes over HTTP: arrays, transactions, keys, on a node whose wire to the primary can be cut."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.cutting import Wire
from tests.live.gateways import Gateway, serving

GROUPS: dict[str, dict[str, Any]] = {"groups.read": {"size": 6}, "groups.write": {"access": "write", "size": 12}}


def unique() -> str:
    return uuid4().hex


def post(node: Gateway, path: str, body: Any, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return node.client.post(path, content=json.dumps(body).encode(), headers=names)


def many(node: Gateway, query: str, *arguments: Any, **headers: str) -> httpx.Response:
    return post(node, f"/query/{query}", list(arguments), **headers)


def together(node: Gateway, *steps: tuple[str, dict[str, Any]], **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    asked = [{"query": query, "arguments": arguments} for query, arguments in steps]
    return post(node, "/transaction", {"steps": asked, **more}, **headers)


def ref(pointer: str) -> dict[str, str]:
    return {"$ref": pointer}


def count(node: Gateway, word: str) -> int:
    """How often the word was entered, by the primary's own account."""
    ((step),) = together(node, ("count_entries", {"word": word})).json()["results"]
    found: int = step["value"]
    return found


@contextmanager
def serving_over(wire: Wire, tables: Cluster, folder: Path, worker: str) -> Iterator[Gateway]:
    """A gateway with this kind of worker, which reaches the primary over the wire."""
    endpoints = {server.name: shop.dsn(server) for server in tables.replicas}
    endpoints["primary"] = wire.dsn(shop.DATABASE, shop.ROLE)
    server = {"workers": 1, "worker": worker, "threads": 20, "max_batch": 150, "max_result_bytes": "100kB"}
    with serving(tables, folder, {"server": server, **GROUPS}, endpoints=endpoints) as running:
        yield running
