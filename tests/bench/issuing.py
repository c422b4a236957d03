"""What callers with tokens notice of an identity provider that is down, slow, lies, or has changed its keys or clock.

``python -m tests.bench.issuing`` prints a table. Takes six minutes: the keys are fetched at most once in 30 s.
"""

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from gateway.demo.cluster import Cluster
from tests.auth.issuer import AUDIENCE, ISSUER, Issuer, SigningKey, key_set
from tests.live.gateways import Gateway, serving_queries

QUERY = "-- name: one$\nSELECT 1;\n"
CALLERS = 2
PACE = 0.01
"""Seconds between two requests of one caller."""
WATCHED = 6.0
"""Seconds of a phase that are measured, beginning with the token of a key that is not known."""
MADE_UP = 100
BAD: dict[str, dict[str, Any]] = {
    "down": {"status": 503},
    "slow: 30 s an answer": {"delay": 30.0},
    "garbage": {"content": b"<html>not keys</html>"},
}
"""How the issuer behaves."""
APART = 31.0
"""Seconds between two fetches that tokens can cause."""


@dataclass
class Callers:
    """Threads that ask with one token all the time, and note what became of it."""

    node: Gateway
    token: str
    answers: list[tuple[int, float]] = field(default_factory=list)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let them ask."""
        stopped = threading.Event()

        def ask() -> None:
            with self.node.new_client() as client:
                while not stopped.wait(PACE):
                    began = time.perf_counter()
                    status = client.post("/query/one", json={}, headers=bearer(self.token)).status_code
                    self.answers.append((status, time.perf_counter() - began))

        threads = [threading.Thread(target=ask) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            for thread in threads:
                thread.join()

    def seen(self) -> str:
        """What was seen since the last time, as cells of a table."""
        answers, self.answers = self.answers, []
        statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(Counter(s for s, _ in answers).items()))
        times = [seconds * 1000 for _, seconds in answers]
        return f"{statuses} | {median(times):.1f} | {quantiles(times, n=100)[98]:.1f} | {max(times):.1f}"


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {token}"}


def status(node: Gateway, token: str) -> int:
    """What one request with this token is answered with."""
    return node.client.post("/query/one", json={}, headers=bearer(token)).status_code


def measure(node: Gateway, issuer: Issuer, old: SigningKey) -> Iterator[str]:
    """The phases, one after the other; a line for each."""
    callers = Callers(node, old.sign(exp=int(time.time()) + 3600))
    stranger = SigningKey("made-up")
    with callers.asking():
        yield _line("well", _watched(callers), "")
        for name, told in BAD.items():
            time.sleep(APART)
            good = {key: getattr(issuer, key) for key in told}
            vars(issuer).update(told)
            asked = issuer.asked
            first = status(node, stranger.sign())
            seen = _watched(callers)
            yield _line(name, seen, f"a made-up key: {first}, {issuer.asked - asked} fetch; `/health`: {_fault(node)}")
            vars(issuer).update(good)
            while issuer.asked == asked + 1:  # what failed is tried again by itself
                time.sleep(0.1)
        time.sleep(APART)
        asked = issuer.asked
        for number in range(MADE_UP):
            status(node, SigningKey(f"made-up-{number}").sign())
        seen = _watched(callers)
        yield _line(f"{MADE_UP} made-up keys", seen, f"{issuer.asked - asked} fetch")
        time.sleep(2 * APART)  # the last of them have asked for another fetch
        new = SigningKey("second")
        issuer.content = key_set(old, new)
        began = time.monotonic()
        first = status(node, new.sign())
        while status(node, new.sign()) != 200:
            time.sleep(0.01)
        took = time.monotonic() - began
        yield _line("keys rotated", _watched(callers), f"a token of the new key: {first}, 200 after {took:.2f} s")
        now = int(time.time())
        late = status(node, old.sign(exp=now - 60)), status(node, old.sign(exp=now - 20))
        early = (
            status(node, old.sign(iat=now + 60, nbf=now + 60, exp=now + 360)),
            status(node, old.sign(iat=now + 20, nbf=now + 20, exp=now + 320)),
        )
        yield _line(
            "clock off by 60 s",
            _watched(callers),
            f"valid from in 60 s: {early[0]}, in 20 s: {early[1]}; expired 60 s ago: {late[0]}, 20 s ago: {late[1]}",
        )


def _watched(callers: Callers) -> str:
    callers.answers.clear()
    time.sleep(WATCHED)
    return callers.seen()


def _fault(node: Gateway) -> Any:
    return node.operator.get("/health").json()["authentication"]["key_set"]["fault"]


def _line(name: str, seen: str, noticed: str) -> str:
    return f"| {name} | {seen} | {noticed} |"


def main() -> None:
    """Measure and print."""
    print("| issuer | answers to callers with a good token | p50, ms | p99, ms | longest, ms | others |")
    print("|---|---|---:|---:|---:|---|")
    old = SigningKey("first", "RS256")
    issuer = Issuer(key_set(old))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(Cluster(replicas=0))
        cluster.primary.sql("CREATE DATABASE shop")
        url = stack.enter_context(issuer.serving())
        auth = {"mode": ["jwt"], "issuer": ISSUER, "audience": AUDIENCE, "jwks_url": url, "failure_rate": "1000/s"}
        settings: dict[str, dict[str, Any]] = {"auth": auth, "server": {"workers": 2}}
        dsns = {"primary": cluster.primary.dsn("shop")}
        node = stack.enter_context(serving_queries(QUERY, cluster, folder, settings, endpoints=dsns))
        for line in measure(node, issuer, old):
            print(line, flush=True)


if __name__ == "__main__":
    main()
