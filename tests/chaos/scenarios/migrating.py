"""The database is migrated under load: what is stored and answered meanwhile is right, or is refused."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from itertools import count
from typing import Any

from tests.chaos import servers
from tests.chaos.results import Figure
from tests.chaos.rig import Node, Stage

MIGRATIONS = {
    "types of columns": "ALTER TABLE moving ALTER at TYPE timestamptz USING at AT TIME ZONE 'UTC',"
    " ALTER amount TYPE numeric; UPDATE moving SET old = true",
    "label of an enum": "ALTER TYPE moving_mood ADD VALUE 'wild'",
    "column dropped and added": "ALTER TABLE moving DROP note, ADD remark text DEFAULT 'remark'",
    "table locked": "BEGIN; LOCK TABLE moving; SELECT pg_sleep({seconds}); COMMIT",
}
AT = "2026-01-01T12:00:00+02:00"
WRONG = (
    "SELECT count(*) FROM moving WHERE old IS NULL AND (amount <> 0.1 OR at <> timestamptz '2026-01-01T12:00:00+02:00')"
)
BETWEEN = 3.0
"""Seconds of load after each migration."""
NOTICED = 2.0
_WRITERS, _READERS = 6, 4
_REFUSED = frozenset({"catalogue_stale", "deadline_exceeded", "lock_timeout", "pool_timeout"})
"""What a call may be told while the database is migrated, or a table locked."""


class Clients:
    """``with Clients(node) as clients: …``: they write and read all the time, and count what they are told."""

    def __init__(self, node: Node) -> None:
        self._port = node.port
        self._numbers = count()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(_WRITERS)]
        self._threads += [threading.Thread(target=self._read) for _ in range(_READERS)]
        self.phase = "before"
        self.told: dict[str, Counter[str]] = {}
        self.wrong: list[str] = []
        self.written_at = 0.0

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def begin(self, phase: str) -> None:
        """Count under another name from now on."""
        self.phase, self.written_at = phase, 0.0

    def _write(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._over.wait(0.01):
            arguments = {"id": next(self._numbers), "at": AT, "amount": 0.1}
            if self._ask(connection, "write", "moving_put", arguments) is not None and not self.written_at:
                self.written_at = time.monotonic()
        connection.close()

    def _read(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._over.wait(0.01):
            rows = self._ask(connection, "read", "moving_get", {})
            for row in rows or []:
                if row.get("note", "note") != "note" or row.get("remark", "remark") != "remark":
                    self.wrong.append(json.dumps(row))
        connection.close()

    def _ask(self, connection: HTTPConnection, kind: str, query: str, arguments: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Prefer": "bigint=string"}
        phase = self.phase
        try:
            connection.request("POST", f"/query/{query}", json.dumps(arguments), headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            body, told = None, type(error).__name__
        else:
            told = "ok" if answer.status == 200 else str(body["code"])
        self.told.setdefault(phase, Counter())[f"{kind} {told}"] += 1
        return body.get("rows", []) if body is not None and told == "ok" else None


def migrated(stage: Stage) -> Iterator[Figure]:
    """Columns of other types, a label more, a column dropped and another added, a table locked; under load."""
    cluster = stage.cluster
    slowest = 0.0
    with stage.serve(cluster) as node, Clients(node) as clients:
        time.sleep(BETWEEN)
        for phase, sql in MIGRATIONS.items():
            clients.begin(phase)
            cluster.primary.sql(sql.format(seconds=2 if stage.short else 10), servers.DATABASE)
            migrated_at, clients.written_at = time.monotonic(), 0.0
            time.sleep(BETWEEN)
            slowest = max(slowest, (clients.written_at or time.monotonic()) - migrated_at)
    ((wrong,),) = servers.ask(cluster.primary, WRONG)
    stage.spoil()
    for phase, told in clients.told.items():
        stage.remark(f"{phase}: " + ", ".join(f"{number} {what}" for what, number in sorted(told.items())))
    codes = Counter[str]()
    for told in clients.told.values():
        codes.update(told)
    others = sum(number for what, number in codes.items() if what.split()[1] not in {"ok", *_REFUSED})
    yield Figure("wrong values stored", float(str(wrong)), 0)
    yield Figure("wrong values answered", len(clients.wrong), 0)
    yield Figure("answers that are no sign of the migration", others, 0)
    yield Figure("until a write is accepted again", slowest, NOTICED, "s")
