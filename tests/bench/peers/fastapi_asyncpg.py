# mypy: ignore-errors
# The libraries are those of a venv of its own, which the linter does not see.
"""Peer: FastAPI and asyncpg under uvicorn. POOL (connections of each process), PG... of libpq."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel


class ProductArguments(BaseModel):
    id: int


class Product(BaseModel):
    id: int
    name: str
    price: Decimal
    added: datetime


class ProductAnswer(BaseModel):
    row: Product | None


class ArticlesArguments(BaseModel):
    after: int
    count: int


class Article(BaseModel):
    id: int
    code: UUID
    name: str
    price: Decimal
    added: datetime
    changed: datetime | None
    attributes: dict[str, Any]
    sizes: list[int]
    tags: list[str]
    active: bool
    released: date
    warranty: str


class ArticlesAnswer(BaseModel):
    rows: list[Article]
    row_count: int


class OrderArguments(BaseModel):
    product: int
    quantity: int
    note: str


class Order(BaseModel):
    id: int
    product: int
    quantity: int


class OrderAnswer(BaseModel):
    row: Order


async def _prepare_connection(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    size = int(os.environ["POOL"])
    async with asyncpg.create_pool(min_size=size, max_size=size, init=_prepare_connection) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.post("/query/product")
async def product(arguments: ProductArguments) -> ProductAnswer:
    row = await app.state.pool.fetchrow("SELECT id, name, price, added FROM products WHERE id = $1", arguments.id)
    return ProductAnswer(row=row and Product(**row))


@app.post("/query/articles")
async def articles(arguments: ArticlesArguments) -> ArticlesAnswer:
    rows = await app.state.pool.fetch(
        """SELECT id, code, name, price, added, changed, attributes, sizes, tags, active, released,
                  warranty::text AS warranty
             FROM articles WHERE id > $1 ORDER BY id LIMIT $2""",
        arguments.after,
        arguments.count,
    )
    return ArticlesAnswer(rows=[Article(**row) for row in rows], row_count=len(rows))


@app.post("/query/order")
async def order(arguments: OrderArguments) -> OrderAnswer:
    row = await app.state.pool.fetchrow(
        "INSERT INTO orders (product, quantity, note) VALUES ($1, $2, $3) RETURNING id, product, quantity",
        arguments.product,
        arguments.quantity,
        arguments.note,
    )
    return OrderAnswer(row=Order(**row))
