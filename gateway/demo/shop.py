"""The sample shop: its database, its role, its queries."""

from pathlib import Path

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from gateway.postgres.idempotency import DDL, TABLE

DATABASE = "shop"
ROLE = "gateway"
"""Whom the gateway connects as."""
QUERIES = Path(__file__).parent / "queries"
"""The catalogue path of the sample queries."""
KEYS = {"sales": ("sales",), "clerk": (), "operator": ("admin", "monitor")}
"""Callers for whom keys are made, with their roles."""
SCRIPT = Path(__file__).parent / "shop.sql"
"""Creates everything, in an empty database."""


def load(cluster: Cluster) -> None:
    """Create the shop, and what idempotency keys need, on the primary and wait until every replica has it."""
    cluster.primary.sql(f"CREATE DATABASE {DATABASE}")
    cluster.primary.run_file(SCRIPT, DATABASE)
    cluster.primary.sql(f"{DDL} GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE} TO {ROLE}", DATABASE)
    cluster.wait_until_caught_up()


def make_keys(file: Path) -> dict[str, str]:
    """Write a file of API keys; the keys themselves by the name of their caller."""
    made = {name: keys.make() for name in KEYS}
    text = ""
    for name, roles in KEYS.items():
        digest = keys.digest_of(made[name]).hex()
        text = keys_file.added(text, Key(id=keys.id_of(made[name]) or "", sha256=digest, name=name, roles=roles))
    file.write_text(text)
    file.chmod(0o600)
    return made


def dsn(server: Server) -> str:
    """How the gateway connects to the shop on this server."""
    return server.dsn(DATABASE, ROLE)
