"""What is asked of every contender: the same requests in the same order."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PRODUCTS = 10_000
ARTICLES = 20_000
_LENGTH = 2_000
"""Requests of one workload, sent in turn by all connections."""

PATH = "/query/{}"
"""Where contenders take the requests of a query, but for those that cannot be told to."""

Arguments = dict[str, Any]


class Request(NamedTuple):
    """One query and its arguments."""

    query: str
    arguments: Arguments

    @property
    def body(self) -> str:
        """JSON."""
        return json.dumps(self.arguments)


class Workload(NamedTuple):
    """How many connections ask for what."""

    name: str
    title: str
    connections: int
    requests: tuple[Request, ...]
    writing: float = 0.0
    """The part of a gateway's connections that it uses for writes."""

    def write(self, directory: Path, path: str = PATH) -> Path:
        """The requests as ``load.lua`` reads them, to where a contender takes them."""
        file = directory / f"{self.name}{path.replace('/', '-')}.requests"
        file.write_text("".join(f"{path.format(request.query)}\t{request.body}\n" for request in self.requests))
        return file


def one_row(number: int) -> Request:
    """One row by its key."""
    # A stride of a prime number visits all rows in no order.
    return Request("product", {"id": number * 7919 % PRODUCTS + 1})


def _rows(number: int, count: int) -> Request:
    return Request("articles", {"after": number * 7919 % (ARTICLES - count), "count": count})


def _write(number: int) -> Request:
    return Request("order", {"product": number % PRODUCTS + 1, "quantity": number % 9 + 1, "note": f"note {number}"})


def _mixed() -> Iterator[Request]:
    """Of 20 requests 16 for one row, 3 for 100 rows, 1 writes; in an order that is the same in every run."""
    numbers = list(range(_LENGTH))
    random.Random(1).shuffle(numbers)  # noqa: S311 -- no secret
    for number in numbers:
        kind = number % 20
        yield one_row(number) if kind < 16 else _rows(number, 100) if kind < 19 else _write(number)


def _many(name: str, title: str, connections: int, requests: Iterator[Request], writing: float = 0.0) -> Workload:
    return Workload(name, title, connections, tuple(requests), writing)


WORKLOADS = (
    _many("one-row-1", "one row by key, 1 connection", 1, map(one_row, range(_LENGTH))),
    _many("one-row-8", "one row by key, 8 connections", 8, map(one_row, range(_LENGTH))),
    _many("one-row-16", "one row by key, 16 connections", 16, map(one_row, range(_LENGTH))),
    _many("one-row-64", "one row by key, 64 connections", 64, map(one_row, range(_LENGTH))),
    _many("one-row-256", "one row by key, 256 connections", 256, map(one_row, range(_LENGTH))),
    _many("rows-100", "100 rows of 12 mixed columns, 16 connections", 16, (_rows(n, 100) for n in range(_LENGTH))),
    _many("rows-1000", "1000 rows of 12 mixed columns, 16 connections", 16, (_rows(n, 1000) for n in range(_LENGTH))),
    _many("write", "INSERT ... RETURNING, 16 connections", 16, map(_write, range(_LENGTH)), 1.0),
    _many("mix", "80 % one row, 15 % 100 rows, 5 % writes, 64 connections", 64, _mixed(), 0.25),
)
"""In the order in which they are run and shown."""

SLOW = Workload("slow", "5 ms in the database", 0, (Request("slow", {}),))
"""For overload: what limits it is the pool, and wrk has processor to spare."""

SAMPLES = (one_row(1), one_row(2), _rows(0, 100), _rows(100, 1000), _write(3))
"""One of each, which all contenders must answer alike before anything is measured."""
