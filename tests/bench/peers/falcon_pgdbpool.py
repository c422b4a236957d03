# mypy: ignore-errors
# The libraries are those of a venv of its own, which the linter does not see.
"""Peer: Falcon and pgdbpool under gunicorn's sync worker. POOL (connections of each process), PG... of libpq."""

import os
from decimal import Decimal
from typing import Any

import falcon
import orjson
import pgdbpool

_PRODUCT = "SELECT id, name, price, added FROM products WHERE id = %(id)s"
_ARTICLES = """
SELECT id, code, name, price, added, changed, attributes, sizes, tags, active, released, warranty::text AS warranty
  FROM articles WHERE id > %(after)s ORDER BY id LIMIT %(count)s
"""
_ORDER = """
INSERT INTO orders (product, quantity, note) VALUES (%(product)s, %(quantity)s, %(note)s)
RETURNING id, product, quantity
"""


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain)


class One:
    def __init__(self, statement: str) -> None:
        self._statement = statement

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        with pgdbpool.Handler("all") as db:
            row = db.query(self._statement, req.get_media()).fetchone()
        resp.data = _dumps({"row": row and dict(row)})


class Many:
    def __init__(self, statement: str) -> None:
        self._statement = statement

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        with pgdbpool.Handler("all") as db:
            rows = [dict(row) for row in db.query(self._statement, req.get_media())]
        resp.data = _dumps({"rows": rows, "row_count": len(rows)})


pgdbpool.Connection.init(
    {
        "type": "non-threaded",
        "db": {
            "host": os.environ["PGHOST"],
            "name": os.environ["PGDATABASE"],
            "user": os.environ["PGUSER"],
            "pass": "",
        },
        "groups": {"all": {"connection_count": int(os.environ["POOL"]), "autocommit": True}},
    }
)
app = falcon.App()
app.add_route("/query/product", One(_PRODUCT))
app.add_route("/query/articles", Many(_ARTICLES))
app.add_route("/query/order", One(_ORDER))
