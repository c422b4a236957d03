"""The sample shop: its database, its role, its queries."""

from pathlib import Path

from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from gateway.postgres.idempotency import DDL, TABLE

DATABASE = "shop"
ROLE = "gateway"
"""Whom the gateway connects as."""
QUERIES = Path(__file__).parent / "queries"
"""The catalogue path of the sample queries."""
SCRIPT = Path(__file__).parent / "shop.sql"
"""Creates everything, in an empty database."""


def load(cluster: Cluster) -> None:
    """Create the shop, and what idempotency keys need, on the primary and wait until every replica has it."""
    cluster.primary.sql(f"CREATE DATABASE {DATABASE}")
    cluster.primary.run_file(SCRIPT, DATABASE)
    cluster.primary.sql(f"{DDL} GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE} TO {ROLE}", DATABASE)
    cluster.wait_until_caught_up()


def dsn(server: Server) -> str:
    """How the gateway connects to the shop on this server."""
    return server.dsn(DATABASE, ROLE)
