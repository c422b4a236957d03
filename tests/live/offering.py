"""The whole shop offered to agents, with queries that are odd to them, and people who have keys."""

import re
from pathlib import Path
from typing import Any

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.demo import shop
from tests.live.agents import Agent
from tests.live.gateways import Gateway

QUERIES = """
-- name: bound(tenant)$
-- @tool
-- @param tenant int4 from=claim:tenant
SELECT :tenant::int4;
-- name: slow(seconds, mark)$
-- @tool
-- @timeout 60s
-- @param seconds float8
SELECT :mark::text FROM pg_sleep(:seconds);
-- name: hurried$
-- @tool
-- @timeout 100ms
SELECT 1 FROM pg_sleep(60);
-- name: long(size)$
-- @tool
-- @param size int4
SELECT repeat('x', :size);
-- name: note(text)$
-- @tool
-- @access write
-- @param text text
INSERT INTO agents_notes VALUES (:text) RETURNING repeat(text, 100);
-- name: notes(text)$
-- @tool
-- @group write
SELECT count(*) FROM agents_notes WHERE text = :text;
-- name: seldom$
-- @tool
-- @rate 1/h
SELECT 1;
-- name: exact^
-- @tool
SELECT 9007199254740993 AS big, 0.1000000000000000000000000001 AS small, 'NaN'::float8 AS odd,
       '{{1,2},{3,4}}'::int[] AS square, 'infinity'::timestamptz AS never;
-- name: old$
-- @tool Something old
-- @deprecated use something new
SELECT 1;
-- name: hidden$
SELECT 1;
"""
PEOPLE: dict[str, dict[str, Any]] = {
    "sales": {"roles": ("sales",), "parameters": {"tenant": 7}},
    "clerk": {},
}


class Site:
    """A gateway that offers the whole shop to agents, and keys of some."""

    def __init__(self, node: Gateway, made: dict[str, str]) -> None:
        self.node = node
        self.keys = made
        self.url = f"{node.url}/mcp"

    def agent(self, who: str = "sales", *, modern: bool = True) -> Agent:
        return Agent(self.node.client, self.keys.get(who, ""), modern=modern)


def offered(folder: Path) -> None:
    """The shop's queries, each of them a tool."""
    for file in shop.QUERIES.rglob("*.sql"):
        text = re.sub(r"^-- @tool.*\n", "", file.read_text(), flags=re.MULTILINE)
        place = folder / file.relative_to(shop.QUERIES)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(re.sub(r"^(-- name: .*)$", r"\1\n-- @tool", text, flags=re.MULTILINE))


def settings(folder: Path, made: dict[str, str], **more: Any) -> dict[str, dict[str, Any]]:
    text = ""
    for name, person in PEOPLE.items():
        made[name] = shown = keys.make()
        entry = Key(id=keys.id_of(shown) or "", sha256=keys.digest_of(shown).hex(), name=name, **person)
        text = keys_file.added(text, entry)
    (folder / "keys.toml").write_text(text)
    (folder / "keys.toml").chmod(0o600)
    (folder / "queries").mkdir()
    (folder / "queries" / "q.sql").write_text(QUERIES)
    offered(folder / "queries")
    return {
        "auth": {"mode": "keys", "keys_file": "keys.toml", "failure_rate": "1000/s"},
        "mcp": {"enabled": True, "max_result": "20kB", "instructions": "Prices are in euros."},
        "server": {"workers": 2, **more},
    }
